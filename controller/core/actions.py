"""What people ask of a rollout by RolloutActions, taken up before the rules are asked.

An action changes what the rules see: a pause, the end of a stage's waiting, an artifact that may be tried anew. What
became of it is part of the same status, and so of the same write: a restart or another leader finds both or neither.
The record goes once the action shows it itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from controller.api.action import ActionName, ActionPhase
from controller.api.guardrails import GuardrailAction
from controller.api.reasons import Verdict
from controller.api.status import ActionRecord, Approved, Asked, RolloutStatus
from controller.core.attempts import attempt_of, tried_anew
from controller.core.entry import approvals_of, in_words, next_stage
from controller.core.killing import held_by, release
from controller.core.snapshot import Action, Snapshot
from controller.core.stages import title

KEPT_RECORDS = 30
"""So many actions may wait to show what became of them; further ones wait to be taken up."""

FORGOTTEN_AFTER = timedelta(minutes=10)
"""A record whose action is not there may be early rather than late: the watch of actions may lag behind that of rollouts."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What becomes of an action.

    Attributes:
        phase: In a word.
        message: In a sentence.
        changes: Of the status.
    """

    phase: ActionPhase
    message: str
    changes: dict[str, Any] = field(default_factory=dict)


def take_up(snapshot: Snapshot, now: datetime, *, leave: bool = False) -> Snapshot:
    """The snapshot in whose status is what was asked for, oldest first.

    Of an abort nothing is taken up but itself: whatever else was asked comes too late, and must not come before.

    Args:
        snapshot: What was gathered.
        now: The instant of the decision.
        leave: Only forget what no longer needs to be known.
    """
    status = _told(snapshot, now)
    waiting = [] if leave else _pending(snapshot)
    abort = next((action for action in waiting if _is_abort(action, status)), None)
    for action in [abort] if abort else waiting[: max(KEPT_RECORDS - len(status.actions), 0)]:
        status = _taken_up(snapshot, status, action, now)
    asked = _asked(abort, now) if abort else None
    return replace(snapshot, rollout=snapshot.rollout.model_copy(update={"status": status}), abort=asked)


def beyond_limit(snapshot: Snapshot) -> tuple[str, ...]:
    """The decided actions that the history limit has no place for."""
    untold = {record.uid for record in snapshot.rollout.status.actions}
    decided = [action for action in snapshot.actions if action.phase.is_final and action.uid not in untold]
    decided.sort(key=lambda action: action.order, reverse=True)
    return tuple(action.name for action in decided[snapshot.rollout.spec.action_history_limit :])


def _told(snapshot: Snapshot, now: datetime) -> RolloutStatus:
    """The status without the records of actions that show by themselves what became of them, or are long gone."""
    status = snapshot.rollout.status
    if not status.actions:
        return status
    phases = {action.uid: action.phase for action in snapshot.actions}
    kept = [
        record
        for record in status.actions
        if (not phases[record.uid].is_final if record.uid in phases else now - record.at < FORGOTTEN_AFTER)
    ]
    return status.model_copy(update={"actions": kept})


def _pending(snapshot: Snapshot) -> list[Action]:
    known = {record.uid for record in snapshot.rollout.status.actions}
    waiting = (each for each in snapshot.actions if not each.phase.is_final and each.uid not in known)
    return sorted(waiting, key=lambda action: action.order)


def _is_abort(action: Action, status: RolloutStatus) -> bool:
    return (
        action.spec.action is ActionName.ABORT
        and not action.problem
        and status.candidate is not None
        and status.candidate.artifact_id == action.spec.artifact_id
    )


def _asked(action: Action, now: datetime) -> Asked:
    return Asked(by=action.spec.requested_by, reason=action.spec.reason, at=now)


def _taken_up(snapshot: Snapshot, status: RolloutStatus, action: Action, now: datetime) -> RolloutStatus:
    answer = _answer(snapshot, status, action, now)
    if answer is None:
        return status
    spec = action.spec
    record = ActionRecord(
        uid=action.uid,
        name=action.name,
        action=spec.action,
        by=spec.requested_by,
        reason=spec.reason,
        at=now,
        phase=answer.phase,
        message=answer.message,
    )
    return status.model_copy(update={**answer.changes, "actions": [*status.actions, record]})


def _answer(snapshot: Snapshot, status: RolloutStatus, action: Action, now: datetime) -> _Answer | None:
    """What becomes of the action; None while that cannot be said."""
    if action.problem:
        return _Answer(ActionPhase.REFUSED, action.problem)
    releases = status.killed is not None and action.spec.action in (ActionName.RESUME, ActionName.RETRY)
    if releases or action.spec.action is ActionName.RETRY:
        return _of_what_is_wanted(snapshot, status, action, _release if releases else _retry)
    if status.candidate is None or status.candidate.artifact_id != action.spec.artifact_id:
        what = f"{status.candidate.artifact_id} is" if status.candidate else "there is none"
        return _Answer(
            ActionPhase.EXPIRED,
            f"{action.spec.artifact_id} is not the candidate ({what}); nothing was done",
        )
    return _OF_CANDIDATE[action.spec.action](snapshot, status, _asked(action, now))


def _approve(snapshot: Snapshot, status: RolloutStatus, asked: Asked) -> _Answer:
    stages = snapshot.stages
    index = next((n for n in range(next_stage(status), len(stages)) if stages[n].approval), None)
    if index is None:
        return _Answer(ActionPhase.REFUSED, "no stage ahead asks for approval")
    if any(each.by == asked.by for each in approvals_of(status, index)):
        return _Answer(
            ActionPhase.REFUSED,
            f"{asked.by} has approved of stage {title(stages[index])} before, which counts once",
        )
    approved = Approved(**asked.model_dump(), stage=index)
    changes = {"approvals": [*status.approvals, approved]}
    said = in_words(status.model_copy(update=changes), stages, index)
    return _Answer(ActionPhase.APPLIED, said, changes)


def _abort(_snapshot: Snapshot, _status: RolloutStatus, _asked: Asked) -> _Answer:
    return _Answer(ActionPhase.APPLIED, "the candidate is taken back")


def _pause(_snapshot: Snapshot, status: RolloutStatus, asked: Asked) -> _Answer:
    if status.pause:
        return _Answer(ActionPhase.REFUSED, f"it is paused already, by {status.pause.words}")
    return _Answer(ActionPhase.APPLIED, "nothing rises until someone resumes it", {"pause": asked})


def _resume(snapshot: Snapshot, status: RolloutStatus, _asked: Asked) -> _Answer:
    still = "; spec.paused still holds it" if snapshot.rollout.spec.paused else ""
    if status.pause is None:
        return _Answer(ActionPhase.REFUSED, f"nobody has paused it by a RolloutAction{still}")
    return _Answer(
        ActionPhase.APPLIED, f"what was paused by {status.pause.words} goes on{still}", {"pause": None}
    )


def _promote(_snapshot: Snapshot, status: RolloutStatus, asked: Asked) -> _Answer:
    stage = status.stage
    if stage is None:
        return _Answer(ActionPhase.REFUSED, "its first stage has not begun, so there is nothing to skip")
    if stage.promoted:
        return _Answer(
            ActionPhase.REFUSED, f"stage {stage.title} was ended already, by {stage.promoted.words}"
        )
    failed = stage.regression or next(
        (
            f"{each.name} limit: {each.message}"
            for each in status.guardrails
            if each.verdict is Verdict.FAIL and each.action is GuardrailAction.HOLD
        ),
        "",
    )
    if failed:
        return _Answer(ActionPhase.REFUSED, f"nobody promotes against a failure: {failed}")
    return _Answer(
        ActionPhase.APPLIED,
        f"stage {stage.title} does not wait for more time or evidence",
        {"stage": stage.model_copy(update={"promoted": asked})},
    )


def _of_what_is_wanted(
    snapshot: Snapshot,
    status: RolloutStatus,
    action: Action,
    answer: Callable[[Snapshot, RolloutStatus, Action], _Answer],
) -> _Answer | None:
    """The answer about an artifact that need not be the candidate, but what the spec wants."""
    artifact, wanted = action.spec.artifact_id, snapshot.artifact_id
    if not wanted:
        return None  # what the spec refers to is still being read
    if artifact != wanted:
        return _Answer(
            ActionPhase.EXPIRED, f"the spec does not want {artifact} but {wanted}; nothing was done"
        )
    return answer(snapshot, status, action)


def _retry(_snapshot: Snapshot, status: RolloutStatus, action: Action) -> _Answer:
    artifact = action.spec.artifact_id
    if artifact not in status.rolled_back:
        return _Answer(ActionPhase.REFUSED, f"{artifact} was not taken back, so there is nothing to retry")
    attempt = attempt_of(status, artifact) + 1
    return _Answer(ActionPhase.APPLIED, f"attempt {attempt} begins", tried_anew(status, artifact))


def _release(snapshot: Snapshot, status: RolloutStatus, action: Action) -> _Answer:
    """Resume or Retry of what a kill switch keeps from everybody; only Retry gives back what evidence took, too."""
    artifact = action.spec.artifact_id
    held = held_by(status, snapshot.switches)
    if held:
        return _Answer(ActionPhase.REFUSED, f"it is killed: {held}")
    changes = release(status)
    after = status.model_copy(update=changes)
    if action.spec.action is ActionName.RETRY and artifact in after.rolled_back:
        changes |= tried_anew(after, artifact)
    return _Answer(ActionPhase.APPLIED, "the kill is released", changes)


_OF_CANDIDATE: dict[ActionName, Callable[[Snapshot, RolloutStatus, Asked], _Answer]] = {
    ActionName.APPROVE: _approve,
    ActionName.ABORT: _abort,
    ActionName.PAUSE: _pause,
    ActionName.RESUME: _resume,
    ActionName.PROMOTE: _promote,
}
