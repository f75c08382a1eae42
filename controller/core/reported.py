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
from controller.core.evidence import (
    Counted,
    Step,
    Watched,
    Weighed,
    last_reference,
    mean_e_value,
    safety_of,
    summed,
)
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
    state: MetricEvidence,
    not_before: float,
) -> Watched:
    """One metric at this evaluation.

    Args:
        snapshot: The rollout and the metric source's answer.
        status: Before this evaluation.
        definition: What the metric is made of.
        users: Whom it is about.
        state: Its tests before this evaluation.
        not_before: Movements that may have begun before this instant belong to another split.
    """
    assert status.stage is not None  # noqa: S101  the caller looked
    problem, verdict, phi = "", Verdict.ERROR, _clustering(snapshot, definition)
    so_far = next((m for m in status.analysis if m.name == definition.name), None)
    candidate, baseline = (so_far.candidate, so_far.baseline) if so_far else (Counts(), Counts())
    step, until = None, None
    try:
        step, until = _step(snapshot, status, definition, state, not_before, compared=users.compared)
    except NotReportedError as error:
        problem, verdict = str(error), Verdict.INSUFFICIENT
    except (StaleReportsError, UnusableSamplesError) as error:
        problem = str(error)
    if step:
        candidate = summed(candidate, step.candidate[-1])
        baseline = summed(baseline, step.baseline[-1]) if step.baseline else baseline
    min_requests = snapshot.stages[status.stage.index].min_requests

    def finding(found: Weighed) -> Finding:
        return Finding(
            name=definition.name,
            candidate=candidate,
            baseline=baseline if users.compared else last_reference(found.state),
            e_value=found.e_value,
            compared=users.compared,
            own=users.own,
            min_requests=min_requests,
            clustering=phi,
            tests=max(len(found.state.tests), 1),
            safety=safety_of(found.state, snapshot.analysis) if users.compared else None,
            unit=definition.unit,
            problem=problem,
            problem_verdict=verdict,
            before=mean_e_value(state),
        )

    clustered = [Clustering(phi)] * len(step.candidate) if step else []
    return Counted(state, clustered, [step] if step else [], until), finding


def _step(
    snapshot: Snapshot,
    status: RolloutStatus,
    definition: AgentDefinition,
    state: MetricEvidence,
    not_before: float,
    *,
    compared: bool,
) -> tuple[Step | None, datetime | None]:
    """The metric's next interval and its end; None if nothing new was read.

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
        return None, None
    candidate = reports.counts(status.candidate, state.edges, span)
    baseline = reports.counts(status.stable, state.edges, span) if compared else None
    return Step(candidate, baseline), datetime.fromtimestamp(span.until, UTC)


def _clustering(snapshot: Snapshot, definition: AgentDefinition) -> float:
    """φ as it was supposed, since agents do not tell the slices apart; conversations are drawn one by one."""
    return 1.0 if definition.independent else snapshot.analysis.clustering
