"""From halves to the queue: each comparison ends in one bin, and nothing personal goes further."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller.adapters.queues.memory import MemoryQueue
from controller.adapters.records import SqlRecords
from controller.core.shadow.comparison import COMPARISONS, Bin, Case, Outcome
from controller.core.shadow.exchange import Answer, Exchange, Question, Side
from controller.core.shadow.judgement import JudgeError, Judgement
from controller.core.shadow.pairing import Pairing
from controller.core.shadow.recognisers import Found, Recogniser, built_in
from controller.runtime.clock import SystemClock
from controller.runtime.testing import FakeClock
from controller.shadow import intake as module
from controller.shadow.comparisons import decode
from controller.shadow.funnel import Funnel
from controller.shadow.intake import Intake
from controller.shadow.worker import Workers
from tests.compared import SUBJECT
from tests.planted import ALL, IDENTIFIERS
from tests.waiting import eventually

JSON = (("content-type", "application/json"),)


def half(
    pair: str, side: Side, body: str = "{}", asked: str = "{}", *, status: int = 200, path: str = "/"
) -> Exchange:
    answer = Answer(status, JSON, body.encode(), complete=True, seconds=0.1)
    return Exchange(pair, side, SUBJECT, Question("POST", path, JSON, asked.encode()), answer)


class World:
    def __init__(self, recognise: Recogniser = built_in, queue: MemoryQueue | None = None) -> None:
        self.registry = CollectorRegistry()
        self.funnel = Funnel(self.registry, SystemClock().monotonic)
        self.queue = queue or MemoryQueue()
        self.clock = FakeClock()
        self.intake = Intake(Pairing(), recognise, self.queue, self.funnel, self.clock)

    def take(self, name: str, **stable: int) -> None:
        self.intake.take(half(name, Side.STABLE, **stable))  # type: ignore[arg-type]
        self.intake.take(half(name, Side.CANDIDATE))

    def ended(self) -> dict[str, float]:
        values = {
            each.value: self.registry.get_sample_value(
                COMPARISONS, {"rollout": "shop/agent", "revision": "agent-b", "bin": each.value}
            )
            for each in Bin
        }
        return {name: value for name, value in values.items() if value}

    def pending(self, where: str) -> float | None:
        return self.registry.get_sample_value("agentrollout_shadow_pending", {"where": where})


async def test_a_pair_goes_into_the_queue() -> None:
    world = World()
    world.take("1")
    await world.intake.finish(5)
    comparison = decode((await world.queue.get()).payload)
    assert (comparison.case.id, comparison.decided, world.ended()) == ("1", None, {})


async def test_what_a_failure_decides_goes_the_same_way() -> None:
    world = World()
    world.take("1", status=503)
    await world.intake.finish(5)
    assert decode((await world.queue.get()).payload).decided is Bin.WIN


async def test_a_half_whose_other_never_arrives_is_unpaired() -> None:
    world = World()
    world.intake.take(half("1", Side.STABLE))
    assert world.pending("pairing") == 1
    running = asyncio.create_task(world.intake.run())
    for _ in range(100):
        await asyncio.sleep(0)
        world.clock.advance(1.0)
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (world.ended(), world.pending("pairing")) == ({"unpaired": 1}, 0)


async def test_a_redactor_that_raises_keeps_nothing_and_tells_nothing() -> None:
    def raising(text: str) -> Iterator[Found]:
        raise ValueError(f"cannot read {text}")

    world = World(raising)
    with capture_logs() as logs:
        world.intake.take(half("1", Side.STABLE, '"geheim"', '"geheim"'))
        world.intake.take(half("1", Side.CANDIDATE, '"geheim"', '"geheim"'))
        await world.intake.finish(5)
    assert (world.ended(), world.queue.waiting) == ({"redaction_failed": 1}, 0)
    assert logs[0]["pair"] == "1"
    assert logs[0]["error"] == "ValueError"
    assert "geheim" not in str(logs)


async def test_captures_go_on_while_a_pair_is_redacted() -> None:
    others = threading.Event()

    def slow(text: str) -> Iterator[Found]:
        assert others.wait(10), "nothing else was done meanwhile"
        yield from built_in(text)

    world = World(slow)
    for name in ("1", "2", "3"):
        world.take(name)
        await asyncio.sleep(0)
    assert world.pending("handing_over") == 3
    others.set()
    await world.intake.finish(5)
    assert (world.queue.waiting, world.pending("handing_over"), world.ended()) == (3, 0, {})


async def test_bodies_that_wait_for_redaction_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HANDING_OVER_BYTES", 10)
    world = World()
    world.take("1")
    world.take("2")
    await world.intake.finish(5)
    world.take("3")
    await world.intake.finish(5)
    assert (world.ended(), world.queue.waiting) == ({"shed": 1}, 2)


async def test_a_full_queue_sheds() -> None:
    world = World(queue=MemoryQueue(max_messages=1))
    world.take("1")
    world.take("2")
    await world.intake.finish(5)
    assert (world.ended(), world.queue.waiting) == ({"shed": 1}, 1)


async def test_what_the_queue_can_never_take_is_too_large() -> None:
    world = World(queue=MemoryQueue(max_bytes=10))
    world.take("1")
    await world.intake.finish(5)
    assert world.ended() == {"too_large": 1}


class Stuck(MemoryQueue):
    async def put(self, key: str, payload: bytes) -> None:
        await asyncio.Event().wait()


async def test_what_a_stuck_queue_does_not_confirm_is_bounded_and_told_as_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_HANDING_OVER", 2)
    world = World(queue=Stuck())
    for number in range(3):
        world.take(str(number))
    await asyncio.sleep(0)
    assert (world.ended(), world.pending("handing_over")) == ({"shed": 1}, 2)
    world.intake.take(half("alone", Side.STABLE))
    assert await world.intake.finish(0.01) == 3
    assert await world.intake.finish(0.01) == 1


def content(folder: Path) -> str:
    return b"".join(path.read_bytes() for path in folder.iterdir()).decode(errors="replace")


class Recording:
    """A judge that keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Case] = []

    async def judge(self, case: Case) -> Judgement:
        self.asked.append(case)
        if len(self.asked) % 3 == 0:
            raise JudgeError(f"I cannot compare {case.other.text} with {case.stable.text}")
        if len(self.asked) % 3 == 1:
            raise ZeroDivisionError(case.question)
        return Judgement(Outcome.LOSS, f"{case.other.text} is worse", "sha256:j")

    def artifact(self, case: Case) -> str:
        return "sha256:j"


async def test_none_of_the_planted_identifiers_is_stored_logged_or_judged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.reset_defaults()
    caplog.set_level(logging.DEBUG)
    world, judge = World(), Recording()
    records = SqlRecords(f"sqlite:///{tmp_path / 'records.db'}")
    workers = Workers(world.queue, judge, records, world.funnel, clock=SystemClock(), count=4)
    for number, (_, value, sentence) in enumerate(ALL):
        asked = json.dumps({"messages": [{"role": "user", "content": sentence}]})
        said = json.dumps({"call": {"arguments": json.dumps({"note": f"{sentence} {number}"})}})
        status = 503 if number % 10 == 0 else 200
        for side in (Side.STABLE, Side.CANDIDATE):
            world.intake.take(
                half(str(number), side, said, asked, status=status if side is Side.STABLE else 200)
            )
        assert value  # the pair is on its way
    await world.intake.finish(10)
    running = asyncio.create_task(workers.run())
    await eventually(lambda: world.queue.waiting == 0, 60)
    workers.stop()
    await running
    records.close()
    stored = content(tmp_path)
    printed = capsys.readouterr()
    logged = caplog.text + printed.out + printed.err
    judged = "".join(f"{case.path}{case.question}{case.stable.text}{case.other.text}" for case in judge.asked)
    assert len(ALL) == sum(world.ended().values()) >= 100
    for kind, values in IDENTIFIERS.items():
        for value in values:
            for spelt in (value, json.dumps(value)[1:-1], json.dumps(json.dumps(value))[3:-3]):
                assert spelt not in judged, kind
                assert spelt not in stored, kind
                assert spelt not in logged, kind
    assert "<EMAIL_1>" in stored
    assert "judge_failed" in logged


async def test_the_funnel_adds_up_whatever_happens(tmp_path: Path) -> None:
    """Halves missing, twice and in any order, failures, a full queue, a judge that errs: no comparison is lost or counted twice."""
    world, judge = World(queue=MemoryQueue(max_messages=20)), Recording()
    records = SqlRecords(f"sqlite:///{tmp_path / 'records.db'}")
    workers = Workers(world.queue, judge, records, world.funnel, clock=SystemClock(), count=4)
    halves = []
    for number in range(120):
        name = str(number)
        if number % 11:
            halves.append(half(name, Side.STABLE, status=500 if number % 13 == 0 else 200))
        if number % 7:
            halves += [half(name, Side.CANDIDATE, status=500 if number % 17 == 0 else 200)] * (1 + number % 2)
        if number % 5 == 0 and number % 11 and number % 7:
            halves.append(replace(half(name, Side.STABLE), oversized=True))
    running: asyncio.Task[None] | None = None
    for number, one in enumerate(halves[::-1]):
        world.intake.take(one)
        await asyncio.sleep(0)
        if number == len(halves) // 2:
            await world.intake.finish(10)  # the queue is full
            running = asyncio.create_task(workers.run())
    assert running is not None
    for ended in world.intake._pairing.expire(1e9):
        world.funnel.end(ended.subject, ended.side, ended.bin)
    await world.intake.finish(10)
    await eventually(lambda: world.queue.waiting == 0, 60)
    workers.stop()
    await running
    records.close()
    known = {one.pair for one in halves}
    assert sum(world.ended().values()) == len(known)
    assert {"unpaired", "shed", "loss", "win", "judge_error"} <= set(world.ended())
