"""An interval is counted at most once, however often, late or interrupted evidence is read."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.saving import is_news, is_old
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
    counter = world.labels("total", {"cluster": f"shop/agent/{candidate.revision}"})
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
    total = world.labels("total", {"cluster": f"shop/agent/{candidate.revision}"})
    assert world.rollout.status.analysis[0].candidate.total == world.counters[total] - programmed[total]


@settings(max_examples=40, deadline=None)
@given(
    fates=st.lists(
        st.sampled_from(["goes on", "goes on", "crashes", "is labelled"]), min_size=8, max_size=40
    ),
    seed=st.integers(0, 100),
)
def test_between_writes_evidence_is_in_memory_and_losing_that_loses_and_doubles_nothing(
    fates: list[str], seed: int
) -> None:
    """A crash takes all that was not stored; any change of the object voids it as well."""
    world = VirtualRollout(rollout_of(stages=LONG), seed=seed)
    world.settle()
    world.live(20)
    world.want("http://v2")
    world.settle()
    world.take_samples()
    programmed = world.counters.copy()
    stored, writes = world.rollout, 0
    for fate in fates:
        world.now += timedelta(seconds=15)
        world.serve(100)
        world.take_samples()
        if fate != "goes on":
            world.rollout = stored
        decided = world.step()
        if is_news(stored.status, decided.status) or is_old(stored.status, world.now):
            stored, writes = world.rollout, writes + 1
    assert writes <= 3 + len(fates) / 4
    candidate = world.rollout.status.candidate
    assert candidate is not None
    total = world.labels("total", {"cluster": f"shop/agent/{candidate.revision}"})
    assert world.rollout.status.analysis[0].candidate.total == world.counters[total] - programmed[total]
