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


async def _until_gone(lab: DeliveryLab) -> None:
    async with asyncio.timeout(90):  # the namespace controller takes its time on a busy machine
        while any(  # noqa: ASYNC110 - happens in another process
            raw["metadata"]["namespace"] == lab.namespace for raw in (await lab.rollouts.list_page()).items
        ):
            await asyncio.sleep(0.1)


async def _status(lab: DeliveryLab, host: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(lab.users_url, headers={"host": host}) as answer,
    ):
        return answer.status


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
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        await lab.apply(manifest(namespace, lab.agent("old").url))
        await lab.until(lambda r: r.status.state is State.STABLE and r.status.programmed == 0)
        assert await _status(lab, "agent.example") == 200
        await asyncio.to_thread(control_plane.kubectl, "delete", "namespace", namespace, "--wait=false")
        await _until_gone(lab)
        assert await _status(lab, "agent.example") == 404
