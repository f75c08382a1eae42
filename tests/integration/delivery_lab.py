"""A whole delivery on real parts: API server, Prometheus, router Envoy, agents that are Envoys, the operator, users."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from controller.adapters.envoy.bootstrap import bootstrap
from controller.api.rollout import AgentRollout
from controller.reconcilers.observed import ROLLOUTS
from controller.runtime.client import ResourceClient
from controller.runtime.transport import KubernetesTransport
from devkit.controlplane import ControlPlane
from devkit.envoy import Envoy
from devkit.process import LOOPBACK, Process, free_port
from devkit.prometheus import Prometheus, ScrapeJob
from devkit.service import answers
from devkit.upstream import StaticUpstream

Raw = dict[str, Any]


def stage(weight: str, *, seconds: float = 2, requests: int = 20) -> Raw:
    return {"weight": weight, "minDuration": f"{round(seconds * 1000)}ms", "minRequests": requests}


def manifest(
    namespace: str, url: str, *, name: str = "agent", host: str = "agent.example", **spec: Any
) -> Raw:
    """An AgentRollout with short stages; failures of the Envoy agents are independent, hence clustering 1."""
    return {
        "apiVersion": "agentrollout.dev/v1alpha1",
        "kind": "AgentRollout",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "agent": {"code": {"url": url}, "prompts": {"system": f"You are served at {url}."}},
            "traffic": {"envoy": {"hosts": [host]}},
            "stages": [stage("10%"), stage("50%"), stage("100%")],
            "analysis": {"interval": "1s", "clustering": 1, "metrics": [{"name": "errors"}]},
            **spec,
        },
    }


@dataclass
class Users:
    """What users met so far."""

    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    broken: int = 0

    @property
    def failed(self) -> int:
        """Requests without an answer, and answers of 5xx."""
        return self.broken + sum(count for status, count in self.statuses.items() if status >= 500)


class DeliveryLab:
    """Everything but the API server, which tests share."""

    def __init__(
        self, control_plane: ControlPlane, namespace: str, directory: Path, *, scrape: float = 0.5
    ) -> None:
        self.control_plane = control_plane
        self.namespace = namespace
        self._directory = directory
        self._stack = ExitStack()
        self._ports = xds, self.http_port, self.user_port = free_port(), free_port(), free_port()
        jobs = [ScrapeJob("envoy", path="/stats/prometheus")]
        self.prometheus = self._stack.enter_context(Prometheus(jobs, scrape_interval=scrape))
        self.envoy = self._stack.enter_context(
            Envoy(bootstrap("router-0", xds_host=LOOPBACK, xds_port=xds), wait_live=False)
        )
        self.operator = Process("operator", self._operator_command(self.prometheus.url), directory)
        self._stack.callback(self.operator.stop)

    def _operator_command(self, prometheus_url: str) -> list[str | Path]:
        xds, http, users = (f"{LOOPBACK}:{port}" for port in self._ports)
        return [
            Path(sys.executable).with_name("agentrollout"),
            "operator",
            f"--kubeconfig={self.control_plane.kubeconfig}",
            f"--prometheus-url={prometheus_url}",
            f"--xds-address={xds}",
            f"--http-address={http}",
            f"--router-address={users}",
            f"--allowed-url-host={LOOPBACK}",
        ]

    async def __aenter__(self) -> Self:
        self._transport = await KubernetesTransport.connect(kubeconfig=str(self.control_plane.kubeconfig))
        self.rollouts = ResourceClient(self._transport, ROLLOUTS, field_manager="tests")
        await asyncio.to_thread(self.start_operator)
        await asyncio.to_thread(self.envoy.wait_live)
        self.prometheus.set_targets("envoy", [self.envoy.admin_address])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()
        await asyncio.to_thread(self._stack.close)

    def use_prometheus(self, url: str) -> None:
        """Have the operator, from its next start on, ask another Prometheus."""
        self.operator.command = [str(part) for part in self._operator_command(url)]

    def start_operator(self) -> None:
        """Start the operator and wait until it is ready."""
        self.operator.start()
        ready = f"http://{LOOPBACK}:{self.http_port}/readyz"
        self.operator.wait_ready(lambda: answers(ready), timeout=30)

    def agent(self, name: str) -> StaticUpstream:
        """Start an agent."""
        return self._stack.enter_context(StaticUpstream(name))

    def log(self) -> list[Raw]:
        """The operator's log lines."""
        return [
            json.loads(line) for line in self.operator.log.read_text().splitlines() if line.startswith("{")
        ]

    async def apply(self, wanted: Raw) -> None:
        """Apply as a user would."""
        await asyncio.to_thread(self.control_plane.kubectl, "apply", "-f", "-", input=json.dumps(wanted))

    async def get(self, name: str = "agent") -> AgentRollout:
        """The rollout as stored."""
        return AgentRollout.model_validate(await self.rollouts.get(f"{self.namespace}/{name}"))

    async def until(
        self, holds: Callable[[AgentRollout], object], *, timeout: float = 60, name: str = "agent"
    ) -> AgentRollout:
        """The rollout as soon as the condition holds."""
        async for rollout in self.history(name=name, timeout=timeout):
            if holds(rollout):
                return rollout
        raise AssertionError("unreachable")

    async def history(self, *, name: str = "agent", timeout: float = 60) -> AsyncIterator[AgentRollout]:
        """Every state of the rollout that polling sees."""
        seen = ""
        rollout = await self.get(name)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    rollout = await self.get(name)
                    if rollout.metadata.resource_version != seen:
                        seen = rollout.metadata.resource_version
                        yield rollout
                    await asyncio.sleep(0.05)
        except TimeoutError:
            state = rollout.status.model_dump_json(indent=1, exclude_none=True)
            raise AssertionError(f"not within {timeout:g} s; last seen: {state}") from None

    @asynccontextmanager
    async def users(self, *, per_second: float = 150, host: str = "agent.example") -> AsyncIterator[Users]:
        """Users in conversations of up to ten turns, until the block ends."""
        met = Users()
        async with aiohttp.ClientSession() as session:
            task = asyncio.create_task(self._serve_users(session, met, per_second, host))
            try:
                yield met
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _serve_users(
        self, session: aiohttp.ClientSession, met: Users, per_second: float, host: str
    ) -> None:
        conversations = [f"c{random.getrandbits(64):x}" for _ in range(100)]
        url, turn, started = f"http://{LOOPBACK}:{self.user_port}/", 0, asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            while True:
                turn += 1
                slot = turn % len(conversations)
                if random.random() < 0.1:
                    conversations[slot] = f"c{random.getrandbits(64):x}"
                headers = {"host": host, "x-session-id": conversations[slot]}
                group.create_task(_ask(session, url, headers, met))
                await asyncio.sleep(max(0.0, started + turn / per_second - asyncio.get_running_loop().time()))


async def _ask(session: aiohttp.ClientSession, url: str, headers: dict[str, str], met: Users) -> None:
    try:
        async with session.get(url, headers=headers) as answer:
            await answer.read()
            met.statuses[answer.status] += 1
            met.versions[answer.headers.get("x-upstream", "")] += 1
    except aiohttp.ClientError:
        met.broken += 1
