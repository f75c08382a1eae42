"""Whatever a judge, the queue or the records do, a comparison ends in one bin and is recorded once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller.adapters.queues.memory import MemoryQueue
from controller.adapters.records import SqlRecords
from controller.adapters.shadow_ports import MAX_ATTEMPTS, Record, RecordsError
from controller.core.shadow.comparison import COMPARISONS, Bin, Case, Outcome
from controller.core.shadow.exchange import Replayed, Side
from controller.core.shadow.judgement import JudgeError, Judgement, OverBudgetError
from controller.runtime.backoff import Backoff
from controller.runtime.clock import SystemClock
from controller.shadow.comparisons import Comparison, encode
from controller.shadow.funnel import JUDGE_COST, JUDGE_TOKENS, Funnel
from controller.shadow.worker import Workers
from tests.compared import ANSWER, CASE, SUBJECT
from tests.waiting import eventually

WON = Judgement(Outcome.WIN, "Kinder.", "sha256:j", "gpt-x", 7, 0.5)

Ask = Callable[[Case], Awaitable[Judgement]]


class Scripted:
    """Answers what it is told to, one after the other; the last for good."""

    def __init__(self, *script: Judgement | Exception) -> None:
        self.script = list(script)
        self.asked: list[str] = []

    async def judge(self, case: Case) -> Judgement:
        self.asked.append(case.id)
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def artifact(self, case: Case) -> str:
        return "sha256:j"


class Stuck(Scripted):
    """Never answers."""

    async def judge(self, case: Case) -> Judgement:
        self.asked.append(case.id)
        await asyncio.Event().wait()
        raise AssertionError


class Unreliable:
    """Records that cannot be reached for a while."""

    def __init__(self, records: SqlRecords) -> None:
        self.records, self.failures = records, 3

    def has(self, comparison: str) -> bool:
        return self.records.has(comparison)

    def add(self, record: Record) -> bool:
        if self.failures:
            self.failures -= 1
            raise RecordsError("the disk is full")
        return self.records.add(record)


class World:
    def __init__(self, records: SqlRecords) -> None:
        self.records = records
        self.queue = MemoryQueue()
        self.registry = CollectorRegistry()
        self.funnel = Funnel(self.registry, SystemClock().monotonic)

    def workers(self, panel: Scripted, count: int = 1, records: object = None) -> Workers:
        return Workers(
            self.queue,
            panel,
            records or self.records,  # type: ignore[arg-type]
            self.funnel,
            clock=SystemClock(),
            count=count,
            retries=Backoff(base=0.001, cap=0.001),
        )

    async def put(self, name: str = "1", decided: Bin | None = None, case: Case = CASE) -> None:
        await self.queue.put(name, encode(Comparison(replace(case, id=name), decided)))

    def spent(self) -> tuple[float, float]:
        """Tokens and cost, which records and counters have alike."""
        [told] = self.records.spent(0.0)
        labels = {"rollout": "shop/agent", "judge": "default"}
        counted = [self.registry.get_sample_value(name, labels) for name in (JUDGE_TOKENS, JUDGE_COST)]
        assert counted == [told.tokens, told.cost]
        return told.tokens, told.cost

    def ended(self, revision: str = "agent-b") -> dict[str, float]:
        """Bins that are not 0."""
        counts = {
            each: self.registry.get_sample_value(
                COMPARISONS, {"rollout": "shop/agent", "revision": revision, "bin": each.value}
            )
            for each in Bin
        }
        return {each.value: count for each, count in counts.items() if count}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(SqlRecords(f"sqlite:///{tmp_path / 'records.db'}"))


@asynccontextmanager
async def running(workers: Workers) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(workers.run())
    try:
        yield task
    finally:
        workers.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled(world: World, panel: Scripted, count: int = 1) -> None:
    async with running(world.workers(panel, count)):
        await eventually(lambda: world.queue.waiting == 0)


async def test_a_verdict_is_recorded_with_who_gave_it_and_what_it_cost(world: World) -> None:
    await world.put()
    await settled(world, Scripted(WON))
    record = world.records.get("1")
    assert record is not None
    assert (record.bin, record.reason, record.judge_artifact) == (Bin.WIN, "Kinder.", "sha256:j")
    assert (record.model, record.tokens, record.cost, record.case) == ("gpt-x", 7, 0.5, CASE)
    assert world.ended() == {"win": 1}


async def test_every_bin_of_both_versions_begins_at_nought(world: World) -> None:
    world.funnel.know(SUBJECT)
    for revision in ("agent-a", "agent-b"):
        for each in Bin:
            labels = {"rollout": "shop/agent", "revision": revision, "bin": each.value}
            assert world.registry.get_sample_value(COMPARISONS, labels) == 0


async def test_the_noise_arm_is_counted_for_stable(world: World) -> None:
    await world.put(case=replace(CASE, side=Side.NOISE))
    await settled(world, Scripted(WON))
    assert (world.ended(), world.ended("agent-a")) == ({}, {"win": 1})


@pytest.mark.parametrize("decided", [Bin.LOSS, Bin.WIN, Bin.BOTH_ERROR])
async def test_what_a_failure_decided_is_recorded_without_asking(world: World, decided: Bin) -> None:
    panel = Scripted(WON)
    failed = replace(CASE, other=replace(ANSWER, status=503), stable=replace(ANSWER, status=0))
    await world.put(decided=decided, case=failed)
    await settled(world, panel)
    record = world.records.get("1")
    assert record is not None
    assert record.judge_artifact == ""
    assert ("HTTP 503" in record.reason) is (decided is not Bin.WIN)
    assert ("no answer" in record.reason) is (decided is not Bin.LOSS)
    assert (panel.asked, world.ended()) == ([], {decided.value: 1})


async def test_a_run_that_diverged_is_recorded_with_its_step_and_no_verdict(world: World) -> None:
    panel = Scripted(WON)
    await world.put(decided=Bin.DIVERGED, case=replace(CASE, replayed=Replayed(3, 2, 4, diverged=True)))
    await settled(world, panel)
    record = world.records.get("1")
    assert record is not None
    assert "at step 3" in record.reason
    assert record.case.replayed == Replayed(3, 2, 4, diverged=True)
    assert (panel.asked, world.ended()) == ([], {"diverged": 1})


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (OverBudgetError("1000 tokens are used up"), Bin.OVER_BUDGET),
        (JudgeError("refused"), Bin.JUDGE_ERROR),
        (ZeroDivisionError("a bug"), Bin.JUDGE_ERROR),
    ],
)
async def test_no_error_becomes_a_verdict(world: World, error: Exception, where: Bin) -> None:
    await world.put()
    panel = Scripted(error)
    await settled(world, panel)
    record = world.records.get("1")
    assert record is not None
    assert (record.bin, record.judge_artifact, len(panel.asked)) == (where, "sha256:j", 1)
    assert world.ended() == {where.value: 1}


async def test_of_a_judge_that_has_a_bug_the_log_tells_where_and_not_what_was_judged(world: World) -> None:
    await world.put()
    with capture_logs() as logs:
        await settled(world, Scripted(ZeroDivisionError("geheim")))
    [told] = logs
    assert (told["event"], told["error"], told["pair"]) == ("judge_failed", "ZeroDivisionError", "1")
    assert told["where"].rpartition(":")[0] == __file__
    assert "geheim" not in repr(logs)
    assert "exc_info" not in told


@pytest.mark.parametrize(
    "error",
    [OverBudgetError("used up", tokens=7, cost=0.5), JudgeError("refused", tokens=7, cost=0.5)],
)
async def test_what_a_judge_spent_without_a_verdict_is_recorded_and_counted(
    world: World, error: Exception
) -> None:
    await world.put()
    await settled(world, Scripted(error))
    record = world.records.get("1")
    assert record is not None
    assert (record.tokens, record.cost) == (7, 0.5)
    assert world.spent() == (7, 0.5)


async def test_what_each_attempt_spent_is_recorded_and_counted(world: World) -> None:
    await world.put()
    busy = JudgeError("busy", transient=True, tokens=10, cost=0.25)
    await settled(world, Scripted(busy, JudgeError("down", transient=True), busy, WON))
    record = world.records.get("1")
    assert record is not None
    assert (record.bin, record.tokens) == (Bin.WIN, 7)
    assert world.spent() == (27, 1.0)


async def test_what_failed_for_now_is_tried_again(world: World) -> None:
    await world.put()
    panel = Scripted(JudgeError("busy", transient=True), JudgeError("busy", transient=True), WON)
    await settled(world, panel)
    assert (len(panel.asked), world.ended()) == (3, {"win": 1})


async def test_what_was_tried_too_often_is_a_dead_letter(world: World) -> None:
    await world.put()
    panel = Scripted(JudgeError("busy", transient=True))
    await settled(world, panel)
    record = world.records.get("1")
    assert record is not None
    assert record.reason == "It was tried 5 times: busy"
    assert (len(panel.asked), world.ended()) == (MAX_ATTEMPTS, {"dead_letter": 1})


async def test_what_its_workers_died_of_is_a_dead_letter_that_nobody_touches(world: World) -> None:
    await world.put()
    for _ in range(MAX_ATTEMPTS):
        await (await world.queue.get()).again(0)
    panel = Scripted(WON)
    await settled(world, panel)
    assert (panel.asked, world.ended()) == ([], {"dead_letter": 1})


async def test_what_is_recorded_is_neither_judged_nor_counted_again(world: World) -> None:
    await world.put()
    await settled(world, Scripted(WON))
    await world.put()
    panel = Scripted(WON)
    await settled(world, panel)
    assert (panel.asked, world.ended()) == ([], {"win": 1})


async def test_what_is_no_comparison_leaves_the_queue(world: World) -> None:
    await world.queue.put("x", b"{}")
    await settled(world, Scripted(WON))
    assert world.ended() == {}


async def test_while_records_cannot_be_written_nothing_is_lost(world: World) -> None:
    await world.put()
    records = Unreliable(world.records)
    workers = world.workers(Scripted(WON), records=records)
    async with running(workers):
        await eventually(lambda: workers.problem == "the disk is full")
        await eventually(lambda: world.queue.waiting == 0)
        assert workers.problem == ""
    assert world.ended() == {"win": 1}


async def test_so_many_are_judged_at_once(world: World) -> None:
    for number in range(5):
        await world.put(str(number))
    panel = Stuck(WON)
    async with running(world.workers(panel, 3)):
        await eventually(lambda: len(panel.asked) == 3)
        pending = {"where": "judging"}
        assert world.registry.get_sample_value("agentrollout_shadow_pending", pending) == 3


async def test_stopped_it_finishes_what_it_has_and_takes_nothing_more(world: World) -> None:
    release = asyncio.Event()

    class Slow(Scripted):
        async def judge(self, case: Case) -> Judgement:
            self.asked.append(case.id)
            await release.wait()
            return WON

    await world.put("1")
    await world.put("2")
    panel = Slow(WON)
    workers = world.workers(panel)
    task = asyncio.create_task(workers.run())
    await eventually(lambda: panel.asked == ["1"])
    workers.stop()
    release.set()
    await asyncio.wait_for(task, 10)
    assert (panel.asked, world.queue.waiting, world.records.has("1")) == (["1"], 1, True)


async def test_idle_it_stops_at_once(world: World) -> None:
    workers = world.workers(Scripted(WON), 4)
    task = asyncio.create_task(workers.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    workers.stop()
    await asyncio.wait_for(task, 5)


async def test_cancelled_it_gives_back_what_it_has(world: World) -> None:
    await world.put()
    panel = Stuck(WON)
    task = asyncio.create_task(world.workers(panel).run())
    await eventually(lambda: panel.asked == ["1"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await asyncio.wait_for(world.queue.get(), 5)).attempt == 2


async def test_series_that_nothing_was_heard_of_for_a_day_are_no_longer_shown() -> None:
    now, registry = [0.0], CollectorRegistry()
    funnel = Funnel(registry, lambda: now[0])
    funnel.end(SUBJECT, Side.CANDIDATE, Bin.WIN)
    now[0] = 80_000.0
    funnel.know(replace(SUBJECT, candidate="agent-c"))
    now[0] = 90_000.0
    funnel.forget_old()

    def shown(revision: str) -> float | None:
        return registry.get_sample_value(
            COMPARISONS, {"rollout": "shop/agent", "revision": revision, "bin": "win"}
        )

    assert (shown("agent-b"), shown("agent-c"), shown("agent-a")) == (None, 0, 0)
