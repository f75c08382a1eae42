"""One answer of the metric source: whether it can be used, and up to when it counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from controller.api.status import Evidence
from controller.core.counts import Scrapes, Series, Span, Tallied, is_scraped_twice, joined, stale_before
from controller.core.snapshot import Samples
from controller.core.stages import Comparison
from controller.core.tally import Catalogue, Tally

MOST_STEPS = 30
"""In so many parts an interval is looked at."""


class BlindError(Exception):
    """The evidence cannot be read; the message says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One usable answer of the metric source.

    Attributes:
        tally: Counts by arm.
        scrapes: When the routers were scraped.
        until: The newest instant up to which every living router was scraped, in unix seconds.
        overridden: See ``is_overridden``.
    """

    tally: Tally
    scrapes: Scrapes
    until: float
    overridden: bool = False

    def counts(
        self, metric: str, comparison: Comparison, edges: list[float], span: Span
    ) -> tuple[list[Tallied], list[Tallied] | None]:
        """Candidate and baseline, one pair of counts for each test of the metric."""
        candidate = self.tally.counts(metric, comparison.candidate, edges, span, self.scrapes)
        if comparison.baseline is None:
            return candidate, None
        return candidate, self.tally.counts(metric, comparison.baseline, edges, span, self.scrapes)

    def slices(
        self, metric: str, comparison: Comparison, edges: list[float], span: Span
    ) -> list[list[Tallied]]:
        """For each test the baseline's control slices; none where it has none."""
        if comparison.baseline is None or not comparison.is_sliced:
            return []
        return self.tally.slices(metric, comparison.baseline, edges, span, self.scrapes)


def read(key: str, samples: Samples, catalogue: Catalogue) -> Reading:
    """Check that samples are there and fresh.

    Raises:
        BlindError: If there is no answer, no router in it, or nothing recent.
    """
    if samples.problem:
        raise BlindError(samples.problem)
    processes = [one for one in samples.series if catalogue.label not in one.labels]
    scrapes = _scrapes(processes, catalogue)
    if not scrapes.times:
        raise BlindError(f"Prometheus has no {catalogue.liveness} of any router: is it scraping the routers?")
    gap = scrapes.gap_seconds
    if gap is None:
        raise BlindError(
            "Prometheus has scraped the routers only once so far; if this stays, scrape them about as often as "
            "spec.analysis.interval"
        )
    until = scrapes.common_end(stale_before(samples.at.timestamp(), gap))
    if until is None:
        newest = max(times[-1] for times in scrapes.times.values())
        raise BlindError(
            f"the newest sample in Prometheus is {samples.at.timestamp() - newest:.0f} s old, "
            f"but routers are scraped every {gap:.0f} s"
        )
    series = samples.series
    if is_scraped_twice(scrapes):
        series = joined(series, catalogue.liveness)
        scrapes = _scrapes(series, catalogue)
    return Reading(Tally(key, series, catalogue), scrapes, until, is_overridden(processes, catalogue))


def _scrapes(series: Iterable[Series], catalogue: Catalogue) -> Scrapes:
    return Scrapes.of(one for one in series if one.labels.get("__name__") == catalogue.liveness)


def continued(before: Evidence, reading: Reading) -> Evidence:
    """The evidence, in which it is noted if another Prometheus answers than did before.

    Servers scrape at instants of their own, so that no scrape of this one ended when counting did. A movement across
    that instant was counted in part, nobody knows which. It is left out: little is lost, and nothing counts twice.
    """
    if before.counted_until is None or reading.scrapes.saw(before.counted_until.timestamp()):
        return before
    return before.model_copy(update={"continuous_since": before.counted_until})


def span_of(before: Evidence, reading: Reading, programmed_at: datetime) -> Span:
    """What follows on what was counted before."""
    counted = before.counted_until.timestamp() if before.counted_until else 0.0
    began = max(programmed_at, before.continuous_since or programmed_at)
    return Span(counted, max(reading.until, counted), began.timestamp())


def steps_of(span: Span, scrapes: Scrapes) -> list[Span]:
    """The interval from scrape to scrape of the process that it ends with; the parts follow on each other and lose nothing.

    Of very many scrapes, as after a long absence, some are passed over.
    """
    rhythm = next((times for times in scrapes.times.values() if span.until in times), ())
    ends = [time for time in rhythm if max(span.after, span.not_before) < time < span.until]
    kept = [*ends[-1 :: -(len(ends) // MOST_STEPS + 1)][::-1], span.until]
    return [replace(span, after=after, until=end) for after, end in pairwise([span.after, *kept])]


def is_overridden(series: Iterable[Series], catalogue: Catalogue) -> bool:
    """Whether users may have been where no status sends them: what they met there is no reason to send more."""
    return any(
        value > 0
        for one in series
        if one.labels.get("__name__") == catalogue.override
        for _, value in one.samples
    )
