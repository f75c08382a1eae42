"""The operator is killed with SIGKILL in the middle of a stage, under load from a process of its own."""

import asyncio
from pathlib import Path

from controller.api.reasons import State
from controller.api.rollout import AgentRollout
from devkit.controlplane import ControlPlane
from tests.integration.delivery_lab import DeliveryLab, manifest, stage

PER_SECOND = 500
STAGES = [stage("10%", seconds=8, requests=300), stage("50%", seconds=2), stage("100%", seconds=2)]


async def test_an_operator_killed_mid_stage_fails_no_request_and_counts_no_interval_twice(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        old, new = lab.agent("old"), lab.agent("new")
        await lab.apply(manifest(namespace, old.url))
        first = await lab.until(lambda r: r.status.state is State.STABLE)
        load = lab.load(per_second=PER_SECOND)
        load.start()
        await lab.apply(manifest(namespace, new.url, stages=STAGES))
        killed = await _kill_mid_stage(lab)
        await _without_operator(lab, killed)
        await asyncio.to_thread(lab.start_operator)
        counted: list[AgentRollout] = []
        async for rollout in lab.history():
            if rollout.status.stage and rollout.status.stage.requests:
                counted.append(rollout)
            if rollout.status.state is State.STABLE and rollout.status.stable != first.status.stable:
                break
        report = await asyncio.to_thread(load.stop)
        assert (report.success, report.errors) == (1, ())
        in_killed_stage = [r for r in counted if _stage(r) == _stage(killed)]
        assert max(_requests(r) for r in in_killed_stage) > _requests(killed)
        for each in counted:
            assert _requests(each) == await asyncio.to_thread(lab.stored, each)
        of_each_stage = {_stage(r): _requests(r) for r in counted}
        assert sum(of_each_stage.values()) <= lab.served(_candidate(killed))


async def test_a_version_that_turns_bad_while_the_operator_is_dead_is_taken_back_by_the_next(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        old, new = lab.agent("old"), lab.agent("new")
        await lab.apply(manifest(namespace, old.url))
        first = await lab.until(lambda r: r.status.state is State.STABLE)
        load = lab.load(per_second=PER_SECOND)
        load.start()
        await lab.apply(manifest(namespace, new.url, stages=STAGES))
        killed = await _kill_mid_stage(lab)
        new.set_failures(0.2)
        await _without_operator(lab, killed)
        await asyncio.to_thread(lab.start_operator)
        ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
        await lab.until(lambda r: r.status.programmed == 0)
        report = await asyncio.to_thread(load.stop)
        assert ended.status.stable == first.status.stable
        assert ended.status.last_rollback is not None
        assert ended.status.last_rollback.stage == "10%"
        assert set(report.statuses) == {"200", "500"}  # the agent's own failures, none of the router's


async def _kill_mid_stage(lab: DeliveryLab) -> AgentRollout:
    counting = await lab.until(lambda r: r.status.stage is not None and r.status.stage.requests > 0)
    await asyncio.to_thread(lab.operator.kill)
    killed = await lab.get()
    assert _stage(killed) == _stage(counting)
    return killed


async def _without_operator(lab: DeliveryLab, killed: AgentRollout) -> None:
    """Users go on for some intervals' worth of requests."""
    revision = _candidate(killed)
    before = lab.served(revision)
    async with asyncio.timeout(30):
        while lab.served(revision) < before + PER_SECOND / 10 * 3:  # noqa: ASYNC110 - happens in another process
            await asyncio.sleep(0.1)


def _stage(rollout: AgentRollout) -> int:
    assert rollout.status.stage is not None
    return rollout.status.stage.index


def _requests(rollout: AgentRollout) -> int:
    return rollout.status.analysis[0].candidate.total


def _candidate(rollout: AgentRollout) -> str:
    assert rollout.status.candidate is not None
    return rollout.status.candidate.revision
