"""Weights, rates and durations: how people write them, and what they are inside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

PPM_PER_PERCENT = 10_000
_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,4})?%?")
_DURATION = re.compile(r"([0-9]+(ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_LONGEST_DAYS = 36_500
"""A century: any number of milliseconds would fit the text, but not the calendar that it is added to."""

# Text, not int-or-string: older API servers take no notice of an int-or-string's maxLength, and comparing weights
# would exceed their cost budget (docs/adr/0002-weights-are-text.md).
PERCENT_CEL = r"'^(100(\\.0{1,4})?|[1-9]?[0-9](\\.[0-9]{1,4})?)%?$'"
"""CEL literal: the pattern of a weight, zero included."""
_HALF_CEL = r"'^(50(\\.0{1,4})?|[1-4]?[0-9](\\.[0-9]{1,4})?)%?$'"
_ZERO_CEL = r"'^0(\\.0*)?%?$'"
# The digits of each part are limited so that every sum is a date within reach.
_DURATION_CEL = (
    "'^([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?([0-9]{1,9}ms)?$') && "
    "!self.matches('^(0+(ms|s|m|h|d))*$'"
)


def parse_percent(value: Any) -> int:
    """Parts per million of ``"12.5%"`` or ``"10"``; a number is parts per million already.

    Raises:
        ValueError: If the text is no percentage up to 100.
    """
    written = value
    if isinstance(value, str):
        if not _PERCENT.fullmatch(value):
            raise ValueError(f"{value!r} is not a percentage: write 1%, 0.1% or 12.5%")
        value = int(Decimal(value.removesuffix("%")) * PPM_PER_PERCENT)
    if not isinstance(value, int) or not 0 <= value <= 100 * PPM_PER_PERCENT:
        raise ValueError(f"{written!r} is not between 0% and 100%")
    return value


def format_percent(ppm: int) -> str:
    """The shortest text that ``parse_percent`` reads back, such as ``0.1%``."""
    return f"{(Decimal(ppm) / PPM_PER_PERCENT).normalize():f}%"


def parse_duration(value: Any) -> timedelta:
    """The length of ``"1h30m"``, ``"15s"``, ``"500ms"``.

    Raises:
        ValueError: If the text is no duration, or one of more than a century.
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError(f"{value!r} is not a duration: write 15s, 10m or 1h30m")
    milliseconds = sum(int(count) * _UNITS_MS[unit] for count, unit in _DURATION_PART.findall(value))
    if milliseconds > _LONGEST_DAYS * _UNITS_MS["d"]:
        raise ValueError(f"{value!r} is too long: a duration has at most {_LONGEST_DAYS}d")
    return timedelta(milliseconds=milliseconds)


def format_duration(value: timedelta) -> str:
    """The shortest text that ``parse_duration`` reads back, such as ``1h30m``."""
    rest = round(value / timedelta(milliseconds=1))
    parts = []
    for unit, size in _UNITS_MS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_time(value: Any) -> Any:
    """An aware datetime from RFC 3339 text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rule(cel: str, message: str, **extra: str) -> dict[str, Any]:
    """One ``x-kubernetes-validations`` entry."""
    return {"rule": cel, "message": message, **extra}


def checked_text(max_length: int, *rules: dict[str, Any]) -> WithJsonSchema:
    """The schema of a text whose rules say in a sentence what a pattern would only refuse."""
    return WithJsonSchema({"type": "string", "maxLength": max_length, "x-kubernetes-validations": [*rules]})


_WORD = "^[a-zA-Z][a-zA-Z0-9-]*$"
WORD = Field(min_length=1, max_length=63, pattern=_WORD)
"""A name that people give to something of their own; ``word`` is its schema."""


def word(example: str) -> WithJsonSchema:
    """The schema of such a name."""
    return checked_text(
        63,
        rule(f"self.matches('{_WORD}')", f"must be a word of letters, digits and -, such as {example}"),
    )


_Percent = Annotated[int, BeforeValidator(parse_percent), PlainSerializer(format_percent, return_type=str)]
_Length = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)
]

Weight = Annotated[
    _Percent,
    checked_text(
        9,
        rule(
            f"self.matches({PERCENT_CEL}) && !self.matches({_ZERO_CEL})",
            "must be above 0% and up to 100% with at most 4 decimals, such as 1%, 0.1% or 12.5%",
        ),
    ),
]
"""A share of traffic in parts per million, written as a percentage."""

Rate = Annotated[
    _Percent,
    checked_text(
        9,
        rule(
            f"self.matches({_HALF_CEL}) && !self.matches({_ZERO_CEL})",
            "must be above 0% and up to 50% with at most 4 decimals, such as 1%, 0.1% or 2.5%",
        ),
    ),
]
"""A probability of error in parts per million, written as a percentage; above one half it would mean nothing."""

Half = Annotated[
    _Percent,
    checked_text(
        9,
        rule(
            f"self.matches({_HALF_CEL}) && !self.matches({_ZERO_CEL})",
            "must be above 0% and up to 50% with at most 4 decimals, such as 10% or 2.5%",
        ),
    ),
]
"""A share of traffic of which as much must be left."""

Portion = Annotated[
    _Percent,
    checked_text(
        9,
        rule(
            f"self.matches({PERCENT_CEL})",
            "must be from 0% to 100% with at most 4 decimals, such as 15% or 0%",
        ),
    ),
]
"""A share that may be none."""

Share = Annotated[
    _Percent,
    WithJsonSchema({"type": "string"}),
]
"""The same as reported in status, where 0% is a fact and not a mistake."""

_IS_DURATION = rule(
    f"self.matches({_DURATION_CEL})",
    "must be a duration above zero and below 10000d, largest unit first, such as 15s, 10m or 1h30m",
)

Duration = Annotated[
    _Length,
    checked_text(32, _IS_DURATION),
]
"""A length of time, written as in Prometheus: 500ms, 15s, 10m, 1h30m."""

Interval = Annotated[
    _Length,
    checked_text(
        32, _IS_DURATION, rule("!self.matches('^(0+(s|m|h|d))*0*[0-9]{1,2}ms$')", "must be at least 100ms")
    ),
]
"""The same for what is done again and again: not so often that the metric source has nothing else to do."""

# CEL knows no days, and says so in words for programmers: what it cannot read is not compared.
_CLOCK_CEL = "matches('^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?([0-9]{1,9}ms)?$')"

Waiting = Annotated[
    _Length,
    checked_text(
        32,
        _IS_DURATION,
        rule(
            f"!self.matches({_DURATION_CEL}) || (self.{_CLOCK_CEL} && duration(self) >= duration('1s') && "
            "duration(self) <= duration('10m'))",
            "must be from 1s to 10m",
        ),
    ),
]
"""The same for an answer that somebody waits for."""


def is_no_longer(short: str, short_default: str, long: str, long_default: str) -> str:
    """CEL that refuses a first duration longer than a second, of those that it can compare."""
    texts = [
        f"(has(self.{name}) ? self.{name} : '{default}')"
        for name, default in ((short, short_default), (long, long_default))
    ]
    known = " && ".join(f"{text} != '' && {text}.{_CLOCK_CEL}" for text in texts)
    return f"!({known}) || duration({texts[0]}) <= duration({texts[1]})"


Elapsed = Annotated[
    _Length,
    WithJsonSchema({"type": "string"}),
]
"""The same as reported in status, where no time at all is a fact and not a mistake."""

Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""An instant in UTC, kept to the millisecond."""
