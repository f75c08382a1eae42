"""gRPC servers that Envoys connect to: that they listen, to whom, and how an Envoy tells one that serves from one that hangs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from controller.adapters.envoy.mutual_tls import TlsFiles


def add_health(server: Any) -> None:
    """Have the server say that it serves for as long as it can say anything."""
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)


async def listen(server: Any, host: str, port: int, purpose: str, credentials: Any = None) -> int:
    """Start the server, in clear without ``credentials``; the port in use, for when ``port`` was 0.

    Raises:
        OSError: When the address is taken; the message says that it is needed for ``purpose``.
    """
    try:
        bound: int = (
            server.add_secure_port(f"{host}:{port}", credentials)
            if credentials
            else server.add_insecure_port(f"{host}:{port}")
        )
    except RuntimeError as error:
        raise OSError(f"cannot listen for {purpose} on {host}:{port}: {error}") from error
    await server.start()
    return bound


def server_credentials(files: TlsFiles) -> Any:
    """Credentials of an operator; its files are read again at each handshake.

    Raises:
        OSError: When a file cannot be read; the message names it.
    """

    def renewed() -> Any:
        try:
            return _configuration(files)
        except OSError:  # being replaced just now: what was read before still holds
            return None

    return grpc.dynamic_ssl_server_credentials(
        _configuration(files), renewed, require_client_authentication=True
    )


def _configuration(files: TlsFiles) -> Any:
    key, chain, ca = (Path(each).read_bytes() for each in (files.key_file, files.cert_file, files.ca_file))
    return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=ca)
