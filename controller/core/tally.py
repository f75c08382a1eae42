"""Bad events and totals of one arm, from the router's counters."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from controller.api.delivery import MetricName
from controller.core.catalogue import CounterTerm, LatencyDefinition, MetricDefinition
from controller.core.counts import Scrapes, Series, Span, Tallied, increment
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


Moved = tuple[tuple[int, int], ...]
"""For each test of a metric its bad events and all, as far as one part of an arm counted them."""


_Part = dict[str, list[Series]]
"""The series of one part of a version's traffic by metric name: of a control slice, or of all the rest."""

_NOTHING: _Part = {}
_SLICES = tuple(str(number) for number in range(1, CONTROL_SLICES + 1))


class Tally:
    """The samples of one answer, by arm and metric name."""

    def __init__(self, key: str, series: Iterable[Series], catalogue: Catalogue) -> None:
        """Index the series of the rollout ``namespace/name``."""
        self._key = key
        self._catalogue = catalogue
        self._parts: dict[str, dict[str, _Part]] = {}
        self._moved: dict[tuple[str, tuple[float, ...], Span], dict[int, Moved]] = {}
        label, slice_label = catalogue.label, catalogue.slice_label
        for one in series:
            labels = one.labels
            value = labels.get(label)
            if value is None:
                continue
            # setdefault would make an empty container for each of a hundred series.
            parts = self._parts.get(value)
            if parts is None:
                parts = self._parts[value] = {}
            part = parts.get(number := labels.get(slice_label, ""))
            if part is None:
                part = parts[number] = {}
            found = part.get(name := labels.get("__name__", ""))
            if found is None:
                part[name] = [one]
            else:
                found.append(one)

    def counts(
        self, metric: str, arm: Arm, edges: list[float], span: Span, scrapes: Scrapes
    ) -> list[Tallied]:
        """One pair of counts for each test of the metric: one for errors, one an edge for latency.

        Raises:
            UnusableSamplesError: If a newest sample is not a finite number of events.
        """
        moved = self._each(metric, self._of(arm).values(), edges, span, scrapes)
        tests = 1 if metric == MetricName.ERRORS else len(edges)
        return [
            _tallied(*map(sum, zip(*(each[test] for each in moved), strict=True))) for test in range(tests)
        ]

    def slices(
        self, metric: str, arm: Arm, edges: list[float], span: Span, scrapes: Scrapes
    ) -> list[list[Tallied]]:
        """For each test of the metric the counts of each control slice; all are 0 where there are none.

        Raises:
            UnusableSamplesError: If a newest sample is not a finite number of events.
        """
        parts = self._of(arm)
        slices = [parts.get(number, _NOTHING) for number in _SLICES]
        moved = self._each(metric, slices, edges, span, scrapes)
        return [[_tallied(*each) for each in of_test] for of_test in zip(*moved, strict=True)]

    def histogram(self, arm: Arm, span: Span, scrapes: Scrapes) -> dict[float, int]:
        """Completed requests at or below each edge (milliseconds), cumulative; the whole under infinity."""
        result: dict[float, int] = defaultdict(int)
        for part in self._of(arm).values():
            for series in part.get(self._catalogue.latency.buckets, ()):
                result[float(series.labels["le"])] += increment(series, span, scrapes)
        return dict(result)

    def _of(self, arm: Arm) -> Mapping[str, _Part]:
        return self._parts.get(self._catalogue.value(self._key, arm.revision, arm.audience), {})

    def _each(
        self, metric: str, parts: Iterable[_Part], edges: list[float], span: Span, scrapes: Scrapes
    ) -> list[Moved]:
        """What each part counted, worked out once: what a slice counts, all of stable counts too."""
        known = self._moved.setdefault((metric, tuple(edges), span), {})
        found = []
        for part in parts:
            moved = known.get(id(part))
            if moved is None:
                moved = known[id(part)] = self._count(metric, part, edges, span, scrapes)
            found.append(moved)
        return found

    def _count(self, metric: str, part: _Part, edges: list[float], span: Span, scrapes: Scrapes) -> Moved:
        if metric == MetricName.ERRORS:
            errors = self._catalogue.errors
            return ((_sum(errors.bad, part, span, scrapes), _sum(errors.total, part, span, scrapes)),)
        latency, within = self._catalogue.latency, dict.fromkeys(edges, 0)
        total = _sum((latency.count, *latency.lost), part, span, scrapes)
        for series in part.get(latency.buckets, ()):
            edge = float(series.labels["le"])
            if edge in within:
                within[edge] += increment(series, span, scrapes)
        return tuple((total - within[edge], total) for edge in edges)


def _sum(terms: Iterable[CounterTerm], part: _Part, span: Span, scrapes: Scrapes) -> int:
    total = 0
    for term in terms:
        for series in part.get(term.metric, ()):
            if not term.labels or all(series.labels.get(name) == value for name, value in term.labels):
                total += term.coefficient * increment(series, span, scrapes)
    return total


def _tallied(bad: int = 0, total: int = 0) -> Tallied:
    """Counters of one scrape are not read in one instant: keep 0 ≤ bad ≤ total."""
    return Tallied(max(bad, 0), max(total, bad, 0))


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
