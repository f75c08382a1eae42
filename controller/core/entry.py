"""What has to be so, beside the evidence, for the candidate to enter its next stage."""

from __future__ import annotations

from datetime import datetime

from controller.api.delivery import Stage
from controller.api.quantities import format_time
from controller.api.reasons import ConditionType, Reason
from controller.api.status import Approved, RolloutStatus
from controller.core.outcome import Report, View
from controller.core.snapshot import Snapshot
from controller.core.stages import title


def next_stage(status: RolloutStatus) -> int:
    """Position of the stage that comes next; that beyond the last one is being stable."""
    return status.stage.index + 1 if status.stage else 0


def approvals_of(status: RolloutStatus, index: int) -> list[Approved]:
    """Who has approved of the candidate for a stage."""
    return [each for each in status.approvals if each.stage == index]


def in_words(status: RolloutStatus, stages: list[Stage], index: int) -> str:
    """How many approvals of a stage there are, and of whom."""
    approval, given = stages[index].approval, approvals_of(status, index)
    required = approval.required if approval else 0
    of_whom = f" (of {', '.join(each.by for each in given)})" if given else ""
    text = f"stage {title(stages[index])} has {len(given)} of {required} approvals{of_whom}"
    missing = required - len(given)
    return text + (f", {missing} missing" if missing > 0 else "")


def waits(view: View) -> Report | None:
    """What keeps the candidate from its next stage; the last step, to stable, raises nothing and waits for nobody."""
    index, stages = next_stage(view.status), view.snapshot.stages
    if index >= len(stages):
        return None
    approval, window = stages[index].approval, view.snapshot.window
    if approval and len(approvals_of(view.status, index)) < approval.required:
        return Report("True", Reason.AWAITING_APPROVAL, in_words(view.status, stages, index))
    if window is None or window.is_open:
        return None
    opens = f"the next one opens at {format_time(window.opens_at)}" if window.opens_at else "none opens again"
    text = f"stage {title(stages[index])} waits for a window of spec.windows: {opens}"
    return Report("True", Reason.OUTSIDE_WINDOW, text)


def opening(snapshot: Snapshot, status: RolloutStatus) -> datetime | None:
    """When a window opens that the candidate waits for."""
    said = status.condition(ConditionType.PROGRESSING)
    if said is None or said.reason is not Reason.OUTSIDE_WINDOW or snapshot.window is None:
        return None
    return snapshot.window.opens_at
