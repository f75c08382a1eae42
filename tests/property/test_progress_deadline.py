"""The clock of progressDeadline under any sequence of troubles, with a restart after each."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.api.reasons import Reason
from controller.api.rollout import AgentRollout
from controller.core.progress import stalled_for
from controller.core.snapshot import Problem
from tests.virtual import rollout_of, started

LONG_AND_FLAT = [{"weight": "10%", "minDuration": "1m", "minRequests": 10}, {"weight": "100%"}]
NOTICED = timedelta(seconds=15)
"""Blindness shows at the next evaluation."""


@settings(max_examples=40, deadline=None)
@given(
    troubles=st.lists(
        st.tuples(st.sampled_from(["refused", "blind", "paused"]), st.integers(1, 24)), min_size=1, max_size=8
    ),
    hours=st.integers(1, 3),
)
def test_only_time_counts_in_which_it_could_have_gone_on(troubles: list[tuple[str, int]], hours: int) -> None:
    world = started(spec={"stages": LONG_AND_FLAT, "progressDeadline": f"{hours}h"})
    assert world.rollout.spec.progress_deadline == timedelta(hours=hours)
    world.want("http://v2")
    world.settle()
    assert world.rollout.status.stage is not None
    over = world.now + timedelta(minutes=1)
    counted = timedelta(0)
    for trouble, ticks in troubles:
        world.problem = Problem(Reason.CONFLICTED, "the host is taken")
        world.blind = "Prometheus is away" if trouble == "blind" else ""
        world.change_spec(paused=trouble == "paused")
        world.settle()
        before, began = stalled_for(world.rollout.status.stalled, world.now), world.now
        world.live(5 * ticks)
        status = AgentRollout.model_validate(world.rollout.to_json()).status
        world.rollout = world.rollout.model_copy(update={"status": status})
        grown = stalled_for(status.stalled, world.now) - before
        late = max(world.now - max(began, over), timedelta(0))
        if trouble == "refused":
            assert late - NOTICED <= grown <= late
            counted += late
        elif trouble == "blind":
            assert timedelta(0) <= grown <= NOTICED
            counted += min(late, NOTICED)
        else:
            assert grown == timedelta(0)
    assert stalled_for(world.rollout.status.stalled, world.now) <= counted


def test_the_default_is_an_hour_and_holds() -> None:
    spec = rollout_of().spec
    assert (spec.progress_deadline, spec.on_progress_deadline) == (timedelta(hours=1), "Hold")
