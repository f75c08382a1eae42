"""The clock on the wall: what is to happen once a day, and when weight may rise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from controller.api.windows import Window
from controller.core.snapshot import Opening

_SPREAD_SECONDS = 900
"""Several processes do not begin at the same instant."""

_HORIZON = timedelta(days=5 * 366)
"""29 February comes within it; what comes later, or never as 30 February, is not waited for."""

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""As cron counts them; the scheduler counts from Monday, so it is told their names."""

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


class WindowError(ValueError):
    """A window cannot be understood; the message names the field and the way out."""


def opening(windows: Sequence[Window], now: datetime) -> Opening | None:
    """Whether weight may rise now, and when it may again; None without windows.

    Raises:
        WindowError: One of them cannot be understood.
    """
    begins = [_begin(number, window, now) for number, window in enumerate(windows)]
    if not begins:
        return None
    if any(begin is not None and begin <= now for begin in begins):
        return Opening(is_open=True)
    return Opening(is_open=False, opens_at=min((begin for begin in begins if begin), default=None))


def _begin(number: int, window: Window, now: datetime) -> datetime | None:
    """When the window first begins of which something is still to come: in the past if it is open."""
    try:
        zone = ZoneInfo(window.time_zone)
    except (LookupError, ValueError, OSError):
        raise WindowError(
            f"spec.windows[{number}].timeZone: {window.time_zone!r} is not a time zone: write one such as Europe/Berlin, or UTC"
        ) from None
    # What began exactly a duration ago is over.
    since = now - window.duration + timedelta(microseconds=1)
    try:
        minute, hour, day, month, weekday = window.cron.lower().split()
        trigger = CronTrigger(
            minute=minute,
            hour=hour,
            day=day,
            month=month,
            day_of_week=_weekdays(weekday),
            timezone=zone,
            end_date=now + _HORIZON,
        )
    except (ValueError, LookupError) as error:
        raise WindowError(
            f"spec.windows[{number}].cron: {window.cron!r} is not minute, hour, day of month, month and day of week: {error}"
        ) from None
    begin = trigger.get_next_fire_time(None, since.astimezone(zone))
    return begin.astimezone(UTC) if begin else None


def _weekdays(field: str) -> str:
    """The field of cron as a list of names."""
    chosen: list[str] = []
    for part in field.split(","):
        days, _, step = part.partition("/")
        first, _, last = days.partition("-")
        if days == "*":
            first, last = "0", "6"
        begin = _weekday(first)
        end = _weekday(last) if last else (6 if step else begin)
        if end < begin:
            end += 7  # fri-mon
        chosen += [_DAYS[day % 7] for day in range(begin, end + 1, int(step or 1))]
    return ",".join(dict.fromkeys(chosen))


def _weekday(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text.isdecimal() and int(text) < len(_DAYS):
        return int(text)
    raise ValueError(f"{text!r} is no day of the week: write sun to sat, or 0 to 6")
