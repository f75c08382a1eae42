"""The candidate passed its last stage and becomes stable. Nothing else ever changes stable."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.api.status import VersionRef
from controller.core.outcome import Outcome, Report, View


def promote(view: View) -> Outcome | None:
    """The last rule of the chain: every other reason to wait was asked before."""
    passed = view.candidate
    stable = VersionRef(revision=passed.revision, artifact_id=passed.artifact_id, images=passed.images)
    status = view.without_candidate().model_copy(update={"stable": stable, "draining": ""})
    text = f"{passed.revision} passed every stage and is stable"
    return Outcome(
        status,
        progressing=Report("True", Reason.PROMOTING, text),
        healthy=Report("True", Reason.PROMOTED, text),
        again=True,
    )
