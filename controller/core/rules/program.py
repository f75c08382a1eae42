"""Wait until the data plane acknowledged the wanted split; evidence counts from there."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.core.outcome import Outcome, Report, View

_JUST_SENT = frozenset({Reason.NEW_ARTIFACT, Reason.STAGE_STARTED})
"""Reasons with which a new split is stored: another write for the moment until it is acknowledged would help nobody."""


def program(view: View) -> Outcome | None:
    """Not acknowledged -> wait."""
    if view.is_programmed:
        return None
    return Outcome(
        view.status,
        progressing=_waiting(view),
        # Someone may have deleted the candidate's revision by hand; without it there is nothing to acknowledge.
        create_revision=view.is_wanted_revision_missing,
    )


def _waiting(view: View) -> Report:
    """That the split was sent moments ago is said already, by what led to it and by Programmed."""
    programmed, said = view.snapshot.programmed, view.progressing
    if programmed.instances and not programmed.error and said.reason in _JUST_SENT:
        return said
    detail = programmed.error or "the router has not acknowledged the wanted split yet"
    return Report("True", Reason.AWAITING_EVIDENCE, detail)
