"""Many deliveries of failing versions side by side, and everything that was seen of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from controller.api.reasons import State
from controller.api.rollout import AgentRollout
from controller.reconcilers.observed import ROLLOUTS
from controller.runtime.client import ResourceClient
from controller.runtime.clock import SystemClock
from controller.runtime.informer import Informer
from controller.runtime.transport import KubernetesTransport
from devkit.upstream import StaticUpstream
from tests.integration.delivery_lab import DeliveryLab, manifest, stage

FAULTS = (0.05, 0.2, 1.0)
_PATIENCE = 300.0


@dataclass(frozen=True)
class Scenario:
    """How the deliveries are set up.

    Attributes:
        name: For people.
        rollbacks: How many in all.
        side_by_side: How many rollouts there are at the same time.
        interval: Seconds between two evaluations.
        scrape: Seconds between two scrapes.
        at_once: Whether the versions are good for two intervals and turn bad all at the same instant; otherwise each
            is bad from its first request on.
        per_second: Requests a second to each rollout.
        weight: The candidate's share of them.
    """

    name: str
    rollbacks: int
    side_by_side: int
    interval: float
    scrape: float
    at_once: bool
    per_second: float = 30
    weight: str = "50%"


@dataclass(frozen=True)
class Delivery:
    """One failing version, as status told its story.

    Attributes:
        key: ``namespace/name`` of the rollout.
        fault: Share of its answers that are failures.
        fault_at: When it could first fail a user.
        states: Every state from its acceptance to its rollback.
        ended: The state after it.
    """

    key: str
    fault: float
    fault_at: datetime
    states: tuple[AgentRollout, ...]
    ended: AgentRollout


@dataclass
class Watched:
    """All states of all rollouts, as a watch delivers them."""

    states: dict[str, list[AgentRollout]] = field(default_factory=lambda: defaultdict(list))
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def seen(self, key: str, _old: AgentRollout | None, new: AgentRollout | None) -> None:
        """Take a state; called by the store."""
        if new is not None:
            self.states[key].append(new)
            asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(self._notify()))

    async def until(self, key: str, holds: Callable[[AgentRollout], object]) -> AgentRollout:
        """The newest state of a rollout once the condition holds for it."""
        async with asyncio.timeout(_PATIENCE), self._changed:
            while not (self.states[key] and holds(self.states[key][-1])):
                await self._changed.wait()
            return self.states[key][-1]

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@asynccontextmanager
async def watched(lab: DeliveryLab) -> AsyncIterator[Watched]:
    """Follow every rollout."""
    transport = await KubernetesTransport.connect(kubeconfig=str(lab.control_plane.kubeconfig))
    client = ResourceClient(transport, ROLLOUTS, field_manager="bench")
    informer: Informer[AgentRollout] = Informer(client, AgentRollout.model_validate, SystemClock())
    story = Watched()
    informer.on_change(story.seen)
    following = asyncio.create_task(informer.run())
    try:
        await informer.wait_for_sync()
        yield story
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await transport.close()


class Fleet:
    """The rollouts of a scenario with the agents that they share: one good, and one for each size of fault."""

    def __init__(self, lab: DeliveryLab, scenario: Scenario, story: Watched) -> None:
        """Start the agents."""
        self._lab = lab
        self._scenario = scenario
        self._story = story
        self._good = lab.agent("good")
        self._bad: dict[float, StaticUpstream] = {fault: lab.agent(f"bad-{fault:g}") for fault in FAULTS}
        self.names = [f"agent-{number}" for number in range(scenario.side_by_side)]

    def hosts(self) -> tuple[str, ...]:
        """Whom users ask for."""
        return tuple(f"{name}.example" for name in self.names)

    async def initialise(self) -> None:
        """Have every rollout serve the good version."""
        for name in self.names:
            await self._apply(name, self._good.url, "the first version")
        for name in self.names:
            await self._story.until(self._key(name), lambda r: r.status.programmed == 0)

    async def deliver_bad_from_the_start(self, done: Callable[[], None]) -> list[Delivery]:
        """One delivery after the other in each rollout, until there are enough."""
        for fault, agent in self._bad.items():
            agent.set_failures(fault)
        left = iter(range(self._scenario.rollbacks))
        found: list[Delivery] = []

        async def keep_delivering(name: str) -> None:
            for number in left:
                fault = FAULTS[number % len(FAULTS)]
                seen = await self._begin(name, fault, f"version {number}")
                found.append(await self._ended(name, fault, None, seen))
                done()

        await asyncio.gather(*(keep_delivering(name) for name in self.names))
        return found

    async def deliver_bad_at_once(self, done: Callable[[], None]) -> list[Delivery]:
        """One delivery in each rollout; all are good for two counted intervals and then fail together."""
        seen = {
            name: await self._begin(name, FAULTS[number % len(FAULTS)], "version 1")
            for number, name in enumerate(self.names)
        }
        for name in self.names:
            await self._story.until(self._key(name), lambda r: r.status.verdict is not None)
        await asyncio.sleep(self._scenario.interval)
        for fault, agent in self._bad.items():
            agent.set_failures(fault)
        at = datetime.now(UTC)

        async def one(number: int, name: str) -> Delivery:
            delivery = await self._ended(name, FAULTS[number % len(FAULTS)], at, seen[name])
            done()
            return delivery

        return list(await asyncio.gather(*(one(number, name) for number, name in enumerate(self.names))))

    async def _begin(self, name: str, fault: float, prompt: str) -> int:
        """Apply a version that will fail; how many states were seen before."""
        seen = len(self._story.states[self._key(name)])
        await self._apply(name, self._bad[fault].url, prompt)
        await self._story.until(self._key(name), lambda r: r.status.candidate is not None)
        return seen

    async def _ended(self, name: str, fault: float, at: datetime | None, seen: int) -> Delivery:
        key = self._key(name)
        ended = await self._story.until(
            key, lambda r: r.status.state is State.ROLLED_BACK and r.status.programmed == 0
        )
        states = tuple(r for r in self._story.states[key][seen:] if r.status.candidate is not None)
        programmed = next(r.status.stage.programmed_at for r in reversed(states) if r.status.stage)
        assert programmed is not None
        return Delivery(key, fault, at or programmed, states, ended)

    async def _apply(self, name: str, url: str, prompt: str) -> None:
        scenario = self._scenario
        wanted = manifest(
            self._lab.namespace,
            url,
            name=name,
            host=f"{name}.example",
            stages=[stage(scenario.weight, seconds=3600), stage("100%")],
            analysis={
                "interval": f"{round(scenario.interval * 1000)}ms",
                "clustering": 1,
                "metrics": [{"name": "errors"}],
            },
        )
        agent: dict[str, Any] = wanted["spec"]["agent"]
        agent["prompts"] = {"system": f"You are {name}, {prompt}."}
        await self._lab.rollouts.apply(wanted)

    def _key(self, name: str) -> str:
        return f"{self._lab.namespace}/{name}"
