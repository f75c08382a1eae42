"""While nobody leads: a replica takes away what fails, and neither gives nor writes."""

from __future__ import annotations

import pytest

from controller.api.reasons import Reason, State
from controller.core.snapshot import Latch
from controller.reconcilers.fleet import REPORT, Report
from tests.unit.reconcilers.test_rollouts import KEY, World, in_first_stage
from tests.virtual import Behaviour


@pytest.fixture
async def world() -> World:
    world = World()
    world.want("http://v1")
    await world.reconcile()
    await world.live(20)
    return world


async def guard(world: World, seconds: int) -> None:
    for _ in range(seconds // 5):
        world.serve()
        await world.reconciler.guard(KEY)


async def test_a_failing_candidate_is_taken_from_the_routers_and_nothing_is_written(world: World) -> None:
    await in_first_stage(world)
    await guard(world, 30)
    assert world.effects == ["cut"]
    assert world.router.table is not None
    assert not world.router.table.serves_candidate
    assert world.rollout.status.weight == 100_000, "status is the next leader's"


async def test_the_next_leader_stores_the_guards_verdict(world: World) -> None:
    await in_first_stage(world)
    await guard(world, 30)
    latch = world.publisher.latched(KEY)
    assert latch is not None
    world.users.behaviour["v2"] = Behaviour(errors=0.0)
    await world.reconcile()
    record = world.rollout.status.last_rollback
    assert record is not None
    assert record.message == latch.message
    assert world.rollout.status.state is State.ROLLED_BACK


async def test_a_healthy_candidate_stays_where_it_is_however_long_nobody_leads(world: World) -> None:
    await in_first_stage(world)
    world.users.behaviour["v2"] = Behaviour(errors=0.0)
    before = world.rollout
    await guard(world, 600)
    assert (world.effects, world.rollout) == ([], before)


async def test_a_guard_comes_back_every_interval_until_it_has_cut(world: World) -> None:
    await in_first_stage(world)
    world.serve()
    assert (await world.reconciler.guard(KEY)).requeue_after == 15
    await guard(world, 30)
    assert (await world.reconciler.guard(KEY)).requeue_after is None


async def test_a_guard_leaves_alone_what_serves_no_candidate(world: World) -> None:
    world.queries.clear()
    assert (await world.reconciler.guard(KEY)).requeue_after is None
    assert (await world.reconciler.guard("shop/unknown")).requeue_after is None
    assert world.queries == []


async def test_a_wish_that_only_the_spec_tells_is_left_to_the_leader(world: World) -> None:
    await in_first_stage(world)
    world.want("http://v3")
    await world.reconciler.guard(KEY)
    assert world.effects == []


async def test_a_cut_that_another_replica_reports_is_carried_out_by_the_leader(world: World) -> None:
    await in_first_stage(world)
    world.users.behaviour["v2"] = Behaviour(errors=0.0)
    await guard(world, 5)
    candidate = world.rollout.status.candidate
    assert candidate is not None
    latch = Latch(candidate.artifact_id, candidate.attempt, Reason.ANALYSIS_FAILED, "errors", "worse")
    report = Report("other", "t1", latches={KEY: latch})
    lease = {
        "metadata": {
            "name": "replica-other",
            "namespace": "system",
            "resourceVersion": "1",
            "annotations": {REPORT: report.to_json()},
        },
        "spec": {"holderIdentity": "other", "renewTime": "t1"},
    }
    world.reports.applied("system/replica-other", lease)
    await world.reconcile()
    record = world.rollout.status.last_rollback
    assert record is not None
    assert record.message == "worse"
    assert world.rollout.status.weight == 0
