"""Fold newly read samples into the evidence: status and samples in, status with verdicts out.

``countedUntil`` moves forward with every counted interval and is stored with the test's state in one write, so that
an interval is counted once or, if that write is lost, not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from controller.api.delivery import WHOLE_PPM, Analysis, MetricName
from controller.api.reasons import Verdict
from controller.api.shadow import SHADOW, RegressionAction
from controller.api.status import (
    Evidence,
    GuardrailStatus,
    MetricEvidence,
    MetricStatus,
    RolloutStatus,
)
from controller.core.agents import definitions
from controller.core.controls import clusterings, control_e_value
from controller.core.counts import Span, Tallied, UnusableSamplesError
from controller.core.evidence import (
    Counted,
    Step,
    Watched,
    Weighed,
    last_reference,
    safety_of,
    summed,
    together,
    weighed,
)
from controller.core.guardrails import guarded, is_held
from controller.core.mixture import UnknownStateError
from controller.core.reading import BlindError, Reading, continued, read, span_of, steps_of
from controller.core.reported import count_reports, users_of
from controller.core.restored import readable
from controller.core.shadowed import comparison_e_value, count_comparisons
from controller.core.snapshot import Snapshot
from controller.core.split import check_splits
from controller.core.stages import (
    Arm,
    Comparison,
    comparisons,
    sampled_ppm,
    table_of,
    watch_name,
    watches,
)
from controller.core.tally import Catalogue
from controller.core.verdict import Finding, Look, judge, worst


def assess(snapshot: Snapshot, catalogue: Catalogue, now: datetime) -> RolloutStatus:
    """The status with this evaluation's evidence in it; unchanged when there is nothing to evaluate."""
    status, samples = with_clock_started(snapshot), snapshot.samples
    if samples is None:
        return status
    before = readable(status.evidence or Evidence())
    if status.stage is None or snapshot.rollout.status.stage is None or status.stage.programmed_at is None:
        # Whatever the rules make of these samples, the next ones are read an interval later.
        return status.model_copy(update={"evidence": before.model_copy(update={"evaluated_at": now})})
    try:
        reading = read(snapshot.rollout.metadata.key, samples, catalogue)
        evidence, findings, guardrails = _count(snapshot, status, before, reading)
        elsewhere = _elsewhere(snapshot, evidence, findings)
    except (BlindError, UnusableSamplesError, UnknownStateError) as error:
        return blind(status, str(error), snapshot.analysis, now)
    alpha = snapshot.analysis.false_rollback_rate / WHOLE_PPM
    analysis = judge(findings, alpha, _watched(snapshot), elsewhere)
    if not reading.overridden:
        splits, analysis = check_splits(snapshot, status, before, analysis)
        evidence = evidence.model_copy(update={"splits": splits})
    requests = max((f.candidate.total for f in findings if f.own and f.unit == "requests"), default=0)
    return status.model_copy(
        update={
            "evidence": evidence.model_copy(update={"evaluated_at": now, "problem": ""}),
            "analysis": analysis,
            "guardrails": guardrails,
            "verdict": worst([*analysis, *filter(is_held, guardrails)]),
            "stage": status.stage.model_copy(
                update={"requests": requests, "regression": _regression(status, analysis)}
            ),
        }
    )


def with_clock_started(snapshot: Snapshot) -> RolloutStatus:
    """The status, in which a stage begins to count as soon as its split is acknowledged.

    This comes before all rules: a candidate that is served must be watched, whatever else keeps the plan busy.
    """
    status, programmed = snapshot.rollout.status, snapshot.programmed
    stage = status.stage
    if stage is None or stage.programmed_at is not None:
        return status
    if not programmed.serves(table_of(snapshot.rollout, status, snapshot.revisions)):
        return status
    at = max(programmed.acknowledged_at or stage.entered_at, stage.entered_at)
    return status.model_copy(update={"stage": stage.model_copy(update={"programmed_at": at})})


def blind(status: RolloutStatus, problem: str, analysis: Analysis, now: datetime) -> RolloutStatus:
    """The status when nothing could be read: every verdict is Error, and every count and e-value stays."""
    watched = [SHADOW] if status.is_in_shadow else [metric.name for metric in analysis.metrics]
    known = status.analysis or [MetricStatus(name=name, verdict=Verdict.ERROR) for name in watched]
    metrics = [
        metric.model_copy(update={"verdict": Verdict.ERROR, "reason": None, "message": problem})
        for metric in known
    ]
    before = status.evidence or Evidence()
    # Whatever a query's value is meanwhile, nobody looked.
    limits = [each.model_copy(update={"beyond_at": None}) for each in before.guardrails]
    evidence = before.model_copy(update={"evaluated_at": now, "problem": problem, "guardrails": limits})
    return status.model_copy(update={"evidence": evidence, "analysis": metrics, "verdict": Verdict.ERROR})


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """Everything that one evaluation counts with.

    Attributes:
        snapshot: The rollout.
        status: Before this evaluation, with a stage whose split is in force.
        before: The tests before it.
        reading: What was read.
        span: The interval.
        steps: Its parts, from scrape to scrape; none if it is empty.
    """

    snapshot: Snapshot
    status: RolloutStatus
    before: Evidence
    reading: Reading
    span: Span
    steps: list[Span]

    def compare(self, metric: str, comparison: Comparison) -> Watched:
        """A metric of the router, for one group of users."""
        analysis, name = self.snapshot.analysis, watch_name(metric, comparison)
        everyone = self._stored(metric)
        edges = everyone.edges if everyone else []
        state = self._stored(name) or MetricEvidence(name=name)
        steps = [self._step(metric, comparison, edges, span) for span in self.steps]
        whole = together(steps) if steps else self._step(metric, comparison, edges, self.span)
        candidate, baseline = whole.candidate, whole.baseline
        audience = comparison.candidate.audience
        clustered = clusterings(everyone, len(candidate), analysis.clustering, audience=audience)
        so_far = next((m for m in self.status.analysis if m.name == name), None)
        shown = so_far or MetricStatus(name=name, verdict=Verdict.INSUFFICIENT)

        def finding(found: Weighed) -> Finding:
            return Finding(
                name=name,
                candidate=summed(shown.candidate, candidate[-1]),
                baseline=summed(shown.baseline, baseline[-1]) if baseline else last_reference(found.state),
                e_value=found.e_value,
                # What slices of an earlier stage showed says nothing about a stage without any.
                control=control_e_value(found.state) if comparison.is_sliced else 1.0,
                compared=baseline is not None,
                own=comparison.own,
                min_requests=self._min_requests,
                clustering=max(each.phi for each in clustered),
                tests=len(candidate),
                safety=safety_of(found.state, analysis) if baseline else None,
                looks=found.looks if comparison.is_sliced else tuple(Look(e) for e, _ in found.looks),
            )

        return Counted(state, clustered, steps), finding

    def _step(self, metric: str, comparison: Comparison, edges: list[float], span: Span) -> Step:
        candidate, baseline = self.reading.counts(metric, comparison, edges, span)
        return Step(candidate, baseline, self.reading.slices(metric, comparison, edges, span))

    def slow(self, arm: Arm, limit: float) -> Tallied:
        """Requests of the arm that took longer than the limit, among all."""
        return self.reading.tally.counts(MetricName.LATENCY, arm, [limit], self.span, self.reading.scrapes)[0]

    @property
    def _min_requests(self) -> int:
        assert self.status.stage is not None  # noqa: S101  see Attributes
        return self.snapshot.stages[self.status.stage.index].min_requests

    def _stored(self, name: str) -> MetricEvidence | None:
        return next((metric for metric in self.before.metrics if metric.name == name), None)


def _count(
    snapshot: Snapshot, status: RolloutStatus, before: Evidence, reading: Reading
) -> tuple[Evidence, list[Finding], list[GuardrailStatus]]:
    assert status.stage is not None  # noqa: S101  the caller looked
    assert status.stage.programmed_at is not None  # noqa: S101  likewise
    before = continued(before, reading)
    span = span_of(before, reading, status.stage.programmed_at)
    steps = steps_of(span, reading.scrapes) if span.until > span.after else []
    evaluation = _Evaluation(snapshot, status, before, reading, span, steps)
    known = {metric.name: metric for metric in before.metrics}
    compared = comparisons(status, snapshot.stages)
    watched = [
        evaluation.compare(metric.name, comparison)
        for comparison in compared
        for metric in snapshot.analysis.metrics
        if metric.is_from_router
    ]
    for definition in definitions(snapshot.analysis, snapshot.rollout.metadata.key):
        users = users_of(definition, compared)
        if users is not None:
            state = known.get(definition.name) or MetricEvidence(name=definition.name)
            watched.append(count_reports(snapshot, status, definition, users, state, span.not_before))
    after = weighed([counted for counted, _ in watched], snapshot.analysis)
    findings = [finding(each) for (_, finding), each in zip(watched, after, strict=True)]
    known |= {
        each.state.name: each.state
        for (counted, _), each in zip(watched, after, strict=True)
        if counted.steps
    }
    if sampled_ppm(status):
        state, finding = count_comparisons(snapshot, status, known.get(SHADOW), span.not_before)
        known[SHADOW] = state
        findings.append(finding)
    slow = evaluation.slow if steps else None
    tests, said = before.guardrails, list[GuardrailStatus]()
    if not status.is_in_shadow:
        tests, said = guarded(snapshot, status, before, slow, span.not_before)
    update = {
        "counted_until": datetime.fromtimestamp(span.until, UTC),
        "metrics": list(known.values()),
        "guardrails": tests,
    }
    return before.model_copy(update=update), findings, said


def _watched(snapshot: Snapshot) -> int:
    """How many findings there are when everything is watched."""
    reported = sum(not metric.is_from_router for metric in snapshot.analysis.metrics)
    frozen = snapshot.rollout.status.frozen
    shadows = 1 if frozen and frozen.shadow else 0
    return (len(snapshot.analysis.metrics) - reported) * watches(snapshot.stages) + reported + shadows


def _elsewhere(snapshot: Snapshot, evidence: Evidence, findings: list[Finding]) -> list[float]:
    """What comparisons showed before a stage in which nothing is compared: it keeps its weight."""
    frozen = snapshot.rollout.status.frozen
    if frozen is None or frozen.shadow is None or any(finding.name == SHADOW for finding in findings):
        return []
    return [comparison_e_value(state) for state in evidence.metrics if state.name == SHADOW]


def _regression(status: RolloutStatus, analysis: list[MetricStatus]) -> str:
    """What keeps a candidate in the shadow for good: evidence that came that far once does not go away again."""
    assert status.stage is not None  # noqa: S101  the caller looked
    shadow = status.frozen.shadow if status.frozen else None
    if shadow is None or not status.is_in_shadow or shadow.on_regression is not RegressionAction.HOLD:
        return ""
    failed = (f"{metric.name} is {metric.message}" for metric in analysis if metric.verdict is Verdict.FAIL)
    return status.stage.regression or next(failed, "")
