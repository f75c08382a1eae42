"""Someone paused the rollout: nothing rises."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.core.outcome import Outcome, Report, View


def pause(view: View) -> Outcome | None:
    """Paused -> stay. What takes the candidate away stands before; it is watched, and the stage's time goes on."""
    if not view.snapshot.rollout.spec.paused:
        return None
    stage = view.status.stage
    where = f"stays at {stage.title}, watched and not raised," if stage else "gets no traffic"
    text = f"{view.candidate.revision} {where} until spec.paused is taken away"
    # Someone may have deleted the candidate's revision by hand; it is served all the same.
    return Outcome(
        view.status, Report("True", Reason.PAUSED, text), create_revision=view.is_wanted_revision_missing
    )
