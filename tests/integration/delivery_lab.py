"""A whole delivery on real parts: API server, Prometheus, router Envoy, agents that are Envoys, the operator, users."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from controller.adapters.envoy.bootstrap import bootstrap
from controller.adapters.envoy.catalogue import CATALOGUE
from controller.adapters.envoy.naming import cluster_name
from controller.api.rollout import AgentRollout
from controller.reconcilers.observed import ROLLOUTS
from controller.runtime.client import ResourceClient
from controller.runtime.errors import ApiError
from controller.runtime.transport import KubernetesTransport
from devkit.controlplane import ControlPlane
from devkit.envoy import Envoy
from devkit.process import LOOPBACK, Process, free_port, wait_until
from devkit.prometheus import Prometheus, ScrapeJob
from devkit.service import answers
from devkit.upstream import StaticUpstream
from tests.bench.vegeta import Vegeta, target

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
            f"--namespace={self.namespace}",
        ]

    async def __aenter__(self) -> Self:
        self._transport = await KubernetesTransport.connect(kubeconfig=str(self.control_plane.kubeconfig))
        self.rollouts = ResourceClient(self._transport, ROLLOUTS, field_manager="tests")
        await asyncio.to_thread(self.start_operator)
        await asyncio.to_thread(self.envoy.wait_live)
        self.prometheus.set_targets("envoy", [self.envoy.admin_address])
        await asyncio.to_thread(self._wait_until_scraped)
        return self

    async def __aexit__(self, *_: object) -> None:
        # The next test's operator must not meet this one's claims on hosts; where the API server is gone, so are they.
        with contextlib.suppress(ApiError):
            for raw in (await self.rollouts.list_page()).items:
                if raw["metadata"]["namespace"] == self.namespace:
                    await self.rollouts.delete(f"{self.namespace}/{raw['metadata']['name']}")
        await self._transport.close()
        await asyncio.to_thread(self._stack.close)

    def _wait_until_scraped(self) -> None:
        query = f"count_over_time({CATALOGUE.liveness}[1m]) >= 2"
        wait_until(lambda: bool(self.prometheus.query(query)), timeout=30, what="two scrapes of the router")

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

    @property
    def users_url(self) -> str:
        """Where the router takes user traffic."""
        return f"http://{LOOPBACK}:{self.user_port}/"

    def load(
        self, *, per_second: float, conversations: int = 4000, hosts: tuple[str, ...] = ("agent.example",)
    ) -> Vegeta:
        """Users at a constant rate from a process of their own; conversations take turns, as do the hosts."""
        targets = [
            target(self.users_url, host=host, conversation=f"{host}-{number}")
            for number in range(conversations)
            for host in hosts
        ]
        load = Vegeta(self._directory / "load", targets, per_second=per_second)
        self._stack.callback(load.close)
        return load

    def served(self, revision: str, *, name: str = "agent") -> int:
        """Requests that the router has completed with a revision."""
        cluster = cluster_name(f"{self.namespace}/{name}", revision)
        counters = self.envoy.counters(f"cluster.{cluster}.upstream_rq_completed$")
        return counters.get(f"cluster.{cluster}.upstream_rq_completed", 0)

    def stored(self, rollout: AgentRollout) -> int:
        """What Prometheus has stored of the candidate's requests in the span that status says was counted."""
        status = rollout.status
        assert status.candidate
        assert status.stage
        assert status.stage.programmed_at
        assert status.evidence
        assert status.evidence.counted_until
        scrapes = self._samples(CATALOGUE.liveness)
        cluster = cluster_name(rollout.metadata.key, status.candidate.revision)
        total = [
            (time, value)
            for term in CATALOGUE.errors.total
            for time, value in self._samples(f'{term.metric}{{{CATALOGUE.label}="{cluster}"}}')
        ]
        until = status.evidence.counted_until.timestamp()
        begun = status.stage.programmed_at.timestamp()
        start = min((time for time, _ in scrapes if time >= begun), default=until)
        return _sum_at(total, until) - _sum_at(total, start)

    def _samples(self, selector: str) -> list[tuple[float, float]]:
        """Each change of each series, as (time, by how much)."""
        changes = []
        for series in self.prometheus.query(f"{selector}[10m]"):
            before = 0.0
            for time, text in series["values"]:
                changes.append((float(time), float(text) - before))
                before = float(text)
        return changes

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
    async def users(
        self,
        *,
        per_second: float = 150,
        host: str = "agent.example",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Users]:
        """Users in conversations of up to ten turns, until the block ends."""
        met = Users()
        async with aiohttp.ClientSession(headers={"host": host, **(headers or {})}) as session:
            task = asyncio.create_task(self._serve_users(session, met, per_second))
            try:
                yield met
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _serve_users(self, session: aiohttp.ClientSession, met: Users, per_second: float) -> None:
        conversations = [f"c{random.getrandbits(64):x}" for _ in range(100)]
        turn, started = 0, asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            while True:
                turn += 1
                slot = turn % len(conversations)
                if random.random() < 0.1:
                    conversations[slot] = f"c{random.getrandbits(64):x}"
                headers = {"x-session-id": conversations[slot]}
                group.create_task(_ask(session, self.users_url, headers, met))
                await asyncio.sleep(max(0.0, started + turn / per_second - asyncio.get_running_loop().time()))


async def _ask(session: aiohttp.ClientSession, url: str, headers: dict[str, str], met: Users) -> None:
    try:
        async with session.get(url, headers=headers) as answer:
            await answer.read()
            met.statuses[answer.status] += 1
            met.versions[answer.headers.get("x-upstream", "")] += 1
    except aiohttp.ClientError:
        met.broken += 1


def _sum_at(changes: list[tuple[float, float]], instant: float) -> int:
    """What counters that only grow had counted at an instant, to the millisecond of Prometheus' own clock."""
    return round(sum(by for time, by in changes if time <= instant + 0.0005))
