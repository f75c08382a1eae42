"""An informer and a controller on an API server that misbehaves in one way at a time.

Time runs a hundred times faster for what waits by the clock, so that the operator's own settings show their rhythm:
what is counted are requests, in two minutes of theirs or a little more.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.runtime.backoff import Backoff
from controller.runtime.client import ResourceClient
from controller.runtime.clock import SystemClock, Timer
from controller.runtime.controller import Controller, Result
from controller.runtime.errors import Conflict, NotFound
from controller.runtime.informer import Informer
from controller.runtime.resource import RawObject, Resource
from controller.runtime.transport import KubernetesTransport
from controller.runtime.watcher import WatcherSettings
from controller.runtime.workqueue import WorkQueue
from controller.runtime.writes import WriteThrough
from tests.faulty_api import FaultyApi, Kind
from tests.faulty_api.scenarios import SCENARIOS, Scenario
from tests.faulty_api.storage import Path as StoragePath

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
SPEED = 100.0
MINUTES = 2.0
READ_VERBS = ("list", "watch", "watchlist")
WRITE_VERBS = ("update", "get")


class HastyClock(SystemClock):
    """A clock by which everything happens a hundred times faster."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return time.monotonic() * SPEED

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return super().call_later(seconds / SPEED, callback)

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / SPEED)


@dataclass(frozen=True)
class Widget:
    uid: str
    version: str
    wanted: int
    seen: int

    @classmethod
    def of(cls, raw: RawObject) -> Widget:
        metadata = raw["metadata"]
        seen = (raw.get("status") or {}).get("seen", 0)
        return cls(metadata["uid"], metadata["resourceVersion"], raw["spec"]["n"], seen)


class World:
    """The server, an informer with its store, and a controller that writes into status what it sees in spec."""

    def __init__(self, server: FaultyApi, client: ResourceClient) -> None:
        clock, chance = HastyClock(), random.Random(1)
        settings = WatcherSettings(
            backoff=Backoff(base=0.5, cap=30.0, uniform=chance.random),
            page_size=2,
            inactivity_timeout=1.0,  # these two are told by the event loop, whose seconds are not hasty
            initial_timeout=1.0,
        )
        self.server = server
        self.clock = clock
        self.informer = Informer(client, Widget.of, clock, settings=settings)
        self.writes = WriteThrough(client, self.informer.store)
        self.queue = WorkQueue("widgets", clock, backoff=Backoff(base=0.05, cap=60.0, uniform=chance.random))
        self.controller = Controller("widgets", self.queue, self.reconcile, clock=clock, workers=4)
        self.told: dict[str, Widget] = {}
        self.informer.on_change(self.follow)
        self.number = 0

    def follow(self, key: str, _: Widget | None, new: Widget | None) -> None:
        self.told.pop(key, None)
        if new is not None:
            self.told[key] = new
        self.queue.add(key)

    async def reconcile(self, key: str) -> Result:
        await self.writes.settle(key)
        widget = self.informer.store.get(key)
        if widget is None or widget.seen == widget.wanted:
            return Result()
        try:
            await self.writes.update_status(
                key, {"seen": widget.wanted}, resource_version=widget.version, uid=widget.uid
            )
        except Conflict:
            with suppress(NotFound):
                await self.writes.get(key)
            raise
        return Result()

    def want(self, name: str) -> None:
        """Someone else creates or changes a widget."""
        self.number += 1
        path = self.path(name)
        new = {
            "apiVersion": WIDGETS.api_version,
            "kind": WIDGETS.kind,
            "metadata": {"namespace": "ns", "name": name, "generation": 1},
        }
        self.server.storage.put(
            path, {**self.server.storage.objects.get(path, new), "spec": {"n": self.number}}
        )

    @staticmethod
    def path(name: str) -> StoragePath:
        return (WIDGETS.group, WIDGETS.plural, "ns", name)

    @property
    def is_at_rest(self) -> bool:
        """Whether the follower knows exactly what is stored, and every widget has been dealt with."""
        stored = {f"ns/{path[3]}": Widget.of(raw) for path, raw in self.server.storage.objects.items()}
        return self.told == stored and all(widget.seen == widget.wanted for widget in stored.values())

    async def rest(self) -> None:
        async with asyncio.timeout(30):
            while not self.is_at_rest:  # noqa: ASYNC110 - what is waited for happens in several tasks
                await asyncio.sleep(0.02)

    def calls(self, verbs: tuple[str, ...]) -> int:
        return sum(self.server.calls[verb] for verb in verbs)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    kind = Kind(WIDGETS.group, WIDGETS.version, WIDGETS.plural, WIDGETS.kind, has_status=True)
    async with FaultyApi(tmp_path, kind) as server:
        transport = await KubernetesTransport.connect(kubeconfig=str(server.kubeconfig))
        world = World(server, ResourceClient(transport, WIDGETS, field_manager="test", timeout=1.0))
        for name in "abcde":
            world.want(name)
        tasks = [asyncio.create_task(run()) for run in (world.informer.run, world.controller.run)]
        await world.rest()
        yield world
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await transport.close()
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_no_hot_loop_no_lost_event_no_stuck_key(world: World, scenario: Scenario) -> None:
    storage = world.server.storage
    world.server.faults = scenario.faults()
    world.server.calls.clear()
    began = world.clock.monotonic()
    # The watch from before still tells of these, so that there is something to be written.
    for name in "af":
        world.want(name)
    async with asyncio.timeout(10):
        while "ns/f" not in world.told:  # noqa: ASYNC110 - what is waited for happens in several tasks
            await asyncio.sleep(0.005)
    world.server.close_watches()
    storage.delete(world.path("b"))
    storage.delete(world.path("c"))
    world.want("c")
    if scenario.compacted:
        storage.compact()
    await asyncio.sleep(MINUTES * 60 / SPEED / 2)
    world.want("d")
    storage.delete(world.path("e"))
    await asyncio.sleep(MINUTES * 60 / SPEED / 2)

    # A busy machine takes longer over it.
    minutes = max((world.clock.monotonic() - began) / 60, MINUTES)
    assert world.calls(READ_VERBS) <= scenario.reads * minutes, world.server.calls
    keys = len(storage.objects)
    assert world.calls(WRITE_VERBS) <= scenario.writes * minutes * keys, world.server.calls

    world.server.faults = []
    await world.rest()
    assert set(world.told) == {"ns/a", "ns/c", "ns/d", "ns/f"}


async def test_what_was_missed_while_the_history_was_compacted_is_told(world: World) -> None:
    world.want("a")
    world.server.storage.delete(world.path("b"))
    world.server.compact()
    await world.rest()
    assert "ns/b" not in world.told
