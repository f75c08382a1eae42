"""Latency in the plan: edges from before the candidate's first request, then counts like any other metric."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.core.tally import edges_above
from tests.virtual import START, Behaviour, VirtualRollout, rollout_of, started

LATENCY = {"interval": "15s", "clustering": 1, "metrics": [{"name": "errors"}, {"name": "latency"}]}


def message(world: VirtualRollout) -> str:
    condition = world.rollout.status.condition(ConditionType.PROGRESSING)
    assert condition is not None
    return condition.message


def with_latency(**kwargs: Any) -> VirtualRollout:
    return started(spec={"analysis": LATENCY}, **kwargs)


def test_the_edges_are_stables_p50_and_p95_from_before_the_candidates_first_request() -> None:
    world = with_latency()
    world.want("http://v2")
    world.settle()
    evidence = world.rollout.status.evidence
    assert evidence is not None
    assert [metric.edges for metric in evidence.metrics if metric.name == "latency"] == [[10.0, 100.0]]
    assert world.rollout.status.stage is not None


def test_the_edges_stay_whatever_happens_later() -> None:
    world = with_latency(behaviour={"v1": Behaviour(slow=0.02)})
    world.want("http://v2")
    world.settle()
    world.behaviour["v1"] = Behaviour(slow=0.5)
    world.live(30)
    evidence = world.rollout.status.evidence
    assert evidence is not None
    assert [metric.edges for metric in evidence.metrics if metric.name == "latency"] == [[10.0, 100.0]]


def test_without_traffic_on_stable_the_first_stage_waits() -> None:
    world = with_latency(per_second=0.2)
    world.want("http://v2")
    world.live(30)
    assert world.rollout.status.stage is None
    assert world.rollout.status.state is State.PREPARING
    assert "answered 50 requests" in message(world)


def test_while_blind_the_first_stage_waits_and_says_why() -> None:
    world = with_latency()
    world.blind = "Prometheus is away"
    world.want("http://v2")
    world.settle()
    assert world.rollout.status.stage is None
    assert world.rollout.status.state is State.BLIND
    assert "Prometheus is away" in message(world)
    world.blind = ""
    world.live(20)
    assert world.rollout.status.stage is not None


def test_while_the_first_stage_waits_evidence_is_read_once_an_interval() -> None:
    world = with_latency(per_second=0.0)
    world.want("http://v2")
    decided = world.settle()
    assert decided.rule == "baseline"
    assert decided.requeue_after == timedelta(seconds=15)
    world.now += timedelta(seconds=5)
    assert world.step().rule == "baseline"
    assert "0 so far" in message(world)


def test_a_refused_spec_does_not_make_the_plan_run_in_circles() -> None:
    from controller.core.snapshot import Problem

    world = with_latency(per_second=0.0)
    world.want("http://v2")
    world.step()
    world.problem = Problem(Reason.CONFLICTED, "the host is taken")
    assert world.settle().requeue_after == timedelta(seconds=15)


def test_a_slow_version_is_taken_back_on_latency() -> None:
    world = with_latency(behaviour={"v2": Behaviour(slow=0.5)})
    world.want("http://v2")
    world.live(90)
    status = world.rollout.status
    assert status.state is State.ROLLED_BACK
    assert status.last_rollback is not None
    assert status.last_rollback.metric == "latency"


def test_requests_that_were_lost_count_as_slow() -> None:
    world = with_latency()
    world.want("http://v2")
    world.settle()
    world.live(20)
    candidate = world.rollout.status.candidate
    assert candidate is not None
    for _ in range(3):
        world._add({"cluster": f"shop/agent/{candidate.revision}"}, "lost", 20)
        world.live(15)
    status = world.rollout.status
    assert status.last_rollback is not None
    assert status.last_rollback.metric == "latency"


def test_a_good_version_passes_with_both_metrics() -> None:
    world = with_latency()
    world.want("http://v2")
    world.live(320)
    assert world.rollout.status.state is State.STABLE


def test_samples_without_a_number_hold_the_first_stage() -> None:
    world = with_latency()
    for labels, taken in world.samples.items():
        if dict(labels)["__name__"] == "bucket":
            taken[-1] = (taken[-1][0], float("inf"))
    world.want("http://v2")
    world.settle()
    assert world.rollout.status.verdict is Verdict.ERROR
    assert "bucket of router-0 is inf" in message(world)


@pytest.mark.parametrize(
    ("quantile", "edge"), [(0.5, 10.0), (0.8, 10.0), (0.81, 100.0), (0.97, 1000.0), (0.99999, 1000.0)]
)
def test_the_edge_is_the_nearest_above_the_quantile(quantile: float, edge: float) -> None:
    cumulative = {10.0: 80, 100.0: 95, 1000.0: 99, float("inf"): 100}
    assert edges_above(cumulative, (quantile,)) == [edge]


def test_a_rollout_before_its_first_artifact_waits_for_no_evidence() -> None:
    world = VirtualRollout(rollout_of(analysis=LATENCY))
    assert world.now == START
    assert world.settle().requeue_after is None


def in_the_bake(behaviour: Behaviour) -> VirtualRollout:
    world = with_latency()
    world.want("http://v2")
    world.settle()
    while world.rollout.status.state is not State.BAKING:
        world.live(5)
    world.behaviour["v2"] = behaviour
    world.live(50)
    return world


def test_during_the_bake_a_moving_median_is_no_harm() -> None:
    """Nobody serves beside the candidate: more load on it moves the median, and says nothing about the version."""
    world = in_the_bake(Behaviour(fast=0.1))
    assert world.rollout.status.last_rollback is None


def test_during_the_bake_a_tail_that_more_than_doubles_is_harm() -> None:
    world = in_the_bake(Behaviour(slow=0.4))
    assert world.rollout.status.last_rollback is not None
    assert world.rollout.status.last_rollback.metric == "latency"


def test_during_the_bake_errors_that_less_than_double_are_no_harm() -> None:
    world = in_the_bake(Behaviour(errors=0.015))
    assert world.rollout.status.last_rollback is None


def test_an_empty_histogram_has_no_edges() -> None:
    assert edges_above({}, (0.5,)) == []
