"""Integer counts from raw counter samples.

Never ``rate()`` or ``increase()``: they extrapolate, and a test on counts needs the counts. Between two scrapes of
one process a counter moved by the difference, or by its whole value if it was reset. A counter that appears while
its process was already scraped started at 0, since Envoy creates some of them on first use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

Process = frozenset[tuple[str, str]]
"""All labels of a process' liveness series but the name; every series of the process has them too."""


@dataclass(frozen=True, slots=True)
class Series:
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

    def before(self, series: Series, time: float) -> float | None:
        """The last scrape of the series' process before ``time``; None if it was not scraped before.

        Of several that would fit, as after a relabelling that added a label, the one with the most labels is meant.
        """
        identity = series.identity
        process = max((each for each in self.times if each <= identity), key=len, default=frozenset())
        return max((t for t in self.times.get(process, ()) if t < time), default=None)


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
    usable = [(time, value) for time, value in series.samples if math.isfinite(value) and value >= 0]
    if series.samples and (not usable or usable[-1] != series.samples[-1]):
        name, instance = series.labels.get("__name__"), series.labels.get("instance")
        raise UnusableSamplesError(f"{name} of {instance} is {series.samples[-1][1]}")
    if usable:
        born_after = scrapes.before(series, usable[0][0])
        if born_after is not None:
            usable.insert(0, (born_after, 0.0))
    return sum(
        round(value - before if value >= before else value)
        for (began, before), (ended, value) in pairwise(usable)
        if span.after < ended <= span.until and began >= span.not_before
    )
