"""``python -m tests.bench.abort``: how long after a person aborts a candidate still gets requests, under load."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

import aiohttp
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from controller.api.action import ActionName
from controller.api.reasons import State
from controller.core.policy import ACTIVATION
from controller.reconcilers.actions import ACTIONS
from controller.runtime.client import ResourceClient
from controller.runtime.transport import KubernetesTransport
from tests.bench.conditions import Quantiles, conditions, headline
from tests.bench.world import delivery_lab
from tests.crds.actions import action
from tests.integration.delivery_lab import DeliveryLab, manifest, stage

ADMIN = "admin"
"""Under this name the API server knows who holds the lab's kubeconfig."""


@dataclass
class Requests:
    """When users began the requests that the candidate answered, and how many there were of all."""

    to_candidate: list[float] = field(default_factory=list)
    sent: int = 0
    failed: int = 0


@asynccontextmanager
async def load(lab: DeliveryLab, per_second: float, candidate: str) -> AsyncIterator[Requests]:
    """Users at a constant rate, each request in a conversation of its own."""
    met, clock = Requests(), asyncio.get_running_loop().time

    async def ask(session: aiohttp.ClientSession) -> None:
        began = clock()
        met.sent += 1
        try:
            headers = {"x-session-id": f"c{random.getrandbits(64):x}"}
            async with session.get(lab.users_url, headers=headers) as answer:
                await answer.read()
                met.failed += answer.status >= 500
                if answer.headers.get("x-upstream") == candidate:
                    met.to_candidate.append(began)
        except aiohttp.ClientError:
            met.failed += 1

    async def serve(session: aiohttp.ClientSession) -> None:
        began, turn = clock(), 0
        async with asyncio.TaskGroup() as group:
            while True:
                turn += 1
                group.create_task(ask(session))
                await asyncio.sleep(max(0.0, began + turn / per_second - clock()))

    async with aiohttp.ClientSession(headers={"host": "agent.example"}) as session:
        task = asyncio.create_task(serve(session))
        try:
            yield met
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def run(aborts: int, per_second: float) -> tuple[list[float], Requests]:
    """Seconds from asking for each abort to the begin of the last request that the candidate answered."""
    found: list[float] = []
    clock = asyncio.get_running_loop().time
    async with delivery_lab(scrape=1) as lab:
        first, second = lab.agent("first"), lab.agent("second")
        stages = [stage("50%", seconds=3600), stage("100%")]
        await lab.apply(manifest(lab.namespace, first.url, stages=stages))
        await lab.until(lambda r: r.status.state is State.STABLE)
        await lab.apply(manifest(lab.namespace, second.url, stages=stages))
        transport = await KubernetesTransport.connect(kubeconfig=str(lab.control_plane.kubeconfig))
        client = ResourceClient(transport, ACTIONS, field_manager="bench")
        # What is older than the policy is refused.
        await asyncio.sleep(ACTIVATION.total_seconds())
        async with load(lab, per_second, "second") as met:
            for attempt in range(1, aborts + 1):
                rollout = await lab.until(lambda r: r.status.programmed == 500_000)
                assert rollout.status.candidate is not None
                artifact = rollout.status.candidate.artifact_id
                await asyncio.sleep(0.5 + random.random())  # at any instant of an interval
                asked = clock()
                await client.create(_named(lab, ActionName.ABORT, artifact, attempt))
                await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
                await asyncio.sleep(2)
                assert met.to_candidate, "the candidate never served"
                found.append(max(met.to_candidate) - asked)
                met.to_candidate.clear()
                await client.create(_named(lab, ActionName.RETRY, artifact, attempt))
        await transport.close()
    return found, met


def _named(lab: DeliveryLab, name: ActionName, artifact: str, attempt: int) -> dict[str, object]:
    wanted = action(name, ADMIN, artifact=artifact)
    return wanted | {"metadata": {"name": f"{name.verb}-{attempt}", "namespace": lab.namespace}}


def main(
    aborts: Annotated[int, typer.Option(help="How many.")] = 50,
    per_second: Annotated[float, typer.Option(help="Requests a second of all users.")] = 300,
) -> None:
    """Measure and print."""
    console = Console()
    before = conditions()
    found, met = asyncio.run(run(aborts, per_second))
    result = Table(title=f"{per_second:g} requests/s, candidate at 50 %", box=box.SIMPLE_HEAD)
    for column in ("seconds from asking to", "n", "p50", "p90", "p99", "max"):
        result.add_column(column)
    result.add_row("the last request that the candidate begins", *Quantiles.of(found).cells(3))
    console.print(headline(before))
    console.print(result)
    console.print(f"{met.failed} of {met.sent} requests failed")


if __name__ == "__main__":
    typer.run(main)
