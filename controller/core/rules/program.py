"""Wait until the data plane acknowledged the wanted split; evidence counts from there."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.core.outcome import Outcome, Report, View


def program(view: View) -> Outcome | None:
    """Not acknowledged -> wait; just acknowledged -> say so, the stage's clock has started."""
    if not view.is_programmed:
        detail = view.snapshot.programmed.error or "the router has not acknowledged the wanted split yet"
        return Outcome(
            view.status,
            progressing=Report("True", Reason.AWAITING_EVIDENCE, detail),
            # Someone may have deleted the candidate's revision by hand; without it there is nothing to acknowledge.
            create_revision=view.is_wanted_revision_missing,
        )
    stage, before = view.status.stage, view.snapshot.rollout.status.stage
    if stage is None or (before is not None and before.programmed_at is not None):
        return None
    text = f"{view.candidate.revision} serves stage {stage.title}"
    return Outcome(view.status, progressing=Report("True", Reason.STAGE_STARTED, text))
