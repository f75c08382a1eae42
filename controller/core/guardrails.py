"""Fold newly read samples into the guardrails: absolute limits, whatever stable does.

Each has its own budget (`limits.ALPHA`) and is tested on the candidate and on stable alike. A limit that stable breaks as
well is about something else than the candidate, such as a tool that is down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce

from controller.api.delivery import WHOLE_PPM, Analysis, Metric
from controller.api.guardrails import Guardrail, GuardrailAction, GuardrailName
from controller.api.quantities import format_duration, format_percent
from controller.api.reasons import Reason, Verdict
from controller.api.status import (
    Counts,
    Evidence,
    GuardrailEvidence,
    GuardrailStatus,
    RolloutStatus,
    VersionRef,
)
from controller.core.agents import AgentDefinition, definition_of, definitions
from controller.core.counts import Events, Span, Tallied, UnusableSamplesError
from controller.core.daily_cost import daily_cost
from controller.core.evidence import summed
from controller.core.limits import THRESHOLD, mean_log_e_values, share_log_e_values
from controller.core.queries import queried
from controller.core.reports import NotReportedError, Reports, StaleReportsError
from controller.core.snapshot import Snapshot
from controller.core.stages import Arm, comparisons
from controller.core.statistics import ODDS_RATIOS, HarmTest
from controller.core.verdict import rate

P95_PPM = 50_000
"""Above a P95 lie five in a hundred."""

_MOST_LOG_EVIDENCE = math.log(3 * THRESHOLD * len(ODDS_RATIOS))
"""What one alternative needs to stay above the threshold alone through a few intervals; the rest is forgotten.

So a limit that is kept again is soon believed to be kept. Cutting down an e-process keeps it one.
"""

Slow = Callable[[Arm, float], Events]
"""An arm's requests that took longer than so many milliseconds, among all, in the interval that routers counted."""


@dataclass(frozen=True, slots=True)
class _Interval:
    """What one guardrail counted in one interval.

    Attributes:
        candidate: Events beyond the limit, and all.
        values: log e-values of the candidate.
        baseline: The same of stable; None if it serves nobody beside the candidate.
        lasts: Whether the limit is also broken over the guardrail's window.
        until: The end of the interval, where it has one of its own.
    """

    candidate: Events
    values: tuple[float, ...]
    baseline: tuple[float, ...] | None
    lasts: bool = True
    until: datetime | None = None


def definition_for(guardrail: Guardrail, metrics: Iterable[Metric]) -> AgentDefinition | None:
    """The series that agents report for it, read as the metric of the same name is; None if it reads none of theirs."""
    if guardrail.query is not None or guardrail.name in {GuardrailName.LATENCY, GuardrailName.DAILY_COST}:
        return None
    same = (metric for metric in metrics if metric.name == guardrail.name)
    return definition_of(next(same, Metric(name=guardrail.name)))


def read_definitions(analysis: Analysis, rollout: str) -> tuple[AgentDefinition, ...]:
    """What others than the router report for metrics or guardrails of a rollout; once where both read it."""
    found = {definition.name: definition for definition in definitions(analysis, rollout)}
    for guardrail in analysis.guardrails:
        if definition := definition_for(guardrail, analysis.metrics):
            found.setdefault(definition.name, definition)
    return tuple(found.values())


def is_held(status: GuardrailStatus) -> bool:
    """Whether no weight may rise."""
    return status.action is not GuardrailAction.ALERT and status.verdict is not Verdict.PASS


def guarded(
    snapshot: Snapshot, status: RolloutStatus, before: Evidence, slow: Slow | None, not_before: float
) -> tuple[list[GuardrailEvidence], list[GuardrailStatus]]:
    """The guardrails' tests after one more interval, and what each says.

    Args:
        snapshot: The rollout and the metric source's answer.
        status: Before this evaluation.
        before: The tests before it.
        slow: Reads the router's latency; None if the router counted nothing new.
        not_before: Movements that may have begun before this instant belong to another split.

    Raises:
        UnknownStateError: If a stored test is not one of this version's.
    """
    known = {each.name: each for each in before.guardrails}
    shown = {each.name: each for each in status.guardrails}
    evidence: list[GuardrailEvidence] = []
    said: list[GuardrailStatus] = []
    for guardrail in snapshot.analysis.guardrails:
        state = known.get(guardrail.name) or GuardrailEvidence(name=guardrail.name)
        so_far = shown.get(guardrail.name)
        if guardrail.query is not None or guardrail.name == GuardrailName.DAILY_COST:
            state, told = (
                daily_cost(guardrail, snapshot, state, so_far)
                if guardrail.query is None
                else queried(guardrail, snapshot, status, state)
            )
            evidence.append(state)
            said.append(told)
            continue
        counts, lasts, problem = so_far.candidate if so_far else Counts(), True, ""
        verdict = Verdict.ERROR
        try:
            if found := _interval(guardrail, snapshot, status, state, slow, not_before):
                state = _after(guardrail, state, found, snapshot.analysis.clustering)
                lasts = found.lasts
                counts = Counts(
                    bad=counts.bad + found.candidate.bad, total=counts.total + found.candidate.total
                )
        except NotReportedError as error:
            problem, verdict = str(error), Verdict.INSUFFICIENT
        except (StaleReportsError, UnusableSamplesError) as error:
            problem = str(error)
        evidence.append(state)
        said.append(
            GuardrailStatus(
                name=guardrail.name,
                verdict=verdict,
                action=guardrail.follows,
                candidate=counts,
                message=problem,
            )
            if problem
            else _judged(guardrail, state, counts, lasts=lasts)
        )
    return evidence, said


def _interval(
    guardrail: Guardrail,
    snapshot: Snapshot,
    status: RolloutStatus,
    state: GuardrailEvidence,
    slow: Slow | None,
    not_before: float,
) -> _Interval | None:
    """What was counted since the last evaluation; None if there is nothing new.

    Raises:
        NotReportedError: If a version lacks a series, or the limit is not known.
        StaleReportsError: If there are none of the present, or they could not be read.
        UnusableSamplesError: If a newest sample is not a finite number of events.
    """
    definition = definition_for(guardrail, snapshot.analysis.metrics)
    if definition is None:
        return _latency(snapshot, status, state.limit, slow)
    assert snapshot.samples is not None  # noqa: S101  the caller looked
    assert status.stable is not None  # noqa: S101  likewise
    assert status.candidate is not None  # noqa: S101  likewise
    if snapshot.samples.reports_problem:
        raise StaleReportsError(snapshot.samples.reports_problem)
    reports = Reports.of(definition, snapshot.samples.reports, snapshot.rollout.metadata.namespace)
    served: list[VersionRef] = [status.candidate]
    if any(each.baseline for each in comparisons(status, snapshot.stages)):
        served.append(status.stable)
    span = reports.span(snapshot.samples.at, served, state.counted_until, not_before)
    if span is None:
        return None
    if guardrail.name == GuardrailName.TOOL_ERRORS:
        found = [reports.counts(version, [], span)[0] for version in served]
        values = [share_log_e_values(each.bad, each.total, guardrail.limit_ppm / WHOLE_PPM) for each in found]
        lately = Span(span.until - guardrail.over.total_seconds(), span.until, not_before)
        lasts = _is_above(reports.counts(status.candidate, [], lately)[0], guardrail.limit_ppm)
    else:
        limit = _tokens(guardrail, state)
        spent = [reports.histogram(version, span) for version in served]
        values = [mean_log_e_values(each, limit) for each in spent]
        found, lasts = [_beyond(spent[0], limit)], True
    return _Interval(
        found[0],
        values[0],
        values[1] if len(values) > 1 else None,
        lasts,
        datetime.fromtimestamp(span.until, UTC),
    )


def _latency(snapshot: Snapshot, status: RolloutStatus, limit: float, slow: Slow | None) -> _Interval | None:
    if not limit:
        raise NotReportedError("stable's latency before the candidate's first request is not known")
    if slow is None:
        return None
    compared = comparisons(status, snapshot.stages)
    candidate = _all(slow(each.candidate, limit) for each in compared)
    beside = {each.baseline for each in compared if each.baseline}
    baseline = _all(slow(arm, limit) for arm in sorted(beside, key=str))
    allowed = P95_PPM / WHOLE_PPM
    return _Interval(
        candidate,
        share_log_e_values(candidate.bad, candidate.total, allowed),
        share_log_e_values(baseline.bad, baseline.total, allowed) if beside else None,
    )


def _all(counts: Iterable[Events]) -> Counts:
    return reduce(summed, counts, Counts())


def _tokens(guardrail: Guardrail, state: GuardrailEvidence) -> float:
    if guardrail.expected is not None:
        return guardrail.expected * guardrail.multiple
    if not state.limit:
        raise NotReportedError("what stable's tasks took before the candidate's first request is not known")
    return state.limit


def _beyond(buckets: dict[float, int], limit: float) -> Tallied:
    """Tasks beyond the edge nearest above a limit, among all: for people, the test looks at all edges."""
    total = max(buckets.values(), default=0)
    within = [count for edge, count in sorted(buckets.items()) if edge >= limit]
    return Tallied(max(total - within[0], 0) if within else 0, total)


def _is_above(counts: Events, limit_ppm: int) -> bool:
    return counts.bad * WHOLE_PPM > limit_ppm * counts.total


def _after(
    guardrail: Guardrail, state: GuardrailEvidence, found: _Interval, clustering: float
) -> GuardrailEvidence:
    test, baseline = _decoded(state.test).after(found.values, clustering), _decoded(state.baseline)
    if found.baseline is not None:
        baseline = baseline.after(found.baseline, clustering).at_most(_MOST_LOG_EVIDENCE)
    if baseline.e_value >= THRESHOLD:
        # What breaks the limit for stable is not the candidate's doing, and is not held against it once it is over.
        test = test.at_most(0.0)
    elif guardrail.follows is not GuardrailAction.ROLLBACK:
        test = test.at_most(_MOST_LOG_EVIDENCE)
    return state.model_copy(
        update={"test": test.encode(), "baseline": baseline.encode(), "counted_until": found.until}
    )


def _decoded(text: str) -> HarmTest:
    return HarmTest.decode(text) if text else HarmTest()


def _judged(
    guardrail: Guardrail, state: GuardrailEvidence, counts: Counts, *, lasts: bool
) -> GuardrailStatus:
    e_value, baseline = _decoded(state.test).e_value, _decoded(state.baseline).e_value
    numbers = f"{_numbers(guardrail, state, counts)}, e-value {e_value:.3g} of {THRESHOLD:g}"
    reason = None
    if baseline >= THRESHOLD:
        verdict, reason = Verdict.ERROR, Reason.BASELINE_UNHEALTHY
        message = f"stable breaks the limit too, e-value {baseline:.3g}: {numbers}"
    elif counts.total < guardrail.min_samples:
        verdict = Verdict.INSUFFICIENT
        message = f"{counts.total} of {guardrail.min_samples} events counted: {numbers}"
    elif e_value >= THRESHOLD and lasts:
        verdict, reason = Verdict.FAIL, Reason.GUARDRAIL_BROKEN
        message = f"beyond the limit: {numbers}"
    else:
        verdict, message = Verdict.PASS, f"within the limit: {numbers}"
    return GuardrailStatus(
        name=guardrail.name,
        verdict=verdict,
        action=guardrail.follows,
        reason=reason,
        candidate=counts,
        evidence=float(f"{e_value:.6g}"),
        message=message,
    )


def _numbers(guardrail: Guardrail, state: GuardrailEvidence, counts: Counts) -> str:
    if guardrail.name == GuardrailName.TOOL_ERRORS:
        allowed, window = format_percent(guardrail.limit_ppm), format_duration(guardrail.over)
        return f"{rate(counts)} of the calls of tools ended in an error, {allowed} over {window} are allowed"
    if guardrail.name == GuardrailName.LATENCY:
        return f"{rate(counts)} of the requests took more than {state.limit:g} ms, {guardrail.multiple:g} times the P95"
    limit = (guardrail.expected or 0) * guardrail.multiple or state.limit
    return f"a mean of {limit:.4g} tokens is allowed, {rate(counts)} of the tasks took more than that"
