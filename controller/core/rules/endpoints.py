"""Wait until something is ready behind the candidate's Service, and known, before users are sent there."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.core.outcome import Outcome, Report, View


def endpoints(view: View) -> Outcome | None:
    """No stage yet and nothing ready -> wait; once users are served the same is a trigger, see `rollback`."""
    found = view.snapshot.candidate_endpoints
    if view.status.stage is not None or found is None:
        return None
    if not found.ready:
        return Outcome(view.status, _waiting(found.words))
    if found.images is None:
        problem = found.images_problem or "being read"
        return Outcome(
            view.status, _waiting(f"the images behind Service {found.service} are not known: {problem}")
        )
    return None


def _waiting(why: str) -> Report:
    return Report("True", Reason.AWAITING_ENDPOINTS, f"the first stage waits: {why}")
