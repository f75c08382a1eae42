"""A judge is asked only while it is fit, and Prometheus is told how it did."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from controller.adapters.judges.loading import JudgeHandle, load_judges
from controller.core.agents import FIT as JUDGE_FIT
from controller.core.agents import MEASURED as JUDGE_ACCURACY
from controller.core.shadow.health import Health
from controller.core.shadow.judgement import JudgeError
from controller.runtime.testing import FakeClock
from controller.shadow.panel import TRY_AGAIN_SECONDS, JudgePanel
from tests.compared import CASE, SUBJECT

FIT = Health("sha256:j", 0.9, 1.0, 1.0, 60, 40, (), "", transient=False)
UNFIT = replace(FIT, accuracy=0.5, problem="accuracy is 50%, below 85%")
DOWN = replace(UNFIT, transient=True)


class World:
    def __init__(self, *healths: Health) -> None:
        self.registry, self.clock = CollectorRegistry(), FakeClock()
        self.healths = list(healths)
        self.checks = 0
        self.panel = JudgePanel(load_judges(None), self.check, self.registry, self.clock)

    async def check(self, handle: JudgeHandle) -> Health:
        self.checks += 1
        return self.healths.pop(0)

    def shown(self, name: str = JUDGE_FIT, judge: str = "default", **more: str) -> float | None:
        artifact = load_judges(None)["default"].judge.artifact_id if judge == "default" else ""
        labels = {
            "rollout": "shop/agent",
            "revision": "agent-b",
            "judge": judge,
            "artifact": artifact,
            **more,
        }
        return self.registry.get_sample_value(name, labels)


async def test_a_fit_judge_judges_and_is_shown_as_fit() -> None:
    world = World(FIT)
    await world.panel.check_all()
    assert (await world.panel.judge(CASE)).outcome is not None
    assert world.shown() == 1
    assert world.shown(JUDGE_ACCURACY, measure="accuracy") == 0.9


async def test_an_unfit_judge_is_not_asked_and_says_why() -> None:
    world = World(UNFIT)
    world.panel.know(SUBJECT)
    assert world.shown() is None
    await world.panel.check_all()
    assert (world.shown(), world.shown(JUDGE_ACCURACY, measure="accuracy")) == (0, 0.5)
    with pytest.raises(JudgeError, match="The judge default is not fit: accuracy is 50%, below 85%"):
        await world.panel.judge(CASE)


async def test_a_judge_that_nobody_has_is_an_error_and_not_fit() -> None:
    world = World()
    case = replace(CASE, subject=replace(SUBJECT, judge="strict"))
    with pytest.raises(JudgeError, match="no judge 'strict'"):
        await world.panel.judge(case)
    assert (world.shown(judge="strict"), world.panel.artifact(case)) == (0, "")


async def test_a_case_waits_until_its_judge_was_checked() -> None:
    world = World(FIT)
    judging = asyncio.create_task(world.panel.judge(CASE))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not judging.done()
    await world.panel.check_all()
    assert (await judging).judge_artifact


async def test_a_judge_that_was_out_of_reach_is_checked_again_soon_and_a_bad_one_is_not() -> None:
    world = World(DOWN, FIT)
    world.panel.know(SUBJECT)
    running = asyncio.create_task(world.panel.run())
    for _ in range(3):
        for _ in range(5):
            await asyncio.sleep(0)
        world.clock.advance(TRY_AGAIN_SECONDS)
    for _ in range(5):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (world.checks, world.shown()) == (2, 1)


async def test_what_nothing_was_heard_of_is_no_longer_shown() -> None:
    world = World(FIT)
    await world.panel.check_all()
    world.panel.know(SUBJECT)
    world.panel.forget_old(10.0)
    assert world.shown() == 1
    world.clock.advance(11.0)
    world.panel.forget_old(10.0)
    assert (world.shown(), world.shown(JUDGE_ACCURACY, measure="accuracy")) == (None, None)
