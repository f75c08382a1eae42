"""An interval is counted at most once, however often, late or interrupted evidence is read."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.virtual import Behaviour, VirtualRollout, rollout_of

LONG = [{"weight": "50%", "minDuration": "1h", "minRequests": 10}, {"weight": "100%"}]


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 30), st.integers(0, 200), st.sampled_from(["stored", "lost", "blind", "reset"])
        ),
        min_size=1,
        max_size=25,
    )
)
def test_what_was_counted_is_never_more_than_what_the_candidate_served(
    steps: list[tuple[int, int, str]],
) -> None:
    world = VirtualRollout(rollout_of(stages=LONG), behaviour={"v2": Behaviour(errors=0.01)})
    world.settle()
    world.live(20)
    world.want("http://v2")
    world.settle()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    counter = world._labels("total", {"cluster": f"shop/agent/{candidate.revision}"})
    served = 0
    for seconds, requests, fate in steps:
        world.now += timedelta(seconds=seconds)
        if fate == "reset":
            for labels in list(world.counters):
                world.counters[labels] = 0
        before = world.counters[counter]
        world.serve(requests)
        served += world.counters[counter] - before
        world.take_samples()
        world.blind = "Prometheus is away" if fate == "blind" else ""
        stored = world.rollout
        world.step()
        if fate == "lost":
            world.rollout = stored
        if world.rollout.status.candidate is None:
            return
    counted = world.rollout.status.analysis[0].candidate.total if world.rollout.status.analysis else 0
    assert counted <= served


@settings(max_examples=30, deadline=None)
@given(cuts=st.sets(st.integers(1, 19)))
def test_losing_writes_in_between_loses_no_interval_and_counts_none_twice(cuts: set[int]) -> None:
    """The next stored evaluation covers what a lost one covered."""
    world = VirtualRollout(rollout_of(stages=LONG), seed=7)
    world.settle()
    world.live(20)
    world.want("http://v2")
    world.settle()
    world.take_samples()
    programmed = world.counters.copy()
    for tick in range(1, 21):
        world.now += timedelta(seconds=15)
        world.serve(100)
        world.take_samples()
        stored = world.rollout
        world.step()
        if tick in cuts:
            world.rollout = stored
    candidate = world.rollout.status.candidate
    assert candidate is not None
    total = world._labels("total", {"cluster": f"shop/agent/{candidate.revision}"})
    assert world.rollout.status.analysis[0].candidate.total == world.counters[total] - programmed[total]
