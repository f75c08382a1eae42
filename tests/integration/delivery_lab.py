"""A whole delivery on real parts: API server, Prometheus, router Envoy, agents that are Envoys, the operator, users."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import aiohttp

from controller.adapters.envoy.bootstrap import bootstrap
from controller.adapters.envoy.catalogue import CATALOGUE
from controller.adapters.envoy.naming import cluster_name
from controller.api.rollout import AgentRollout
from controller.reconcilers.observed import ROLLOUTS
from controller.replicas import LEASE
from controller.runtime.client import ResourceClient
from controller.runtime.errors import ApiError
from controller.runtime.leader import LEASES
from controller.runtime.transport import KubernetesTransport
from devkit.cluster import Cluster
from devkit.envoy import Envoy
from devkit.process import LOOPBACK, Process, free_port, wait_until
from devkit.prometheus import Prometheus, ScrapeJob
from devkit.service import answers
from devkit.upstream import StaticUpstream
from tests.bench.vegeta import Vegeta, target
from tests.rights import OperatorAccount, chart_rights

Raw = dict[str, Any]

_BEFORE_SECONDS = 60
"""So much before a span, each of its series has a sample."""


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


@dataclass(frozen=True)
class Replica:
    """One operator process and its ports."""

    process: Process
    xds_port: int
    http_port: int

    @property
    def identity(self) -> str:
        """Its name in Leases."""
        return self.process.name

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.process.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it has read everything and serves."""
        ready = f"http://{LOOPBACK}:{self.http_port}/readyz"
        self.process.wait_ready(lambda: answers(ready), timeout=60)

    def log(self) -> list[Raw]:
        """Its log lines."""
        return [json.loads(line) for line in self.process.log.read_text().splitlines() if line[:1] == "{"]


class DeliveryLab:
    """Everything but the API server, which tests share. Several routers share the port that users come to.

    The operators have the rights that the chart gives them, and no others.
    """

    def __init__(
        self,
        control_plane: Cluster,
        namespace: str,
        directory: Path,
        *,
        scrape: float = 0.5,
        replicas: int = 1,
        routers: int = 1,
        access: Mapping[str, Any] | None = None,
        flags: Sequence[str] = (),
        drain_seconds: int = 600,
        xds_port: int = 0,
    ) -> None:
        """Prepare everything; ``access`` goes into the bootstrap of the one router, ``drain_seconds`` to each.

        Where there is an ``xds_port``, routers look for the operator there and nowhere else.
        """
        self.control_plane = control_plane
        self.namespace = namespace
        self._directory = directory
        self.operator_kubeconfig = directory / "operator.kubeconfig"
        self._flags = flags
        self._stack = ExitStack()
        self._access = dict(access or {})
        self._xds_port = xds_port
        self.user_port = free_port()
        ports = [(free_port(), free_port()) for _ in range(replicas)]
        jobs = [
            ScrapeJob("envoy", path="/stats/prometheus"),
            ScrapeJob("again", path="/stats/prometheus"),
            ScrapeJob("operator", tuple(f"{LOOPBACK}:{http}" for _, http in ports)),
        ]
        self.prometheus = self._stack.enter_context(Prometheus(jobs, scrape_interval=scrape))
        self.replicas = [
            Replica(Process(f"operator-{number}", [], directory), xds, http)
            for number, (xds, http) in enumerate(ports)
        ]
        self.use_prometheus(self.prometheus.url)
        for replica in self.replicas:
            self._stack.callback(replica.process.stop)
        self.envoys = [
            self._stack.enter_context(
                Envoy(self._bootstrap(f"router-{number}"), wait_live=False, drain_seconds=drain_seconds)
            )
            for number in range(routers)
        ]

    def _bootstrap(self, node: str) -> Raw:
        """A router that prefers no replica to another."""
        ports = [self._xds_port] if self._xds_port else [replica.xds_port for replica in self.replicas]
        operators = [(LOOPBACK, port) for port in ports]
        return bootstrap(node, operators=operators, **self._access)

    def _operator_command(self, replica: Replica, prometheus_urls: Sequence[str]) -> list[str]:
        return [
            str(Path(sys.executable).with_name("agentrollout")),
            "operator",
            f"--kubeconfig={self.operator_kubeconfig}",
            *(f"--prometheus-url={url}" for url in prometheus_urls),
            f"--xds-address={LOOPBACK}:{replica.xds_port}",
            f"--http-address={LOOPBACK}:{replica.http_port}",
            f"--router-address={LOOPBACK}:{self.user_port}",
            f"--allowed-url-host={LOOPBACK}",
            f"--namespace={self.namespace}",
            f"--identity={replica.identity}",
            *self._flags,
        ]

    async def __aenter__(self) -> Self:
        self._transport = await KubernetesTransport.connect(kubeconfig=str(self.control_plane.kubeconfig))
        self.rollouts = ResourceClient(self._transport, ROLLOUTS, field_manager="tests")
        self.leases = ResourceClient(self._transport, LEASES, field_manager="tests")
        secrets = any(flag.startswith("--secret-hmac-key-file") for flag in self._flags)
        self._account = OperatorAccount(self._transport, self._rights(secrets))
        await self._account.create(self.control_plane.kubeconfig, self.operator_kubeconfig)
        for replica in self.replicas:
            await asyncio.to_thread(replica.start)
        for envoy in self.envoys:
            await asyncio.to_thread(envoy.wait_live)
        self.prometheus.set_targets("envoy", [envoy.admin_address for envoy in self.envoys])
        await asyncio.to_thread(self._wait_until_scraped)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._stack.close)
        # The next test's operator must not meet this one's claims on hosts; where the API server is gone, so are they.
        with contextlib.suppress(ApiError):
            await self._account.remove()
            for raw in (await self.rollouts.list_page()).items:
                if raw["metadata"]["namespace"] == self.namespace:
                    await self._delete_for_good(f"{self.namespace}/{raw['metadata']['name']}")
        await self._transport.close()

    async def _delete_for_good(self, key: str) -> None:
        """The operator that would remove its finalizer is stopped."""
        going = await self.rollouts.delete(key)
        if (going.get("metadata") or {}).get("finalizers"):
            version = going["metadata"]["resourceVersion"]
            await self.rollouts.merge(key, {"metadata": {"finalizers": []}}, resource_version=version)

    def _rights(self, secrets: bool) -> list[Raw]:
        """Objects that tell what the operators may do."""
        return chart_rights(self.namespace, secrets=secrets)

    def _wait_until_scraped(self) -> None:
        query = f"count_over_time({CATALOGUE.liveness}[1m]) >= 2"
        wait_until(
            lambda: len(self.prometheus.query(query)) == len(self.envoys),
            timeout=30,
            what="two scrapes of each router",
        )

    @property
    def operator(self) -> Process:
        """The first replica's process; the only one in most tests."""
        return self.replicas[0].process

    @property
    def http_port(self) -> int:
        """The first replica's HTTP port."""
        return self.replicas[0].http_port

    @property
    def envoy(self) -> Envoy:
        """The first router."""
        return self.envoys[0]

    async def leader(self) -> Replica:
        """The replica that holds the Lease."""
        lease = await self.leases.get(f"{self.namespace}/{LEASE}")
        return next(each for each in self.replicas if each.identity == lease["spec"]["holderIdentity"])

    def use_prometheus(self, *urls: str) -> None:
        """Have the operators, from their next start on, ask another Prometheus, or several."""
        for replica in self.replicas:
            replica.process.command = self._operator_command(replica, urls)

    def start_operator(self) -> None:
        """Start the first replica and wait until it is ready."""
        self.replicas[0].start()

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
        """Requests that the routers have completed with a revision."""
        counter = f"cluster.{cluster_name(f'{self.namespace}/{name}', revision)}.upstream_rq_completed"
        return sum(envoy.counters(f"{counter}$").get(counter, 0) for envoy in self.envoys)

    def stored(self, rollout: AgentRollout) -> int:
        """What Prometheus has stored of the candidate's requests in the span that status says was counted."""
        status = rollout.status
        assert status.candidate
        assert status.stage
        assert status.stage.programmed_at
        assert status.evidence
        assert status.evidence.counted_until
        span = status.stage.programmed_at, status.evidence.counted_until
        return self.answered(rollout.metadata.name, status.candidate.revision, *span)

    def answered(self, name: str, revision: str, start: datetime, end: datetime) -> int:
        """What the routers' stored counters say that a revision answered in a span."""
        cluster = cluster_name(f"{self.namespace}/{name}", revision)
        begun, until, counted = start.timestamp(), end.timestamp(), 0
        window = f"[{until - begun + _BEFORE_SECONDS:.0f}s] @ {until:.3f}"
        scraped = self._changes(f"{CATALOGUE.liveness}{window}")
        for term in CATALOGUE.errors.total:
            changes = self._changes(f'{term.metric}{{{CATALOGUE.label}="{cluster}"}}{window}')
            for router, scrapes in scraped.items():
                # What moved before a router's first scrape in the span may have moved before the span.
                first = min((time for time, _ in scrapes if time >= begun), default=until)
                moved = changes.get(router, [])
                counted += _sum_at(moved, until) - _sum_at(moved, first)
        return counted

    def _changes(self, expression: str) -> dict[str, list[tuple[float, float]]]:
        """For each router the changes of its counter, as (time, by how much); a restarted one begins at 0."""
        changes: dict[str, list[tuple[float, float]]] = {}
        for series in self.prometheus.query(expression):
            before, found = 0.0, changes.setdefault(series["metric"]["instance"], [])
            for time, text in series["values"]:
                value = float(text)
                found.append((float(time), value - before if value >= before else value))
                before = value
        return changes

    def log(self) -> list[Raw]:
        """The first replica's log lines."""
        return self.replicas[0].log()

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
