"""What an operator may choose about its Envoy routers; the defaults are what the documentation states."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """Options shared by all rollouts.

    Attributes:
        listen_address: Where user traffic arrives.
        listen_port: Port of user traffic.
        tls_cert_file: Certificate chain that users are shown, a path on the router; empty: users come without TLS.
        tls_key_file: The certificate's key, a path on the router.
        trusted_hops: Number of proxies in front of Envoy whose ``x-forwarded-for`` entries are believed.
        cookie: Cookie that stands in for the affinity header where a client sends none.
        idle_timeout: Limit for the first byte of an answer and for silence after it. There is no limit for a whole
            answer, because agents stream for minutes.
        connect_timeout: Limit for opening a connection to an agent.
        max_connections: Circuit breaker: connections to one version.
        max_pending: Circuit breaker: requests waiting for a connection to one version.
        max_requests: Circuit breaker: requests in flight to one version.
        shadow_address: Host and port of the process that compares answers; None: no request is mirrored.
        ca_file: Bundle that agents' TLS certificates are verified with, a path on the router.
    """

    listen_address: str = "0.0.0.0"  # noqa: S104 - user traffic comes from everywhere
    listen_port: int = 8080
    tls_cert_file: str = ""
    tls_key_file: str = ""
    trusted_hops: int = 0
    cookie: str = "agentrollout-conversation"
    idle_timeout: timedelta = timedelta(seconds=300)
    connect_timeout: timedelta = timedelta(seconds=2)
    max_connections: int = 10_000
    max_pending: int = 10_000
    max_requests: int = 10_000
    shadow_address: tuple[str, int] | None = None
    ca_file: str = "/etc/ssl/certs/ca-certificates.crt"
