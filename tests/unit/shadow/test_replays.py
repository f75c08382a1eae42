"""Runs that are driven again, in bounded number; where it does not work, the mirrored answer is compared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller.adapters.queues.memory import MemoryQueue
from controller.adapters.shadow_ports import TooLargeError, UnreachableError
from controller.core.shadow.comparison import Bin
from controller.core.shadow.exchange import Answer, Exchange, Pair, Question, Replayed, Side, Target
from controller.core.shadow.pairing import Pairing
from controller.core.shadow.recognisers import built_in
from controller.core.shadow.replay import MAX_BODY_BYTES
from controller.runtime.testing import FakeClock
from controller.shadow import replays as module
from controller.shadow.comparisons import Comparison, decode
from controller.shadow.funnel import DIVERGED_STEP, FORGOTTEN_AFTER_SECONDS, PENDING, REPLAYS, Funnel
from controller.shadow.intake import LOADED, MAX_HANDING_OVER, Intake
from controller.shadow.replays import Replays, TooLargeRunError
from tests.compared import SUBJECT
from tests.unit.shadow.runs import TARGET, answer, asked, calls, pair
from tests.waiting import eventually

FIND, TRACK, OTHER = ("find", "{}"), ("track", "{}"), ("refund", '{"to": "jo.doe@example.com"}')
RUN = pair(asked((FIND,), (TRACK,)))


class Scripted:
    """Agents that answer one after the other what they are told, and raise what is an error."""

    def __init__(self, *script: Answer | Exception) -> None:
        self._script = list(script)
        self.asked: list[tuple[Target, str, Question]] = []

    async def ask(self, target: Target, artifact: str, question: Question) -> Answer:
        self.asked.append((target, artifact, question))
        found = self._script.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def close(self) -> None: ...


class Hanging(Scripted):
    async def ask(self, target: Target, artifact: str, question: Question) -> Answer:
        await super().ask(target, artifact, question)
        await asyncio.Event().wait()
        raise AssertionError


class World:
    def __init__(self, agents: Scripted, *, at_once: int = 2) -> None:
        self.agents, self.registry, self.now = agents, CollectorRegistry(), 0.0
        self.funnel = Funnel(self.registry, lambda: self.now)
        self.replays = Replays(agents, self.funnel, at_once)

    async def of(self, pair: Pair = RUN, *, loaded: bool = False) -> Pair:
        return await self.replays.of(pair, loaded=loaded)

    def outcomes(self, revision: str = "agent-b") -> dict[str, float]:
        return {
            sample.labels["outcome"]: sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == REPLAYS and sample.labels["revision"] == revision and sample.value
        }

    def diverged_by(self, step: int) -> float | None:
        labels = {"rollout": "shop/agent", "revision": "agent-b", "le": f"{step}.0"}
        return self.registry.get_sample_value(f"{DIVERGED_STEP}_bucket", labels)


async def test_the_last_answer_of_a_run_takes_the_place_of_the_mirrored_one() -> None:
    world = World(Scripted(calls(FIND), calls(TRACK), answer("It is lost.")))
    found = await world.of()
    assert found == replace(RUN, other=answer("It is lost."), replayed=Replayed(3, 2, 2))
    assert world.outcomes() == {"matched": 1}
    assert {(target, artifact) for target, artifact, _ in world.agents.asked} == {(TARGET, "sha256:b")}
    assert [len(json.loads(each.body)["messages"]) for _, _, each in world.agents.asked] == [2, 4, 6]


async def test_stable_drives_its_own_runs_again_in_the_noise_arm() -> None:
    world = World(Scripted(answer("It is lost.")))
    await world.of(replace(RUN, side=Side.NOISE))
    assert world.outcomes("agent-a") == {"matched": 1}
    assert world.agents.asked[0][1] == "sha256:a"


async def test_where_a_run_diverges_is_counted() -> None:
    world = World(Scripted(calls(FIND), calls(OTHER)))
    found = await world.of()
    assert (found.other, found.replayed) == (calls(OTHER), Replayed(2, 1, 2, diverged=True))
    assert world.outcomes() == {"diverged": 1}
    assert [world.diverged_by(step) for step in (1, 2)] == [0, 1]


async def test_a_version_that_fails_on_the_way_has_failed() -> None:
    world = World(Scripted(calls(FIND), answer("", 503)))
    assert (await world.of()).other.failed
    assert world.outcomes() == {"failed": 1}


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (answer("Who are you?", 401), "refused"),
        (UnreachableError("ConnectError"), "unreachable"),
        (ZeroDivisionError("jo.doe@example.com"), "dropped"),
    ],
)
async def test_what_says_nothing_about_the_version_leaves_the_mirrored_answer(
    last: Answer | Exception, outcome: str
) -> None:
    world = World(Scripted(calls(FIND), last))
    with capture_logs() as logs:
        assert await world.of() == RUN
    assert world.outcomes() == {outcome: 1}
    assert "jo.doe" not in str(logs)


def talkative() -> Iterable[Answer]:
    yield answer({**json.loads(calls(FIND).body)["choices"][0]["message"], "content": "x" * MAX_BODY_BYTES})


@pytest.mark.parametrize("script", [[TooLargeError()], [*talkative()]])
async def test_what_is_larger_than_what_is_kept_is_no_comparison(script: list[Answer | Exception]) -> None:
    world = World(Scripted(*script))
    with pytest.raises(TooLargeRunError):
        await world.of()
    assert world.outcomes() == {"too_large": 1}


@pytest.mark.parametrize(
    "other",
    [replace(RUN, target=None), pair(asked()), pair(asked((FIND,)), tool_choice="none")],
    ids=["not wanted", "no run", "not to be driven again"],
)
async def test_what_is_no_run_is_not_counted(other: Pair) -> None:
    world = World(Scripted())
    assert await world.of(other) == other
    assert world.outcomes() == {}


async def test_no_run_begins_while_the_process_is_loaded() -> None:
    world = World(Scripted())
    assert await world.of(loaded=True) == RUN
    assert world.outcomes() == {"dropped": 1}


async def test_runs_beyond_those_at_once_do_not_wait_and_one_that_takes_too_long_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_SECONDS", 0.05)
    agents = Hanging(*[answer("")] * 3)
    world = World(agents, at_once=2)
    assert await asyncio.gather(*(world.of() for _ in range(3))) == [RUN] * 3
    assert (world.outcomes(), len(agents.asked)) == ({"dropped": 3}, 2)
    assert await world.of() == RUN
    assert (world.outcomes(), len(agents.asked)) == ({"dropped": 4}, 3)


async def test_what_nothing_is_heard_of_for_a_day_is_no_longer_shown() -> None:
    world = World(Scripted(calls(OTHER)))
    world.funnel.know(SUBJECT)
    await world.of()
    world.now = FORGOTTEN_AFTER_SECONDS + 1
    world.funnel.forget_old()
    assert world.outcomes() == {}
    assert world.diverged_by(1) is None
    world.funnel.know_replays(SUBJECT, Side.CANDIDATE)
    assert world.diverged_by(1) == 0


async def handed_over(world: World, during: Callable[[Intake], object] = bool) -> Comparison:
    """What becomes of the run's halves in the queue."""
    queue = MemoryQueue()
    intake = Intake(Pairing(), built_in, queue, world.funnel, FakeClock(), world.replays)
    for side, said in ((Side.CANDIDATE, RUN.other), (Side.STABLE, RUN.stable)):
        target = TARGET if side is Side.CANDIDATE else None
        intake.take(Exchange("1", side, SUBJECT, RUN.question, said, target=target))
    during(intake)
    if isinstance(world.agents, Hanging):
        await eventually(lambda: bool(world.agents.asked), 5)
        assert world.registry.get_sample_value(PENDING, {"where": "replaying"}) == 1
    else:
        await eventually(lambda: queue.waiting == 1, 5)
    await intake.finish(5)
    return decode((await queue.get()).payload)


async def test_a_run_is_queued_as_it_ended_and_without_personal_data() -> None:
    diverged = await handed_over(World(Scripted(calls(OTHER))))
    assert diverged.decided is Bin.DIVERGED
    assert diverged.case.replayed == Replayed(1, 0, 2, diverged=True)
    assert "<EMAIL_1>" in diverged.case.other.text


async def test_a_process_that_stops_compares_the_mirrored_answer_of_a_run_under_way() -> None:
    found = await handed_over(World(Hanging(answer(""))))
    assert (found.decided, found.case.replayed) == (None, None)
    assert "on its way" in found.case.other.text


async def test_replays_are_left_out_before_anything_is_shed() -> None:
    def load(intake: Intake) -> None:
        waiting = {asyncio.create_task(asyncio.sleep(0)) for _ in range(int(LOADED * MAX_HANDING_OVER))}
        intake._handing_over |= waiting

    world = World(Scripted())
    assert (await handed_over(world, load)).case.replayed is None
    assert world.outcomes() == {"dropped": 1}
