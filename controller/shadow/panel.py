"""The judges of this process, each of which has to show that it is fit before it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from prometheus_client import CollectorRegistry, Gauge

from controller.adapters.judges.loading import JudgeHandle, judge_named
from controller.core.agents import FIT, MEASURED
from controller.core.shadow.comparison import Case
from controller.core.shadow.exchange import Subject
from controller.core.shadow.health import MEASURES, Health
from controller.core.shadow.judgement import JudgeError, Judgement
from controller.runtime.clock import Clock
from controller.shadow.heard import Heard

TRY_AGAIN_SECONDS = 300.0
"""After a check that failed for reasons that pass, such as an endpoint that is down."""

_log = structlog.get_logger(__name__)

Check = Callable[[JudgeHandle], Awaitable[Health]]


class JudgePanel:
    """See ``controller.shadow.worker.Panel``. A case waits until its judge was checked for the first time.

    Args:
        handles: Judges by name.
        check: Examines one.
        registry: Where to show how they did.
        clock: Source of time.
    """

    def __init__(
        self, handles: Mapping[str, JudgeHandle], check: Check, registry: CollectorRegistry, clock: Clock
    ) -> None:
        """No judge is fit yet."""
        self._handles, self._check, self._clock = handles, check, clock
        self._health: dict[str, Health] = {}
        self._checked = {name: asyncio.Event() for name in handles}
        self._subjects = Heard[tuple[str, str, str]](clock.monotonic)
        labels = ["rollout", "revision", "judge", "artifact"]
        self._fit = Gauge(FIT, "Whether the judge is fit.", labels, registry=registry)
        self._measure = Gauge(
            MEASURED, "How the judge did on labelled pairs.", [*labels, "measure"], registry=registry
        )

    async def run(self) -> None:
        """Check all judges, and those again that may only have had bad luck, until cancelled."""
        await self.check_all()
        while True:
            await self._clock.sleep(TRY_AGAIN_SECONDS)
            for name, health in list(self._health.items()):
                if not health.fit and health.transient:
                    await self._check_one(name)

    async def check_all(self) -> None:
        """Check every judge, whatever it was found to be before."""
        for name in self._handles:
            await self._check_one(name)

    def know(self, subject: Subject) -> None:
        """Show how the subject's judge did."""
        key = subject.rollout, subject.candidate, subject.judge
        if self._subjects.note(key):
            self._show(*key)

    def forget_old(self, seconds: float) -> None:
        """No longer show it for what nothing was heard of for so long."""
        for key in self._subjects.forget(seconds):
            labels = (*key, self._artifact(key[-1]))
            self._fit.remove(*labels)
            for measure in MEASURES:
                self._measure.remove(*labels, measure)

    def artifact(self, case: Case) -> str:
        """See ``Panel.artifact``."""
        return self._artifact(case.subject.judge)

    async def judge(self, case: Case) -> Judgement:
        """See ``Judge.judge``."""
        self.know(case.subject)
        handle = judge_named(self._handles, case.subject.judge)
        await self._checked[handle.name].wait()
        health = self._health[handle.name]
        if not health.fit:
            raise JudgeError(f"The judge {handle.name} is not fit: {health.problem}")
        return await handle.judge.judge(case)

    def _artifact(self, name: str) -> str:
        handle = self._handles.get(name)
        return handle.judge.artifact_id if handle else ""

    async def _check_one(self, name: str) -> None:
        health = await self._check(self._handles[name])
        self._health[name] = health
        self._checked[name].set()
        for key in self._subjects:
            if key[-1] == name:
                self._show(*key)
        told = _log.info if health.fit else _log.warning
        told(
            "judge_checked",
            judge=name,
            artifact=self._artifact(name),
            problem=health.problem,
            **health.measures,
        )

    def _show(self, rollout: str, revision: str, judge: str) -> None:
        labels = rollout, revision, judge, self._artifact(judge)
        health = self._health.get(judge)
        if health is None:
            if judge not in self._handles:
                self._fit.labels(*labels).set(0)
            return
        self._fit.labels(*labels).set(health.fit)
        for measure, value in health.measures.items():
            self._measure.labels(*labels, measure).set(value)
