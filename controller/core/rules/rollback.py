"""Take the candidate back. Stands first: nothing may come before it."""

from __future__ import annotations

from dataclasses import dataclass

from controller.api.guardrails import GuardrailAction
from controller.api.reasons import Reason, Verdict
from controller.api.rollout import Delivery
from controller.api.shadow import InsufficientAction
from controller.api.status import CandidateRef, RollbackRecord
from controller.core.images import drift_of
from controller.core.inconclusive import inconclusive
from controller.core.outcome import Outcome, Report, View
from controller.core.snapshot import Drift

KEPT_ROLLED_BACK = 100
"""How many taken-back artifacts are remembered; the oldest is forgotten first."""

BREAK_GLASS = "agentrollout.dev/break-glass"
"""Annotation by which a person who sent all users to stable, past the operators, tells them to take the candidate back."""


_TOLD_APART = frozenset({Reason.SHADOW_REGRESSION, Reason.KILL_SWITCH_ON})
"""Reasons that people wait to hear in the condition itself."""


def attempt_name(candidate: CandidateRef) -> str:
    """The value of the annotation; it says nothing about another artifact, or a later try of this one."""
    return f"{candidate.artifact_id}/{candidate.attempt}"


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why the candidate is taken back.

    Attributes:
        reason: In a word.
        message: In a sentence.
        metric: The metric that failed, if one did.
    """

    reason: Reason
    message: str
    metric: str = ""


def rollback(view: View) -> Outcome | None:
    """A trigger -> weight 0 in this very plan, and never again for this artifact by itself."""
    found = (
        None if view.status.candidate is None else next(filter(None, (look(view) for look in TRIGGERS)), None)
    )
    return None if found is None else take_back(view, found)


def take_back(view: View, found: Trigger) -> Outcome:
    """Weight 0, and the artifact is remembered with why."""
    artifact = view.candidate.artifact_id
    record = RollbackRecord(
        artifact_id=artifact,
        reason=found.reason,
        metric=found.metric,
        message=found.message,
        at=view.now,
        stage=view.status.stage.title if view.status.stage else "",
    )
    remembered = [known for known in view.status.rolled_back if known != artifact]
    status = view.without_candidate(killed=found.reason is Reason.KILL_SWITCH_ON).model_copy(
        update={
            "last_rollback": record,
            "rolled_back": [*remembered, artifact][-KEPT_ROLLED_BACK:],
            "analysis": view.status.analysis,
            "guardrails": view.status.guardrails,
            "verdict": Verdict.FAIL if found.metric else view.status.verdict,
        }
    )
    why = f"{found.metric} is {found.message}" if found.metric else found.message
    where = f"at {record.stage}" if record.stage else "before its first stage"
    text = f"{view.candidate.revision} was taken back {where}: {why}"
    # Who is told of a regression that no user has met need not look for it among those that users did.
    told = found.reason if found.reason in _TOLD_APART else Reason.ROLLING_BACK
    return Outcome(
        status,
        progressing=Report("False", told, text),
        healthy=Report("False", Reason.ROLLED_BACK, text),
    )


def _killed(view: View) -> Trigger | None:
    """A kill switch is on, or was and nobody has released it."""
    killed = view.status.killed
    return Trigger(Reason.KILL_SWITCH_ON, killed.message + _about_stable(view)) if killed else None


def _latched(view: View) -> Trigger | None:
    """A cut that was pushed stays decided, whatever is seen later and before it is stored."""
    latch, candidate = view.snapshot.latch, view.candidate
    if latch is None or latch.reason is None:
        return None
    if (latch.artifact_id, latch.attempt) != (candidate.artifact_id, candidate.attempt):
        return None
    return Trigger(latch.reason, latch.message, latch.metric)


def _aborted(view: View) -> Trigger | None:
    abort = view.snapshot.abort
    return Trigger(Reason.ABORTED, f"aborted by {abort.words}" + _about_stable(view)) if abort else None


def _ordered(view: View) -> Trigger | None:
    if view.snapshot.rollout.metadata.annotations.get(BREAK_GLASS) != attempt_name(view.candidate):
        return None
    return Trigger(Reason.BREAK_GLASS, "a person broke the glass")


def _failed(view: View) -> Trigger | None:
    failed = next((m for m in view.status.analysis if m.verdict is Verdict.FAIL), None)
    if failed is None or view.stage.regression:
        return None
    if view.status.is_in_shadow:
        return Trigger(Reason.SHADOW_REGRESSION, failed.message, failed.name)
    return Trigger(Reason.ANALYSIS_FAILED, failed.message + _about_stable(view), failed.name)


def _unknown(view: View) -> Trigger | None:
    """Comparisons in the shadow said too little for too long, and that is enough for whoever wrote the spec."""
    ended = inconclusive(view)
    if ended is None or ended[0] is not InsufficientAction.ROLLBACK or view.snapshot.rollout.is_paused:
        return None
    return Trigger(Reason.SHADOW_INCONCLUSIVE, ended[1])


def _beyond_limit(view: View) -> Trigger | None:
    """Stable keeps the limit, or this would not be Fail."""
    broken = next(
        (
            each
            for each in view.status.guardrails
            if each.verdict is Verdict.FAIL and each.action is GuardrailAction.ROLLBACK
        ),
        None,
    )
    if broken is None:
        return None
    return Trigger(Reason.GUARDRAIL_BROKEN, broken.message + _about_stable(view), broken.name)


def _deserted(view: View) -> Trigger | None:
    """Users are sent to a Service with nothing ready behind it; before the first stage this is only a wait."""
    endpoints = view.snapshot.candidate_endpoints
    if view.status.stage is None or endpoints is None or endpoints.ready:
        return None
    return Trigger(Reason.NO_ENDPOINTS, endpoints.words + _about_stable(view))


def _drifted(view: View) -> Trigger | None:
    """What users get is no longer the version that was to be delivered."""
    if view.status.stage is None:
        return None
    drift = drift_of(view.candidate, view.snapshot.candidate_endpoints) or _rewritten(view)
    return Trigger(drift.reason, drift.message + _about_stable(view)) if drift else None


def _rewritten(view: View) -> Drift | None:
    """A deployed agent may have what it reads from a ConfigMap or Secret already; by header it has the AgentRevision."""
    if view.snapshot.rollout.spec.delivery is not Delivery.DEPLOYED:
        return None
    artifact = view.candidate.artifact_id
    changed = (each for each in view.snapshot.drift or () if each.reason is Reason.REFERENCE_CHANGED)
    return next((each for each in changed if each.artifact_id == artifact), None)


TRIGGERS = (_killed, _latched, _aborted, _ordered, _failed, _unknown, _beyond_limit, _deserted, _drifted)


def _about_stable(view: View) -> str:
    """Going back to a stable that is unwell is still right, but people have to know."""
    endpoints = view.snapshot.stable_endpoints
    if endpoints is None or endpoints.ready == endpoints.total > 0:
        return ""
    return f"; of stable, which serves everyone again, only {endpoints.words}"
