"""Wait until something is ready behind the candidate's Service before users are sent there."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.core.outcome import Outcome, Report, View


def endpoints(view: View) -> Outcome | None:
    """No stage yet and nothing ready -> wait; once users are served the same is a trigger, see `rollback`."""
    found = view.snapshot.candidate_endpoints
    if view.status.stage is not None or found is None or found.ready:
        return None
    return Outcome(
        view.status, Report("True", Reason.AWAITING_ENDPOINTS, f"the first stage waits: {found.words}")
    )
