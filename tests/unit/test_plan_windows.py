"""spec.windows: outside of them nothing rises, and everything that protects users goes on."""

from __future__ import annotations

from datetime import timedelta

from controller.api.reasons import ConditionType, Reason, State
from controller.core.snapshot import Opening
from tests.unit.test_plan import in_first_stage, message, reason
from tests.virtual import START, Behaviour, started

CLOSED = Opening(is_open=False, opens_at=START + timedelta(hours=1))
OPEN = Opening(is_open=True)


def test_outside_of_windows_nothing_rises_and_the_message_says_until_when() -> None:
    world = in_first_stage(spec={"progressDeadline": "1m"})
    world.window = CLOSED
    world.live(600)
    assert (world.rollout.status.weight, reason(world)) == (100_000, Reason.OUTSIDE_WINDOW)
    assert message(world) == (
        "stage 50% waits for a window of spec.windows: the next one opens at 2026-01-01T01:00:00.000Z"
    )
    assert reason(world, ConditionType.HEALTHY) is Reason.IN_PROGRESS, "the deadline stops"
    world.window = OPEN
    world.live(300)
    assert world.rollout.status.state is State.STABLE


def test_a_window_that_never_opens_is_told() -> None:
    world = in_first_stage()
    world.window = Opening(is_open=False)
    world.live(200)
    assert message(world).endswith("none opens again")


def test_the_first_stage_waits_too_and_is_looked_at_when_the_window_opens() -> None:
    world = started()
    world.window = CLOSED
    world.want("http://v2")
    decided = world.settle()
    assert (world.rollout.status.stage, reason(world)) == (None, Reason.OUTSIDE_WINDOW)
    assert CLOSED.opens_at is not None
    assert decided.requeue_after == CLOSED.opens_at - world.now
    world.now, world.window = CLOSED.opens_at, OPEN
    world.settle()
    assert world.rollout.status.weight == 100_000


def test_taking_back_does_not_wait_for_a_window() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.4)})
    world.window = CLOSED
    world.live(60)
    assert world.rollout.status.state is State.ROLLED_BACK


def test_becoming_stable_after_the_last_stage_raises_nothing() -> None:
    world = in_first_stage()
    world.live(150)
    assert world.rollout.status.weight == 1_000_000
    world.window = CLOSED
    world.live(200)
    assert world.rollout.status.state is State.STABLE


def test_a_window_that_is_no_longer_in_the_spec_is_not_waited_for() -> None:
    world = in_first_stage()
    world.window = CLOSED
    world.live(100)
    assert reason(world) is Reason.OUTSIDE_WINDOW
    world.window = None
    world.live(300)
    assert world.rollout.status.state is State.STABLE
