"""What a replica tells the leader, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.api.reasons import Reason
from controller.core.snapshot import Latch
from controller.core.traffic import Programmed, TrafficTable
from controller.reconcilers.fleet import CUT_SECONDS, Report, digest, observe_report
from controller.reconcilers.reporter import COALESCE_SECONDS, HEARTBEAT_SECONDS, FleetReporter
from controller.runtime.errors import NotFound, Unavailable
from controller.runtime.leader import LeaseLock
from controller.runtime.testing import FakeClock, settle
from tests.unit.reconcilers.test_fleet import IDLE, KEY, LATCH, SPLIT


class Around:
    """Everything that a reporter looks at, and the Leases that it writes."""

    def __init__(self) -> None:
        self.routers = frozenset({"router-1"})
        self.wanted: dict[str, TrafficTable] = {KEY: SPLIT}
        self.taken: TrafficTable | None = None
        self.cuts: dict[str, Latch] = {}
        self.written: list[Report] = []
        self.deleted: list[str] = []
        self.withdrawn: set[str] = set()
        self.gone: tuple[str, ...] = ()
        self.fails: Exception | None = None
        self.listeners: list[Callable[[str], None]] = []

    def programmed(self, key: str) -> Programmed:
        return Programmed(self.taken, None, len(self.routers))

    def published(self, key: str) -> TrafficTable | None:
        return self.wanted.get(key)

    def is_withdrawn(self, key: str) -> bool:
        return key in self.withdrawn

    def latches(self) -> dict[str, Latch]:
        return self.cuts

    def on_change(self, listener: Callable[[str], None]) -> None:
        self.listeners.append(listener)

    def changed(self, key: str = KEY) -> None:
        self.listeners[0](key)

    def forgotten(self) -> tuple[str, ...]:
        return self.gone

    async def apply(self, lease: dict[str, Any], *, force: bool) -> dict[str, Any]:
        if self.fails:
            raise self.fails
        assert force
        self.written.append(observe_report(lease))
        return lease

    async def delete(self, key: str) -> None:
        self.deleted.append(key)
        if key == "system/never-there":
            raise NotFound(key)


class World:
    def __init__(self) -> None:
        self.clock, self.around = FakeClock(), Around()
        a: Any = self.around
        lock = LeaseLock(a, "system", "agentrollout-replica-me", "me")
        self.reporter = FleetReporter(lock, fleet=a, router=a, publisher=a, clock=self.clock)

    async def a_moment(self) -> None:
        await self.clock.run_for(2 * COALESCE_SECONDS)

    @property
    def last(self) -> Report:
        return self.around.written[-1]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    task = asyncio.create_task(world.reporter.run())
    await settle()
    yield world
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_acknowledged_splits_are_reported_within_a_moment(world: World) -> None:
    assert world.last.acknowledged == frozenset()
    world.around.taken = SPLIT
    world.around.changed()
    await world.a_moment()
    assert world.last.acknowledged == {digest(SPLIT)}
    assert world.last.routers == {"router-1"}


async def test_many_changes_at_once_are_one_report(world: World) -> None:
    before = len(world.around.written)
    world.around.taken = SPLIT
    for _ in range(100):
        world.around.changed()
    await world.a_moment()
    assert len(world.around.written) == before + 1


async def test_a_change_that_leaves_the_report_as_it_is_is_not_written(world: World) -> None:
    before = len(world.around.written)
    for _ in range(100):
        world.around.changed()
        await world.clock.run_for(HEARTBEAT_SECONDS / 1000)
    assert len(world.around.written) == before


async def test_a_table_that_lost_its_candidate_is_reported_for_as_long_as_a_leader_may_ask(
    world: World,
) -> None:
    world.around.changed()
    world.around.wanted[KEY] = world.around.taken = IDLE
    world.around.changed()
    await world.a_moment()
    assert world.last.acknowledged == {digest(IDLE)}
    await world.clock.run_for(CUT_SECONDS)
    world.around.changed()
    await world.clock.run_for(2 * HEARTBEAT_SECONDS)
    assert world.last.acknowledged == {digest(IDLE)}
    await world.clock.run_for(10 * CUT_SECONDS)
    world.around.changed()
    await world.clock.run_for(2 * HEARTBEAT_SECONDS)
    assert world.last.acknowledged == frozenset()


async def test_a_table_that_never_had_a_candidate_is_not_reported(world: World) -> None:
    world.around.wanted["shop/idle"] = world.around.taken = replace(IDLE, key="shop/idle")
    world.around.changed("shop/idle")
    await world.a_moment()
    assert world.last.acknowledged == frozenset()


async def test_a_split_that_is_no_longer_wanted_is_no_longer_reported(world: World) -> None:
    world.around.taken = SPLIT
    world.around.changed()
    world.around.wanted[KEY] = IDLE
    world.around.changed()
    await world.a_moment()
    assert not world.last.acknowledged
    assert world.last.pending == {KEY}
    world.around.taken = IDLE
    world.around.changed()
    await world.a_moment()
    assert world.last.pending == frozenset()
    assert world.last.acknowledged == {digest(IDLE)}


async def test_routes_that_are_to_go_are_pending_until_the_routers_let_go(world: World) -> None:
    world.around.taken = IDLE
    del world.around.wanted[KEY]
    world.around.withdrawn.add(KEY)
    world.around.changed()
    await world.a_moment()
    assert world.last.pending == {KEY}
    world.around.taken = None
    world.around.changed()
    await world.a_moment()
    assert world.last.pending == frozenset()


async def test_nothing_is_written_between_heartbeats_when_nothing_changes(world: World) -> None:
    await world.a_moment()
    before = len(world.around.written)
    await world.clock.run_for(10 * HEARTBEAT_SECONDS)
    assert 9 <= len(world.around.written) - before <= 10


async def test_a_replica_without_routers_and_cuts_writes_nothing_after_having_said_so(world: World) -> None:
    world.around.routers = frozenset()
    world.around.changed()
    await world.a_moment()
    assert world.last.routers == frozenset()
    before = len(world.around.written)
    await world.clock.run_for(3 * HEARTBEAT_SECONDS)
    assert len(world.around.written) == before


async def test_cuts_for_a_reason_are_reported_and_others_are_not(world: World) -> None:
    world.around.cuts = {
        KEY: LATCH,
        "shop/b": Latch("sha256:3", 1),
        "shop/c": Latch("s", 1, Reason.NO_ENDPOINTS, "", "x" * 999),
    }
    world.around.changed()
    await world.a_moment()
    assert world.last.latches == {KEY: LATCH, "shop/c": Latch("s", 1, Reason.NO_ENDPOINTS, "", "x" * 300)}


async def test_a_leader_reports_to_nobody_and_removes_what_is_left_of_replicas_long_gone(
    world: World,
) -> None:
    before = len(world.around.written)
    world.around.gone = ("system/a", "system/never-there", "system/b")
    world.reporter.leads(True)
    await world.clock.run_for(HEARTBEAT_SECONDS / 2)
    assert world.around.deleted == ["system/a", "system/never-there", "system/b"]
    assert len(world.around.written) == before


async def test_an_api_server_that_refuses_is_asked_again_at_its_own_pace(world: World) -> None:
    world.around.fails, world.around.taken = Unavailable("away", retry_after=5.0), SPLIT
    world.around.changed()
    await world.a_moment()
    before = len(world.around.written)
    world.around.fails = None
    world.around.changed()
    await world.clock.run_for(4)
    assert len(world.around.written) == before
    await world.clock.run_for(1.2)
    assert len(world.around.written) == before + 1


async def test_a_report_of_thousands_stays_within_an_annotation(world: World) -> None:
    for number in range(10_000):
        key = f"{'n' * 63}/{'a' * 45}-{number}"
        world.around.wanted[key] = replace(IDLE, key=key)
        world.around.changed(key)
    world.around.cuts = {
        f"{'n' * 63}/{number}": Latch("sha256:" + "1" * 64, 1, Reason.ANALYSIS_FAILED, "errors", "x" * 999)
        for number in range(1000)
    }
    await world.a_moment()
    assert (world.last.many_pending, world.last.pending) == (True, frozenset())
    assert len(world.last.latches) == 200
    assert len(world.last.to_json()) < 200 * 1024
