"""Versions turn bad while the API server is away; it is one of their own, so that no other test misses it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp

from controller.api.reasons import State
from devkit.controlplane import ControlPlane
from devkit.process import LOOPBACK
from tests.bench.world import NAMESPACE
from tests.integration.delivery_lab import DeliveryLab, Raw, Users, manifest, stage
from tests.waiting import eventually


async def test_a_version_is_cut_while_the_api_server_is_gone_and_status_shows_it_once_it_is_back(
    own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    async with DeliveryLab(own_control_plane, NAMESPACE, tmp_path) as lab:
        new = lab.agent("new")
        await _deliver(lab, new.url)
        async with lab.users() as met:
            await lab.until(lambda r: r.status.stage is not None and r.status.stage.requests >= 20)
            own_control_plane.api_server.kill()
            new.set_failures(0.5)
            await _cut(lab)
            await _nobody_reaches_the_candidate(met)
            assert len(_logged(lab, "cut_pushed")) == 1
            await asyncio.to_thread(_back, own_control_plane)
            ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
        assert ended.status.last_rollback
        assert "worse than stable" in ended.status.last_rollback.message
        assert len(_logged(lab, "cut_pushed")) == 1


async def test_the_watch_over_a_candidate_does_not_slacken_while_the_api_server_stays_away(
    own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    async with DeliveryLab(own_control_plane, NAMESPACE, tmp_path) as lab:
        new = lab.agent("new")
        await _deliver(lab, new.url)
        async with lab.users():
            await lab.until(lambda r: r.status.stage is not None and r.status.stage.requests >= 20)
            own_control_plane.api_server.kill()
            evaluated = await _reconciles(lab)
            async with asyncio.timeout(30):
                while await _reconciles(lab) < evaluated + 10:  # noqa: ASYNC110 - in another process
                    await asyncio.sleep(0.5)
            new.set_failures(0.5)
            await _cut(lab, within=10)
            await asyncio.to_thread(_back, own_control_plane)
            await lab.until(lambda r: r.status.state is State.ROLLED_BACK)


async def _deliver(lab: DeliveryLab, url: str) -> None:
    await lab.apply(manifest(NAMESPACE, lab.agent("old").url))
    await lab.until(lambda r: r.status.state is State.STABLE)
    stages = [stage("50%", seconds=600), stage("100%")]
    await lab.apply(manifest(NAMESPACE, url, stages=stages))


async def _cut(lab: DeliveryLab, *, within: float = 30) -> None:
    """The router has acknowledged a cut."""
    await eventually(
        lambda: any(line["seconds_since_cut"] is not None for line in _acknowledged(lab)), within
    )


async def _nobody_reaches_the_candidate(met: Users) -> None:
    """Of a few hundred requests that are sent from now on."""
    await asyncio.sleep(0)
    for _ in range(2):  # answers that were under way end first
        served, all_served = met.versions["new"], met.versions.total()
        await eventually(lambda: met.versions.total() >= all_served + 200, 30)  # noqa: B023
    assert met.versions["new"] == served


async def _reconciles(lab: DeliveryLab) -> int:
    """How often the operator has looked at a rollout."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{lab.http_port}/metrics") as answer,
    ):
        text = await answer.text()
    return sum(
        int(float(n))
        for n in re.findall(r"^controller_runtime_reconcile_total\{.*\} (\S+)$", text, re.MULTILINE)
    )


def _acknowledged(lab: DeliveryLab) -> list[Raw]:
    return _logged(lab, "split_acknowledged")


def _logged(lab: DeliveryLab, event: str) -> list[Raw]:
    return [line for line in lab.log() if line["event"] == event]


def _back(control_plane: ControlPlane) -> None:
    control_plane.api_server.start()
    control_plane.wait_ready()
