"""Many whole rollouts in virtual time, with fixed seeds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.api.reasons import State
from tests.virtual import Behaviour, VirtualRollout, rollout_of

STAGES = [
    {"weight": weight, "minDuration": "5m", "minRequests": 100} for weight in ("1%", "10%", "50%", "100%")
]
SUM_OF_DURATIONS = timedelta(minutes=20)


def deliver(
    seed: int,
    clustering: int,
    errors: float,
    deadline: timedelta,
    advance_on: str = "Time",
    per_second: float = 40,
) -> tuple[State, timedelta]:
    """One rollout of a version that is as good as stable; how it ended and how long it took."""
    analysis = {
        "interval": "15s",
        "clustering": clustering,
        "advanceOn": advance_on,
        "metrics": [{"name": "errors"}, {"name": "latency"}],
    }
    good = Behaviour(errors=errors)
    world = VirtualRollout(
        rollout_of(stages=STAGES, analysis=analysis),
        per_second=per_second,
        scrape=timedelta(seconds=15),
        seed=seed,
        behaviour={"v1": good, "v2": good},
    )
    world.settle()
    world.live(120)
    world.want("http://v2")
    began = world.now
    world.settle()
    while world.now < began + deadline and world.rollout.status.candidate is not None:
        world.live(15)
    return world.rollout.status.state, world.now - began


@pytest.mark.parametrize(("clustering", "errors"), [(1, 0.0), (1, 0.02), (10, 0.02)])
def test_good_releases_are_through_within_one_and_a_half_times_their_durations(
    clustering: int, errors: float
) -> None:
    endings = [deliver(seed, clustering, errors, 1.5 * SUM_OF_DURATIONS)[0] for seed in range(25)]
    assert endings.count(State.STABLE) >= 0.95 * len(endings)


def test_good_releases_that_have_to_be_shown_safe_are_through_as_soon_given_the_traffic() -> None:
    deadline = 1.5 * SUM_OF_DURATIONS
    endings = [deliver(seed, 1, 0.02, deadline, "Evidence", per_second=400)[0] for seed in range(25)]
    assert endings.count(State.STABLE) >= 0.95 * len(endings)


def test_bad_releases_never_get_through() -> None:
    for seed in range(10):
        world = VirtualRollout(
            rollout_of(stages=STAGES),
            per_second=40,
            scrape=timedelta(seconds=15),
            seed=seed,
            behaviour={"v2": Behaviour(errors=0.2)},
        )
        world.settle()
        world.live(60)
        world.want("http://v2")
        world.settle()
        world.live(SUM_OF_DURATIONS.total_seconds())
        assert world.rollout.status.state is State.ROLLED_BACK
        assert world.rollout.status.last_rollback is not None
        assert world.rollout.status.last_rollback.stage in ("1%", "10%")
