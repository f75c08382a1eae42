"""Fold newly read samples into the evidence: status and samples in, status with verdicts out.

``countedUntil`` moves forward with every counted interval and is stored with the test's state in one write, so that
an interval is counted once or, if that write is lost, not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.api.delivery import WHOLE_PPM, AdvanceOn, Analysis, MetricName
from controller.api.reasons import Verdict
from controller.api.status import (
    Counts,
    Evidence,
    GuardrailStatus,
    MetricEvidence,
    MetricStatus,
    RolloutStatus,
)
from controller.core.agents import AgentDefinition, definitions
from controller.core.controls import clusterings, control_e_value, with_slices
from controller.core.counts import Scrapes, Series, Span, UnusableSamplesError, joined, stale_before
from controller.core.guardrails import Slow, guarded, is_held
from controller.core.mixture import UnknownStateError
from controller.core.reports import NotReportedError, Reports, StaleReportsError
from controller.core.safety import SafetyTest, safety_log_e_values
from controller.core.snapshot import Samples, Snapshot
from controller.core.split import check_splits
from controller.core.stages import Arm, Comparison, comparisons, table_of, watch_name, watches
from controller.core.statistics import (
    ODDS_RATIOS,
    HarmTest,
    Interval,
    harm_log_e_values,
    log_e_value_against_reference,
    tolerated_rate,
)
from controller.core.tally import Catalogue, Tally
from controller.core.verdict import Finding, Safety, judge, worst

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

    def counts(
        self, metric: str, comparison: Comparison, edges: list[float], span: Span
    ) -> tuple[list[Counts], list[Counts] | None]:
        """Candidate and baseline, one pair of counts for each test of the metric."""
        candidate = self.tally.counts(metric, comparison.candidate, edges, span, self.scrapes)
        if comparison.baseline is None:
            return candidate, None
        return candidate, self.tally.counts(metric, comparison.baseline, edges, span, self.scrapes)

    def slices(
        self, metric: str, comparison: Comparison, edges: list[float], span: Span
    ) -> list[list[Counts]]:
        """For each test the baseline's control slices; none where the candidate serves an audience, or everyone."""
        if comparison.baseline is None or comparison.candidate.audience:
            return []
        return self.tally.slices(metric, comparison.baseline, edges, span, self.scrapes)


def assess(snapshot: Snapshot, catalogue: Catalogue, now: datetime) -> RolloutStatus:
    """The status with this evaluation's evidence in it; unchanged when there is nothing to evaluate."""
    status, samples = with_clock_started(snapshot), snapshot.samples
    if samples is None:
        return status
    before = status.evidence or Evidence()
    if status.stage is None or snapshot.rollout.status.stage is None or status.stage.programmed_at is None:
        # Whatever the rules make of these samples, the next ones are read an interval later.
        return status.model_copy(update={"evidence": before.model_copy(update={"evaluated_at": now})})
    try:
        reading = read(snapshot.rollout.metadata.key, samples, catalogue)
        evidence, findings, guardrails = _count(snapshot, status, before, reading)
    except (BlindError, UnusableSamplesError, UnknownStateError) as error:
        return blind(status, str(error), snapshot.analysis, now)
    analysis = judge(findings, snapshot.analysis.false_rollback_rate / WHOLE_PPM, _watched(snapshot))
    if not is_overridden(samples, catalogue):
        splits, analysis = check_splits(snapshot, status, before, analysis)
        evidence = evidence.model_copy(update={"splits": splits})
    requests = max((f.candidate.total for f in findings if f.own and f.unit == "requests"), default=0)
    return status.model_copy(
        update={
            "evidence": evidence.model_copy(update={"evaluated_at": now, "problem": ""}),
            "analysis": analysis,
            "guardrails": guardrails,
            "verdict": worst([*analysis, *filter(is_held, guardrails)]),
            "stage": status.stage.model_copy(update={"requests": requests}),
        }
    )


def with_clock_started(snapshot: Snapshot) -> RolloutStatus:
    """The status, in which a stage begins to count as soon as its split is acknowledged.

    This comes before all rules: a candidate that is served must be watched, whatever else keeps the plan busy.
    """
    status, programmed = snapshot.rollout.status, snapshot.programmed
    stage = status.stage
    wanted = table_of(snapshot.rollout, status, snapshot.revisions)
    if stage is None or stage.programmed_at is not None or not programmed.serves(wanted):
        return status
    at = max(programmed.acknowledged_at or stage.entered_at, stage.entered_at)
    return status.model_copy(update={"stage": stage.model_copy(update={"programmed_at": at})})


def blind(status: RolloutStatus, problem: str, analysis: Analysis, now: datetime) -> RolloutStatus:
    """The status when nothing could be read: every verdict is Error, and every count and e-value stays."""
    known = status.analysis or [
        MetricStatus(name=metric.name, verdict=Verdict.ERROR) for metric in analysis.metrics
    ]
    metrics = [
        metric.model_copy(update={"verdict": Verdict.ERROR, "reason": None, "message": problem})
        for metric in known
    ]
    evidence = (status.evidence or Evidence()).model_copy(update={"evaluated_at": now, "problem": problem})
    return status.model_copy(update={"evidence": evidence, "analysis": metrics, "verdict": Verdict.ERROR})


def read(key: str, samples: Samples, catalogue: Catalogue) -> Reading:
    """Check that samples are there and fresh.

    Raises:
        BlindError: If there is no answer, no router in it, or nothing recent.
    """
    if samples.problem:
        raise BlindError(samples.problem)
    scrapes = _scrapes(samples.series, catalogue)
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
    series = joined(samples.series, catalogue.liveness)
    return Reading(Tally(key, series, catalogue), _scrapes(series, catalogue), until)


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


def is_overridden(samples: Samples, catalogue: Catalogue) -> bool:
    """Whether users may have been where no status sends them: what they met there is no reason to send more."""
    return any(
        value > 0
        for series in samples.series
        if series.labels.get("__name__") == catalogue.override
        for _, value in series.samples
    )


def _count(
    snapshot: Snapshot, status: RolloutStatus, before: Evidence, reading: Reading
) -> tuple[Evidence, list[Finding], list[GuardrailStatus]]:
    assert status.stage is not None  # noqa: S101  the caller looked
    assert status.stage.programmed_at is not None  # noqa: S101  likewise
    before = continued(before, reading)
    span = span_of(before, reading, status.stage.programmed_at)
    stored = {metric.name: metric for metric in before.metrics}
    known = dict(stored)
    shown = {metric.name: metric for metric in status.analysis}
    findings = []
    for comparison in comparisons(status, snapshot.stages):
        for metric in snapshot.analysis.metrics:
            if not metric.is_from_router:
                continue
            name = watch_name(metric.name, comparison)
            edges = known[metric.name].edges if metric.name in known else []
            state = known.get(name) or MetricEvidence(name=name)
            candidate, baseline = reading.counts(metric.name, comparison, edges, span)
            phis = clusterings(
                stored.get(metric.name),
                len(candidate),
                snapshot.analysis.clustering,
                audience=comparison.candidate.audience,
            )
            if span.until > span.after:
                state = _updated(state, candidate, baseline, phis, snapshot.analysis)
                slices = reading.slices(metric.name, comparison, edges, span)
                enough = max(_mean_e_value(state), WHOLE_PPM / snapshot.analysis.false_rollback_rate)
                state = known[name] = with_slices(state, slices, baseline, phis, enough)
            so_far = shown.get(name) or MetricStatus(name=name, verdict=Verdict.INSUFFICIENT)
            findings.append(
                Finding(
                    name=name,
                    candidate=_sum(so_far.candidate, candidate[-1]),
                    baseline=_sum(so_far.baseline, baseline[-1]) if baseline else _last_reference(state),
                    e_value=_mean_e_value(state),
                    control=control_e_value(state),
                    compared=baseline is not None,
                    own=comparison.own,
                    min_requests=snapshot.stages[status.stage.index].min_requests,
                    clustering=max(phis),
                    tests=len(candidate),
                    safety=_safety(state, snapshot.analysis) if baseline else None,
                )
            )
    for definition in definitions(snapshot.analysis, snapshot.rollout.metadata.key):
        users = _users_of(definition, comparisons(status, snapshot.stages))
        if users is None:
            continue
        state, finding = _count_reports(
            snapshot, status, definition, users, known.get(definition.name), span.not_before
        )
        known[definition.name] = state
        findings.append(finding)
    end = datetime.fromtimestamp(span.until, UTC)
    tests, said = guarded(
        snapshot, status, before, _slow(reading, span) if span.until > span.after else None, span.not_before
    )
    update = {"counted_until": end, "metrics": list(known.values()), "guardrails": tests}
    return before.model_copy(update=update), findings, said


def _slow(reading: Reading, span: Span) -> Slow:
    def slow(arm: Arm, limit: float) -> Counts:
        return reading.tally.counts(MetricName.LATENCY, arm, [limit], span, reading.scrapes)[0]

    return slow


def _watched(snapshot: Snapshot) -> int:
    """How many findings there are when everything is watched."""
    reported = len(definitions(snapshot.analysis, snapshot.rollout.metadata.key))
    return (len(snapshot.analysis.metrics) - reported) * watches(snapshot.stages) + reported


@dataclass(frozen=True, slots=True)
class _ReportedUsers:
    """Whom a metric is about that does not come from the router: whether stable serves some, and the stage is about them."""

    compared: bool
    own: bool


def _users_of(definition: AgentDefinition, compared: Iterable[Comparison]) -> _ReportedUsers | None:
    """Agents do not tell the audience apart; conversations are drawn among everyone else, if the candidate has any."""
    if not definition.independent:
        return _ReportedUsers(any(each.baseline for each in compared), own=True)
    everyone = next((each for each in compared if not each.candidate.audience), None)
    return _ReportedUsers(everyone.baseline is not None, everyone.own) if everyone else None


def _count_reports(
    snapshot: Snapshot,
    status: RolloutStatus,
    definition: AgentDefinition,
    users: _ReportedUsers,
    known: MetricEvidence | None,
    not_before: float,
) -> tuple[MetricEvidence, Finding]:
    """One metric that others report, which has a rhythm of its own and may be missing while the router's are there."""
    assert status.stage is not None  # noqa: S101  the caller looked
    state, problem, verdict = known or MetricEvidence(name=definition.name), "", Verdict.ERROR
    so_far = next((m for m in status.analysis if m.name == definition.name), None)
    candidate, baseline = (so_far.candidate, so_far.baseline) if so_far else (Counts(), Counts())
    try:
        state, found, beside = _with_reports(
            snapshot, status, definition, state, not_before, compared=users.compared
        )
        candidate, baseline = _sum(candidate, found), _sum(baseline, beside)
    except NotReportedError as error:
        problem, verdict = str(error), Verdict.INSUFFICIENT
    except (StaleReportsError, UnusableSamplesError) as error:
        problem = str(error)
    return state, Finding(
        name=definition.name,
        candidate=candidate,
        baseline=baseline if users.compared else _last_reference(state),
        e_value=_mean_e_value(state),
        compared=users.compared,
        own=users.own,
        min_requests=snapshot.stages[status.stage.index].min_requests,
        clustering=_reported_clustering(snapshot, definition),
        tests=max(len(state.tests), 1),
        safety=_safety(state, snapshot.analysis) if users.compared else None,
        unit=definition.unit,
        problem=problem,
        problem_verdict=verdict,
    )


def _with_reports(
    snapshot: Snapshot,
    status: RolloutStatus,
    definition: AgentDefinition,
    state: MetricEvidence,
    not_before: float,
    *,
    compared: bool,
) -> tuple[MetricEvidence, Counts, Counts]:
    """The metric's tests after one more interval, with the counts of candidate and baseline in it.

    Raises:
        NotReportedError: If a version lacks a series.
        StaleReportsError: If there are none of the present, or they could not be read.
        UnusableSamplesError: If a newest sample is not a finite number of events.
    """
    samples = snapshot.samples
    assert samples is not None  # noqa: S101  the caller looked
    assert status.stable is not None  # noqa: S101  likewise
    assert status.candidate is not None  # noqa: S101  likewise
    if samples.reports_problem:
        raise StaleReportsError(samples.reports_problem)
    reports = Reports.of(definition, samples.reports, snapshot.rollout.metadata.namespace)
    served = (status.candidate, status.stable) if compared else (status.candidate,)
    until = reports.until(samples.at.timestamp(), served)
    counted = state.counted_until.timestamp() if state.counted_until else 0.0
    if until <= counted:
        return state, Counts(), Counts()
    span = Span(counted, until, not_before if reports.saw(counted) else max(not_before, counted))
    candidate = reports.counts(status.candidate, state.edges, span)
    baseline = reports.counts(status.stable, state.edges, span) if compared else None
    phis = [_reported_clustering(snapshot, definition)] * len(candidate)
    after = _updated(state, candidate, baseline, phis, snapshot.analysis)
    end = datetime.fromtimestamp(until, UTC)
    return (
        after.model_copy(update={"counted_until": end}),
        candidate[-1],
        baseline[-1] if baseline else Counts(),
    )


def _reported_clustering(snapshot: Snapshot, definition: AgentDefinition) -> float:
    """φ as it was supposed, since agents do not tell the slices apart; conversations are drawn one by one."""
    return 1.0 if definition.independent else snapshot.analysis.clustering


def _updated(
    state: MetricEvidence,
    candidate: list[Counts],
    baseline: list[Counts] | None,
    phis: list[float],
    analysis: Analysis,
) -> MetricEvidence:
    """The metric's tests after one more interval; each test has its own pair of counts, and its own clustering."""
    if baseline and analysis.advance_on is AdvanceOn.EVIDENCE:
        state = _with_safety(state, candidate, baseline, phis, analysis)
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
            "tests": [test.after(e, phi).encode() for test, e, phi in zip(tests, values, phis, strict=True)],
            "reference": [_sum(r, b) for r, b in zip(references, baseline, strict=True)]
            if baseline
            else references,
        }
    )


def _with_safety(
    state: MetricEvidence,
    candidate: list[Counts],
    baseline: list[Counts],
    phis: list[float],
    analysis: Analysis,
) -> MetricEvidence:
    tests = [SafetyTest.decode(text) for text in state.safety] or [SafetyTest() for _ in candidate]
    values = [
        safety_log_e_values(_interval(c, b), analysis.max_ratio)
        for c, b in zip(candidate, baseline, strict=True)
    ]
    after = [test.after(e, phi) for test, e, phi in zip(tests, values, phis, strict=True)]
    return state.model_copy(update={"safety": [test.encode() for test in after]})


def _safety(state: MetricEvidence, analysis: Analysis) -> Safety | None:
    """What was shown, if something has to be; of several tests each has to show it."""
    if analysis.advance_on is not AdvanceOn.EVIDENCE:
        return None
    shown = min((SafetyTest.decode(text).e_value for text in state.safety), default=1.0)
    return Safety(shown, analysis.max_ratio)


def _interval(candidate: Counts, baseline: Counts) -> Interval:
    return Interval(candidate.bad, candidate.total, baseline.bad, baseline.total)


def _against_baseline(candidate: Counts, baseline: Counts) -> tuple[float, ...]:
    return harm_log_e_values(_interval(candidate, baseline))


def _against_reference(candidate: Counts, reference: Counts) -> tuple[float, ...]:
    tolerated = tolerated_rate(reference.bad, reference.total)
    return tuple(
        log_e_value_against_reference(candidate.bad, candidate.total, ratio, tolerated)
        for ratio in ODDS_RATIOS
    )


def _mean_e_value(state: MetricEvidence) -> float:
    tests = [HarmTest.decode(text).e_value for text in state.tests]
    return sum(tests) / len(tests) if tests else 1.0


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(bad=one.bad + other.bad, total=one.total + other.total)


def _last_reference(state: MetricEvidence) -> Counts:
    return state.reference[-1] if state.reference else Counts()
