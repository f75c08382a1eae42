"""A candidate that makes no progress for too long. Asked about every decision, whichever rule made it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from controller.api.quantities import format_duration
from controller.api.reasons import ConditionType, Reason
from controller.api.rollout import DeadlineAction
from controller.core.outcome import Outcome, Report, View
from controller.core.progress import stalled, stalled_for
from controller.core.rules.rollback import Trigger, take_back


def deadline(view: View, outcome: Outcome) -> Outcome:
    """Late for longer than ``progressDeadline`` -> say so, or take the candidate back if that was asked for."""
    spec, clock = view.snapshot.rollout.spec, stalled(view, outcome)
    outcome = replace(outcome, status=outcome.status.model_copy(update={"stalled": clock}))
    if clock is None or stalled_for(clock, view.now) < spec.progress_deadline:
        return _on_its_way_again(view, outcome)
    late = f"{view.candidate.revision} has made no progress for {_words(spec.progress_deadline)}"
    if spec.on_progress_deadline is DeadlineAction.ROLLBACK and clock.since is not None:
        why = f"no progress for {_words(spec.progress_deadline)}: {outcome.progressing.message}"
        return take_back(view, Trigger(Reason.PROGRESS_DEADLINE_EXCEEDED, why))
    # What it waits for is in Progressing, with numbers that move at every evaluation; this is told once.
    return replace(
        outcome,
        healthy=Report(
            "False",
            Reason.PROGRESS_DEADLINE_EXCEEDED,
            f"{late}, the weight is held; the condition Progressing says what it waits for",
        ),
    )


def _on_its_way_again(view: View, outcome: Outcome) -> Outcome:
    healthy, candidate = view.status.condition(ConditionType.HEALTHY), outcome.status.candidate
    exceeded = healthy is not None and healthy.reason is Reason.PROGRESS_DEADLINE_EXCEEDED
    if outcome.healthy is not None or candidate is None or not exceeded:
        return outcome
    report = Report("Unknown", Reason.IN_PROGRESS, f"{candidate.revision} is being delivered")
    return replace(outcome, healthy=report)


def _words(duration: timedelta) -> str:
    return f"{format_duration(duration)} beyond the stage's minDuration (spec.progressDeadline)"
