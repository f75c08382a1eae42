"""Keep what serves when the spec cannot be accepted."""

from __future__ import annotations

from controller.api.agent import Code
from controller.api.reasons import Reason
from controller.api.rollout import Delivery
from controller.core.outcome import Outcome, Report, View
from controller.core.snapshot import Problem


def reject(view: View) -> Outcome | None:
    """Nothing rises while the spec is refused; a running candidate stays, and is still watched."""
    problem = problem_of(view)
    if problem is None:
        return None
    message, candidate = problem.message, view.status.candidate
    if candidate is not None:
        message += (
            f"; {candidate.revision} stays where it is, watched and not raised, until the spec is accepted"
        )
    return Outcome(view.status, progressing=Report("False", problem.reason, message))


def problem_of(view: View) -> Problem | None:
    """What keeps the spec from being accepted, in words that name the field and the way out."""
    if view.snapshot.problem:
        return view.snapshot.problem
    return _same_backend(view)


def _same_backend(view: View) -> Problem | None:
    rollout, wanted = view.snapshot.rollout, view.snapshot.wanted_backend
    if rollout.spec.delivery is not Delivery.DEPLOYED or wanted is None:
        return None
    serving = [ref for ref in (view.status.stable, view.status.candidate) if ref]
    if any(ref.artifact_id == view.wanted for ref in serving):
        return None
    backends = {revision.name: revision.backend for revision in view.snapshot.revisions}
    for ref in serving:
        taken = backends.get(ref.revision)
        if taken is not None and (taken.host, taken.port) == (wanted.host, wanted.port):
            field, kind = _field(rollout.spec.agent.code)
            return Problem(
                Reason.SAME_BACKEND,
                f"spec.agent.code.{field} was deployed for {ref.revision}; deploy the new artifact under another "
                f"{kind}, or set spec.delivery to Header if the agent loads its artifact by header",
            )
    return None


def _field(code: Code) -> tuple[str, str]:
    if code.service is not None:
        return f"service: {code.service.name}:{code.service.port}", "Service"
    return f"url: {code.url}", "URL"
