"""What a person can set, by flag or by environment (AGENTROLLOUT_…)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
        prometheus_url: Base URL of the Prometheus that scrapes the routers.
        xds_address: Where routers fetch their configuration.
        http_address: Health, metrics and artifacts.
        router_address: Where the routers accept user traffic.
        allowed_url_hosts: Hosts that ``code.url`` may name; none turns URL backends off.
    """

    kubeconfig: str | None
    context: str | None
    prometheus_url: str
    xds_address: Address
    http_address: Address
    router_address: Address
    allowed_url_hosts: frozenset[str]
