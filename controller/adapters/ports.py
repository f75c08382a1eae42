"""What the product needs from the outside, as small Protocols: one new file behind one of these is a new adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from controller.core.counts import Series
from controller.core.tally import Catalogue
from controller.core.traffic import Endpoint, Programmed, ServicePort, TrafficTable

__all__ = [
    "DataPlane",
    "EndpointSource",
    "MetricSource",
    "MetricSourceError",
    "Programmed",
    "Question",
    "TrafficRouter",
]


class DataPlane(Protocol):
    """What routers say of themselves."""

    @property
    def routers(self) -> frozenset[str]:
        """Names of the connected router instances."""

    def programmed(self, key: str) -> Programmed:
        """What the data plane last acknowledged for the rollout ``namespace/name``."""


class TrafficRouter(DataPlane, Protocol):
    """Carries user traffic as the tables say. Implementations never block and never raise on a bad network."""

    def publish(self, table: TrafficTable) -> None:
        """Make ``table`` the wanted split of its rollout; idempotent, returns before it is acknowledged."""

    def remove(self, key: str) -> None:
        """Stop serving the rollout ``namespace/name``."""

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(key)`` on the event loop whenever ``programmed(key)`` may have changed."""


class EndpointSource(Protocol):
    """Knows the endpoints of Services, for routers that do not look them up themselves."""

    def endpoints(self, service: ServicePort) -> tuple[Endpoint, ...]:
        """Where requests to the Service are to go now, sorted; empty if nowhere."""

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(key)`` on the event loop whenever the endpoints of the Service ``key`` may have changed."""


class MetricSourceError(Exception):
    """The source did not give a usable answer; the message says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which raw samples are wanted.

    Attributes:
        processes: Series of whole processes, all of which are wanted: the one that every process always has, and others. There may
            be none.
        names: The other series, wanted if ``label`` has one of ``values``.
        label: The label that tells whose a series is.
        values: Whose are wanted.
        only: Further labels with the values that are wanted; a series that lacks the label is wanted too.
        edges: Upper edges of the histogram buckets that are wanted; None for all.
        window: How far to look back.
        at: The end of the window.
    """

    processes: frozenset[str]
    names: frozenset[str]
    label: str
    values: frozenset[str]
    only: tuple[tuple[str, tuple[str, ...]], ...]
    edges: frozenset[float] | None
    window: timedelta
    at: datetime

    @classmethod
    def about(
        cls,
        catalogue: Catalogue,
        metrics: Iterable[str],
        values: Iterable[str],
        *,
        edges: Iterable[float] | None,
        window: timedelta,
        at: datetime,
    ) -> Question:
        """What these metrics need, of these versions."""
        return cls(
            processes=frozenset({catalogue.liveness, catalogue.override}),
            names=catalogue.counters(metrics),
            label=catalogue.label,
            values=frozenset(values),
            only=catalogue.only,
            edges=None if edges is None else frozenset(edges),
            window=window,
            at=at,
        )


class MetricSource(Protocol):
    """Reads raw counter samples."""

    async def read(self, question: Question) -> tuple[Series, ...]:
        """All raw samples in ``(at - window, at]`` of the wanted series; series and samples beyond those may come too.

        The liveness series are never newer than the others: whatever scrape they show, the others show as well.

        Raises:
            MetricSourceError: On refused, late or malformed answers.
        """

    async def values(self, query: str, at: datetime) -> tuple[float, ...]:
        """The values of all elements of what a query gives at an instant: one if it is a scalar.

        Raises:
            MetricSourceError: On refused, late or malformed answers.
        """
