"""What a metric is made of: which counters, added how, are its total and its bad events."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CounterTerm:
    """One counter in a sum.

    Attributes:
        metric: Name of the counter in Prometheus.
        labels: Labels that a series must have beside the one that names the version.
        coefficient: What the counter is multiplied with.
    """

    metric: str
    labels: tuple[tuple[str, str], ...] = ()
    coefficient: int = 1


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """A metric as counts of bad events among all.

    Attributes:
        name: Name in ``spec.analysis.metrics``.
        total: Sum that counts all events.
        bad: Sum that counts the bad ones.
    """

    name: str
    total: tuple[CounterTerm, ...]
    bad: tuple[CounterTerm, ...]


@dataclass(frozen=True, slots=True)
class LatencyDefinition:
    """A metric as counts of requests that were slower than an edge of a histogram.

    ``total`` is the histogram's count plus the lost requests, ``bad(edge)`` the total less the bucket up to that edge.

    Attributes:
        name: Name in ``spec.analysis.metrics``.
        buckets: Metric of the cumulative buckets, which have the label ``le``.
        count: The histogram's count.
        lost: Sum of the requests that never got far enough to be in the histogram: slower than any edge.
        edges: Values of ``le`` in ascending order, without the infinite one.
    """

    name: str
    buckets: str
    count: CounterTerm
    lost: tuple[CounterTerm, ...]
    edges: tuple[float, ...]
