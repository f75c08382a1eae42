"""Wall-clock schedules."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from controller.adapters.cron import Cron
from tests.waiting import eventually


async def test_a_daily_job_is_due_within_a_quarter_of_an_hour_after_its_hour() -> None:
    cron = Cron()

    async def job() -> None:
        raise AssertionError

    cron.daily("clean", 3, job)
    running = asyncio.create_task(cron.run())
    await asyncio.sleep(0)
    due: datetime = cron._scheduler.get_job("clean").next_run_time
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert due.tzinfo is UTC
    assert due > datetime.now(UTC)
    assert abs((due.hour * 60 + due.minute) - 3 * 60) <= 16


async def test_a_job_that_fails_is_logged_and_does_not_end_the_schedule() -> None:
    cron, done = Cron(), asyncio.Event()

    async def bad() -> None:
        raise ZeroDivisionError

    async def good() -> None:
        done.set()

    cron.daily("bad", 3, bad)
    cron.daily("good", 3, good)
    running = asyncio.create_task(cron.run())
    await asyncio.sleep(0)
    with capture_logs() as logs:
        for name in ("bad", "good"):
            cron._scheduler.get_job(name).modify(next_run_time=datetime.now(UTC))
        await asyncio.wait_for(done.wait(), 10)
        await eventually(lambda: bool(logs))
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert logs[0]["event"] == "scheduled_job_failed"
    assert logs[0]["job"] == "bad"
