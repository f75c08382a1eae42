"""Electors against a real API server; time runs three times as fast as in production."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from controller.runtime.client import ResourceClient
from controller.runtime.clock import SystemClock
from controller.runtime.election import ElectionSettings, LeaseRecord, Role
from controller.runtime.informer import Informer
from controller.runtime.leader import LEASES, LeaderElector, LeaseLock
from controller.runtime.transport import KubernetesTransport
from devkit.controlplane import ControlPlane

QUICK = ElectionSettings(lease_duration=4.5, renew_deadline=3.0, retry_period=0.6)


@dataclass
class Replica:
    elector: LeaderElector
    task: asyncio.Task[None]

    async def until(self, role: Role) -> None:
        async with asyncio.timeout(30):
            while self.elector.role() is not role:  # noqa: ASYNC110 - roles change by time alone
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def client(control_plane: ControlPlane, namespace: str) -> AsyncIterator[ResourceClient]:
    transport = await KubernetesTransport.connect(kubeconfig=str(control_plane.kubeconfig))
    yield ResourceClient(transport, LEASES, field_manager="tests", namespace=namespace)
    await transport.close()


@asynccontextmanager
async def replicas(client: ResourceClient, namespace: str, *names: str) -> AsyncIterator[list[Replica]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_replica(client, namespace, name)) for name in names]


@asynccontextmanager
async def _replica(client: ResourceClient, namespace: str, name: str) -> AsyncIterator[Replica]:
    clock = SystemClock()
    elector = LeaderElector(LeaseLock(client, namespace, "operator", name), clock=clock, settings=QUICK)

    informer = Informer(client, LeaseRecord.of, clock)
    informer.on_change(lambda _key, _old, new: elector.saw(new))
    watching = asyncio.create_task(informer.run())
    await informer.wait_for_sync()
    replica = Replica(elector, asyncio.create_task(elector.run()))
    try:
        yield replica
    finally:
        await replica.stop()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_one_leads_and_the_others_follow(client: ResourceClient, namespace: str) -> None:
    async with replicas(client, namespace, "a", "b", "c") as (a, b, c):
        await a.until(Role.LEADING)
        await b.until(Role.FOLLOWING)
        await c.until(Role.FOLLOWING)
        assert (await client.get(f"{namespace}/operator"))["spec"]["holderIdentity"] == "a"


async def test_a_leader_that_stops_makes_room_at_once(client: ResourceClient, namespace: str) -> None:
    async with replicas(client, namespace, "a", "b") as (a, b):
        await a.until(Role.LEADING)
        await b.until(Role.FOLLOWING)
        await a.stop()
        assert (await client.get(f"{namespace}/operator"))["spec"]["holderIdentity"] in {"", "b"}
        await b.until(Role.LEADING)
        assert (await client.get(f"{namespace}/operator"))["spec"]["leaseTransitions"] >= 1


async def test_a_leader_that_hangs_is_replaced_after_the_others_went_on_guard(
    client: ResourceClient, namespace: str
) -> None:
    async with replicas(client, namespace, "a", "b") as (a, b):
        await a.until(Role.LEADING)
        await b.until(Role.FOLLOWING)
        seen: list[Role] = []
        b.elector.on_role(lambda _, after: seen.append(after))
        # A process that hangs neither renews nor releases; nor does a task that is never run again.
        a.elector._attempt = asyncio.Event().wait  # type: ignore[assignment,method-assign]
        await b.until(Role.LEADING)
        assert seen == [Role.GUARDING, Role.LEADING]
        assert a.elector.role() is not Role.LEADING


async def test_a_leader_whose_lease_someone_deletes_takes_it_again(
    client: ResourceClient, namespace: str
) -> None:
    async with replicas(client, namespace, "a") as (a,):
        await a.until(Role.LEADING)
        await client.delete(f"{namespace}/operator")
        async with asyncio.timeout(30):
            while True:
                leases = (await client.list_page()).items
                if [lease["spec"]["holderIdentity"] for lease in leases] == ["a"]:
                    break
                await asyncio.sleep(0.05)
        await a.until(Role.LEADING)
