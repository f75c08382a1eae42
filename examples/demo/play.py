"""Plays the acts: applies each version, waits for its end, and says what came of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.adapters.prometheus import PrometheusSource
from controller.api.reasons import ConditionType
from controller.api.rollout import AgentRollout
from controller.api.shadow import SHADOW
from controller.api.status import MetricStatus
from devkit.errors import DevkitError
from examples.demo import versions
from examples.demo.acts import Act, Ending, ending, is_rejected, is_stable, latency_limit, shortcomings
from examples.demo.errors import DemoError
from examples.demo.observations import Observations
from examples.demo.operator_log import first_after
from examples.demo.replay import sufficient_since
from examples.demo.result import ActResult, TakenBack
from examples.demo.story import Story
from examples.demo.users import Users
from examples.demo.watch import RolloutWatch, describe
from examples.demo.world import World

_START_SECONDS = 30.0
_SETTLE_SECONDS = 15.0
_QUIET_SECONDS = 3.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Play:
    """What the acts are played with."""

    world: World
    watch: RolloutWatch
    story: Story
    users: Users
    observations: Observations

    async def begin(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Let the first version take over and the users in; the tasks go on until they are cancelled.

        Raises:
            DemoError: If the first version does not become stable, or does not answer.
            DevkitError: If its agent does not start or the API server refuses the AgentRollout.
        """
        first = versions.first()
        await asyncio.to_thread(self.world.start_agent, first)
        await asyncio.to_thread(self.world.apply, first)
        running = [tasks.create_task(self.watch.run())]
        what = f"{first.name} to become stable"
        await self.watch.until(is_stable, seconds=_START_SECONDS, what=what, check=self.world.check)
        running.append(tasks.create_task(self.users.run()))
        await self._observe(
            lambda: self.observations.of(first.name).requests >= 100, f"answers of {first.name}"
        )
        await self._observe(self.world.is_scraped, "Prometheus to have scraped Envoy twice")
        self.story.note(f"users talk to {first.name} through Envoy")
        return running

    async def act(self, act: Act) -> ActResult:
        """Play one act; whatever goes wrong is in the result."""
        chapter = self.story.begin(act)
        self.observations.slow_seconds = math.inf
        requests, failed = self.observations.requests, self.observations.failed
        ended: Ending | None = None
        taken_back, metric, problem = None, "", ""
        try:
            rollout, ended = await self._deliver(act)
            met = self.observations.of(act.version.name).requests
            problem = shortcomings(act, rollout, ended, chapter.stages_seen, met)
            if ended is Ending.TAKEN_BACK and rollout.status.last_rollback:
                metric = rollout.status.last_rollback.metric
                taken_back = None if act.shadow else await self._taken_back(rollout)
            await self._settle(act, ended)
        except (DemoError, DevkitError) as error:
            problem = f"{problem} {error}".strip()
        return ActResult(
            act=act,
            began=chapter.began,
            ended=datetime.now(UTC),
            ending=ended,
            problem=problem,
            events=tuple(chapter.events),
            met=self.observations.of(act.version.name),
            requests=self.observations.requests - requests,
            failed=self.observations.failed - failed,
            taken_back=taken_back,
            metric=metric,
            slow_seconds=self.observations.slow_seconds,
            compared=self._compared() if act.shadow else None,
        )

    async def _deliver(self, act: Act) -> tuple[AgentRollout, Ending]:
        before = self.watch.rollout
        if before is None:
            raise DemoError("The AgentRollout was never seen.")
        await asyncio.to_thread(self.world.start_agent, act.version)
        # Before it runs: what it causes may be seen before it returns.
        self.story.note(f"kubectl apply with {act.version.name}")
        generation = await asyncio.to_thread(self.world.apply, act.version, act.shadow)

        def is_over(now: AgentRollout) -> bool:
            return is_rejected(now, generation) or ending(before.status, now.status) is not None

        what = f"{act.version.name} to be {act.expectation}"
        judged = await self.watch.until(
            lambda now: latency_limit(now) > 0 or is_over(now),
            seconds=act.seconds,
            what=what,
            check=self.world.check,
        )
        self.observations.slow_seconds = latency_limit(judged) or math.inf
        rollout = await self.watch.until(is_over, seconds=act.seconds, what=what, check=self.world.check)
        ended = ending(before.status, rollout.status)
        if ended is None:
            raise DemoError(f"{act.version.name} was not accepted: {describe(rollout)}")
        return rollout, ended

    async def _taken_back(self, rollout: AgentRollout) -> TakenBack | None:
        record, last = rollout.status.last_rollback, self.story.last_with_candidate
        if record is None or last is None:
            return None
        source = PrometheusSource(self.world.prometheus.url)
        try:
            sufficient = await sufficient_since(source, last, record.at)
        finally:
            await source.close()
        log = self.world.operator.log
        acknowledged = await asyncio.to_thread(
            first_after, log, "split_acknowledged", rollout.metadata.key, record.at
        )
        programmed = rollout.status.condition(ConditionType.PROGRAMMED)
        if acknowledged is None and programmed is not None:
            # Status says it as well, later by the time that writing it takes.
            acknowledged = max(programmed.last_transition_time, record.at)
        return TakenBack(sufficient, record.at, acknowledged or record.at)

    def _compared(self) -> MetricStatus | None:
        last = self.story.last_with_candidate
        analysis = last.status.analysis if last else []
        return next((metric for metric in analysis if metric.name == SHADOW), None)

    async def _settle(self, act: Act, ended: Ending) -> None:
        """Wait until users see what the product says."""
        name = act.version.name
        if ended is Ending.PROMOTED:
            await self._observe(lambda: self._shares() == {name: 1.0}, f"everyone to be answered by {name}")
        else:
            await self._observe(lambda: self._quiet(name), f"the last answer of {name}")

    def _shares(self) -> dict[str, float]:
        return self.observations.recent(datetime.now(UTC)).shares

    def _quiet(self, version: str) -> bool:
        last = self.observations.of(version).last_at
        return last is None or (datetime.now(UTC) - last).total_seconds() > _QUIET_SECONDS

    async def _observe(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                while not condition():
                    self.world.check()
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            recent = self.observations.recent(datetime.now(UTC))
            raise DemoError(
                f"Waited {_SETTLE_SECONDS:g} s for {what} in vain; in the last 5 s users had {recent.shares}, "
                f"{recent.failed} failed."
            ) from error
