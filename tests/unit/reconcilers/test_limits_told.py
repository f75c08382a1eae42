"""Which events tell of guardrails."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

from controller.api.reasons import Reason
from controller.reconcilers.transitions import Transition, transition
from tests.talking import Reported, TalkingRollout, talking

STAGES: list[dict[str, Any]] = [
    {"weight": "20%", "minDuration": "10m", "minRequests": 10},
    {"weight": "100%"},
]


def guarded(**guardrail: Any) -> TalkingRollout:
    world = talking(
        "errors",
        stages=STAGES,
        guardrails=[{"name": "toolErrors", "window": "30s", **guardrail}],
        scrape=timedelta(seconds=15),
    )
    world.want("http://v2")
    return world


def told(world: TalkingRollout) -> list[Transition]:
    """All events so far, in order."""
    pairs = pairwise(world.plans)
    return [event for before, after in pairs if (event := transition(before.status, after))]


def test_a_limit_that_is_broken_for_a_while_is_two_events() -> None:
    world = guarded(action="Alert")
    world.live(90)
    world.reported["v2"] = Reported(tool_errors=0.5)
    world.live(90)
    world.reported["v2"] = Reported(tool_errors=0.0)
    world.live(200)
    events = [(event.reason, event.bad, event.action) for event in told(world)]
    assert events[-2:] == [(Reason.GUARDRAIL_BROKEN, True, "Compare"), (Reason.LIMITS_KEPT, False, "Compare")]
    assert Reason.AWAITING_EVIDENCE not in {reason for reason, *_ in events}


def test_a_candidate_that_is_taken_back_for_a_limit_is_one_event() -> None:
    world = guarded()
    world.reported["v2"] = Reported(tool_errors=0.5)
    world.live(200)
    *_, last = told(world)
    assert (last.reason, last.bad) == (Reason.ROLLED_BACK, True)
    assert "toolErrors is beyond the limit" in last.message
    assert Reason.GUARDRAIL_BROKEN not in {event.reason for event in told(world)}
