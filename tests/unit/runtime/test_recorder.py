import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller.runtime.backoff import Backoff
from controller.runtime.client import ResourceClient
from controller.runtime.errors import ApiError, Forbidden, TooManyRequests, Unavailable
from controller.runtime.metrics import RuntimeMetrics
from controller.runtime.recorder import (
    MAX_PENDING,
    MAX_SERIES,
    SERIES_SECONDS,
    EventType,
    ObjectReference,
    Recorder,
)
from controller.runtime.resource import RawObject, Resource
from controller.runtime.testing import FakeClock, settle

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
WIDGET = ObjectReference(WIDGETS, "ns", "w", "uid-1")


class EventsApi:
    """Keeps what is applied, with the instant; refuses or hangs as it is told."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.written: list[tuple[float, RawObject]] = []
        self.attempts: list[float] = []
        self.error: ApiError | None = None
        self.hangs = False

    async def apply(self, obj: RawObject, *, force: bool = False) -> RawObject:
        assert force, "another operator's leftovers must not refuse our events"
        self.attempts.append(self.clock.monotonic())
        if self.hangs:
            await asyncio.Event().wait()
        if self.error:
            raise self.error
        self.written.append((self.clock.monotonic(), obj))
        return obj

    @property
    def last(self) -> RawObject:
        return self.written[-1][1]

    @property
    def notes(self) -> list[str]:
        return [obj["note"] for _, obj in self.written]


class Bench:
    """A recorder that runs on a fake clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.api = EventsApi(self.clock)
        self.registry = CollectorRegistry()
        self.recorder = Recorder(
            cast("ResourceClient", self.api),
            self.clock,
            controller="example.com/operator",
            instance="pod-1",
            backoff=Backoff(base=1.0, cap=8.0, uniform=lambda: 1.0),
            metrics=RuntimeMetrics(self.registry),
        )

    def record(self, note: str = "it broke", **different: Any) -> None:
        fact = {"event_type": EventType.WARNING, "reason": "Broken", "action": "Mend"}
        self.recorder.record(different.pop("regarding", WIDGET), note=note, **{**fact, **different})

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("agentrollout_events_total", {"outcome": outcome}) or 0.0


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    task = asyncio.create_task(bench.recorder.run())
    yield bench
    assert not task.done(), task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_event_says_what_happened_to_which_object(bench: Bench) -> None:
    await bench.clock.run_for(1.5)
    bench.record()
    await bench.clock.run_for(1)
    name = bench.api.last["metadata"].pop("name")
    assert name.startswith("w.")
    assert bench.api.last == {
        "metadata": {"namespace": "ns"},
        "eventTime": "2026-01-01T00:00:01.500000Z",
        "regarding": {
            "apiVersion": "example.com/v1", "kind": "Widget", "namespace": "ns", "name": "w", "uid": "uid-1",
        },
        "type": "Warning",
        "reason": "Broken",
        "action": "Mend",
        "note": "it broke",
        "reportingController": "example.com/operator",
        "reportingInstance": "pod-1",
    }  # fmt: skip
    assert bench.count("created") == 1


async def test_events_about_objects_without_a_namespace_are_kept_in_the_default_one(bench: Bench) -> None:
    bench.record(regarding=ObjectReference(WIDGETS, "", "w", "uid-1"))
    await bench.clock.run_for(1)
    assert bench.api.last["metadata"]["namespace"] == "default"
    assert "namespace" not in bench.api.last["regarding"]


async def test_a_long_note_is_cut_within_a_kibibyte_and_between_characters(bench: Bench) -> None:
    bench.record(note="ä" * 600)
    await bench.clock.run_for(1)
    assert bench.api.last["note"] == "ä" * 510 + "…"


async def test_a_repetition_counts_in_the_same_event_and_is_written_now_and_then(bench: Bench) -> None:
    bench.record()
    await bench.clock.run_for(1)
    for _ in range(20):
        bench.record()
        await bench.clock.run_for(2)
    await bench.clock.run_for(60)
    first = bench.api.written[0][1]
    assert [(at, obj.get("series", {}).get("count")) for at, obj in bench.api.written] == [
        (0.0, None), (30.0, 16), (60.0, 21),
    ]  # fmt: skip
    assert {obj["metadata"]["name"] for _, obj in bench.api.written} == {first["metadata"]["name"]}
    assert {obj["eventTime"] for _, obj in bench.api.written} == {first["eventTime"]}
    assert bench.api.last["series"]["lastObservedTime"] == "2026-01-01T00:00:39.000000Z"
    assert (bench.count("created"), bench.count("updated")) == (1, 2)


async def test_after_six_minutes_of_quiet_the_same_is_a_new_event(bench: Bench) -> None:
    bench.record()
    await bench.clock.run_for(361)
    bench.record()
    await bench.clock.run_for(1)
    assert len({obj["metadata"]["name"] for _, obj in bench.api.written}) == 2


@pytest.mark.parametrize(
    "different",
    [
        {"note": "it broke elsewhere"},
        {"reason": "Bent"},
        {"action": "Straighten"},
        {"event_type": EventType.NORMAL},
        {"regarding": ObjectReference(WIDGETS, "ns", "w", "uid of a namesake")},
    ],
    ids=lambda different: next(iter(different)),
)
async def test_only_the_very_same_is_a_repetition(bench: Bench, different: dict[str, Any]) -> None:
    bench.record()
    bench.record(**different)
    await bench.clock.run_for(1)
    assert [obj.get("series") for _, obj in bench.api.written] == [None, None]


async def test_many_events_at_once_are_spaced(bench: Bench) -> None:
    for number in range(101):
        bench.record(note=str(number))
    await bench.clock.run_for(1.0)
    assert 19 <= len(bench.api.written) <= 21
    await bench.clock.run_for(5.0)
    assert bench.api.notes == [str(number) for number in range(101)]


async def test_while_the_api_server_is_away_events_wait_and_attempts_become_rare(bench: Bench) -> None:
    bench.api.error = Unavailable("connection refused")
    bench.record(note="first")
    await bench.clock.run_for(20)
    bench.record(note="second")
    assert bench.api.attempts == [0.0, 1.0, 3.0, 7.0, 15.0]
    bench.api.error = None
    await bench.clock.run_for(10)
    assert bench.api.notes == ["first", "second"]


async def test_an_overloaded_api_server_is_left_alone_as_long_as_it_asks(bench: Bench) -> None:
    bench.api.error = TooManyRequests("x", retry_after=30.0)
    bench.record()
    await bench.clock.run_for(29)
    assert len(bench.api.attempts) == 1


async def test_too_many_waiting_events_cost_the_oldest(bench: Bench) -> None:
    bench.api.error = Unavailable("connection refused")
    for number in range(MAX_PENDING + 10):
        bench.record(note=str(number))
    await bench.clock.run_for(1)
    bench.api.error = None
    await bench.clock.run_for(300)
    assert bench.count("dropped") == 10
    assert bench.api.notes == [str(number) for number in range(10, MAX_PENDING + 10)]


async def test_an_event_put_back_into_a_full_queue_is_dropped(bench: Bench) -> None:
    bench.record(note="being written")
    bench.api.hangs = True
    await bench.clock.run_for(1)
    assert bench.api.attempts == [0.0]
    for number in range(MAX_PENDING):
        bench.record(note=str(number))
    bench.recorder._put_back(*next(iter(bench.recorder._series.items())))
    assert bench.count("dropped") == 1
    assert next(iter(bench.recorder._pending)).note == "0"


async def test_a_hanging_api_server_delays_nobody_who_records(bench: Bench) -> None:
    bench.api.hangs = True
    for number in range(10):
        bench.record(note=str(number))
        await settle()
    assert len(bench.api.attempts) == 1


async def test_a_refused_event_is_dropped_with_a_word_and_the_next_goes_on(bench: Bench) -> None:
    bench.api.error = Forbidden("namespace is being terminated", code=403)
    bench.record(note="refused")
    with capture_logs() as logs:
        await bench.clock.run_for(0.01)
    bench.api.error = None
    bench.record(note="accepted")
    await bench.clock.run_for(1)
    assert [log["event"] for log in logs] == ["event_refused"]
    assert bench.api.notes == ["accepted"]
    assert bench.count("refused") == 1


async def test_what_no_repetition_can_join_any_more_is_forgotten(bench: Bench) -> None:
    for number in range(100):
        bench.record(note=str(number))
    await bench.clock.run_for(SERIES_SECONDS + 1)
    bench.record(note="much later")
    assert [fact.note for fact in bench.recorder._series] == ["much later"]


async def test_what_is_remembered_is_bounded(bench: Bench) -> None:
    for number in range(MAX_SERIES + 10):
        bench.record(note=str(number))
    assert len(bench.recorder._series) == MAX_SERIES
