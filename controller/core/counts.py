"""Integer counts from raw counter samples.

Never ``rate()`` or ``increase()``: they extrapolate, and a test on counts needs the counts. Between two scrapes of
one process a counter moved by the difference, or by its whole value if it was reset. A counter that appears while
its process was already scraped started at 0, since Envoy creates some of them on first use.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple, Protocol

Process = frozenset[tuple[str, str]]
"""All labels of a process' liveness series but the name; every series of the process has them too."""

STALE_GAPS = 2
"""Samples older than this many scrape intervals are no evidence of the present."""

SCRAPE_GRACE_SECONDS = 1.0
"""A scrape takes a moment to be stored."""

SCRAPERS_LABELS = frozenset(
    {"job", "scrape_job", "service", "endpoint", "container", "prometheus", "prometheus_replica", "replica"}
)
"""Labels that say who scrapes an ``instance``, or why, as jobs, monitors and replicas of Prometheus do; not what it is."""


class Series(NamedTuple):
    """One counter of one scraped process.

    Attributes:
        labels: All labels, ``__name__`` included.
        samples: ``(unix seconds, value)``, oldest first.
    """

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]

    @property
    def identity(self) -> Process:
        """All labels but the name."""
        return frozenset((name, value) for name, value in self.labels.items() if name != "__name__")


class Events(Protocol):
    """Bad events among all of one arm, stored (``Counts``) or not."""

    @property
    def bad(self) -> int:
        """The bad ones."""

    @property
    def total(self) -> int:
        """All of them."""


class Tallied(NamedTuple):
    """Events of an interval that are not stored as such; a hundred of them are an evaluation's."""

    bad: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Scrapes:
    """When each process was scraped, told by a series that every process always has.

    Attributes:
        times: Scrape instants by process in unix seconds, oldest first.
    """

    times: Mapping[Process, tuple[float, ...]]

    @classmethod
    def of(cls, liveness: Iterable[Series]) -> Scrapes:
        """Scrape times from the liveness series of every process."""
        return cls({one.identity: tuple(time for time, _ in one.samples) for one in liveness if one.samples})

    @property
    def gap_seconds(self) -> float | None:
        """The median time between two scrapes; None if no process was scraped twice."""
        gaps = [later - earlier for times in self.times.values() for earlier, later in pairwise(times)]
        return median(gaps) if gaps else None

    def common_end(self, not_older_than: float) -> float | None:
        """The newest instant up to which every living process was scraped.

        A process whose newest scrape is older than ``not_older_than`` is gone and holds nobody up. None if all are.
        """
        newest = [times[-1] for times in self.times.values()]
        living = [time for time in newest if time >= not_older_than]
        return min(living) if living else None

    def saw(self, time: float) -> bool:
        """Whether some process was scraped in this millisecond."""
        return any(abs(each - time) < 0.001 for times in self.times.values() for each in times)

    def process(self, series: Series) -> Process:
        """Whose series it is; nobody's if it is of no known process.

        Of several that would fit, as after a relabelling that added a label, the one with the most labels is meant.
        """
        identity = series.identity
        return max((each for each in self.times if each <= identity), key=len, default=frozenset())

    def before(self, series: Series, time: float) -> float | None:
        """The last scrape of the series' process before ``time``; None if it was not scraped before."""
        return max((t for t in self.times.get(self.process(series), ()) if t < time), default=None)


def stale_before(at: float, gap_seconds: float) -> float:
    """Scrapes before this instant say nothing about ``at``, if there is to be one every ``gap_seconds``."""
    return at - STALE_GAPS * gap_seconds - SCRAPE_GRACE_SECONDS


def joined(series: Iterable[Series], liveness: str) -> tuple[Series, ...]:
    """The series, in which each process has every counter once.

    Two jobs, or two Prometheus servers behind one that does not deduplicate, scrape the same process: its series are
    there twice, at different instants, and would count twice. All samples are true, so they become one series.
    """
    everything = tuple(series)
    scrapes = Scrapes.of(one for one in everything if one.labels.get("__name__") == liveness)
    if not is_scraped_twice(scrapes):
        return everything
    meant = {process: without_scraper(process) for process in scrapes.times}
    parts: dict[tuple[str, Process], list[Series]] = defaultdict(list)
    for one in everything:
        process = scrapes.process(one)
        identity = meant.get(process, process) | (one.identity - process)
        parts[one.labels.get("__name__", ""), identity].append(one)
    return tuple(
        same[0] if len(same) == 1 else Series({"__name__": name, **dict(sorted(identity))}, in_order(same))
        for (name, identity), same in parts.items()
    )


def is_scraped_twice(scrapes: Scrapes) -> bool:
    """Whether some process is there twice, which is rare."""
    return len(set(map(without_scraper, scrapes.times))) < len(scrapes.times)


def without_scraper(process: Process) -> Process:
    """What is left is the same for whoever scrapes the instance; nothing goes where it is not known which one it is."""
    if all(name != "instance" for name, _ in process):
        return process
    return frozenset(pair for pair in process if pair[0] not in SCRAPERS_LABELS)


def in_order(same: Iterable[Series]) -> tuple[tuple[float, float], ...]:
    """All samples of one counter. A scrape is stamped with its beginning: after a slow one the next may have seen less.

    So less is believed to be a reset only if the sample that follows agrees.
    """
    samples = sorted({sample for one in same for sample in one.samples})
    kept: list[tuple[float, float]] = []
    for number, (time, value) in enumerate(samples):
        following = samples[number + 1][1] if number + 1 < len(samples) else math.inf
        if not (kept and value < kept[-1][1] <= following):
            kept.append((time, value))
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class Span:
    """Which movements of a counter belong to an interval; unix seconds.

    Attributes:
        after: Movements seen at or before this instant were counted before.
        until: The end, inclusive.
        not_before: Movements that may have begun before this instant (under another split) are left out.
    """

    after: float
    until: float
    not_before: float


class UnusableSamplesError(Exception):
    """A counter's newest sample is not a finite number of events; the message says which."""


def increment(series: Series, span: Span, scrapes: Scrapes) -> int:
    """How many events the counter saw within the span.

    Raises:
        UnusableSamplesError: If the newest sample is NaN, infinite or negative.
    """
    samples, counted = series.samples, span.after
    if samples and not 0 <= samples[-1][1] < math.inf:
        name, instance = series.labels.get("__name__"), series.labels.get("instance")
        raise UnusableSamplesError(f"{name} of {instance} is {samples[-1][1]}")
    until, not_before = span.until, span.not_before
    if len(samples) > 1:
        # Most often the newest sample is the only one that was not counted before.
        began, before = samples[-2]
        ended, after = samples[-1]
        if not_before <= began <= counted < ended <= until and 0 <= before <= after:
            return round(after - before)
    moved, ended, after = 0, math.nan, 0.0
    # From the newest back to the last that was counted before.
    for began, before in reversed(samples):
        if not 0 <= before < math.inf:
            continue
        if counted < ended <= until and began >= not_before:
            moved += round(after - before if after >= before else after)
        if began <= counted:
            return moved
        ended, after = began, before
    # When a series began is of interest only if that was not counted before; most are older.
    if counted < ended <= until:
        born_after = scrapes.before(series, ended)
        if born_after is not None and born_after >= not_before:
            moved += round(after)
    return moved
