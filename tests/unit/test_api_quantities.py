from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from controller.api.quantities import (
    Duration,
    Time,
    Weight,
    format_duration,
    format_percent,
    format_time,
    parse_duration,
    parse_percent,
    parse_time,
)

CENTURY = timedelta(days=36_500)


class Written(BaseModel):
    weight: Weight = 0
    duration: Duration = timedelta()
    time: Time = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.integers(min_value=0, max_value=1_000_000))
def test_every_share_is_read_back_as_it_was_written(ppm: int) -> None:
    assert parse_percent(format_percent(ppm)) == ppm


@given(st.integers(min_value=0, max_value=CENTURY // timedelta(milliseconds=1)))
def test_every_duration_is_read_back_as_it_was_written(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_is_read_back_to_the_millisecond(time: datetime) -> None:
    assert parse_time(format_time(time)) == time.replace(microsecond=time.microsecond // 1000 * 1000)


@pytest.mark.parametrize(
    ("text", "ppm"),
    [
        ("1%", 10_000),
        ("1", 10_000),
        ("12.5%", 125_000),
        ("0.1%", 1_000),
        ("0.0001%", 1),
        ("10.0%", 100_000),
        ("100.0000%", 1_000_000),
        ("0%", 0),
    ],
)
def test_percentages_are_read_as_parts_per_million(text: str, ppm: int) -> None:
    assert parse_percent(text) == ppm


def test_a_number_is_parts_per_million_already() -> None:
    assert parse_percent(10_000) == 10_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%",
        "ten",
        "-1%",
        "+1%",
        "1 %",
        "1%\n",
        "0.00001%",
        "1e1%",
        "1,5%",
        "1%%",
        "\N{ARABIC-INDIC DIGIT ONE}%",
    ],
)
def test_what_is_no_percentage_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a percentage: write 1%, 0\.1% or 12\.5%"):
        parse_percent(text)


@pytest.mark.parametrize("value", ["101%", "100.0001%", "999%", -1, 1_000_001, 0.5, None])
def test_a_percentage_out_of_range_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is not between 0% and 100%"):
        parse_percent(value)


@pytest.mark.parametrize(
    ("ppm", "text"), [(0, "0%"), (1, "0.0001%"), (1_000, "0.1%"), (100_000, "10%"), (1_000_000, "100%")]
)
def test_shares_are_written_as_people_do(ppm: int, text: str) -> None:
    assert format_percent(ppm) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("15s", timedelta(seconds=15)),
        ("1h30m", timedelta(minutes=90)),
        ("90m", timedelta(minutes=90)),
        ("2d", timedelta(days=2)),
        ("1d1h1m1s1ms", timedelta(days=1, hours=1, minutes=1, seconds=1, milliseconds=1)),
        ("0s", timedelta()),
        ("36500d", CENTURY),
    ],
)
def test_durations_are_read_as_prometheus_does(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("value", ["", "soon", "10", "1.5m", "-5m", "1m 2s", "10m\n", "m", "1w", 600, None])
def test_what_is_no_duration_is_refused_with_examples(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration: write 15s, 10m or 1h30m"):
        parse_duration(value)


@pytest.mark.parametrize("text", ["36500d1ms", "99999999999999999999h"])
def test_a_duration_that_no_calendar_can_take_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is too long: a duration has at most 36500d"):
        parse_duration(text)


def test_the_longest_duration_that_the_crd_lets_in_can_be_read() -> None:
    longest = parse_duration("9999d99999h999999m9999999s999999999ms")
    assert longest < CENTURY
    assert (datetime(2026, 1, 1, tzinfo=UTC) + longest).year == 2067


@pytest.mark.parametrize(
    ("duration", "text"),
    [(timedelta(), "0s"), (timedelta(minutes=90), "1h30m"), (timedelta(days=1, milliseconds=5), "1d5ms")],
)
def test_durations_are_written_with_the_largest_unit_first(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


def test_times_are_written_in_utc() -> None:
    berlin = timezone(timedelta(hours=2))
    assert format_time(datetime(2026, 6, 1, 14, 0, 0, 123_456, tzinfo=berlin)) == "2026-06-01T12:00:00.123Z"


def test_fields_of_models_are_read_and_written_as_text() -> None:
    text = {"weight": "12.5%", "duration": "1h30m", "time": "2026-01-01T00:00:00.000Z"}
    read = Written.model_validate(text)
    assert read == Written(
        weight=125_000, duration=timedelta(minutes=90), time=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert read.model_dump(mode="json") == text


@pytest.mark.parametrize("field", ["weight", "duration"])
@pytest.mark.parametrize("text", ["soon", "99999999999999999999h", "10%\n", "²%"])
def test_a_wrong_field_of_a_stored_object_is_an_error_of_validation(field: str, text: str) -> None:
    with pytest.raises(ValidationError, match=field):
        Written.model_validate({field: text})
