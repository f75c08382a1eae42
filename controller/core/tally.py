"""Bad events and totals of one arm, from the router's counters."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from controller.api.delivery import MetricName
from controller.api.status import Counts
from controller.core.catalogue import CounterTerm, LatencyDefinition, MetricDefinition
from controller.core.counts import Scrapes, Series, Span, increment
from controller.core.stages import Arm
from controller.core.traffic import CONTROL_SLICES


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Which series of the router say what.

    Attributes:
        liveness: Name of a series that every router process always has.
        override: Name of a gauge of every router process that is above 0 while a person overrides its splits.
        label: The label that tells whose traffic a series counts.
        slice_label: The label that numbers stable's control slices, from 1; absent from all other series.
        value: That label's value for (rollout key, revision, audience).
        errors: Terms of the ``errors`` metric.
        latency: Terms of the ``latency`` metric.
    """

    liveness: str
    override: str
    label: str
    slice_label: str
    value: Callable[[str, str, bool], str]
    errors: MetricDefinition
    latency: LatencyDefinition

    @property
    def only(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """For each label that tells terms apart the values that some term counts; other series need not be read."""
        found: dict[str, set[str]] = defaultdict(set)
        for term in (*self.errors.total, *self.errors.bad, self.latency.count, *self.latency.lost):
            for name, value in term.labels:
                found[name].add(value)
        return tuple((name, tuple(sorted(values))) for name, values in sorted(found.items()))

    def counters(self, metrics: Iterable[str]) -> frozenset[str]:
        """The names of the router's series that these metrics read, without liveness."""
        found: set[str] = set()
        for metric in metrics:
            if metric == MetricName.ERRORS:
                found |= {term.metric for term in (*self.errors.total, *self.errors.bad)}
            elif metric == MetricName.LATENCY:
                terms = (self.latency.count, *self.latency.lost)
                found |= {self.latency.buckets, *(term.metric for term in terms)}
        return frozenset(found)


class Tally:
    """The samples of one answer, by metric name and arm."""

    def __init__(self, key: str, series: Iterable[Series], catalogue: Catalogue) -> None:
        """Index the series of the rollout ``namespace/name``."""
        self._key = key
        self._catalogue = catalogue
        self._series: dict[tuple[str, str], list[Series]] = defaultdict(list)
        self._sliced: dict[tuple[str, str, str], list[Series]] = defaultdict(list)
        for one in series:
            name, value = one.labels.get("__name__", ""), one.labels.get(catalogue.label, "")
            self._series[name, value].append(one)
            if number := one.labels.get(catalogue.slice_label):
                self._sliced[name, value, number].append(one)
        self._increments: dict[tuple[int, Span], int] = {}

    def counts(self, metric: str, arm: Arm, edges: list[float], span: Span, scrapes: Scrapes) -> list[Counts]:
        """One pair of counts for each test of the metric: one for errors, one an edge for latency.

        Raises:
            UnusableSamplesError: If a newest sample is not a finite number of events.
        """
        if metric == MetricName.ERRORS:
            definition = self._catalogue.errors
            return [
                _counts(
                    self._sum(definition.bad, arm, span, scrapes),
                    self._sum(definition.total, arm, span, scrapes),
                )
            ]
        latency = self._catalogue.latency
        lost = self._sum(latency.lost, arm, span, scrapes)
        total = self._sum((latency.count,), arm, span, scrapes) + lost
        buckets = self.histogram(arm, span, scrapes)
        return [_counts(total - buckets.get(edge, 0), total) for edge in edges]

    def slices(
        self, metric: str, arm: Arm, edges: list[float], span: Span, scrapes: Scrapes
    ) -> list[list[Counts]]:
        """For each test of the metric the counts of each control slice; all are 0 where there are none.

        Raises:
            UnusableSamplesError: If a newest sample is not a finite number of events.
        """
        slices = (replace(arm, control=number) for number in range(1, CONTROL_SLICES + 1))
        found = [self.counts(metric, each, edges, span, scrapes) for each in slices]
        return [list(of_test) for of_test in zip(*found, strict=True)]

    def histogram(self, arm: Arm, span: Span, scrapes: Scrapes) -> dict[float, int]:
        """Completed requests at or below each edge (milliseconds), cumulative; the whole under infinity."""
        result: dict[float, int] = defaultdict(int)
        for series in self._of(self._catalogue.latency.buckets, arm):
            result[float(series.labels["le"])] += self._increment(series, span, scrapes)
        return dict(result)

    def _sum(self, terms: Iterable[CounterTerm], arm: Arm, span: Span, scrapes: Scrapes) -> int:
        return sum(
            term.coefficient * self._increment(series, span, scrapes)
            for term in terms
            for series in self._of(term.metric, arm)
            if all(series.labels.get(name) == value for name, value in term.labels)
        )

    def _of(self, metric: str, arm: Arm) -> list[Series]:
        value = self._catalogue.value(self._key, arm.revision, arm.audience)
        if arm.control:
            return self._sliced.get((metric, value, str(arm.control)), [])
        return self._series.get((metric, value), [])

    def _increment(self, series: Series, span: Span, scrapes: Scrapes) -> int:
        """Worked out once: what a slice counts, all of stable counts too."""
        key = id(series), span
        if key not in self._increments:
            self._increments[key] = increment(series, span, scrapes)
        return self._increments[key]


def _counts(bad: int, total: int) -> Counts:
    """Counters of one scrape are not read in one instant: keep 0 ≤ bad ≤ total."""
    return Counts(bad=max(bad, 0), total=max(total, bad, 0))


def edges_above(histogram: dict[float, int], quantiles: Iterable[float]) -> list[float]:
    """The finite histogram edge nearest above each quantile of a cumulative histogram, in milliseconds.

    None of an empty histogram.
    """
    total = histogram.get(math.inf, 0)
    finite = sorted(edge for edge in histogram if math.isfinite(edge))
    if not finite:
        return []
    return [
        next((edge for edge in finite if histogram[edge] >= quantile * total), finite[-1])
        for quantile in quantiles
    ]


def multiple_of_p95(histogram: dict[float, int], factor: float) -> float:
    """The finite edge nearest above a multiple of the edge above the P95, in milliseconds; 0 of an empty histogram.

    The largest edge if none is above it.
    """
    p95 = edges_above(histogram, [0.95])
    finite = sorted(edge for edge in histogram if math.isfinite(edge))
    return next((edge for edge in finite for p in p95 if edge >= factor * p), finite[-1] if p95 else 0.0)
