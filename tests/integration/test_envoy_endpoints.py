"""Endpoints of Services with a real Envoy: they change apart from the split, and clusters are warm before they serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from controller.core.traffic import Backend, Endpoint, ServicePort
from devkit.process import LOOPBACK
from tests.integration.envoy_lab import Agent, Answer, Lab, arms, eventually, fetch, table


class Endpoints:
    """Says what it is told, port by port."""

    def __init__(self) -> None:
        self.ports: dict[str, tuple[int, ...]] = {}
        self._callbacks: list[Callable[[str], None]] = []

    def set(self, service: str, *agents: Agent) -> None:
        self.ports[service] = tuple(agent.port for agent in agents)
        for callback in self._callbacks:
            callback(service)

    def endpoints(self, service: ServicePort) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(LOOPBACK, port) for port in self.ports.get(service.key, ()))

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._callbacks.append(callback)


def behind(service: str, name: str) -> Backend:
    return Backend(name, f"sha256:{name}", f"{service}.svc", 80, service=ServicePort(service, 80))


async def until(lab: Lab, wanted: Callable[[Answer], bool]) -> Answer:
    answer = await eventually(lambda: fetch(lab.user_port), wanted)
    assert wanted(answer), answer.status
    return answer


async def test_a_service_with_nothing_behind_it_is_programmed_and_serves_as_soon_as_something_is() -> None:
    endpoints = Endpoints()
    async with arms() as (one, two), Lab(endpoints=endpoints) as lab:
        first = table(behind("shop/v1", "stable"))
        await lab.start(first)
        acknowledged = lab.router.programmed("shop/agent").acknowledged_at
        assert (await fetch(lab.user_port)).status == 503
        endpoints.set("shop/v1", one)
        await until(lab, lambda answer: answer.served_by == "stable")
        endpoints.set("shop/v1", two)
        await until(lab, lambda answer: answer.served_by == "candidate")
        endpoints.set("shop/v1")
        await until(lab, lambda answer: answer.status == 503)
        assert lab.router.programmed("shop/agent").acknowledged_at == acknowledged


async def test_several_endpoints_share_the_requests() -> None:
    endpoints = Endpoints()
    async with arms() as (one, two), Lab(endpoints=endpoints) as lab:
        endpoints.set("shop/v1", one, two)
        await lab.start(table(behind("shop/v1", "stable")))
        served = {(await fetch(lab.user_port)).served_by for _ in range(40)}
        assert served == {"stable", "candidate"}


async def test_a_cluster_that_a_restarted_operator_changes_is_warm_at_once() -> None:
    endpoints = Endpoints()
    async with arms() as (stable, candidate), Lab(endpoints=endpoints) as lab:
        endpoints.set("shop/v1", stable)
        endpoints.set("shop/v2", candidate)
        split = table(behind("shop/v1", "stable"), behind("shop/v2", "candidate"), 1_000_000)
        await lab.start(split)
        await lab.router.stop(0)
        lab.new_router(connect_timeout=timedelta(seconds=3))
        back = replace(split, weight_ppm=0)
        lab.router.publish(back)
        await lab.start()
        await lab.programmed(back, timeout=10)
        assert (await fetch(lab.user_port)).served_by == "stable"

        async def warming() -> str:
            dump = await asyncio.to_thread(
                lab.envoys[0].admin_get, "/config_dump", resource="dynamic_warming_clusters"
            )
            return dump.text

        # Left to itself Envoy would wait for 15 s before it takes endpoints that it has had.
        assert "shop/" not in await eventually(warming, lambda text: "shop/" not in text, timeout=8)
