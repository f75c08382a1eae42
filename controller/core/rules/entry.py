"""Approvals and windows: what a stage waits for beside its evidence. Nothing that takes the candidate away does."""

from __future__ import annotations

from controller.core.entry import waits
from controller.core.outcome import Outcome, View


def enter_first(view: View) -> Outcome | None:
    """Before the first stage: asked before stable's past is read, which would be old by the time of the first request."""
    return _waits(view) if view.status.stage is None else None


def enter_next(view: View) -> Outcome | None:
    """The stage was passed."""
    return _waits(view)


def _waits(view: View) -> Outcome | None:
    report = waits(view)
    if report is None:
        return None
    # Someone may have deleted the candidate's revision by hand; it is served all the same.
    return Outcome(view.status, report, create_revision=view.is_wanted_revision_missing)
