"""Conditions, the state word and the printer fields, derived from a decision."""

from __future__ import annotations

from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.status import Condition, RolloutStatus
from controller.core.images import drift_of, is_compared
from controller.core.outcome import Outcome, Report, View
from controller.core.rules.reject import problem_of
from controller.core.stages import table_of
from controller.core.traffic import WHOLE_PPM


def conclude(view: View, outcome: Outcome) -> RolloutStatus:
    """The status to store."""
    problem = problem_of(view)
    accepted = (
        Report("False", problem.reason, problem.message)
        if problem
        else Report("True", Reason.ACCEPTED, "the spec is valid")
    )
    wanted: dict[ConditionType, Report | None] = {
        ConditionType.ACCEPTED: accepted,
        ConditionType.PROGRAMMED: _programmed(view, outcome.status),
        ConditionType.PROGRESSING: outcome.progressing,
        ConditionType.HEALTHY: outcome.healthy,
        ConditionType.DRIFTED: _drifted(view),
    }
    conditions = [
        _condition(view, kind, report) if report else view.status.condition(kind)
        for kind, report in wanted.items()
    ]
    served = view.snapshot.programmed.table
    return outcome.status.model_copy(
        update={
            "observed_generation": view.snapshot.rollout.metadata.generation,
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


def _drifted(view: View) -> Report | None:
    """An alert about stable; a candidate that drifts is taken back. None, while not known, leaves it as it is."""
    stable, endpoints = view.status.stable, view.snapshot.stable_endpoints
    if not is_compared(stable, endpoints):
        return None
    drift = drift_of(stable, endpoints)
    if drift is None:
        return Report("False", Reason.UNCHANGED, "stable runs the images that it was made of")
    return Report("True", drift.reason, drift.message)


def _state(view: View, status: RolloutStatus, *, rejected: bool) -> State:
    if rejected:
        return State.REJECTED
    if status.candidate is not None:
        return State.PAUSED if view.snapshot.rollout.spec.paused else _candidate_state(status)
    if status.stable is not None and status.stable.artifact_id == view.wanted:
        return State.STABLE
    return State.ROLLED_BACK if view.wanted in status.rolled_back else State.PENDING


def _candidate_state(status: RolloutStatus) -> State:
    if status.verdict is Verdict.ERROR:
        return State.BLIND
    if status.stage is None:
        return State.PREPARING
    return State.BAKING if status.weight == WHOLE_PPM else State.PROGRESSING
