"""Operators and API server die at 1, 50 and 100 %; a person takes the versions back, and later everyone agrees."""

from __future__ import annotations

import asyncio
from pathlib import Path

from controller.api.reasons import Reason, State
from controller.api.rollout import AgentRollout
from devkit.controlplane import ControlPlane
from tests.bench.world import NAMESPACE
from tests.integration.delivery_lab import DeliveryLab, manifest, stage
from tests.integration.test_envoy_break_glass import Doors

PER_SECOND = 300
WEIGHTS = {"one": "1%", "fifty": "50%", "all": "100%"}


async def test_with_operators_and_api_server_dead_one_command_a_rollout_takes_versions_back_and_all_agree_later(
    own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    doors = Doors.make(tmp_path)
    async with DeliveryLab(own_control_plane, NAMESPACE, tmp_path, replicas=2, access=doors.access()) as lab:
        old, new = lab.agent("old").url, lab.agent("new").url
        for name in WEIGHTS:
            await lab.apply(manifest(NAMESPACE, old, name=name, host=f"{name}.example"))
            await lab.until(lambda r: r.status.state is State.STABLE, name=name)
        load = lab.load(per_second=PER_SECOND, hosts=tuple(f"{name}.example" for name in WEIGHTS))
        load.start()
        serving = {name: await _serve(lab, new, name, weight) for name, weight in WEIGHTS.items()}

        own_control_plane.api_server.kill()
        for replica in lab.replicas:
            await asyncio.to_thread(replica.process.kill)
        commands = {
            name: asyncio.create_task(
                doors.command(
                    f"--kubeconfig={own_control_plane.kubeconfig}", rollout=name, namespace=NAMESPACE
                )
            )
            for name in WEIGHTS
        }
        await asyncio.gather(*(_nobody_is_sent_to(lab, name, revision) for name, revision in serving.items()))
        assert not any(task.done() for task in commands.values())

        await asyncio.to_thread(own_control_plane.api_server.start)
        await asyncio.to_thread(own_control_plane.wait_ready)
        await asyncio.gather(*(asyncio.to_thread(replica.start) for replica in lab.replicas))
        for name, task in commands.items():
            async with asyncio.timeout(180):
                code, output = await task
            assert code == 0, output
            ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK, name=name)
            assert ended.status.last_rollback
            assert ended.status.last_rollback.reason is Reason.BREAK_GLASS
        counted = {name: lab.served(revision, name=name) for name, revision in serving.items()}
        overridden = lab.envoy.admin_get("/runtime", format="json").json()["entries"]
        report = await asyncio.to_thread(load.stop)

        assert not [key for key in overridden if key.endswith(".stable_only")]
        assert {name: lab.served(revision, name=name) for name, revision in serving.items()} == counted
        assert (report.success, report.errors) == (1, ())


async def _serve(lab: DeliveryLab, url: str, name: str, weight: str) -> str:
    """Start a delivery that stays at its first weight; the candidate's revision once users reach it."""
    stages = [stage(weight, seconds=600), *([stage("100%")] if weight != "100%" else [])]
    await lab.apply(manifest(NAMESPACE, url, name=name, host=f"{name}.example", stages=stages))
    rollout: AgentRollout = await lab.until(
        lambda r: r.status.stage is not None and r.status.stage.requests > 0, name=name
    )
    assert rollout.status.candidate is not None
    return rollout.status.candidate.revision


async def _nobody_is_sent_to(lab: DeliveryLab, name: str, revision: str) -> None:
    """Return once the router has sent nobody to the revision for three seconds, at one request or more a second before."""
    async with asyncio.timeout(60):
        while True:
            before = lab.served(revision, name=name)
            await asyncio.sleep(3)
            if lab.served(revision, name=name) == before:
                return
