"""A kill switch holds: nobody gets a candidate."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.core.killing import report
from controller.core.outcome import Outcome, Report, View
from controller.core.rules.settled import beyond_history


def killed(view: View) -> Outcome | None:
    """Killed -> nothing starts; just released -> say so, the next plan may start anew.

    A candidate was taken back before this, in `rollback`. A spec that wants stable has nothing to start.
    """
    before = view.snapshot.rollout.status.killed
    if view.status.candidate is not None or (view.status.killed is None and before is None):
        return None
    told = report(view, view.status)
    assert told is not None  # noqa: S101  there is or was a kill
    if view.status.killed is None:
        return Outcome(view.status, Report("False", Reason.RELEASED, told.message), again=True)
    if view.is_wanted_stable:
        return None
    text = f"{view.wanted_revision} does not start: {told.message}"
    return Outcome(
        view.status,
        progressing=Report("False", Reason.KILL_SWITCH_ON, text),
        delete_revisions=beyond_history(view),
    )
