"""Teams that deliver one version after the other and know how each must end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from random import Random

from controller.api.reasons import ConditionType, State
from controller.api.rollout import AgentRollout
from controller.runtime.backoff import Backoff
from controller.runtime.clock import SystemClock
from controller.runtime.listwatch import Applied, Event, ListFinished
from controller.runtime.resource import RawObject
from controller.runtime.watcher import Watcher, WatcherSettings
from devkit.errors import DevkitError
from devkit.upstream import StaticUpstream
from tests.bench.audit import Breach, audit
from tests.integration.delivery_lab import DeliveryLab, manifest, stage

STAGES = (stage("10%", seconds=4), stage("50%", seconds=3), stage("100%", seconds=3))
FAULT = 0.5
GRACE = timedelta(seconds=5)
"""A version that turned bad within so long before its promotion may have been judged before."""
PATIENCE = 300.0
"""Seconds within which a version must have ended, whatever happens meanwhile."""


class Fate(StrEnum):
    """What becomes of a version, and how its delivery must therefore end."""

    GOOD = "good, promoted"
    BAD = "bad from the start, taken back"
    TURNS_BAD = "turned bad, taken back"


class Team:
    """One AgentRollout and its versions; versions without a fault never fail."""

    def __init__(self, lab: DeliveryLab, name: str, random: Random) -> None:
        self.host = f"{name}.example"
        self._breaches: list[Breach] = []
        self.endings: Counter[str] = Counter()
        self._lab = lab
        self._name = name
        self._random = random
        self._agents = [lab.agent(f"{name}-{number}") for number in range(3)]
        self._stable = self._agents[0]
        self._stories: list[list[RawObject]] = [[]]
        self._delivered = 0
        self._news = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def initialise(self) -> None:
        """The first version, which is stable at once; from then on every version of the object is kept."""
        watcher = Watcher(
            self._lab.rollouts, SystemClock(), WatcherSettings(backoff=Backoff(base=0.1, cap=1))
        )
        self._watching = asyncio.create_task(watcher.run(self._keep))
        await self._apply(self._stable)
        await self._until(lambda r: r.status.state is State.STABLE)

    async def deliver_until(self, ending: float) -> None:
        """One version after the other, until the event loop's clock shows ``ending``."""
        while asyncio.get_running_loop().time() < ending:
            fate = self._random.choices(list(Fate), weights=(5, 2, 3))[0]
            await self.deliver(fate, self._random.randrange(len(STAGES)))

    async def deliver(self, fate: Fate, index: int) -> None:
        """Deliver a version; one that turns bad does so in the stage ``index``."""
        agent = self._random.choice([each for each in self._agents if each is not self._stable])
        before = self._newest
        await asyncio.to_thread(agent.set_failures, FAULT if fate is Fate.BAD else 0)
        await self._apply(agent)
        turning = asyncio.create_task(self._turn_bad(agent, index)) if fate is Fate.TURNS_BAD else None
        try:
            ended = await self._until(lambda r: _ended(r, before))
        except TimeoutError:
            words = f"{fate}: still {self._newest.status.state} after {PATIENCE:g} s"
            self._breaches.append(Breach(7, self._name, words))
            return
        finally:
            if turning:
                turning.cancel()
        promoted = ended.status.state is State.STABLE
        turned_at = turning.result() if turning and turning.done() and not turning.cancelled() else None
        if fate is Fate.TURNS_BAD and (
            turned_at is None or (promoted and _healthy_since(ended) < turned_at + GRACE)
        ):
            fate = (
                Fate.GOOD
            )  # it had passed by the time that it turned, or while nobody could see how far it was
        self.endings[fate] += 1
        if promoted != (fate is Fate.GOOD):
            self._breaches.append(Breach(7, self._name, f"{fate}: ended {ended.status.state}"))
        if promoted:
            self._stable = agent
        await asyncio.to_thread(agent.set_failures, 0)

    async def until_serving(self, index: int) -> None:
        """Return once the routers serve this stage of the running delivery."""
        await self._until(lambda r: _serves(r, index))

    async def close(self) -> None:
        """Watch no more."""
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    def audit(self) -> list[Breach]:
        """What did not hold in all that was seen; asks Prometheus, which must be well again."""
        found = [
            breach
            for story in self._stories
            for breach in audit(self._name, story, lambda *span: self._lab.answered(self._name, *span))
        ]
        return [*self._breaches, *found]

    async def _turn_bad(self, agent: StaticUpstream, index: int) -> datetime:
        await self.until_serving(index)
        await asyncio.to_thread(agent.set_failures, FAULT)
        return datetime.now(UTC)

    async def _apply(self, agent: StaticUpstream) -> None:
        self._delivered += 1
        wanted = manifest(
            self._lab.namespace, agent.url, name=self._name, host=self.host, stages=list(STAGES)
        )
        wanted["spec"]["agent"]["prompts"] = {"system": f"version {self._delivered}"}
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self._lab.apply(wanted)
                except DevkitError:  # as a person would: when the API server is away, again
                    await asyncio.sleep(0.3)
                else:
                    return

    @property
    def _newest(self) -> AgentRollout:
        return AgentRollout.model_validate(next(story for story in reversed(self._stories) if story)[-1])

    async def _until(self, holds: Callable[[AgentRollout], bool]) -> AgentRollout:
        async with asyncio.timeout(PATIENCE):
            while True:
                self._news.clear()
                if self._stories[-1] and holds(self._newest):
                    return self._newest
                await self._news.wait()

    def _keep(self, event: Event) -> None:
        match event:
            case ListFinished() if self._stories[-1]:
                # What was written between the break of the watch and the newest version was not seen.
                self._stories.append([self._stories[-1].pop()])
            case Applied(key, raw) if key == f"{self._lab.namespace}/{self._name}":
                self._stories[-1].append(raw)
                self._news.set()


def _ended(rollout: AgentRollout, before: AgentRollout) -> bool:
    status = rollout.status
    if status.state is State.STABLE:
        return status.stable != before.status.stable
    return status.state is State.ROLLED_BACK and status.last_rollback != before.status.last_rollback


def _healthy_since(rollout: AgentRollout) -> datetime:
    healthy = rollout.status.condition(ConditionType.HEALTHY)
    assert healthy is not None
    return healthy.last_transition_time


def _serves(rollout: AgentRollout, index: int) -> bool:
    stage = rollout.status.stage
    return stage is not None and stage.index == index and stage.programmed_at is not None
