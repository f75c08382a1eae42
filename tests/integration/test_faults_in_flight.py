"""Answers that are under way when their version's cluster leaves the router are not cut unless the rollout says so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from controller.adapters.envoy.naming import cluster_name
from controller.api.reasons import State
from devkit.controlplane import ControlPlane
from devkit.process import LOOPBACK, free_port
from tests.integration.delivery_lab import DeliveryLab, manifest, stage

HALVES = (b"the first half, ", b"and the second")


@dataclass
class PatientAgent:
    """Answers at once, but for the second half of answers to requests with ``x-hold``: those await ``release``."""

    name: str
    port: int = field(default_factory=free_port)
    failures: float = 0.0
    held: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        headers = {"x-upstream": self.name}
        if "x-hold" not in request.headers:
            return web.Response(status=500 if random.random() < self.failures else 200, headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(HALVES[0])
        self.held += 1
        await self.release.wait()
        await response.write(HALVES[1])
        return response


@asynccontextmanager
async def patient_agents(*names: str) -> AsyncIterator[list[PatientAgent]]:
    agents, runners = [PatientAgent(name) for name in names], []
    try:
        for agent in agents:
            app = web.Application()
            app.router.add_get("/", agent.answer)
            runners.append(web.AppRunner(app, shutdown_timeout=0.1))
            await runners[-1].setup()
            await web.TCPSite(runners[-1], LOOPBACK, agent.port).start()
        yield agents
    finally:
        for agent in agents:
            agent.release.set()
        for runner in runners:
            await runner.cleanup()


@asynccontextmanager
async def requests_held_at(lab: DeliveryLab, agent: PatientAgent) -> AsyncIterator[asyncio.Task[bytes]]:
    """A user's request, the answer to which ``agent`` has begun."""
    tasks: list[asyncio.Task[bytes]] = []
    async with aiohttp.ClientSession(headers={"host": "agent.example", "x-hold": "yes"}) as session:
        try:
            async with asyncio.timeout(30):
                while not agent.held:
                    tasks.append(asyncio.create_task(_ask(session, lab.users_url, f"held-{len(tasks)}")))
                    await asyncio.sleep(0.05)
            yield asyncio.create_task(_all(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(session: aiohttp.ClientSession, url: str, conversation: str) -> bytes:
    async with session.get(url, headers={"x-session-id": conversation}) as answer:
        return await answer.read()


async def _all(tasks: list[asyncio.Task[bytes]]) -> bytes:
    answers = set(await asyncio.gather(*tasks))
    assert len(answers) == 1
    return answers.pop()


async def _cluster_gone(lab: DeliveryLab, revision: str) -> None:
    cluster = cluster_name(f"{lab.namespace}/agent", revision)
    async with asyncio.timeout(30):
        while await asyncio.to_thread(_has_cluster, lab, cluster):  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.1)


def _has_cluster(lab: DeliveryLab, cluster: str) -> bool:
    return f"{cluster}::" in lab.envoy.admin_get("/clusters").text


async def test_an_answer_of_the_old_version_survives_its_removal_after_a_promotion(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with (
        patient_agents("old", "new") as (old, new),
        DeliveryLab(control_plane, namespace, tmp_path) as lab,
    ):
        await lab.apply(manifest(namespace, old.url))
        first = await lab.until(lambda r: r.status.state is State.STABLE and r.status.programmed == 0)
        assert first.status.stable
        async with requests_held_at(lab, old) as answer, lab.users():
            stages = [stage("50%", seconds=1), stage("100%", seconds=1)]
            await lab.apply(manifest(namespace, new.url, stages=stages))
            await lab.until(
                lambda r: r.status.state is State.STABLE and r.status.stable != first.status.stable
            )
            await _cluster_gone(lab, first.status.stable.revision)
            assert not answer.done()
            old.release.set()
            assert await asyncio.wait_for(answer, 10) == b"".join(HALVES)


async def test_an_answer_of_the_candidate_survives_its_removal_after_a_rollback(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with (
        patient_agents("old", "new") as (old, new),
        DeliveryLab(control_plane, namespace, tmp_path) as lab,
    ):
        await lab.apply(manifest(namespace, old.url))
        await lab.until(lambda r: r.status.state is State.STABLE and r.status.programmed == 0)
        await lab.apply(manifest(namespace, new.url, stages=[stage("50%"), stage("100%")]))
        serving = await lab.until(lambda r: r.status.programmed == 500_000)
        assert serving.status.candidate
        async with requests_held_at(lab, new) as answer, lab.users():
            new.failures = 0.5
            await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
            await _cluster_gone(lab, serving.status.candidate.revision)
            assert not answer.done()
            old.release.set()
            new.release.set()
            assert await asyncio.wait_for(answer, 10) == b"".join(HALVES)


async def test_an_answer_of_the_candidate_ends_with_a_rollback_that_cuts(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with (
        patient_agents("old", "new") as (old, new),
        DeliveryLab(control_plane, namespace, tmp_path, drain_seconds=0) as lab,
    ):
        cut: dict[str, Any] = {"inFlight": {"onRollback": "Cut"}}
        await lab.apply(manifest(namespace, old.url, **cut))
        await lab.until(lambda r: r.status.state is State.STABLE and r.status.programmed == 0)
        await lab.apply(manifest(namespace, new.url, stages=[stage("50%"), stage("100%")], **cut))
        await lab.until(lambda r: r.status.programmed == 500_000)
        async with requests_held_at(lab, new) as answer, lab.users():
            old.release.set()
            new.failures = 0.5
            await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
            with pytest.raises(aiohttp.ClientPayloadError):
                await asyncio.wait_for(answer, 10)
