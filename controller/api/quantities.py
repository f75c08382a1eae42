"""Weights, rates and durations: how people write them, and what they are inside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

PPM_PER_PERCENT = 10_000
_PERCENT = re.compile(r"^\d{1,3}(\.\d{1,4})?%?$")
_DURATION_PART = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}

# Text, not int-or-string: rules cannot bound the length of an int-or-string, so comparing weights would exceed the
# API server's cost budget (docs/adr/0002-weights-are-text.md).
_PERCENT_CEL = (
    r"self.matches('^(100(\\.0{1,4})?|[1-9]?[0-9](\\.[0-9]{1,4})?)%?$') && !self.matches('^0(\\.0*)?%?$')"
)


def parse_percent(value: Any) -> int:
    """Parts per million of ``"12.5%"`` or ``"10"``; a number is parts per million already.

    Raises:
        ValueError: If the text is no percentage up to 100.
    """
    if isinstance(value, str):
        if not _PERCENT.match(value):
            raise ValueError(f"{value!r} is not a percentage: write 1%, 0.1% or 12.5%")
        value = int(Decimal(value.removesuffix("%")) * PPM_PER_PERCENT)
    if not isinstance(value, int) or not 0 <= value <= 100 * PPM_PER_PERCENT:
        raise ValueError(f"{value!r} is not between 0% and 100%")
    return value


def format_percent(ppm: int) -> str:
    """The shortest text that ``parse_percent`` reads back, such as ``0.1%``."""
    return f"{(Decimal(ppm) / PPM_PER_PERCENT).normalize():f}%"


def parse_duration(value: Any) -> timedelta:
    """The length of ``"1h30m"``, ``"15s"``, ``"500ms"``.

    Raises:
        ValueError: If the text is no duration.
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not re.fullmatch(r"(\d+(ms|s|m|h|d))+", value):
        raise ValueError(f"{value!r} is not a duration: write 15s, 10m or 1h30m")
    return timedelta(
        milliseconds=sum(int(count) * _UNITS_MS[unit] for count, unit in _DURATION_PART.findall(value))
    )


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


Weight = Annotated[
    int,
    BeforeValidator(parse_percent),
    PlainSerializer(format_percent, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 9,
            "x-kubernetes-validations": [
                rule(_PERCENT_CEL, "must be above 0% and up to 100%, such as 1%, 0.1% or 12.5%")
            ],
        }
    ),
]
"""A share of traffic in parts per million, written as a percentage."""

Share = Annotated[
    int,
    BeforeValidator(parse_percent),
    PlainSerializer(format_percent, return_type=str),
    WithJsonSchema({"type": "string"}),
]
"""The same as reported in status, where 0% is a fact and not a mistake."""

Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 32,
            "x-kubernetes-validations": [
                rule(
                    "self.matches('^([0-9]+(ms|s|m|h|d))+$') && !self.matches('^(0+(ms|s|m|h|d))+$')",
                    "must be a duration above zero, such as 15s, 10m or 1h30m",
                )
            ],
        }
    ),
]
"""A length of time, written as in Prometheus: 500ms, 15s, 10m, 1h30m."""

Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""An instant in UTC, kept to the millisecond."""
