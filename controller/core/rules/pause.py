"""Someone paused the rollout: nothing rises."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.core.outcome import Outcome, Report, View


def pause(view: View) -> Outcome | None:
    """Paused -> stay. What takes the candidate away stands before; it is watched, and the stage's time goes on."""
    rollout = view.snapshot.rollout
    if not rollout.is_paused:
        return None
    stage = view.status.stage
    where = f"stays at {stage.title}, watched and not raised," if stage else "gets no traffic"
    ends = ["spec.paused is taken away"] if rollout.spec.paused else []
    if rollout.status.pause:
        ends.append(f"someone resumes what was paused by {rollout.status.pause.words}")
    text = f"{view.candidate.revision} {where} until {' and '.join(ends)}"
    # Someone may have deleted the candidate's revision by hand; it is served all the same.
    return Outcome(
        view.status, Report("True", Reason.PAUSED, text), create_revision=view.is_wanted_revision_missing
    )
