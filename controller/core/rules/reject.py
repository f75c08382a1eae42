"""Keep what serves when the spec cannot be accepted."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.api.rollout import Delivery
from controller.core.outcome import Outcome, Report, View
from controller.core.snapshot import Problem


def reject(view: View) -> Outcome | None:
    """Nothing rises while the spec is refused; a running candidate is still watched."""
    problem = problem_of(view)
    if problem is None:
        return None
    return Outcome(view.status, progressing=Report("False", problem.reason, problem.message))


def problem_of(view: View) -> Problem | None:
    """What keeps the spec from being accepted, in words that name the field and the way out."""
    if view.snapshot.problem:
        return view.snapshot.problem
    return _same_backend(view)


def _same_backend(view: View) -> Problem | None:
    rollout, stable = view.snapshot.rollout, view.status.stable
    if stable is None or view.is_wanted_stable or rollout.spec.delivery is not Delivery.DEPLOYED:
        return None
    taken = next((r for r in view.snapshot.revisions if r.name == stable.revision), None)
    wanted = view.snapshot.wanted_backend
    if (
        taken is None
        or wanted is None
        or (wanted.host, wanted.port) != (taken.backend.host, taken.backend.port)
    ):
        return None
    return Problem(
        Reason.SAME_BACKEND,
        f"spec.agent.code.url: {rollout.spec.agent.code.url} was deployed for {stable.revision}; deploy the new "
        "artifact under another URL, or set spec.delivery to Header if the agent loads its artifact by header",
    )
