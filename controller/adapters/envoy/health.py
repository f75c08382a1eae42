"""The standard gRPC health service, by which an Envoy tells a replica that serves from one that hangs."""

from __future__ import annotations

from typing import Any

from grpc_health.v1 import health, health_pb2_grpc


def add_health(server: Any) -> None:
    """Have the server say that it serves for as long as it can say anything."""
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
