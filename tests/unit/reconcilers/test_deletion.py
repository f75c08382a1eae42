"""A deleted rollout: candidate off, routes off, object gone, each once the routers have let go."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controller.core.traffic import Programmed, TrafficTable
from controller.reconcilers.deletion import FINALIZER, PATIENCE_SECONDS
from controller.reconcilers.fleet import REPORT, Report
from controller.runtime.errors import Conflict, NotFound, Unavailable
from tests.unit.reconcilers.test_rollouts import KEY, World, in_first_stage


class Slow:
    """A router that acknowledges when it is told to."""

    def __init__(self, world: World) -> None:
        self.acknowledged = world.router.table
        self.instances = 1
        self._world = world
        world.router.programmed = self.programmed  # type: ignore[method-assign]

    def programmed(self, key: str) -> Programmed:
        return Programmed(self.acknowledged, self._world.clock.now(), self.instances)

    def acknowledges(self) -> TrafficTable | None:
        self.acknowledged = self._world.router.table
        return self.acknowledged


@pytest.fixture
async def world() -> World:
    world = World()
    world.want("http://v1")
    await world.reconcile()
    await world.live(20)
    return await in_first_stage(world)


def delete(world: World, **metadata: Any) -> None:
    """kubectl delete: the API server only notes it while there are finalizers."""
    raw = copy.deepcopy(world.api.objects[KEY])
    raw["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", **metadata}
    world.rollouts.applied(KEY, world.api.stored(KEY, raw))


def finalizers(world: World) -> list[str]:
    found: list[str] = world.api.objects[KEY]["metadata"]["finalizers"]
    return found


async def test_the_finalizer_is_there_before_anything_is_served() -> None:
    world = World()
    world.want("http://v1")
    world.api.fail["merge"] = Unavailable("no answer")
    with pytest.raises(Unavailable):
        await world.reconcile(1)
    assert (world.effects, world.router.table) == ([], None)
    del world.api.fail["merge"]
    await world.reconcile()
    assert finalizers(world) == [FINALIZER]
    assert world.effects.count("merge") == 1
    assert world.router.table is not None


async def test_candidate_routes_and_object_go_in_this_order_each_after_the_routers_answer(
    world: World,
) -> None:
    router = Slow(world)
    delete(world)
    assert world.effects == ["cut"], "before anybody reconciles"
    await world.reconcile()
    assert world.effects == ["cut"]
    table = router.acknowledges()
    assert table is not None
    assert not table.serves_candidate
    await world.reconcile()
    assert world.effects == ["cut", "remove"]
    assert finalizers(world) == [FINALIZER]
    router.acknowledges()
    await world.reconcile(1)
    assert world.effects == ["cut", "remove", "merge"]
    assert finalizers(world) == []
    await world.reconcile()
    assert world.effects == ["cut", "remove", "merge"]


async def test_nothing_brings_withdrawn_routes_back_but_a_rollout_made_anew(world: World) -> None:
    Slow(world).acknowledges()
    delete(world)
    router = Slow(world)
    router.acknowledges()
    await world.reconcile()
    assert world.router.table is None
    world.publisher.publish(KEY)
    delete(world, labels={"team": "a"})
    assert world.router.table is None
    world.rollouts.deleted(KEY, world.api.objects.pop(KEY))
    await world.reconcile()
    assert not world.publisher.is_withdrawn(KEY)


async def test_routers_that_do_not_answer_are_waited_for_and_not_for_ever(world: World) -> None:
    Slow(world)
    delete(world)
    result = await world.reconciler.reconcile(KEY)
    assert result.requeue_after == PATIENCE_SECONDS
    world.clock.advance(PATIENCE_SECONDS)
    await world.reconcile()
    assert world.effects == ["cut", "remove", "merge"]
    assert finalizers(world) == []


async def test_a_namesake_made_anew_is_waited_for_as_long_whoever_led_before(world: World) -> None:
    Slow(world)
    delete(world)
    going = world.rollouts.get(KEY)
    assert going is not None
    world.reconciler.deletion.withdraw(going)  # as a follower
    world.rollouts.deleted(KEY, world.api.objects.pop(KEY))
    world.clock.advance(PATIENCE_SECONDS)

    world.uid = "2"
    world.want("http://v1")
    await world.reconcile()
    delete(world)
    result = await world.reconciler.reconcile(KEY)
    assert result.requeue_after == PATIENCE_SECONDS
    assert finalizers(world) == [FINALIZER]


async def test_without_a_router_nobody_is_waited_for(world: World) -> None:
    router = Slow(world)
    router.instances, router.acknowledged = 0, None
    delete(world)
    await world.reconcile()
    assert finalizers(world) == []


async def test_the_routers_of_other_replicas_are_waited_for(world: World) -> None:
    def report(number: int, **said: Any) -> None:
        content = Report("other", "", frozenset({"router-1"}), **said).to_json()
        raw = {
            "metadata": {
                "name": "other",
                "namespace": "system",
                "uid": "9",
                "resourceVersion": str(number),
                "annotations": {REPORT: content},
            },
            "spec": {"holderIdentity": "other", "renewTime": str(number)},
        }
        world.reports.put_if_newer(raw)

    report(1, pending=frozenset({KEY}))
    delete(world)
    await world.reconcile()
    assert world.router.table is None
    assert finalizers(world) == [FINALIZER]
    report(2)
    await world.reconcile()
    assert finalizers(world) == []


async def test_the_finalizers_of_others_are_theirs(world: World) -> None:
    delete(world, finalizers=["example.com/first", FINALIZER, "example.com/last"])
    await world.reconcile()
    assert finalizers(world) == ["example.com/first", "example.com/last"]
    world.effects.clear()
    await world.reconcile()
    assert world.effects == []


async def test_a_change_meanwhile_is_read_and_the_removal_repeated(world: World) -> None:
    delete(world)
    raw = copy.deepcopy(world.api.objects[KEY])
    raw["metadata"]["finalizers"].append("example.com/late")
    world.api.stored(KEY, raw)
    with pytest.raises(Conflict):
        await world.reconcile(1)
    await world.reconcile(1)
    assert finalizers(world) == ["example.com/late"]


async def test_an_object_that_is_gone_already_is_no_trouble(world: World) -> None:
    delete(world)
    world.api.fail["merge"] = NotFound("gone")
    await world.reconcile()


async def test_an_object_that_nobody_understands_any_more_can_be_deleted(world: World) -> None:
    raw = copy.deepcopy(world.api.objects[KEY])
    raw["spec"]["traffic"] = "everywhere"
    world.rollouts.applied(KEY, world.api.stored(KEY, raw))
    assert world.rollouts.invalid(KEY)
    await world.reconcile()
    assert finalizers(world) == [FINALIZER]
    delete(world)
    await world.reconcile()
    assert world.router.table is None
    assert finalizers(world) == []
