"""Guardrails in virtual time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.status import GuardrailStatus
from controller.core.limits import THRESHOLD
from tests.talking import Reported, TalkingRollout, talking
from tests.virtual import Behaviour

STAGES = [{"weight": w, "minDuration": "3m", "minRequests": 10} for w in ("20%", "50%", "100%")]


def guarded(*guardrails: dict[str, Any], **kwargs: Any) -> TalkingRollout:
    """A candidate that is watched by these guardrails alone, as far as it can be: errors are the same everywhere."""
    world = talking("errors", stages=STAGES, guardrails=list(guardrails), **kwargs)
    world.want("http://v2")
    return world


def only(world: TalkingRollout) -> GuardrailStatus:
    (found,) = world.rollout.status.guardrails
    return found


def within_limits(world: TalkingRollout) -> tuple[str, Reason]:
    condition = world.rollout.status.condition(ConditionType.WITHIN_LIMITS)
    assert condition is not None
    return condition.status, condition.reason


SELDOM = timedelta(seconds=15)

BROKEN: list[tuple[dict[str, Any], dict[str, Reported], dict[str, Behaviour]]] = [
    ({"name": "toolErrors", "window": "30s"}, {"v2": Reported(tool_errors=0.3)}, {}),
    ({"name": "tokensPerTask", "factor": 1.2}, {"v2": Reported(heavy=0.95)}, {}),
    ({"name": "tokensPerTask", "factor": 2, "expected": 60}, {"v2": Reported(heavy=0.95)}, {}),
    ({"name": "latency"}, {}, {"v1": Behaviour(slow=0, fast=0.99), "v2": Behaviour(slow=0.4)}),
]


@pytest.mark.parametrize(("guardrail", "reported", "behaviour"), BROKEN)
def test_a_candidate_beyond_a_limit_is_taken_back(
    guardrail: dict[str, Any], reported: dict[str, Reported], behaviour: dict[str, Behaviour]
) -> None:
    world = guarded(guardrail, reported=reported, behaviour=behaviour)
    world.live(300)
    record = world.rollout.status.last_rollback
    assert record is not None
    assert (record.reason, record.metric) == (Reason.GUARDRAIL_BROKEN, guardrail["name"])
    assert record.message.startswith("beyond the limit: ")
    assert only(world).evidence >= THRESHOLD
    assert within_limits(world) == ("False", Reason.GUARDRAIL_BROKEN)


@pytest.mark.parametrize("action", ["Hold", "Alert"])
def test_hold_and_alert_take_nothing_back(action: str) -> None:
    guardrail = {"name": "toolErrors", "window": "30s", "action": action}
    world = guarded(guardrail, scrape=SELDOM, reported={"v2": Reported(tool_errors=0.3)})
    world.live(900)
    status = world.rollout.status
    if action == "Hold":
        assert status.stage is not None
        assert (status.stage.index, status.verdict) == (0, Verdict.FAIL)
        progressing = status.condition(ConditionType.PROGRESSING)
        assert progressing is not None
        assert progressing.reason is Reason.GUARDRAIL_BROKEN
    else:
        assert status.state is State.STABLE
    assert any(
        plan.status.condition(ConditionType.WITHIN_LIMITS).reason is Reason.GUARDRAIL_BROKEN  # type: ignore[union-attr]
        for plan in world.plans
        if plan.status.guardrails
    )


def test_candidates_within_their_limits_are_promoted() -> None:
    world = guarded({"name": "toolErrors"}, {"name": "latency"}, {"name": "tokensPerTask"}, scrape=SELDOM)
    world.live(150)
    assert within_limits(world) == ("True", Reason.LIMITS_KEPT)
    world.live(750)
    assert world.rollout.status.state is State.STABLE
    assert world.rollout.status.guardrails == []


@pytest.mark.parametrize("index", range(len(BROKEN)))
def test_ten_samples_never_decide(index: int) -> None:
    guardrail, reported, behaviour = BROKEN[index]
    world = guarded(guardrail, reported=reported, behaviour=behaviour)
    world.per_second = 0
    world.live(5)
    assert world.rollout.status.stage is not None
    assert world.served is not None
    assert world.served.candidate is not None
    assert world.served.stable is not None
    for number in range(40):
        if number < 10:
            world.count(world.served.candidate.revision, 1)
        world.live(5)
    assert world.rollout.status.last_rollback is None
    assert 0 < only(world).candidate.total <= 10
    assert only(world).verdict is Verdict.INSUFFICIENT


def test_a_limit_that_stable_breaks_as_well_says_nothing_about_the_candidate() -> None:
    down = Reported(tool_errors=0.5)
    world = guarded({"name": "toolErrors", "window": "30s"}, reported={"v1": down, "v2": down})
    world.live(400)
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.index == 0
    assert (only(world).verdict, only(world).reason) == (Verdict.ERROR, Reason.BASELINE_UNHEALTHY)
    assert within_limits(world) == ("False", Reason.BASELINE_UNHEALTHY)


def test_the_share_must_be_beyond_the_limit_over_the_window_too() -> None:
    world = guarded({"name": "toolErrors", "window": "3m"}, reported={"v2": Reported(tool_errors=0.0)})
    world.live(145)
    world.reported["v2"] = Reported(tool_errors=1.0)
    world.live(5)
    world.reported["v2"] = Reported(tool_errors=0.0)
    world.live(15)
    assert world.rollout.status.last_rollback is None
    assert only(world).verdict is Verdict.PASS
    assert only(world).evidence >= THRESHOLD


def test_a_guardrail_without_its_series_holds_unless_it_only_alerts() -> None:
    silent = {"v2": Reported(silent=True)}
    world = guarded({"name": "toolErrors"}, reported=silent)
    world.live(400)
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.index == 0
    assert only(world).verdict is Verdict.INSUFFICIENT
    assert only(world).message.startswith("Prometheus has no agent_tool_calls_total{")
    assert within_limits(world) == ("Unknown", Reason.AWAITING_EVIDENCE)
    world = guarded({"name": "toolErrors", "action": "Alert"}, scrape=SELDOM, reported=silent)
    world.live(900)
    assert world.rollout.status.state is State.STABLE


def test_reports_that_cannot_be_read_are_an_error_of_the_guardrail() -> None:
    world = guarded({"name": "toolErrors"})
    world.live(60)
    world.reports_problem = "Prometheus is away"
    world.live(30)
    assert (only(world).verdict, only(world).message) == (Verdict.ERROR, "Prometheus is away")


def test_an_evaluation_without_new_scrapes_counts_nothing_twice() -> None:
    world = guarded(
        {"name": "toolErrors"}, {"name": "latency"}, behaviour={"v1": Behaviour(slow=0, fast=0.99)}
    )
    world.live(100)
    evaluate(world)
    before = world.rollout.status.guardrails
    assert all(each.candidate.total for each in before)
    world.now += timedelta(seconds=1)
    evaluate(world)
    assert world.rollout.status.guardrails == before


def test_a_limit_that_is_not_known_any_more_is_insufficient() -> None:
    world = guarded({"name": "latency"}, {"name": "tokensPerTask"})
    world.live(60)
    evidence = world.rollout.status.evidence
    assert evidence is not None
    forgotten = [each.model_copy(update={"limit": 0.0}) for each in evidence.guardrails]
    status = world.rollout.status.model_copy(
        update={"evidence": evidence.model_copy(update={"guardrails": forgotten})}
    )
    world.rollout = world.rollout.model_copy(update={"status": status})
    world.live(30)
    assert {each.verdict for each in world.rollout.status.guardrails} == {Verdict.INSUFFICIENT}
    assert all("is not known" in each.message for each in world.rollout.status.guardrails)


def evaluate(world: TalkingRollout) -> None:
    """An evaluation that is due now."""
    evidence = world.rollout.status.evidence
    assert evidence is not None
    due = evidence.model_copy(update={"evaluated_at": None})
    status = world.rollout.status.model_copy(update={"evidence": due})
    world.rollout = world.rollout.model_copy(update={"status": status})
    world.step()


@pytest.mark.parametrize("name", ["toolErrors", "tokensPerTask"])
def test_minutes_after_stable_keeps_the_limit_again_the_candidate_goes_on(name: str) -> None:
    guardrail = {"name": name} | ({"factor": 2, "expected": 60} if name == "tokensPerTask" else {})
    down = Reported(tool_errors=0.5) if name == "toolErrors" else Reported(heavy=0.95)
    world = guarded(guardrail, scrape=SELDOM, reported={"v1": down, "v2": down})
    world.live(1800)
    assert only(world).reason is Reason.BASELINE_UNHEALTHY
    world.reported.clear()
    world.live(300)
    assert only(world).verdict is Verdict.PASS
    assert world.rollout.status.last_rollback is None


def test_minutes_after_a_candidate_keeps_the_limit_again_it_is_held_no_more() -> None:
    guardrail = {"name": "toolErrors", "window": "30s", "action": "Hold"}
    world = guarded(guardrail, scrape=SELDOM, reported={"v2": Reported(tool_errors=0.5)})
    world.live(1800)
    assert only(world).reason is Reason.GUARDRAIL_BROKEN
    # The window must not be what ends it.
    assert only(world).evidence < 100 * THRESHOLD
    world.reported.clear()
    world.live(300)
    assert only(world).verdict is Verdict.PASS
