"""Leading, guarding and following; and what a change of role does to the work at hand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.reconcilers.roles import IDLE_SPACING_SECONDS, RoleReconciler
from controller.runtime.controller import Result
from controller.runtime.election import Role
from controller.runtime.testing import settle


@dataclass
class Around:
    """A reconciler that waits until it is told to go on, and everything else that a change of role touches."""

    journal: list[str] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    queued: list[str] = field(default_factory=list)
    later: list[tuple[float, str]] = field(default_factory=list)
    delivering: tuple[str, ...] = ("shop/b",)
    going: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    all_keys: tuple[str, ...] = ("shop/a", "shop/b")
    deleted: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()

    async def reconcile(self, key: str) -> Result:
        self.journal.append(f"lead {key}")
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.journal.append("cancelled")
            raise
        return Result(7)

    async def guard(self, key: str) -> Result:
        self.journal.append(f"guard {key}")
        return Result(15)

    def get(self, key: str) -> _Observed | None:
        if key in self.gone:
            return None
        return _Observed(key, key in self.delivering, key in self.going)

    def withdraw(self, observed: _Observed) -> Result:
        self.journal.append(f"withdraw {observed.key}")
        return Result(30)

    def forget(self, key: str) -> None:
        self.journal.append(f"forget {key}")

    def keys(self) -> tuple[str, ...]:
        return self.all_keys

    def invalid_keys(self) -> tuple[str, ...]:
        return ("ns/unreadable",)

    def list(self) -> tuple[Any, ...]:
        found = [_Observed(key, key in self.delivering) for key in self.all_keys]
        for each in found:
            each.deletion_timestamp = "now" if each.key in self.deleted else None
            each.generation += each.key in self.edited
        return tuple(found)

    def release_without_reason(self) -> None:
        self.journal.append("release")

    def clear(self) -> None:
        self.journal.append("clear")

    def drop_unsaved(self) -> None:
        self.journal.append("drop unsaved")

    def add(self, key: str) -> None:
        self.queued.append(key)

    def add_after(self, key: str, seconds: float) -> None:
        self.later.append((seconds, key))


class _Observed:
    """Just enough of an ObservedRollout."""

    def __init__(self, key: str, delivering: bool, going: bool = False) -> None:
        self.rollout = self.status = self.metadata = self
        self.key = key
        self.candidate = object() if delivering else None
        self.deletion_timestamp: object = None
        self.generation = self.observed_generation = 1
        self.deletion_timestamp = going


class World:
    def __init__(self) -> None:
        self.role, self.around = Role.LEADING, Around()
        a: Any = self.around
        self.reconciler = RoleReconciler(
            lambda: self.role, a, rollouts=a, publisher=a, queue=a, metrics=a, deletion=a
        )

    def become(self, role: Role) -> None:
        before, self.role = self.role, role
        self.reconciler.role_changed(before, role)


async def test_the_leader_reconciles() -> None:
    world = World()
    world.around.go_on.set()
    assert await world.reconciler.reconcile("shop/a") == Result(7)
    assert world.around.journal == ["lead shop/a"]


async def test_a_guard_guards_and_a_follower_rests() -> None:
    world = World()
    world.role = Role.GUARDING
    assert await world.reconciler.reconcile("shop/a") == Result(15)
    world.role = Role.FOLLOWING
    assert await world.reconciler.reconcile("shop/a") == Result()
    assert world.around.journal == ["guard shop/a"]


@pytest.mark.parametrize("role", [Role.GUARDING, Role.FOLLOWING])
async def test_losing_the_lease_cancels_the_work_and_looks_at_its_key_again(role: Role) -> None:
    world = World()
    working = asyncio.create_task(world.reconciler.reconcile("shop/a"))
    await settle()
    world.become(role)
    assert await working == Result(0.0)
    assert world.around.journal[:3] == ["lead shop/a", "drop unsaved", "clear"]
    assert world.around.journal[-1] == "cancelled"


async def test_a_worker_that_is_stopped_is_stopped() -> None:
    world = World()
    working = asyncio.create_task(world.reconciler.reconcile("shop/a"))
    await settle()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert world.around.journal == ["lead shop/a", "cancelled"]


def test_a_new_leader_looks_at_those_that_deliver_at_once_and_at_the_others_little_by_little() -> None:
    world = World()
    world.around.all_keys = ("shop/a", "shop/b", "shop/c", "shop/d")
    world.role = Role.FOLLOWING
    world.become(Role.LEADING)
    assert world.around.queued == ["shop/b"]
    assert [key for _, key in world.around.later] == ["ns/unreadable", "shop/a", "shop/c", "shop/d"]
    assert [seconds for seconds, _ in world.around.later] == [
        number * IDLE_SPACING_SECONDS for number in range(4)
    ]


def test_what_was_wanted_while_nobody_led_is_not_left_for_later() -> None:
    world = World()
    world.around.all_keys = ("shop/a", "shop/b", "shop/c", "shop/d")
    world.around.deleted, world.around.edited = ("shop/c",), ("shop/d",)
    world.role = Role.FOLLOWING
    world.become(Role.LEADING)
    assert world.around.queued == ["shop/b", "shop/c", "shop/d"]


def test_a_guard_looks_only_at_those_that_deliver() -> None:
    world = World()
    world.role = Role.FOLLOWING
    world.become(Role.GUARDING)
    assert world.around.queued == ["shop/b"]
    assert world.around.later == []


def test_a_follower_keeps_only_the_cuts_that_rest_on_a_verdict() -> None:
    world = World()
    world.become(Role.FOLLOWING)
    assert world.around.journal == ["drop unsaved", "clear", "release"]
    assert world.around.queued == []
    assert world.around.later == []


@pytest.mark.parametrize("role", [Role.GUARDING, Role.FOLLOWING])
async def test_whoever_does_not_lead_takes_the_routes_of_deleted_rollouts_off_its_routers(role: Role) -> None:
    world = World()
    world.role, world.around.going = role, ("shop/a",)
    assert await world.reconciler.reconcile("shop/a") == Result(30)
    assert world.around.journal == ["withdraw shop/a"]


@pytest.mark.parametrize("role", list(Role))
async def test_a_deletion_that_is_over_is_forgotten_in_every_role(role: Role) -> None:
    world = World()
    world.role, world.around.gone = role, ("shop/a",)
    world.around.go_on.set()
    await world.reconciler.reconcile("shop/a")
    assert world.around.journal[0] == "forget shop/a"
