"""Wait until the data plane acknowledged the wanted split; evidence counts from there."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.core.outcome import Outcome, Report, View


def program(view: View) -> Outcome | None:
    """Not acknowledged -> wait; just acknowledged -> the stage's clock starts."""
    stage = view.status.stage
    if not view.is_programmed:
        detail = view.snapshot.programmed.error or "the router has not acknowledged the wanted split yet"
        return Outcome(view.status, progressing=Report("True", Reason.AWAITING_EVIDENCE, detail))
    if stage is None or stage.programmed_at is not None:
        return None
    acknowledged = view.snapshot.programmed.acknowledged_at or view.now
    started = stage.model_copy(update={"programmed_at": max(acknowledged, stage.entered_at)})
    return Outcome(
        view.status.model_copy(update={"stage": started}),
        progressing=Report(
            "True", Reason.STAGE_STARTED, f"{view.candidate.revision} serves stage {stage.title}"
        ),
    )
