"""spec.paused: nothing rises, everything that protects users goes on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controller.api.reasons import ConditionType, Reason, State, Verdict
from tests.unit.test_plan import in_first_stage, message, reason
from tests.virtual import Behaviour, VirtualRollout, started

LATENCY = {"interval": "15s", "clustering": 1, "metrics": [{"name": "latency"}]}


def paused(world: VirtualRollout, *, is_paused: bool = True) -> VirtualRollout:
    world.change_spec(paused=is_paused)
    return world


def state(world: VirtualRollout) -> State:
    return world.rollout.status.state


def test_a_stage_that_is_over_and_passed_does_not_rise() -> None:
    world = paused(in_first_stage())
    world.live(300)
    status = world.rollout.status
    assert (status.weight, status.verdict, status.state) == (100_000, Verdict.PASS, State.PAUSED)
    assert reason(world) is Reason.PAUSED
    assert "stays at 10%, watched and not raised, until spec.paused is taken away" in message(world)
    assert status.analysis[0].candidate.total > 500, "evidence is still read"


def test_the_last_stage_is_not_promoted() -> None:
    world = in_first_stage()
    world.live(150)
    assert state(world) is State.BAKING
    paused(world).live(300)
    assert state(world) is State.PAUSED
    assert world.rollout.status.weight == 1_000_000


def test_a_failing_version_is_taken_back_all_the_same() -> None:
    world = paused(in_first_stage(behaviour={"v2": Behaviour(errors=0.3)}))
    world.live(60)
    assert state(world) is State.ROLLED_BACK
    assert reason(world, ConditionType.HEALTHY) is Reason.ROLLED_BACK


def test_a_candidate_can_be_cancelled_and_replaced() -> None:
    world = paused(in_first_stage())
    world.want("http://v3")
    world.settle()
    assert world.rollout.status.weight == 0
    assert state(world) is State.PAUSED
    world.want("http://v1")
    world.settle()
    assert state(world) is State.STABLE


def test_no_longer_paused_it_goes_on_at_once_if_the_stages_time_went_by_meanwhile() -> None:
    world = paused(in_first_stage())
    world.live(300)
    paused(world, is_paused=False)
    world.live(15)
    assert world.rollout.status.weight == 500_000
    world.live(200)
    assert state(world) is State.STABLE


@pytest.mark.parametrize("spec", [{}, {"analysis": LATENCY}])
def test_a_new_version_is_accepted_and_gets_no_traffic(spec: dict[str, Any]) -> None:
    world = paused(started(spec=spec))
    world.want("http://v2")
    decided = world.settle()
    world.live(120)
    status = world.rollout.status
    assert (status.weight, status.stage, status.state) == (0, None, State.PAUSED)
    assert "gets no traffic until spec.paused is taken away" in message(world)
    assert decided.requeue_after is None, "and nothing is read for a first request that does not come"
    paused(world, is_paused=False)
    world.live(15)
    assert world.rollout.status.weight == 100_000


def test_stables_past_is_read_when_the_pause_is_over() -> None:
    world = paused(started(spec={"analysis": LATENCY}))
    world.want("http://v2")
    world.settle()
    world.behaviour["v1"] = Behaviour(fast=0.0, slow=0.9)
    world.live(150)
    paused(world, is_paused=False)
    world.settle()
    evidence = world.rollout.status.evidence
    assert evidence is not None
    assert evidence.metrics[0].edges == [1000.0, 1000.0]


def test_without_a_candidate_there_is_nothing_to_pause() -> None:
    world = paused(started())
    world.live(30)
    assert state(world) is State.STABLE
    assert reason(world) is Reason.IDLE


def test_a_revision_that_was_deleted_by_hand_is_made_again() -> None:
    world = paused(in_first_stage())
    candidate = world.rollout.status.candidate
    assert candidate is not None
    del world.revisions[candidate.revision]
    world.settle()
    assert candidate.revision in world.revisions


def test_blindness_is_a_verdict_while_paused() -> None:
    world = paused(in_first_stage())
    world.live(30)
    world.blind = "Prometheus is away"
    world.now += timedelta(seconds=15)
    world.settle()
    assert state(world) is State.PAUSED
    assert world.rollout.status.verdict is Verdict.ERROR
