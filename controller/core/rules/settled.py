"""Nothing to deliver: the wanted artifact is stable, or it was taken back before."""

from __future__ import annotations

from controller.api.reasons import ConditionType, Reason
from controller.core.outcome import Outcome, Report, View


def settled(view: View) -> Outcome | None:
    """No candidate and none to accept."""
    if view.status.candidate is not None:
        return None
    if view.is_wanted_stable:
        return Outcome(
            view.status.model_copy(update={"analysis": [], "guardrails": [], "verdict": None}),
            progressing=Report("False", Reason.IDLE, "nothing to deliver"),
            healthy=_healthy(view),
            # Someone may have deleted it by hand; without it a restarted operator could not serve anyone.
            create_revision=view.is_wanted_revision_missing,
            delete_revisions=beyond_history(view),
        )
    if view.wanted in view.status.rolled_back:
        text = (
            f"{view.wanted_revision} was taken back before and is not tried again by itself; change spec.agent, or ask for "
            "it by a RolloutAction (Retry)"
        )
        return Outcome(
            view.status,
            progressing=Report("False", Reason.ROLLED_BACK, text),
            healthy=Report("False", Reason.ROLLED_BACK, text),
            delete_revisions=beyond_history(view),
        )
    return None


def _healthy(view: View) -> Report | None:
    """After a rollback the spec may be put back to stable: the latest artifact is then healthy again."""
    healthy = view.status.condition(ConditionType.HEALTHY)
    if healthy is not None and healthy.status == "True":
        return None
    return Report("True", Reason.PROMOTED, f"{view.wanted_revision} is stable")


def beyond_history(view: View) -> tuple[str, ...]:
    """Revisions that the history limit has no place for; never stable, candidate or last-rolled-back ones."""
    status = view.status
    needed = {ref.revision for ref in (status.stable, status.candidate) if ref}
    rolled_back = status.last_rollback.artifact_id if status.last_rollback else None
    old = sorted(
        (r for r in view.snapshot.revisions if r.name not in needed and r.artifact_id != rolled_back),
        key=lambda r: (r.created, r.name),
        reverse=True,
    )
    return tuple(r.name for r in old[view.snapshot.rollout.spec.revision_history_limit :])
