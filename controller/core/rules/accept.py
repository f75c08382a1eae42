"""A new artifact becomes the candidate, at weight 0."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.api.status import CandidateRef, Frozen
from controller.core.attempts import attempt_of
from controller.core.outcome import Outcome, Report, View


def accept(view: View) -> Outcome | None:
    """No candidate yet -> the wanted artifact becomes it; stages, shadow and analysis are frozen for this attempt."""
    if view.status.candidate is not None:
        return None
    spec = view.snapshot.rollout.spec
    attempt = attempt_of(view.status, view.wanted)
    candidate = CandidateRef(revision=view.wanted_revision, artifact_id=view.wanted, attempt=attempt)
    frozen = Frozen(stages=spec.all_stages, analysis=spec.analysis, shadow=spec.shadow)
    status = view.without_candidate().model_copy(update={"candidate": candidate, "frozen": frozen})
    text = f"{candidate.revision} is the new candidate" + (f", attempt {attempt}" if attempt > 1 else "")
    return Outcome(
        status,
        progressing=Report("True", Reason.NEW_ARTIFACT, text),
        healthy=Report("Unknown", Reason.IN_PROGRESS, f"{candidate.revision} is being delivered"),
        create_revision=True,
        again=True,
    )
