"""Two operators and two routers, each connected to whichever operator it found, under 500 requests a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from controller.api.reasons import State
from controller.api.rollout import AgentRollout
from devkit.controlplane import ControlPlane
from tests.bench.world import NAMESPACE
from tests.integration.delivery_lab import DeliveryLab, manifest, stage

PER_SECOND = 500
STAGES = [stage("10%", seconds=10), stage("50%", seconds=2), stage("100%", seconds=2)]

Disaster = Callable[[DeliveryLab], Awaitable[None]]


async def leader_killed(lab: DeliveryLab) -> None:
    leader = await lab.leader()
    await asyncio.to_thread(leader.process.kill)


async def leader_paused_past_its_lease(lab: DeliveryLab) -> None:
    leader = await lab.leader()
    leader.process.pause()
    async with asyncio.timeout(40):
        while await lab.leader() == leader:  # noqa: ASYNC110 - happens in another process
            await asyncio.sleep(0.2)
    leader.process.resume()


async def both_restarted_at_once(lab: DeliveryLab) -> None:
    for replica in lab.replicas:
        await asyncio.to_thread(replica.process.kill)
    await asyncio.gather(*(asyncio.to_thread(replica.start) for replica in lab.replicas))


@pytest.mark.parametrize("disaster", [leader_killed, leader_paused_past_its_lease, both_restarted_at_once])
async def test_a_delivery_survives_without_a_failed_request_or_an_interval_counted_twice(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, disaster: Disaster
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path, replicas=2, routers=2) as lab:
        old, new = lab.agent("old"), lab.agent("new")
        await lab.apply(manifest(namespace, old.url))
        first = await lab.until(lambda r: r.status.state is State.STABLE)
        load = lab.load(per_second=PER_SECOND)
        load.start()
        await lab.apply(manifest(namespace, new.url, stages=STAGES))
        await lab.until(_counted)
        await disaster(lab)
        seen: list[AgentRollout] = []
        async for rollout in lab.history(timeout=90):
            seen.append(rollout)
            if rollout.status.state is State.STABLE and rollout.status.stable != first.status.stable:
                break
        report = await asyncio.to_thread(load.stop)
        assert (report.success, report.errors) == (1, ())
        for each in seen:
            if each.status.stage and each.status.stage.requests:
                assert each.status.analysis[0].candidate.total == await asyncio.to_thread(lab.stored, each)


async def test_every_replica_takes_a_failing_version_from_its_own_routers_while_the_api_server_is_gone(
    own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    async with DeliveryLab(own_control_plane, NAMESPACE, tmp_path, replicas=2, routers=2) as lab:
        old, new = lab.agent("old"), lab.agent("new")
        await lab.apply(manifest(NAMESPACE, old.url))
        await lab.until(lambda r: r.status.state is State.STABLE)
        load = lab.load(per_second=PER_SECOND)
        load.start()
        await lab.apply(manifest(NAMESPACE, new.url, stages=[stage("10%", seconds=600), stage("100%")]))
        serving = await lab.until(_counted)
        own_control_plane.api_server.kill()
        new.set_failures(0.3)
        candidate = serving.status.candidate
        assert candidate
        await _every_replica_cuts(lab)
        stable = serving.status.stable
        assert stable
        await _only_one_is_served(lab, stable.revision, candidate.revision)
        own_control_plane.api_server.start()
        await asyncio.to_thread(own_control_plane.wait_ready)
        ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK, timeout=90)
        await lab.until(lambda r: r.status.programmed == 0)
        await asyncio.to_thread(load.stop)
        assert ended.status.last_rollback is not None
        assert ended.status.last_rollback.artifact_id == candidate.artifact_id


async def _every_replica_cuts(lab: DeliveryLab) -> None:
    async with asyncio.timeout(40):
        for replica in lab.replicas:
            while not any(line["event"] == "cut_pushed" for line in replica.log()):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)


async def _only_one_is_served(lab: DeliveryLab, stable: str, candidate: str) -> None:
    """Return once users come to stable for a second and none to the candidate, which had 50 a second before."""
    async with asyncio.timeout(20):
        while True:
            before = lab.served(stable), lab.served(candidate)
            await asyncio.sleep(1)
            # Users have to be seen coming: a load generator that stalls is silent towards the candidate, too.
            if lab.served(stable) - before[0] > PER_SECOND / 5 and lab.served(candidate) == before[1]:
                return


def _counted(rollout: AgentRollout) -> bool:
    return rollout.status.stage is not None and rollout.status.stage.requests > 0
