"""Stages that end on evidence of safety: ``advanceOn: Evidence``."""

from __future__ import annotations

from typing import Any

from controller.api.reasons import State, Verdict
from tests.virtual import Behaviour, VirtualRollout, started

STAGES = [
    {"weight": "10%", "minDuration": "1m", "minRequests": 10},
    {"weight": "50%", "minDuration": "1m", "minRequests": 10},
    {"weight": "100%", "minDuration": "1m", "minRequests": 10},
]


def in_first_stage(metrics: tuple[str, ...] = ("errors",), **kwargs: Any) -> VirtualRollout:
    analysis = {
        "interval": "15s",
        "clustering": 1,
        "advanceOn": "Evidence",
        "metrics": [{"name": name} for name in metrics],
    }
    world = started(spec={"stages": STAGES, "analysis": analysis}, **kwargs)
    world.want("http://v2")
    world.settle()
    return world


def stage(world: VirtualRollout) -> int | None:
    return world.rollout.status.stage.index if world.rollout.status.stage else None


def test_a_stage_lasts_until_safety_is_shown() -> None:
    world = in_first_stage()
    world.live(120)
    assert stage(world) == 0, "360 requests of which 4 fail are not enough"
    (errors,) = world.rollout.status.analysis
    assert errors.verdict is Verdict.INSUFFICIENT
    assert errors.safety is not None
    assert 1 < errors.safety < 20
    assert "not shown to be less than 2 times as bad" in errors.message
    world.live(1200)
    assert world.rollout.status.state is State.STABLE


def test_what_was_shown_goes_with_the_candidate_to_the_next_stages_and_to_100_percent() -> None:
    world = in_first_stage(per_second=300)
    world.live(75)
    assert stage(world) == 1
    world.live(75)
    assert stage(world) == 2
    assert world.rollout.status.analysis[0].safety is None
    world.live(75)
    assert world.rollout.status.state is State.STABLE


def test_a_version_twice_as_bad_neither_passes_nor_is_safe() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.02)}, seed=3)
    world.live(600)
    assert stage(world) in (0, None)
    assert world.rollout.status.state in (State.PROGRESSING, State.ROLLED_BACK)


def test_every_test_of_a_metric_has_to_show_it() -> None:
    world = in_first_stage(("latency",), per_second=100, behaviour={"v2": Behaviour(slow=0.04)}, seed=2)
    world.live(60)
    assert world.rollout.status.evidence is not None
    (latency,) = [m for m in world.rollout.status.evidence.metrics if m.name == "latency"]
    assert len(latency.safety) == len(latency.tests) == 2
    assert stage(world) == 0


def test_by_default_nothing_has_to_be_shown() -> None:
    world = started(spec={"stages": STAGES, "analysis": {"clustering": 1}})
    world.want("http://v2")
    world.settle()
    world.live(45)
    assert [m.safety for m in world.rollout.status.analysis] == [None, None]
    assert world.rollout.status.evidence is not None
    assert [m.safety for m in world.rollout.status.evidence.metrics] == [[], []]
