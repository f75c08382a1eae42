"""Wall-clock schedules: what is to happen once a day."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

_SPREAD_SECONDS = 900
"""Several processes do not begin at the same instant."""

_log = structlog.get_logger(__name__)


class Cron:
    """Runs jobs by the clock, in UTC. A job that is still running is not started again; one that fails is logged."""

    def __init__(self) -> None:
        """Without jobs."""
        self._scheduler = AsyncIOScheduler(timezone=UTC)

    def daily(self, name: str, hour: int, job: Callable[[], Awaitable[None]]) -> None:
        """Run the job every day in the quarter of an hour after ``hour``."""

        async def run() -> None:
            try:
                await job()
            except Exception:  # noqa: BLE001  the next day's run is to come all the same
                _log.exception("scheduled_job_failed", job=name)

        trigger = CronTrigger(hour=hour, timezone=UTC, jitter=_SPREAD_SECONDS)
        self._scheduler.add_job(
            run, trigger, id=name, name=name, coalesce=True, max_instances=1, misfire_grace_time=3600
        )

    async def run(self) -> None:
        """Keep the schedule until cancelled."""
        self._scheduler.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._scheduler.shutdown(wait=False)
