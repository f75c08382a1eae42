"""Agents that report what they do, as prometheus_client does it, to a real Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from devkit.process import LOOPBACK, free_port, wait_until
from devkit.prometheus import Prometheus

EDGES = (100, 150, 225, 338, 506)


@dataclass
class ReportingAgent:
    """One pod; everything in it happens when told."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.calls = Counter("agent_tool_calls", "Calls.", ["artifact", "outcome"], registry=self.registry)
        self.tokens = Histogram(
            "agent_task_tokens", "Tokens.", ["artifact"], buckets=EDGES, registry=self.registry
        )

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def work(self, artifact: str, *, ok: int = 0, failed: int = 0, tokens: tuple[int, ...] = ()) -> None:
        """Call tools, finish tasks."""
        for outcome, times in (("ok", ok), ("error", failed)):
            if times:
                self.calls.labels(artifact, outcome).inc(times)
        for amount in tokens:
            self.tokens.labels(artifact).observe(amount)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Let it be scraped."""
        server, thread = start_http_server(self.port, addr=LOOPBACK, registry=self.registry)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def wait_for(prometheus: Prometheus, query: str, value: float) -> None:
    """Wait until the query's one sample has the value."""
    wait_until(
        lambda: [float(each["value"][1]) for each in prometheus.query(query)] == [value],
        timeout=20,
        what=f"{query} to be {value:g}",
    )
