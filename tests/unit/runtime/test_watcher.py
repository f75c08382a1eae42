import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller.runtime.backoff import Backoff
from controller.runtime.client import Page, WatchEvent
from controller.runtime.errors import ApiError, Gone, Invalid, TooManyRequests, Unavailable
from controller.runtime.informer import Informer
from controller.runtime.listwatch import (
    Applied,
    Event,
    ListFinished,
    ListRequest,
    ListStarted,
    Progressed,
    WatchRequest,
)
from controller.runtime.metrics import RuntimeMetrics
from controller.runtime.resource import RawObject, Resource
from controller.runtime.testing import FakeClock, settle
from controller.runtime.watcher import Watcher, WatcherSettings

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
BOUND_ONLY = Backoff(base=1.0, cap=8.0, uniform=lambda: 1.0)
LISTS = WatcherSettings(backoff=BOUND_ONLY, healthy_after=30.0, page_size=2, watch_list=False)
WATCH_LISTS = replace(LISTS, watch_list=True)


def _obj(name: str, version: int) -> RawObject:
    return {"metadata": {"namespace": "ns", "name": name, "resourceVersion": str(version)}}


def _event(kind: str, name: str, version: int) -> WatchEvent:
    return WatchEvent(kind, _obj(name, version))


def _bookmark(version: int) -> WatchEvent:
    return WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


Script = list[Page | ApiError | list[WatchEvent | ApiError | float]]


class ScriptedServer:
    """Answers the requests of a watcher one after the other; then lets it wait for ever.

    A list in the script is a watch: its numbers are seconds of silence, an error ends it, its end is a clean close.
    """

    resource = WIDGETS

    def __init__(self, clock: FakeClock, script: Script) -> None:
        self._clock = clock
        self._script = script
        self.asked: list[tuple[float, object]] = []

    async def list_page(self, *, limit: int = 500, continue_token: str = "") -> Page:
        self.asked.append((self._clock.monotonic(), ListRequest(limit, continue_token)))
        answer = await self._next()
        if isinstance(answer, ApiError):
            raise answer
        assert isinstance(answer, Page), "the script has a watch here"
        return answer

    async def watch(
        self,
        resource_version: str,
        *,
        server_timeout: float,
        inactivity_timeout: float,
        send_initial_events: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        assert server_timeout > inactivity_timeout > 0
        self.asked.append((self._clock.monotonic(), WatchRequest(resource_version, send_initial_events)))
        answer = await self._next()
        if isinstance(answer, ApiError):
            raise answer
        assert isinstance(answer, list), "the script has a list here"
        for line in answer:
            if isinstance(line, ApiError):
                raise line
            if isinstance(line, float):
                await self._clock.sleep(line)
            else:
                yield line

    async def _next(self) -> Any:
        if not self._script:
            await asyncio.Event().wait()
        return self._script.pop(0)


async def _watch(
    script: Script, seconds: float = 1000.0, settings: WatcherSettings = LISTS
) -> tuple[ScriptedServer, list[Event]]:
    clock = FakeClock()
    server = ScriptedServer(clock, script)
    events: list[Event] = []
    task = asyncio.create_task(Watcher(server, clock, settings).run(events.append))
    await clock.run_for(seconds)
    assert not task.done(), task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return server, events


EMPTY = Page((), "10", "")


async def test_pages_follow_each_other_without_a_pause() -> None:
    server, events = await _watch([Page((_obj("a", 1),), "10", "t"), Page((_obj("b", 2),), "10", ""), []])
    assert server.asked[:3] == [
        (0.0, ListRequest(2)),
        (0.0, ListRequest(2, "t")),
        (0.0, WatchRequest("10")),
    ]
    assert [type(event) for event in events] == [ListStarted, Applied, Applied, ListFinished]


async def test_watches_that_are_closed_at_once_are_asked_for_less_and_less_often() -> None:
    server, _ = await _watch([EMPTY, *([] for _ in range(7))])
    assert [at for at, request in server.asked if isinstance(request, WatchRequest)] == [
        0.0, 1.0, 3.0, 7.0, 15.0, 23.0, 31.0, 39.0,
    ]  # fmt: skip


async def test_one_event_per_watch_does_not_make_a_hot_loop() -> None:
    watches: Script = [[_event("MODIFIED", "a", 11 + number)] for number in range(5)]
    server, _ = await _watch([EMPTY, *watches])
    assert [at for at, _ in server.asked] == [0.0, 0.0, 1.0, 3.0, 7.0, 15.0, 23.0]


async def test_a_watch_that_lasted_starts_the_backoff_anew() -> None:
    server, _ = await _watch([EMPTY, [], [], [], [31.0], []])
    assert [at for at, _ in server.asked] == [0.0, 0.0, 1.0, 3.0, 7.0, 7.0 + 31.0 + 1.0, 41.0]


async def test_a_watch_goes_on_from_the_last_line_it_saw() -> None:
    server, events = await _watch([EMPTY, [_event("ADDED", "a", 11), _bookmark(15)], Unavailable("x"), []])
    assert [request for _, request in server.asked[1:]] == [
        WatchRequest("10"), WatchRequest("15"), WatchRequest("15"), WatchRequest("15"),
    ]  # fmt: skip
    assert events[2:] == [Applied("ns/a", _obj("a", 11)), Progressed(11), Progressed(15)]


async def test_a_version_too_old_leads_to_a_new_list_however_it_is_told() -> None:
    server, events = await _watch([EMPTY, [Gone("in the stream")], EMPTY, Gone("as the answer"), EMPTY, []])
    assert [type(request) for _, request in server.asked] == [
        ListRequest, WatchRequest, ListRequest, WatchRequest, ListRequest, WatchRequest, WatchRequest,
    ]  # fmt: skip
    assert events.count(ListFinished(frozenset(), 10)) == 3


async def test_a_server_that_finds_every_version_too_old_is_not_asked_in_a_hot_loop() -> None:
    script: Script = [answer for _ in range(20) for answer in (EMPTY, Gone("x"))]
    server, _ = await _watch(script, seconds=60)
    assert len(server.asked) <= 20


async def test_after_an_outage_the_new_list_does_not_wait_as_long_as_the_outage_made_it() -> None:
    outage: Script = [Unavailable("connection refused")] * 6
    server, _ = await _watch(
        [Page((), "1", ""), [], *outage, [Gone("version 1 is too old")], Page((), "9", "")]
    )
    back, listed = server.asked[-3][0], server.asked[-2][0]
    assert server.asked[-2][1] == ListRequest(2)
    assert listed - back == 1.0


async def test_an_overloaded_server_is_left_alone_as_long_as_it_asks() -> None:
    server, _ = await _watch([TooManyRequests("x", retry_after=20.0), EMPTY, []])
    assert [at for at, _ in server.asked[:2]] == [0.0, 20.0]


async def test_an_answer_that_makes_no_sense_leads_to_a_new_list() -> None:
    nameless = Page(({"metadata": "?"},), "10", "")
    with capture_logs() as logs:
        server, _ = await _watch([EMPTY, [WatchEvent("ADDED", {})], nameless, EMPTY, []])
    understood = [log["event"] == "watch_answer_not_understood" for log in logs]
    assert understood.count(True) == 2
    assert [type(request) for _, request in server.asked[:4]] == [
        ListRequest, WatchRequest, ListRequest, ListRequest,
    ]  # fmt: skip


async def test_the_problem_is_told_until_it_is_over() -> None:
    clock = FakeClock()
    server = ScriptedServer(clock, [Unavailable("connection refused"), EMPTY, [_bookmark(11), 500.0]])
    watcher = Watcher(server, clock, LISTS)
    assert watcher.problem == ""
    task = asyncio.create_task(watcher.run(lambda _: None))
    await settle()
    assert watcher.problem == "connection refused"
    await clock.run_for(10)
    assert watcher.problem == ""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _end(version: int) -> WatchEvent:
    """The bookmark that ends the initial events."""
    annotations = {"k8s.io/initial-events-end": "true"}
    return WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(version), "annotations": annotations}})


async def test_a_watch_list_goes_on_as_a_watch_without_another_request() -> None:
    server, events = await _watch(
        [[_event("ADDED", "a", 5), _end(10), _event("ADDED", "b", 11), 400.0]], 300, WATCH_LISTS
    )
    assert server.asked == [(0.0, WatchRequest("", initial=True))]
    assert events == [
        Applied("ns/a", _obj("a", 5)),
        ListFinished(frozenset({"ns/a"}), 10),
        Applied("ns/b", _obj("b", 11)),
        Progressed(11),
    ]


async def test_a_server_that_refuses_watch_lists_is_asked_for_lists_from_then_on() -> None:
    server, _ = await _watch(
        [Invalid("sendInitialEvents is forbidden"), EMPTY, Gone("x"), EMPTY, []], settings=WATCH_LISTS
    )
    assert [request for _, request in server.asked[:5]] == [
        WatchRequest("", initial=True),
        ListRequest(2),
        WatchRequest("10"),
        ListRequest(2),
        WatchRequest("10"),
    ]


async def test_watch_lists_that_break_before_their_end_wait_between_and_give_way_to_a_list() -> None:
    broken: Script = [[_event("ADDED", "a", 5)], [_event("ADDED", "a", 5), Unavailable("x")]]
    server, events = await _watch([*broken, EMPTY, []], 10, settings=WATCH_LISTS)
    assert server.asked[:4] == [
        (0.0, WatchRequest("", initial=True)),
        (1.0, WatchRequest("5", initial=True)),
        (3.0, ListRequest(2)),
        (3.0, WatchRequest("10")),
    ]
    assert events.count(ListFinished(frozenset(), 10)) == 1


async def test_a_watch_list_that_never_comes_to_its_end_is_given_up() -> None:
    settings = replace(WATCH_LISTS, initial_timeout=0.01)
    clock = FakeClock()
    server = ScriptedServer(clock, [[_event("ADDED", "a", 5), 100.0], [100.0], EMPTY])
    watcher = Watcher(server, clock, settings)
    task = asyncio.create_task(watcher.run(lambda _: None))
    async with asyncio.timeout(5):
        while not any(isinstance(request, ListRequest) for _, request in server.asked):
            await asyncio.sleep(0.02)
            clock.advance(2.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [type(request) for _, request in server.asked[:3]] == [WatchRequest, WatchRequest, ListRequest]


async def test_the_deadline_of_the_initial_events_is_none_of_the_watch_that_follows() -> None:
    settings = replace(WATCH_LISTS, initial_timeout=0.5)
    clock = FakeClock()
    server = ScriptedServer(clock, [[_end(10), 100.0, _event("ADDED", "late", 11), 100.0]])
    events: list[Event] = []
    task = asyncio.create_task(Watcher(server, clock, settings).run(events.append))
    await settle()
    await asyncio.sleep(0.7)  # longer than the deadline, on the loop's own clock
    await clock.run_for(150)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(server.asked) == 1
    assert events[-1] == Progressed(11)


# The informer, which adds a store.


async def _inform(
    script: Script,
    check: Callable[[Informer[str], FakeClock, CollectorRegistry], Any],
    settings: WatcherSettings = LISTS,
) -> list[tuple[str, str | None, str | None]]:
    clock, registry = FakeClock(), CollectorRegistry()

    def project(raw: RawObject) -> str:
        if raw["metadata"]["name"].startswith("bad"):
            raise ValueError("no")
        return str(raw["metadata"]["resourceVersion"])

    server = ScriptedServer(clock, script)
    informer = Informer(server, project, clock, settings=settings, metrics=RuntimeMetrics(registry))
    changes: list[tuple[str, str | None, str | None]] = []
    informer.on_change(lambda key, old, new: changes.append((key, old, new)))
    task = asyncio.create_task(informer.run())
    await clock.run_for(100)
    check(informer, clock, registry)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return changes


async def test_the_informer_is_synced_by_the_last_page_and_not_before() -> None:
    first = Page((_obj("a", 1),), "10", "more")
    synced: list[bool] = []
    await _inform([first], lambda informer, *_: synced.append(informer.has_synced))
    await _inform([first, Page((), "10", "")], lambda informer, *_: synced.append(informer.has_synced))
    assert synced == [False, True]


async def test_after_a_new_list_only_differences_are_told() -> None:
    script: Script = [
        Page((_obj("same", 1), _obj("changed", 2), _obj("vanished", 3)), "10", ""),
        Gone("x"),
        Page((_obj("same", 1), _obj("changed", 12), _obj("new", 13)), "20", ""),
    ]
    changes = await _inform(script, lambda *_: None)
    assert changes[3:] == [("ns/changed", "2", "12"), ("ns/new", None, "13"), ("ns/vanished", "3", None)]


async def test_a_new_watch_list_tells_differences_only_and_what_vanished_meanwhile() -> None:
    before = [_event("ADDED", "same", 1), _event("ADDED", "changed", 2), _event("ADDED", "vanished", 3)]
    after = [_event("ADDED", "new", 13), _event("ADDED", "same", 1), _event("ADDED", "changed", 12)]
    broken = after[:1]
    script: Script = [[*before, _end(10), Gone("x")], [*broken, Unavailable("x")], [*after, _end(20), 500.0]]
    changes = await _inform(script, lambda *_: None, WATCH_LISTS)
    assert changes[3:] == [("ns/new", None, "13"), ("ns/changed", "2", "12"), ("ns/vanished", "3", None)]


async def test_the_informer_is_synced_by_the_end_of_the_watch_list_and_not_before() -> None:
    synced: list[bool] = []

    def check(informer: Informer[str], *_: object) -> None:
        synced.append(informer.has_synced)

    await _inform([[_event("ADDED", "a", 1), _bookmark(9), 500.0]], check, WATCH_LISTS)
    await _inform([[_event("ADDED", "a", 1), _end(10), 500.0]], check, WATCH_LISTS)
    assert synced == [False, True]


async def test_the_informer_counts_what_it_holds_and_what_it_keeps_out() -> None:
    def check(informer: Informer[str], _: FakeClock, registry: CollectorRegistry) -> None:
        assert informer.store.invalid_keys() == ("ns/bad",)
        labels = {"resource": "widgets.example.com"}
        assert registry.get_sample_value("agentrollout_store_objects", labels) == 2
        assert registry.get_sample_value("agentrollout_store_invalid_objects", labels) == 1

    page = Page((_obj("a", 1), _obj("bad", 2)), "10", "")
    await _inform([page, [_event("ADDED", "b", 11), 500.0]], check)
