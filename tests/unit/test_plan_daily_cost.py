"""The guardrail dailyCost, in virtual time; tests/integration/test_daily_cost.py asks a real Prometheus."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from controller.api.delivery import Metric
from controller.api.guardrails import Guardrail, GuardrailAction
from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.status import GuardrailStatus, VersionRef
from controller.core.daily_cost import AGAIN, asked_of, cost_queries
from controller.core.queries import queries
from controller.core.snapshot import Answer
from tests.talking import TalkingRollout, talking

STAGES = [{"weight": w, "minDuration": "12m", "minRequests": 10} for w in ("20%", "100%")]
CANDIDATE = VersionRef(revision="agent-0123456789", artifact_id="sha256:aa")

Number = float | Answer


def costing(
    day: Number = 120.0,
    *,
    candidate: Number = 10.0,
    tasks: Number = 1000.0,
    mean: Number = 100.0,
    **changes: Any,
) -> TalkingRollout:
    """A candidate that has just begun to serve, with these answers."""
    guardrail = {"name": "dailyCost"} | changes
    world = talking("errors", stages=STAGES, guardrails=[guardrail], scrape=timedelta(seconds=15))
    world.want("http://v2")
    while world.rollout.status.stage is None:
        world.live(1)
    gives(world, day=day, candidate=candidate, tasks=tasks, mean=mean)
    return world


def gives(world: TalkingRollout, **found: Number) -> None:
    (guardrail,) = world.snapshot().analysis.guardrails
    asked = asked_of(guardrail, world.snapshot())
    world.answers |= {
        asked[what]: value if isinstance(value, Answer) else Answer((value,)) for what, value in found.items()
    }


def only(world: TalkingRollout) -> GuardrailStatus:
    (found,) = world.rollout.status.guardrails
    return found


ALLOWED = ", 150 are allowed, 1.5 times the mean of the 7 days before"


@pytest.mark.parametrize(
    ("found", "verdict", "reason", "message"),
    [
        ({"day": 150.0}, Verdict.PASS, None, f"within the limit: 150 dollars in 24 hours, 10 of them the candidate's{ALLOWED}"),
        ({"day": 151.0}, Verdict.FAIL, Reason.GUARDRAIL_BROKEN, f"beyond the limit: 151 dollars in 24 hours, 10 of them the candidate's{ALLOWED}"),
        ({"day": 170.0}, Verdict.ERROR, Reason.BASELINE_UNHEALTHY, "the other versions alone are beyond the limit: 170 dollars in 24 hours"),
        ({"day": 200.0, "candidate": Answer()}, Verdict.ERROR, Reason.BASELINE_UNHEALTHY, "the other versions alone"),
        ({"day": 900.0, "tasks": 10.4}, Verdict.INSUFFICIENT, None, "10 of 50 tasks counted in the last 24 hours: 900 dollars"),
        ({"day": 900.0, "tasks": Answer()}, Verdict.INSUFFICIENT, None, "0 of 50 tasks counted in the last 24 hours"),
        ({"mean": Answer()}, Verdict.INSUFFICIENT, None, "there are no 7 full days of cost before the last 24 hours to compare with: 120"),
        ({"mean": 0.0}, Verdict.INSUFFICIENT, None, "there are no 7 full days of cost"),
        ({"day": Answer()}, Verdict.INSUFFICIENT, None, "Prometheus has no agent_task_cost_usd_sum of the last 24 hours"),
        ({"day": Answer(problem="Prometheus is away")}, Verdict.ERROR, None, "Prometheus is away"),
        ({"mean": Answer((1.0, 2.0))}, Verdict.ERROR, None, "the query for the mean of the days before gives 2 values"),
    ],
)  # fmt: skip
def test_what_it_says(
    found: dict[str, Number], verdict: Verdict, reason: Reason | None, message: str
) -> None:
    world = costing(**found)
    world.live(30)
    assert (only(world).verdict, only(world).reason) == (verdict, reason)
    assert only(world).message.startswith(message)


@pytest.mark.parametrize(
    ("action", "state"),
    [(None, State.STABLE), ("Alert", State.STABLE), ("Hold", State.PROGRESSING), ("Rollback", State.ROLLED_BACK)],
)  # fmt: skip
def test_it_alerts_unless_told_otherwise(action: str | None, state: State) -> None:
    changes: dict[str, Any] = {"action": action} if action else {}
    world = costing(200.0, candidate=80.0, **changes)
    world.live(2400)
    assert world.rollout.status.state is state
    told = [plan.status.condition(ConditionType.WITHIN_LIMITS) for plan in world.plans]
    assert Reason.GUARDRAIL_BROKEN in {each.reason for each in told if each}


def test_a_version_whose_siblings_alone_cost_too_much_is_not_taken_back() -> None:
    world = costing(400.0, candidate=80.0, action="Rollback")
    world.live(600)
    assert world.rollout.status.last_rollback is None
    assert world.rollout.status.stage is not None
    assert only(world).reason is Reason.BASELINE_UNHEALTHY


def test_it_is_asked_every_five_minutes_and_says_the_same_meanwhile() -> None:
    world = costing(120.0)
    assert len(queries(world.snapshot(), world.now)) == 4
    world.live(30)
    assert queries(world.snapshot(), world.now) == ()
    gives(world, day=151.0)
    world.live(200)
    assert (only(world).verdict, only(world).value) == (Verdict.PASS, 120.0)
    world.live(AGAIN.total_seconds() - 200)
    assert (only(world).verdict, only(world).value) == (Verdict.FAIL, 151.0)


def test_what_could_not_be_asked_is_asked_at_the_next_evaluation() -> None:
    world = costing(Answer(problem="Prometheus is away"))
    world.live(30)
    assert len(queries(world.snapshot(), world.now)) == 4
    gives(world, day=120.0)
    world.live(15)
    assert only(world).verdict is Verdict.PASS


def test_a_next_stage_asks_anew_and_nothing_is_asked_before_the_first() -> None:
    world = talking("errors", stages=STAGES, guardrails=[{"name": "dailyCost"}])
    world.want("http://v2")
    assert queries(world.snapshot(), world.now) == ()
    world = costing(120.0)
    while world.rollout.status.stage is None or world.rollout.status.stage.index == 0:
        world.live(15)
    assert world.rollout.status.guardrails == []
    world.live(30)
    assert only(world).verdict is Verdict.PASS


def asked(metrics: list[Metric], **changes: Any) -> dict[str, str]:
    guardrail = Guardrail.model_validate({"name": "dailyCost"} | changes)
    return dict(cost_queries(guardrail, metrics, "shop.eu", CANDIDATE))


def test_all_versions_in_the_namespace_count_or_those_with_the_labels() -> None:
    found = asked([])
    assert found["day"] == 'sum(increase(agent_task_cost_usd_sum{namespace=~"|shop\\\\.eu"}[1d]))'
    assert 'namespace=~"|shop\\\\.eu", artifact="sha256:aa"' in found["candidate"]
    labelled = asked([], labels={"job": 'sup"port'})
    assert labelled["tasks"] == (
        'sum(increase(agent_task_cost_usd_count{namespace=~"|shop\\\\.eu", job="sup\\"port"}[1d]))'
    )
    elsewhere = asked([], labels={"namespace": "other", "job": "support"})
    assert elsewhere["day"] == 'sum(increase(agent_task_cost_usd_sum{job="support", namespace="other"}[1d]))'


def test_the_candidate_is_named_as_the_metric_cost_says() -> None:
    cost = Metric.model_validate({"name": "cost", "version": {"label": "revision", "form": "Revision"}})
    assert 'revision="agent-0123456789"' in asked([Metric(name="errors"), cost])["candidate"]


def test_the_action_left_out_is_alert_for_it_alone() -> None:
    assert Guardrail(name="dailyCost").follows is GuardrailAction.ALERT
    assert Guardrail(name="latency").follows is GuardrailAction.ROLLBACK
    assert Guardrail(name="dailyCost").multiple == 1.5


@pytest.mark.parametrize(
    ("guardrail", "words"),
    [
        ({"name": "latency", "labels": {"job": "a"}}, "labels belong to dailyCost"),
        ({"name": "dailyCost", "query": "up", "max": 1}, "have no query"),
        ({"name": "dailyCost", "maxShare": "5%"}, "maxShare and window belong to toolErrors"),
    ],
)
def test_what_is_not_its_own_is_refused(guardrail: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Guardrail.model_validate(guardrail)
