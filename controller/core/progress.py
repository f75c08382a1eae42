"""How long a candidate has made no progress, as instants that survive restarts."""

from __future__ import annotations

from datetime import datetime, timedelta

from controller.api.reasons import Verdict
from controller.api.shadow import SHADOW
from controller.api.status import RolloutStatus, Stalled
from controller.core.agents import definitions
from controller.core.guardrails import is_held
from controller.core.outcome import Outcome, View
from controller.core.stages import WAITS, comparisons, needs_past, stage_end, watch_name


def stalled(view: View, outcome: Outcome) -> Stalled | None:
    """The clock of ``progressDeadline`` after this decision; None for a candidate that is not late.

    It is only written when it starts or stops.
    """
    before = view.snapshot.rollout.status
    if outcome.status.candidate is None:
        return None
    known = before.stalled if _position(before) == _position(outcome.status) else None
    if _is_stuck(view, outcome):
        known = known or Stalled()
        return known if known.since else known.model_copy(update={"since": view.now})
    if known is None or known.since is None:
        return known
    return Stalled(before=stalled_for(known, view.now))


def stalled_for(known: Stalled | None, now: datetime) -> timedelta:
    """How long it has been late; an instant in the future (a clock was set back) counts as now."""
    if known is None:
        return timedelta(0)
    return known.before + (max(now - known.since, timedelta(0)) if known.since else timedelta(0))


def next_look(view: View, status: RolloutStatus) -> datetime | None:
    """When the clock starts or the deadline passes, if no evaluation comes first."""
    if status.stalled and status.stalled.since:
        deadline = view.snapshot.rollout.spec.progress_deadline
        passes = status.stalled.since + deadline - status.stalled.before
        return passes if passes > view.now else None
    if status.stage is None or status.stage.programmed_at is not None:
        return None
    end = stage_end(status.stage, view.snapshot.stages)
    return end if end > view.now else None


def _position(status: RolloutStatus) -> tuple[str, int, int | None] | None:
    """How far the delivery is."""
    if status.candidate is None:
        return None
    stage = status.stage.index if status.stage else None
    return status.candidate.artifact_id, status.candidate.attempt, stage


def _is_stuck(view: View, outcome: Outcome) -> bool:
    """Whether it should have gone on by now, and neither people, nor unfit evidence, nor a lack of requests keeps it."""
    status = outcome.status
    if view.snapshot.rollout.is_paused or (status.evidence is not None and status.evidence.problem):
        return False
    if outcome.progressing.reason in WAITS or any(metric.reason for metric in status.analysis):
        return False
    if status.stage is None:
        return not (view.is_programmed and needs_past(status, view.snapshot.stages))
    if view.now < stage_end(status.stage, view.snapshot.stages):
        return False
    if outcome.progressing.status == "False" or not view.is_programmed:
        return True
    lacking = any(m.verdict is not Verdict.PASS for m in status.analysis)
    return (lacking or any(map(is_held, status.guardrails))) and not _is_short(view, status)


def _is_short(view: View, status: RolloutStatus) -> bool:
    """Whether a metric of the stage's own users lacks requests, of the candidate or to compare with.

    What agents do not report at all is no lack of requests.
    """
    assert status.stage is not None  # noqa: S101  the caller looked
    least = view.snapshot.stages[status.stage.index].min_requests
    analysis = view.snapshot.analysis
    own = {
        watch_name(metric.name, comparison)
        for comparison in comparisons(status, view.snapshot.stages)
        if comparison.own
        for metric in analysis.metrics
    }
    reported = {definition.name for definition in definitions(analysis, view.snapshot.rollout.metadata.key)}
    reported.add(SHADOW)
    return any(
        0 < m.candidate.total < least
        if m.name in reported
        else m.name in own and (m.candidate.total < least or m.baseline.total == 0)
        for m in status.analysis
    )
