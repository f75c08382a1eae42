"""The guardrail dailyCost on a real Prometheus that has the history of several agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from controller.api.reasons import Reason, Verdict
from devkit.prometheus import Prometheus
from tests.integration.test_guardrails import Recorded, delivered, evaluated, stored
from tests.talking import TalkingRollout

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True)
class History:
    """What one agent reported; stable has cost 100 dollars a day.

    Attributes:
        days: How far back it goes.
        today: What the candidate's tasks cost in the last hours, beside stable's.
        tasks: Tasks of a day.
        without: A day without reports, counted backwards.
    """

    days: float = 9
    today: float = 30
    tasks: int = 1000
    without: int | None = None

    def recorded(self, world: TalkingRollout, agent: str) -> Recorded:
        status, now = world.rollout.status, world.now.timestamp()
        assert status.stable
        assert status.candidate
        found: Recorded = {}

        def report(artifact: str, hours: float, dollars: float, tasks: float) -> None:
            for name, whole in (("sum", dollars), ("count", tasks)):
                labels = {"__name__": f"agent_task_cost_usd_{name}", "agent": agent, "artifact": artifact}
                found[tuple(labels.items())] = [
                    (now - (hours - passed) * HOUR, 7 + whole * passed / hours)
                    for passed in range(round(hours) + 1)
                    if self.without is None or (hours - passed) // 24 != self.without
                ]

        report(status.stable.artifact_id, 24 * self.days, 100 * self.days, self.tasks * self.days)
        report(status.candidate.artifact_id, 6, self.today, self.tasks / 100)
        return found


HISTORIES = {
    "usual": History(),
    "dear": History(today=80),
    "young": History(days=6.5, today=80),
    "week-old": History(days=7.5, today=80),
    "broken-off": History(today=80, without=3),
    "seldom": History(today=80, tasks=10),
}


async def test_it_fires_when_the_candidate_makes_the_day_too_dear_and_only_then(
    prometheus_factory: Callable[..., Prometheus], stack: ExitStack
) -> None:
    worlds = {name: delivered({"name": "dailyCost", "labels": {"agent": name}}) for name in HISTORIES}
    everything: Recorded = {}
    # Prometheus takes nothing older than what it has: the longest history comes first.
    for name, history in sorted(HISTORIES.items(), key=lambda each: -each[1].days):
        worlds[name].want("http://v2")
        worlds[name].live(65)
        everything |= history.recorded(worlds[name], name)
    prometheus = await asyncio.to_thread(stored, everything, stack, prometheus_factory)
    said = {}
    for name, world in worlds.items():
        plans = await evaluated(world, world.rollout, prometheus)
        (said[name],) = plans[-1].status.guardrails
        assert plans[-1].status.last_rollback is None
    assert {name: (each.verdict, each.reason) for name, each in said.items()} == {
        "usual": (Verdict.PASS, None),
        "dear": (Verdict.FAIL, Reason.GUARDRAIL_BROKEN),
        "young": (Verdict.INSUFFICIENT, None),
        "week-old": (Verdict.INSUFFICIENT, None),
        "broken-off": (Verdict.INSUFFICIENT, None),
        "seldom": (Verdict.INSUFFICIENT, None),
    }, said
    assert "10 of 50 tasks" in said["seldom"].message
    assert "no 7 full days" in said["young"].message
