"""The first artifact becomes stable at once: there is nothing to compare it with."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.api.status import VersionRef
from controller.core.outcome import Outcome, Report, View


def initialise(view: View) -> Outcome | None:
    """No stable version -> the wanted artifact is stable."""
    if view.status.stable is not None:
        return None
    stable = VersionRef(revision=view.wanted_revision, artifact_id=view.wanted)
    text = f"{stable.revision} is the first artifact"
    return Outcome(
        view.status.model_copy(update={"stable": stable}),
        progressing=Report("False", Reason.IDLE, "nothing to deliver"),
        healthy=Report("True", Reason.INITIALISED, text),
        create_revision=True,
    )
