"""What a person can set, by flag or by environment (AGENTROLLOUT_…)."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from controller.adapters.envoy.mutual_tls import TlsFiles
from controller.adapters.prometheus_http import HttpConfig
from controller.core.references import SecretKey
from controller.reconcilers.grants import Grants

FIELD_MANAGER = "agentrollout"
"""The name under which the API server notes what the operator owns."""

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def own_namespace() -> str:
    """The namespace of this pod; ``default`` outside of a cluster."""
    try:
        return _POD_NAMESPACE.read_text().strip() or "default"
    except OSError:
        return "default"


class LogFormat(StrEnum):
    """How log lines are written."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least that is worth a log line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """``host:port``, ``[v6]:port`` or ``:port`` for every interface; port 0 picks a free one.

        Raises:
            ValueError: If the text is none of these.
        """
        host, separator, port = text.rpartition(":")
        if not separator or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"{text!r} is not an address: write host:port, such as 127.0.0.1:8080")
        return cls(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104  what an empty host asks for

    def __str__(self) -> str:
        """As a person writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Settings of ``agentrollout operator``.

    Attributes:
        kubeconfig: Path of a kubeconfig; None looks where kubectl does, then in the pod.
        context: Context within it; None takes its current one.
        prometheus_urls: Base URL of the Prometheus that scrapes the routers; of several the first that answers is asked.
        prometheus_http: How to speak to them.
        xds_address: Where routers fetch their configuration.
        xds_tls: How routers and operators know each other; None: nobody is asked.
        http_address: Health, metrics and artifacts.
        router_address: Where the routers accept user traffic.
        router_tls_cert_file: Certificate chain that the routers show users, a path on each router; None: no TLS.
        router_tls_key_file: The certificate's key, a path on each router.
        shadow_address: Where routers find the process that compares answers; None: nothing is mirrored.
        namespace: Where the replicas' Leases lie.
        identity: Name of this replica, unique among those that run at the same time.
        allowed_url_hosts: Hosts that ``code.url`` may name; none turns URL backends off.
        allowed_hosts: Hosts that rollouts may serve; none lets every namespace serve any.
        secret_key: Key for digests of referenced Secrets; None turns references to Secrets off.
        ofrep_url: Base URL of the OFREP server whose flags rollouts may name; None: they may name none.
        ofrep_http: How to speak to it.
        flagd_address: Where flagd's sync service is, whose flags rollouts may name; None: they may name none.
        flagd_ca_file: Bundle that its certificate is verified with; None: it is spoken to without TLS.
    """

    kubeconfig: str | None
    context: str | None
    prometheus_urls: tuple[str, ...]
    prometheus_http: HttpConfig
    xds_address: Address
    xds_tls: TlsFiles | None
    http_address: Address
    router_address: Address
    router_tls_cert_file: str | None
    router_tls_key_file: str | None
    shadow_address: Address | None
    namespace: str
    identity: str
    allowed_url_hosts: Grants
    allowed_hosts: Grants
    secret_key: SecretKey | None
    ofrep_url: str | None
    ofrep_http: HttpConfig
    flagd_address: Address | None
    flagd_ca_file: Path | None


class Redactor(StrEnum):
    """Who looks for personal data."""

    BUILT_IN = "built-in"
    PRESIDIO = "presidio"
    """As well as the built-in recognisers."""


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """Settings of ``agentrollout shadow serve``.

    Attributes:
        capture_address: Where routers send what they capture; None: nothing is captured, only judged.
        http_address: Health and metrics.
        judges: File that describes the judges; None: one, ``default``, of checks alone.
        records: URL of the database.
        queue: URL of NATS; None: a queue in memory.
        workers: Comparisons that are judged at once; 0: nothing is judged, only captured.
        replays: Runs that are driven again at once; 0: none.
        retention: How long records are kept.
        redactor: Who looks for personal data.
        presidio_model: The spaCy model that Presidio uses; None: none.
    """

    capture_address: Address | None
    http_address: Address
    judges: Path | None
    records: str
    queue: str | None
    workers: int
    replays: int
    retention: timedelta
    redactor: Redactor
    presidio_model: str | None


_IDENTITY = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def identity_problem(identity: str) -> str:
    """Why a replica cannot have this name, which becomes part of the name of an object; ``""`` if it can."""
    if _IDENTITY.fullmatch(identity) and len(identity) <= 200:
        return ""
    return (
        f"{identity!r} is not a name: write at most 200 characters of a-z, 0-9, - and ., such as operator-0"
    )


def default_identity(http_address: Address) -> str:
    """The host's name and a port that no second operator can have there.

    A container that is started again in its pod keeps this name, and with it a Lease that it held.
    """
    host = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.")[:190]
    return f"{host or 'operator'}-{http_address.port}"


def read_secret_key(path: Path) -> SecretKey:
    """The key in a file, every byte of it.

    Raises:
        ValueError: It cannot be read or is too short; the message says which.
    """
    try:
        return SecretKey(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(
            f"{path} {error}: write some with `openssl rand -out {path} 32`, the same for all replicas"
        ) from error
