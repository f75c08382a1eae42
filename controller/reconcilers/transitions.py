"""What a plan's new status tells people: one transition of the story, or none for a tick.

Transitions become log lines and Kubernetes events. An event has the condition's reason as its reason and the rule that
decided as its action.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.api.action import ActionPhase
from controller.api.reasons import ConditionType, Reason
from controller.api.status import Condition, RolloutStatus
from controller.core.plan import Plan

_QUIET = frozenset(
    {
        Reason.AWAITING_EVIDENCE,
        Reason.SHADOWING,
        Reason.IDLE,
        Reason.STAGE_STARTED,
        Reason.ROLLED_BACK,
        Reason.RELEASED,
    }
)
"""Reasons of Progressing that bring no news: nothing happens, or it was told when the stage or the rollback began."""

_BAD = frozenset(
    {Reason.KILL_SWITCH_UNKNOWN, Reason.ANALYSIS_BLIND, Reason.SHADOW_REGRESSION, Reason.SHADOW_INCONCLUSIVE}
)
"""Reasons of a candidate that goes on, at which someone should look all the same."""

_PLANNED_ENDS = frozenset({Reason.SUPERSEDED, Reason.CANCELLED, Reason.IDLE})
"""Ends of a candidate that someone asked for."""

_ACTIONS = {
    "baseline": "Measure",
    "endpoints": "Wait",
    "enter_first": "Wait",
    "enter_next": "Wait",
    "killed": "Wait",
    "rollback": "RollBack",
    "settled": "Settle",
    "unknown": "Wait",
}
"""Actions whose verb is not the name of the rule."""

_KILL_ACTIONS = {
    Reason.KILL_SWITCH_ON: "Kill",
    Reason.RELEASED: "Release",
    Reason.KILL_SWITCH_STALE: "Ask",
}


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of the story.

    Attributes:
        reason: Of the condition that tells it.
        message: Of that condition.
        action: What was done, a verb.
        bad: Whether someone should look at it.
    """

    reason: Reason
    message: str
    action: str
    bad: bool


_OF_ACTIONS = {
    ActionPhase.APPLIED: Reason.ACTION_APPLIED,
    ActionPhase.EXPIRED: Reason.ACTION_EXPIRED,
    ActionPhase.REFUSED: Reason.ACTION_REFUSED,
}


def story(before: RolloutStatus, decided: Plan) -> list[Transition]:
    """What became of the actions that were taken up, and the step that follows."""
    known = {record.uid for record in before.actions}
    told = [
        Transition(
            _OF_ACTIONS[record.phase],
            f"{record.action} asked for by {record.words}: {record.message}",
            record.action.value,
            bad=record.phase is not ActionPhase.APPLIED,
        )
        for record in decided.status.actions
        if record.uid not in known
    ]
    step = transition(before, decided)
    return [*told, step] if step else told


def action_of(rule: str) -> str:
    """The verb of a rule of the plan, as events have it; docs/reference/events.md says what each means."""
    return _ACTIONS.get(rule, rule.capitalize())


def transition(before: RolloutStatus, decided: Plan) -> Transition | None:
    """The step from the stored status to the decided one.

    When two conditions tell of it in the same words (promoted, taken back), Healthy has the word; but that it was worse in
    the shadow is what people wait to hear.
    """
    told = _told(before, decided.status)
    if told is None:
        return None
    bad = told.reason in _BAD or (told.status == "False" and told.reason not in _PLANNED_ENDS)
    action = action_of(decided.rule)
    if told.type is ConditionType.KILLED:
        bad, action = told.reason is not Reason.RELEASED, _KILL_ACTIONS[told.reason]
    if told.type is ConditionType.DRIFTED:
        bad, action = told.status != "False", "Compare"
    if told.type is ConditionType.WITHIN_LIMITS:
        bad, action = told.status == "False", "Compare"
    return Transition(told.reason, told.message, action, bad=bad)


def _told(before: RolloutStatus, after: RolloutStatus) -> Condition | None:
    killed = _changed(before, after, ConditionType.KILLED)
    if killed is not None and killed.reason in (Reason.KILL_SWITCH_ON, Reason.RELEASED):
        return killed
    progressing = _changed(before, after, ConditionType.PROGRESSING)
    healthy = _changed(before, after, ConditionType.HEALTHY)
    if healthy is not None and healthy.status == "Unknown":
        healthy = None  # Progressing tells why
    if _entered(before, after):
        return after.condition(ConditionType.PROGRESSING)
    if progressing is not None and progressing.reason is Reason.SHADOW_REGRESSION:
        return progressing
    if progressing is not None and progressing.reason not in _QUIET:
        return healthy if healthy is not None and healthy.message == progressing.message else progressing
    return (
        healthy
        or _recovered(before, after)
        or _drifted(before, after)
        or _limits(before, after)
        or _doubted(before, after)
    )


def _doubted(before: RolloutStatus, after: RolloutStatus) -> Condition | None:
    """A kill switch's source was lost."""
    now = _changed(before, after, ConditionType.KILLED)
    return now if now is not None and now.reason is Reason.KILL_SWITCH_STALE else None


def _drifted(before: RolloutStatus, after: RolloutStatus) -> Condition | None:
    """Something outside has changed, or is as it was again."""
    first = before.condition(ConditionType.DRIFTED) is None
    now = _changed(before, after, ConditionType.DRIFTED)
    return None if now is not None and first and now.status == "False" else now


def _limits(before: RolloutStatus, after: RolloutStatus) -> Condition | None:
    """A limit is broken, or no longer."""
    was, now = (
        before.condition(ConditionType.WITHIN_LIMITS),
        _changed(before, after, ConditionType.WITHIN_LIMITS),
    )
    was_broken = was is not None and was.status == "False"
    return now if now is not None and (was_broken or now.status == "False") else None


def _recovered(before: RolloutStatus, after: RolloutStatus) -> Condition | None:
    """What was bad is over, although nothing else happens."""
    was = before.condition(ConditionType.ACCEPTED)
    now = after.condition(ConditionType.ACCEPTED)
    if was is not None and now is not None and (was.status, now.status) == ("False", "True"):
        return now
    was = before.condition(ConditionType.PROGRESSING)
    held = was is not None and was.reason in (Reason.ANALYSIS_BLIND, Reason.PAUSED)
    return _changed(before, after, ConditionType.PROGRESSING) if held else None


def _entered(before: RolloutStatus, after: RolloutStatus) -> bool:
    """Whether a stage begins."""
    return after.stage is not None and (before.stage is None or before.stage.index != after.stage.index)


def _changed(before: RolloutStatus, after: RolloutStatus, kind: ConditionType) -> Condition | None:
    was, now = before.condition(kind), after.condition(kind)
    return None if now is None or (was is not None and was.reason == now.reason) else now
