"""Which of a router's counters make up a metric. Pure descriptions; each router states its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CounterTerm:
    """One counter of a linear combination.

    Attributes:
        metric: Series name in Prometheus.
        labels: Labels that the series must have, besides the one that names the arm.
        coefficient: How often its events count; negative to take away what another term already has.
    """

    metric: str
    labels: tuple[tuple[str, str], ...] = ()
    coefficient: int = 1


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """Bad events among all events.

    Attributes:
        name: Name of the metric.
        total: Terms whose sum is the number of all events.
        bad: Terms whose sum is the number of bad ones.
    """

    name: str
    total: tuple[CounterTerm, ...]
    bad: tuple[CounterTerm, ...]


@dataclass(frozen=True, slots=True)
class LatencyDefinition:
    """Requests slower than an edge among all requests.

    Attributes:
        bucket: Name of the cumulative histogram series of completed requests, in milliseconds.
        total: Terms whose sum is the number of all requests, those never completed included.
        always_bad: Terms whose sum is the number of requests that were never completed: timeouts and resets.
    """

    bucket: str
    total: tuple[CounterTerm, ...]
    always_bad: tuple[CounterTerm, ...]
