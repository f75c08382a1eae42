"""Deleted rollouts leave the routers before they leave the API server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from controller.api.reasons import State
from controller.reconcilers.deletion import FINALIZER
from devkit.controlplane import ControlPlane
from tests.integration.delivery_lab import DeliveryLab, manifest, stage

HALF_AND_LONG = [stage("50%", seconds=600), stage("100%")]


async def _answers(lab: DeliveryLab, status: int) -> None:
    """The router answers for the host with this status."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            async with session.get(lab.users_url, headers={"host": "agent.example"}) as answer:
                if answer.status == status:
                    return
            await asyncio.sleep(0.1)


async def test_a_deleted_rollout_takes_its_routes_with_it_and_an_heir_takes_over_its_host(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        old, new, heir = lab.agent("old"), lab.agent("new"), lab.agent("heir")
        await lab.apply(manifest(namespace, old.url))
        await lab.until(lambda r: r.status.state is State.STABLE and r.status.programmed == 0)
        await lab.apply(manifest(namespace, new.url, stages=HALF_AND_LONG))
        await lab.until(lambda r: r.status.programmed == 500_000)
        await lab.apply(manifest(namespace, heir.url, name="heir"))
        refused = await lab.until(lambda r: r.status.state is State.REJECTED, name="heir")
        assert FINALIZER in refused.metadata.finalizers
        await asyncio.to_thread(
            control_plane.kubectl,
            "delete",
            "agentrollout",
            "agent",
            f"--namespace={namespace}",
            "--timeout=20s",
        )
        await lab.until(lambda r: r.status.state is State.STABLE and r.status.programmed == 0, name="heir")
        async with lab.users() as met, asyncio.timeout(20):
            while met.versions.total() < 20:  # noqa: ASYNC110 - happens in another process
                await asyncio.sleep(0.1)
        assert set(met.versions) == {"heir"}


async def test_a_deleted_namespace_goes_and_so_do_its_routes(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Not the operator's own, in which its Lease is: it would stop leading with it."""
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        team = f"{namespace}-team"
        control_plane.kubectl("create", "namespace", team)
        await lab.apply(manifest(team, lab.agent("old").url))
        await _answers(lab, 200)
        assert FINALIZER in (await lab.rollouts.get(f"{team}/agent"))["metadata"]["finalizers"]
        await asyncio.to_thread(control_plane.kubectl, "delete", "namespace", team, "--timeout=60s")
        await _answers(lab, 404)
