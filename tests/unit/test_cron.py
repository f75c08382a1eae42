"""Wall-clock schedules."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from controller.adapters.cron import Cron, WindowError, opening
from controller.api.windows import Window
from controller.core.snapshot import Opening
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


def window(cron: str = "0 9 * * mon-fri", duration: str = "8h", zone: str = "Europe/Berlin") -> Window:
    return Window.model_validate({"cron": cron, "duration": duration, "timeZone": zone})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def opens(said: Opening | None) -> datetime | None:
    assert said is not None
    assert not said.is_open
    return said.opens_at


def test_without_windows_the_calendar_says_nothing() -> None:
    assert opening([], at("2026-01-01")) is None


@pytest.mark.parametrize(
    ("now", "is_open", "opens_at"),
    [
        ("2026-01-05T07:59:59", False, "2026-01-05T08:00"),  # a Monday; Berlin is an hour ahead
        ("2026-01-05T08:00:00", True, None),
        ("2026-01-05T15:59:59", True, None),
        ("2026-01-05T16:00:00", False, "2026-01-06T08:00"),
        ("2026-01-09T16:00:00", False, "2026-01-12T08:00"),  # over the weekend
        ("2026-07-06T06:59:59", False, "2026-07-06T07:00"),  # in summer two hours
        ("2026-07-06T07:00:00", True, None),
    ],
)
def test_a_window_is_open_from_its_time_in_its_zone_for_its_duration(
    now: str, is_open: bool, opens_at: str | None
) -> None:
    assert opening([window()], at(now)) == Opening(is_open, at(opens_at) if opens_at else None)


def test_one_open_window_of_several_is_enough_and_the_earliest_to_open_is_told() -> None:
    several = [window("0 9 * * mon", "1h", "UTC"), window("0 22 * * *", "4h", "UTC")]
    assert opening(several, at("2026-01-06T01:59")) == Opening(is_open=True)  # since yesterday
    assert opens(opening(several, at("2026-01-05T02:00"))) == at("2026-01-05T09:00")
    assert opens(opening(several, at("2026-01-05T10:00"))) == at("2026-01-05T22:00")


def test_a_window_that_opens_again_before_it_closes_is_always_open() -> None:
    always = [window("* * * * *", "9999d", "UTC")]
    assert opening(always, at("2026-01-05T10:00:30")) == Opening(is_open=True)


@pytest.mark.parametrize(
    ("weekday", "days"),
    [
        ("0", "sun"),
        ("7", "sun"),
        ("1-5", "mon,tue,wed,thu,fri"),
        ("MON-FRI", "mon,tue,wed,thu,fri"),
        ("*", "sun,mon,tue,wed,thu,fri,sat"),
        ("*/2", "sun,tue,thu,sat"),
        ("fri-mon", "fri,sat,sun,mon"),
        ("1,3,sat", "mon,wed,sat"),
        ("2/3", "tue,fri"),
    ],
)
def test_days_of_the_week_are_those_of_cron(weekday: str, days: str) -> None:
    begin = at("2026-01-04T12:00")  # a Sunday
    names = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
    found = [
        names[day]
        for day in range(7)
        if (said := opening([window(f"0 0 * * {weekday}", "1d", "UTC")], begin + timedelta(days=day)))
        and said.is_open
    ]
    assert set(found) == set(days.split(","))


def test_a_day_that_never_comes_opens_nothing_and_is_not_looked_for_for_ever() -> None:
    assert opens(opening([window("0 0 30 2 *")], at("2026-01-01"))) is None
    assert opens(opening([window("0 0 29 2 *", zone="UTC")], at("2026-01-01"))) == at("2028-02-29")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            window("0 25 * * *"),
            r"spec\.windows\[1\]\.cron: '0 25 \* \* \*' is not minute, hour, day of month",
        ),
        (window("x 9 * * *"), r"spec\.windows\[1\]\.cron"),
        (window("0 9 * * someday"), "'someday' is no day of the week: write sun to sat, or 0 to 6"),
        (window("0 9 * * 8"), "'8' is no day of the week"),
        (window("0 9 * * */0"), r"spec\.windows\[1\]\.cron"),
        (window(zone="Mars/Olympus"), r"spec\.windows\[1\]\.timeZone: 'Mars/Olympus' is not a time zone"),
        (window(zone="../etc/passwd"), r"spec\.windows\[1\]\.timeZone"),
        (window(zone="Europe"), r"spec\.windows\[1\]\.timeZone"),
    ],
)
def test_what_cannot_be_understood_names_the_field(wrong: Window, words: str) -> None:
    with pytest.raises(WindowError, match=words):
        opening([window(), wrong], at("2026-01-01"))
