"""Conditions, the state word and the printer fields, derived from a decision."""

from __future__ import annotations

from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.status import Condition, ResolvedReferences, RolloutStatus
from controller.core import killing
from controller.core.images import drift_of, is_compared
from controller.core.outcome import Outcome, Report, View
from controller.core.references import records_in_force
from controller.core.rules.reject import problem_of
from controller.core.snapshot import Drift
from controller.core.stages import table_of
from controller.core.traffic import WHOLE_PPM

NAMED_DRIFTS = 5
"""So many causes are told one by one."""


def conclude(view: View, outcome: Outcome) -> RolloutStatus:
    """The status to store."""
    problem = problem_of(view)
    accepted = (
        Report("False", problem.reason, problem.message)
        if problem
        else Report("True", Reason.ACCEPTED, "the spec is valid")
    )
    resolved = records_in_force(outcome.status, view.wanted, view.snapshot.resolved)
    wanted: dict[ConditionType, Report | None] = {
        ConditionType.ACCEPTED: accepted,
        ConditionType.PROGRAMMED: _programmed(view, outcome.status),
        ConditionType.PROGRESSING: outcome.progressing,
        ConditionType.HEALTHY: outcome.healthy,
        ConditionType.DRIFTED: _drifted(view, resolved),
        ConditionType.WITHIN_LIMITS: _within_limits(outcome.status),
        ConditionType.KILLED: killing.report(view, outcome.status),
    }
    conditions = [
        _condition(view, kind, report) if report else view.status.condition(kind)
        for kind, report in wanted.items()
    ]
    served = view.snapshot.programmed.table
    return outcome.status.model_copy(
        update={
            "observed_generation": view.snapshot.rollout.metadata.generation,
            "resolved": resolved,
            "conditions": [condition for condition in conditions if condition],
            "programmed": served.weight_ppm if served else None,
            "state": _state(view, outcome.status, rejected=problem is not None),
        }
    )


def _condition(view: View, kind: ConditionType, report: Report) -> Condition:
    before = view.status.condition(kind)
    unchanged = before is not None and before.status == report.status
    return Condition(
        type=kind,
        status=report.status,
        reason=report.reason,
        message=report.message,
        last_transition_time=before.last_transition_time if before and unchanged else view.now,
        observed_generation=view.snapshot.rollout.metadata.generation,
    )


def _programmed(view: View, status: RolloutStatus) -> Report:
    programmed = view.snapshot.programmed
    if programmed.instances == 0:
        return Report("False", Reason.ROUTER_UNAVAILABLE, "no router instance is connected")
    wanted = table_of(view.snapshot.rollout, status, view.snapshot.revisions)
    if status.stable is None:
        return Report("False", Reason.PENDING, "there is nothing to serve: no version was accepted yet")
    if programmed.serves(wanted):
        instances = "instance" if programmed.instances == 1 else "instances"
        return Report(
            "True",
            Reason.PROGRAMMED,
            f"{programmed.instances} router {instances} acknowledged the wanted split",
        )
    return Report(
        "False", Reason.PENDING, programmed.error or "the wanted split was sent, not acknowledged yet"
    )


def _drifted(view: View, resolved: list[ResolvedReferences]) -> Report | None:
    """Every cause in one condition. None, while something is not known, leaves it as it is.

    An alert: what it means for a candidate is said by `rollback`.
    """
    stable, endpoints = view.status.stable, view.snapshot.stable_endpoints
    images = drift_of(stable, endpoints)
    if resolved and view.snapshot.drift is None:
        return None
    causes = [*([images] if images else []), *(view.snapshot.drift or ())]
    if causes:
        return _causes(causes)
    known = is_compared(stable, endpoints)
    if endpoints is not None and not known:
        return None
    if known or resolved or view.status.condition(ConditionType.DRIFTED):
        return Report("False", Reason.UNCHANGED, "everything is what the versions were made of")
    return None  # with nothing to compare there is nothing to say


def _causes(causes: list[Drift]) -> Report:
    certain = [each for each in causes if each.reason is not Reason.REFERENCE_UNREADABLE]
    told = [each.message for each in (certain or causes)[:NAMED_DRIFTS]]
    if more := len(certain or causes) - len(told):
        told.append(f"and {more} more")
    return Report("True" if certain else "Unknown", (certain or causes)[0].reason, "; ".join(told))


def _within_limits(status: RolloutStatus) -> Report | None:
    """What guardrails say, those that only alert too; None, without any, leaves it as it is."""
    wrong = [each for each in status.guardrails if each.reason]
    if wrong:
        broken = [each for each in wrong if each.reason is Reason.GUARDRAIL_BROKEN]
        reason = Reason.GUARDRAIL_BROKEN if broken else Reason.BASELINE_UNHEALTHY
        told = "; ".join(f"{each.name}: {each.message}" for each in broken or wrong)
        return Report("False", reason, told)
    unknown = [each for each in status.guardrails if each.verdict is not Verdict.PASS]
    if unknown:
        told = "; ".join(f"{each.name}: {each.message}" for each in unknown)
        return Report("Unknown", Reason.AWAITING_EVIDENCE, told)
    if status.guardrails:
        return Report("True", Reason.LIMITS_KEPT, "the candidate keeps every limit")
    return None


def _state(view: View, status: RolloutStatus, *, rejected: bool) -> State:
    if rejected:
        return State.REJECTED
    if status.killed is not None:
        return State.KILLED
    if status.candidate is not None:
        return State.PAUSED if view.snapshot.rollout.is_paused else _candidate_state(status)
    if status.stable is not None and status.stable.artifact_id == view.wanted:
        return State.STABLE
    return State.ROLLED_BACK if view.wanted in status.rolled_back else State.PENDING


def _candidate_state(status: RolloutStatus) -> State:
    if status.verdict is Verdict.ERROR:
        return State.BLIND
    if status.stage is None:
        return State.PREPARING
    if status.is_in_shadow:
        return State.SHADOWING
    return State.BAKING if status.weight == WHOLE_PPM else State.PROGRESSING
