"""Bad events and totals of both versions, from what agents report.

The router has one series that tells when each of its processes was scraped; of agents nothing like it can be asked for
at a bearable price. So here the series of a metric tell it together: what one process exposes is scraped at one instant
and stored as a whole. From that follow the three things that counting needs: how far all living processes were read,
whether that was long ago, and whether a series was absent before it appeared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from statistics import median

from controller.api.status import VersionRef
from controller.core.agents import EDGE, NAMESPACE_LABEL, AgentDefinition
from controller.core.catalogue import CounterTerm
from controller.core.counts import (
    SCRAPERS_LABELS,
    Process,
    Scrapes,
    Series,
    Span,
    Tallied,
    in_order,
    increment,
    stale_before,
    without_scraper,
)

PROCESS_LABELS = ("job", "instance")
"""Prometheus gives these to every series that it scrapes."""

_Place = tuple[str, ...]
"""Their values: which process exposes a series."""


class NotReportedError(Exception):
    """A series is missing that a metric needs; the message says which, and how the metric goes on."""


class StaleReportsError(Exception):
    """What agents report is there, but not of the present."""


@dataclass(frozen=True, slots=True)
class Reports:
    """What the agents of both versions report about one metric, in one answer of the metric source.

    Attributes:
        definition: The metric.
        series: All series by the value of the label that names the version.
        elsewhere: Namespaces whose series were left out.
        processes: The same series by the process that exposes them.
        checked: Of versions that were asked about, what has all counters.
    """

    definition: AgentDefinition
    series: Mapping[str, tuple[Series, ...]]
    elsewhere: frozenset[str]
    processes: Mapping[_Place, list[Series]]
    checked: dict[str, tuple[Series, ...]] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, definition: AgentDefinition, series: Iterable[Series], namespace: str) -> Reports:
        """Those of the series that the metric reads."""
        found: dict[str, list[Series]] = defaultdict(list)
        processes: dict[_Place, list[Series]] = defaultdict(list)
        elsewhere, names = set(), definition.names
        named = [one for one in series if one.labels.get("__name__") in names and one.samples]
        if scope := definition.scope:
            named = [one for one in named if _has(one, scope)]
        label, chooses = definition.label, definition.chooses_namespace
        for one in _once(named):
            where = one.labels.get(NAMESPACE_LABEL, namespace)
            if where != namespace and not chooses:
                elsewhere.add(where)
                continue
            found[one.labels.get(label, "")].append(one)
            processes[_place(one)].append(one)
        by_version = {value: tuple(each) for value, each in found.items()}
        return cls(definition, by_version, frozenset(elsewhere), processes)

    def until(self, at: float, versions: Iterable[VersionRef]) -> float:
        """The newest instant up to which every living process of these versions was read, in unix seconds.

        Args:
            at: When the metric source was asked.
            versions: Who serves users; at least one.

        Raises:
            NotReportedError: If a version lacks a series.
            StaleReportsError: If a version has none of the present.
        """
        return min(self._end(version, at) for version in versions)

    def span(
        self, at: datetime, versions: Iterable[VersionRef], counted_until: datetime | None, not_before: float
    ) -> Span | None:
        """What follows on what was counted before; None if nothing does yet.

        Args:
            at: When the metric source was asked.
            versions: Who serves users; at least one.
            counted_until: The end of what was counted before.
            not_before: What may have begun before this instant, in unix seconds, is left out.

        Raises:
            NotReportedError: If a version lacks a series.
            StaleReportsError: If a version has none of the present.
        """
        until = self.until(at.timestamp(), versions)
        counted = counted_until.timestamp() if counted_until else 0.0
        if until <= counted:
            return None
        return Span(counted, until, not_before if self.saw(counted) else max(not_before, counted))

    def saw(self, time: float) -> bool:
        """Whether something was scraped in this millisecond; if not, another Prometheus may have told of it."""
        return any(
            abs(each - time) < 0.001
            for known in self.series.values()
            for one in known
            for each, _ in one.samples
        )

    def living(self, version: VersionRef, at: float) -> tuple[Series, ...]:
        """The version's series of processes that are still scraped.

        Args:
            version: Whose series.
            at: When the metric source was asked, in unix seconds.

        Raises:
            NotReportedError: If the version lacks a series, or was scraped only once.
        """
        own = self._reported(version)
        oldest = stale_before(at, self._gap(version, own))
        return tuple(one for one in own if one.samples[-1][0] >= oldest)

    def _gap(self, version: VersionRef, own: tuple[Series, ...]) -> float:
        """The usual time between two scrapes of the version's series."""
        gaps = [later - before for one in own for (before, _), (later, _) in pairwise(one.samples)]
        if not gaps:
            raise NotReportedError(f"{self._name(version)} was scraped only once so far")
        return median(gaps)

    def _end(self, version: VersionRef, at: float) -> float:
        own = self._reported(version)
        gap = self._gap(version, own)
        newest: dict[_Place, float] = {}
        for one in own:
            place, last = _place(one), one.samples[-1][0]
            if newest.get(place, 0.0) < last:
                newest[place] = last
        oldest = stale_before(at, gap)
        living = [time for time in newest.values() if time >= oldest]
        if not living:
            raise StaleReportsError(
                f"the newest sample of {self._name(version)} is {at - max(newest.values()):.0f} s old, but it is "
                f"scraped every {gap:.0f} s"
            )
        return min(living)

    def counts(self, version: VersionRef, edges: list[float], span: Span) -> list[Tallied]:
        """One pair of counts for each test of the metric, as of `Tally.counts`.

        Raises:
            NotReportedError: If an edge of the histogram is missing.
            UnusableSamplesError: If a newest sample is not a finite number of events.
        """
        own = self._reported(version)
        total = self._sum(self.definition.total, own, span)
        if not self.definition.buckets:
            return [_counts(self._sum(self.definition.bad, own, span), total)]
        buckets = self._histogram(own, span)
        for edge in edges:
            if edge not in buckets:
                missing = self._missing(self.definition.buckets, ((EDGE, f"{edge:g}"),), version)
                raise NotReportedError(f"{missing}: its histogram must have the edges that stable's has")
        return [_counts(total - buckets[edge], total) for edge in edges]

    def histogram(self, version: VersionRef, span: Span) -> dict[float, int]:
        """Events at or below each edge, cumulative; the whole under infinity.

        Raises:
            NotReportedError: If the version lacks a series.
            UnusableSamplesError: If a newest sample is not a finite number of events.
        """
        return self._histogram(self._reported(version), span)

    def _histogram(self, own: tuple[Series, ...], span: Span) -> dict[float, int]:
        result: dict[float, int] = defaultdict(int)
        for one in own:
            if one.labels.get("__name__") == self.definition.buckets:
                result[float(one.labels[EDGE])] += self._increment(one, span)
        return dict(result)

    def _sum(self, terms: Iterable[CounterTerm], own: tuple[Series, ...], span: Span) -> int:
        return sum(
            term.coefficient * self._increment(one, span)
            for term in terms
            for one in own
            if one.labels.get("__name__") == term.metric and _has(one, term.labels)
        )

    def _increment(self, one: Series, span: Span) -> int:
        """Events within the span.

        A series was absent before it appeared if another of its process was seen at that very instant and before. The
        same instant is what tells that they come from one scrape.
        """
        first = one.samples[0][0]
        if first <= span.after or not self.definition.starts_at_zero:
            return increment(one, span, _NEVER)
        before = [
            earlier
            for other in self.processes[_place(one)]
            for (earlier, _), (time, _) in pairwise(other.samples)
            if time == first
        ]
        return increment(one, span, Scrapes({_process(one): (max(before),)}) if before else _NEVER)

    def _reported(self, version: VersionRef) -> tuple[Series, ...]:
        """The version's series, if each counter is among them.

        Counters whose labels differ may be missing while they were never touched. A counter that is nowhere is a
        mistake, and so is an edge: whoever reports a histogram reports all its edges.
        """
        value = self.definition.value(version)
        if value in self.checked:
            return self.checked[value]
        own = self.series.get(value, ())
        for term in self.definition.terms:
            edge = tuple(each for each in term.labels if each[0] == EDGE)
            if not any(one.labels.get("__name__") == term.metric and _has(one, edge) for one in own):
                raise NotReportedError(f"{self._missing(term.metric, edge, version)}{self._hint()}")
        self.checked[value] = own
        return own

    def _hint(self) -> str:
        if not self.elsewhere:
            return f": {self.definition.where}"
        return (
            f": what has another {NAMESPACE_LABEL} ({', '.join(sorted(self.elsewhere)[:3])}) does not count"
        )

    def _missing(self, metric: str, labels: tuple[tuple[str, str], ...], version: VersionRef) -> str:
        return f"Prometheus has no {self._name(version, metric, labels)}"

    def _name(self, version: VersionRef, metric: str = "", labels: tuple[tuple[str, str], ...] = ()) -> str:
        """A version's series as people look for it; without a metric, the one that counts all events."""
        matchers = (
            *self.definition.scope,
            (self.definition.label, self.definition.value(version)),
            *labels,
        )
        text = ", ".join(f'{name}="{value}"' for name, value in matchers)
        return f"{metric or self.definition.total[0].metric}{{{text}}}"


_NEVER = Scrapes({})
_SCRAPERS_LABELS = tuple(sorted(SCRAPERS_LABELS))


def _once(series: Iterable[Series]) -> Iterator[Series]:
    """Each counter once, also where two jobs, or two servers behind one, scrape the same pod at instants of their own.

    As `counts.joined` does it for the router; but an agent's own labels may have the names of a scraper's. What two
    series of one scrape count is never the same, so only those are one that share no instant and go on side by side.
    """
    everything = tuple(series)
    if len({tuple(map(one.labels.get, _SCRAPERS_LABELS)) for one in everything}) < 2:
        yield from everything
        return
    parts: dict[tuple[str, Process], list[Series]] = defaultdict(list)
    for one in everything:
        parts[one.labels["__name__"], without_scraper(one.identity)].append(one)
    for (name, identity), same in parts.items():
        if len(same) > 1 and _are_one(same):
            yield Series({"__name__": name, **dict(identity)}, in_order(same))
        else:
            yield from same


def _are_one(same: list[Series]) -> bool:
    instants = [time for one in same for time, _ in one.samples]
    begun, ended = max(one.samples[0][0] for one in same), min(one.samples[-1][0] for one in same)
    return len(set(instants)) == len(instants) and begun <= ended


def _place(one: Series) -> _Place:
    job, instance = PROCESS_LABELS
    return one.labels.get(job, ""), one.labels.get(instance, "")


def _process(one: Series) -> Process:
    return frozenset((name, one.labels[name]) for name in PROCESS_LABELS if name in one.labels)


def _has(one: Series, labels: Iterable[tuple[str, str]]) -> bool:
    """Whether a series has the labels; an edge may be written in several ways."""
    return all(
        float(one.labels.get(name, "nan")) == float(value)
        if name == EDGE
        else one.labels.get(name, "") == value
        for name, value in labels
    )


def _counts(bad: int, total: int) -> Tallied:
    """Histograms are not read in one instant inside of a process: keep 0 ≤ bad ≤ total."""
    return Tallied(min(max(bad, 0), total), total)
