"""A new artifact during a rollout takes the old candidate to 0 first and starts over."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.core.outcome import Outcome, Report, View


def supersede(view: View) -> Outcome | None:
    """The spec wants another artifact than the candidate -> the candidate goes."""
    if view.status.candidate is None or view.candidate.artifact_id == view.wanted:
        return None
    text = f"{view.candidate.revision} was taken off, the spec now wants {view.wanted_revision}"
    return Outcome(view.without_candidate(), progressing=Report("False", Reason.SUPERSEDED, text), again=True)
