"""Fold newly read samples into the evidence: status and samples in, status with verdicts out.

``countedUntil`` moves forward with every counted interval and is stored with the test's state in one write, so that
an interval is counted once or, if that write is lost, not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.api.delivery import Analysis
from controller.api.reasons import Verdict
from controller.api.status import Counts, Evidence, MetricEvidence, MetricStatus, RolloutStatus
from controller.core.counts import Scrapes, Span, UnusableSamplesError
from controller.core.snapshot import Samples, Snapshot
from controller.core.stages import Arms, arms
from controller.core.statistics import (
    ODDS_RATIOS,
    HarmTest,
    Interval,
    log_e_value,
    log_e_value_against_reference,
    tolerated_rate,
)
from controller.core.tally import Catalogue, Tally
from controller.core.verdict import Finding, judge, worst

STALE_GAPS = 2
"""Samples older than this many scrape intervals are no evidence of the present."""

SCRAPE_GRACE_SECONDS = 1.0
"""A scrape takes a moment to be stored."""

PPM = 1_000_000

_NO_EVIDENCE = (0.0,) * len(ODDS_RATIOS)


class BlindError(Exception):
    """The evidence cannot be read; the message says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One usable answer of the metric source.

    Attributes:
        tally: Counts by arm.
        scrapes: When the routers were scraped.
        until: The newest instant up to which every living router was scraped, in unix seconds.
    """

    tally: Tally
    scrapes: Scrapes
    until: float


def assess(snapshot: Snapshot, catalogue: Catalogue, now: datetime) -> RolloutStatus:
    """The status with this evaluation's evidence in it; unchanged when there is nothing to evaluate."""
    status, samples = snapshot.rollout.status, snapshot.samples
    compared = arms(status, snapshot.stages)
    if samples is None:
        return status
    before = status.evidence or Evidence()
    if compared is None or status.stage is None or status.stage.programmed_at is None:
        # Whatever the rules make of these samples, the next ones are read an interval later.
        return status.model_copy(update={"evidence": before.model_copy(update={"evaluated_at": now})})
    try:
        reading = read(snapshot.rollout.metadata.key, samples, catalogue, now)
        evidence, findings = _count(snapshot, before, compared, reading)
    except (BlindError, UnusableSamplesError) as error:
        return blind(status, str(error), snapshot.analysis, now)
    analysis = judge(findings, snapshot.analysis.false_rollback_rate / PPM)
    return status.model_copy(
        update={
            "evidence": evidence.model_copy(update={"evaluated_at": now, "problem": ""}),
            "analysis": analysis,
            "verdict": worst(analysis),
            "stage": status.stage.model_copy(update={"requests": max(f.candidate.total for f in findings)}),
        }
    )


def blind(status: RolloutStatus, problem: str, analysis: Analysis, now: datetime) -> RolloutStatus:
    """The status when nothing could be read: every verdict is Error, and every count and e-value stays."""
    known = {metric.name: metric for metric in status.analysis}
    metrics = [
        (known.get(metric.name) or MetricStatus(name=metric.name, verdict=Verdict.ERROR)).model_copy(
            update={"verdict": Verdict.ERROR, "message": problem}
        )
        for metric in analysis.metrics
    ]
    evidence = (status.evidence or Evidence()).model_copy(update={"evaluated_at": now, "problem": problem})
    return status.model_copy(update={"evidence": evidence, "analysis": metrics, "verdict": Verdict.ERROR})


def read(key: str, samples: Samples, catalogue: Catalogue, now: datetime) -> Reading:
    """Check that samples are there and fresh.

    Raises:
        BlindError: If there is no answer, no router in it, or nothing recent.
    """
    if samples.problem:
        raise BlindError(samples.problem)
    scrapes = Scrapes.of(s for s in samples.series if s.labels.get("__name__") == catalogue.liveness)
    if not scrapes.times:
        raise BlindError(f"Prometheus has no {catalogue.liveness} of any router: is it scraping the routers?")
    gap = scrapes.gap_seconds
    if gap is None:
        raise BlindError("Prometheus has scraped the routers only once so far")
    until = scrapes.common_end(now.timestamp() - STALE_GAPS * gap - SCRAPE_GRACE_SECONDS)
    if until is None:
        newest = max(times[-1] for times in scrapes.times.values())
        raise BlindError(
            f"the newest sample in Prometheus is {now.timestamp() - newest:.0f} s old, "
            f"but routers are scraped every {gap:.0f} s"
        )
    return Reading(Tally(key, samples.series, catalogue), scrapes, until)


def _count(
    snapshot: Snapshot, before: Evidence, compared: Arms, reading: Reading
) -> tuple[Evidence, list[Finding]]:
    status = snapshot.rollout.status
    assert status.stage is not None  # noqa: S101  the caller looked
    assert status.stage.programmed_at is not None  # noqa: S101  likewise
    counted = before.counted_until.timestamp() if before.counted_until else 0.0
    span = Span(counted, max(reading.until, counted), status.stage.programmed_at.timestamp())
    known = {metric.name: metric for metric in before.metrics}
    shown = {metric.name: metric for metric in status.analysis}
    evidences, findings = [], []
    for metric in snapshot.analysis.metrics:
        state = known.get(metric.name) or MetricEvidence(name=metric.name)
        candidate = reading.tally.counts(metric.name, compared.candidate, state.edges, span, reading.scrapes)
        baseline = (
            reading.tally.counts(metric.name, compared.baseline, state.edges, span, reading.scrapes)
            if compared.baseline
            else None
        )
        if span.until > counted:
            state = _updated(state, candidate, baseline, snapshot.analysis.clustering)
        evidences.append(state)
        so_far = shown.get(metric.name) or MetricStatus(name=metric.name, verdict=Verdict.INSUFFICIENT)
        findings.append(
            Finding(
                name=metric.name,
                candidate=_sum(so_far.candidate, candidate[-1]),
                baseline=_sum(so_far.baseline, baseline[-1]) if baseline else _last_reference(state),
                e_value=_mean_e_value(state),
                compared=baseline is not None,
                min_requests=snapshot.stages[status.stage.index].min_requests,
            )
        )
    end = datetime.fromtimestamp(span.until, UTC)
    return before.model_copy(update={"counted_until": end, "metrics": evidences}), findings


def _updated(
    state: MetricEvidence, candidate: list[Counts], baseline: list[Counts] | None, clustering: float
) -> MetricEvidence:
    """The metric's tests after one more interval; each test has its own pair of counts."""
    tests = [HarmTest.decode(text) for text in state.tests] or [HarmTest() for _ in candidate]
    references = state.reference or [Counts() for _ in candidate]
    if baseline:
        values = [_against_baseline(c, b) for c, b in zip(candidate, baseline, strict=True)]
    else:
        # Against the past only the last test says something: of latency's edges the one of the tail. A median moves
        # with the load, which has just grown.
        silent = [_NO_EVIDENCE] * (len(candidate) - 1)
        values = [*silent, _against_reference(candidate[-1], references[-1])]
    return state.model_copy(
        update={
            "tests": [test.after(e, clustering).encode() for test, e in zip(tests, values, strict=True)],
            "reference": [_sum(r, b) for r, b in zip(references, baseline, strict=True)]
            if baseline
            else references,
        }
    )


def _against_baseline(candidate: Counts, baseline: Counts) -> tuple[float, ...]:
    interval = Interval(candidate.bad, candidate.total, baseline.bad, baseline.total)
    return _each_ratio(lambda ratio: log_e_value(interval, ratio))


def _against_reference(candidate: Counts, reference: Counts) -> tuple[float, ...]:
    if reference.total == 0:
        return _NO_EVIDENCE
    tolerated = tolerated_rate(reference.bad, reference.total)
    return _each_ratio(
        lambda ratio: log_e_value_against_reference(candidate.bad, candidate.total, ratio, tolerated)
    )


def _each_ratio(log_e: Callable[[float], float]) -> tuple[float, ...]:
    return tuple(log_e(ratio) for ratio in ODDS_RATIOS)


def _mean_e_value(state: MetricEvidence) -> float:
    tests = [HarmTest.decode(text).e_value for text in state.tests]
    return sum(tests) / len(tests) if tests else 1.0


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(bad=one.bad + other.bad, total=one.total + other.total)


def _last_reference(state: MetricEvidence) -> Counts:
    return state.reference[-1] if state.reference else Counts()
