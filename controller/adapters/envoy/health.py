"""gRPC servers that Envoys connect to: that they listen, and how an Envoy tells one that serves from one that hangs."""

from __future__ import annotations

from typing import Any

from grpc_health.v1 import health, health_pb2_grpc


def add_health(server: Any) -> None:
    """Have the server say that it serves for as long as it can say anything."""
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)


async def listen(server: Any, host: str, port: int, purpose: str) -> int:
    """Start the server; the port in use, for when ``port`` was 0.

    Raises:
        OSError: When the address is taken; the message says that it is needed for ``purpose``.
    """
    try:
        bound: int = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"cannot listen for {purpose} on {host}:{port}: {error}") from error
    await server.start()
    return bound
