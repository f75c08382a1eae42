"""Going back to the stable artifact cancels the rollout."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.core.outcome import Outcome, Report, View


def cancel(view: View) -> Outcome | None:
    """The spec wants stable again -> the candidate goes."""
    if view.status.candidate is None or not view.is_wanted_stable:
        return None
    text = f"the spec went back to stable, {view.candidate.revision} was taken off"
    return Outcome(
        view.without_candidate(),
        progressing=Report("False", Reason.CANCELLED, text),
        healthy=Report("True", Reason.PROMOTED, f"{view.wanted_revision} is stable"),
        again=True,
    )
