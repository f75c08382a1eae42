"""What a metric says that does not come from the router, which has a rhythm of its own and may be missing while others are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.api.reasons import Verdict
from controller.api.status import Counts, MetricEvidence, RolloutStatus
from controller.core.agents import AgentDefinition
from controller.core.controls import Clustering
from controller.core.counts import UnusableSamplesError
from controller.core.evidence import last_reference, mean_e_value, safety_of, summed, updated
from controller.core.reports import NotReportedError, Reports, StaleReportsError
from controller.core.snapshot import Snapshot
from controller.core.stages import Comparison
from controller.core.verdict import Finding


@dataclass(frozen=True, slots=True)
class ReportedUsers:
    """Whom a metric is about that does not come from the router.

    Attributes:
        compared: Whether stable serves some of them.
        own: Whether the stage is about them.
    """

    compared: bool
    own: bool


def users_of(definition: AgentDefinition, compared: Sequence[Comparison]) -> ReportedUsers | None:
    """Whom the metric is about now; None while the candidate serves none of them.

    Agents do not tell the audience apart; conversations are drawn among everyone else.
    """
    if compared and not definition.independent:
        return ReportedUsers(any(each.baseline for each in compared), own=True)
    everyone = next((each for each in compared if not each.candidate.audience), None)
    return ReportedUsers(everyone.baseline is not None, everyone.own) if everyone else None


def count_reports(
    snapshot: Snapshot,
    status: RolloutStatus,
    definition: AgentDefinition,
    users: ReportedUsers,
    known: MetricEvidence | None,
    not_before: float,
) -> tuple[MetricEvidence, Finding]:
    """One metric's state and finding after this evaluation."""
    assert status.stage is not None  # noqa: S101  the caller looked
    state, problem, verdict = known or MetricEvidence(name=definition.name), "", Verdict.ERROR
    so_far = next((m for m in status.analysis if m.name == definition.name), None)
    candidate, baseline = (so_far.candidate, so_far.baseline) if so_far else (Counts(), Counts())
    try:
        state, e_value, found, beside = _with_reports(
            snapshot, status, definition, state, not_before, compared=users.compared
        )
        candidate, baseline = summed(candidate, found), summed(baseline, beside)
    except NotReportedError as error:
        e_value, problem, verdict = mean_e_value(state), str(error), Verdict.INSUFFICIENT
    except (StaleReportsError, UnusableSamplesError) as error:
        e_value, problem = mean_e_value(state), str(error)
    return state, Finding(
        name=definition.name,
        candidate=candidate,
        baseline=baseline if users.compared else last_reference(state),
        e_value=e_value,
        compared=users.compared,
        own=users.own,
        min_requests=snapshot.stages[status.stage.index].min_requests,
        clustering=_clustering(snapshot, definition),
        tests=max(len(state.tests), 1),
        safety=safety_of(state, snapshot.analysis) if users.compared else None,
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
) -> tuple[MetricEvidence, float, Counts, Counts]:
    """The metric's tests after one more interval, E, and the counts of candidate and baseline in it.

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
    span = reports.span(samples.at, served, state.counted_until, not_before)
    if span is None:
        return state, mean_e_value(state), Counts(), Counts()
    candidate = reports.counts(status.candidate, state.edges, span)
    baseline = reports.counts(status.stable, state.edges, span) if compared else None
    clustered = [Clustering(_clustering(snapshot, definition))] * len(candidate)
    after, e_value = updated(state, candidate, baseline, clustered, snapshot.analysis)
    end = datetime.fromtimestamp(span.until, UTC)
    return (
        after.model_copy(update={"counted_until": end}),
        e_value,
        candidate[-1],
        baseline[-1] if baseline else Counts(),
    )


def _clustering(snapshot: Snapshot, definition: AgentDefinition) -> float:
    """φ as it was supposed, since agents do not tell the slices apart; conversations are drawn one by one."""
    return 1.0 if definition.independent else snapshot.analysis.clustering
