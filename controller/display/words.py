"""Pieces that several views share: ages, colours, short names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from rich.text import Text

from controller.api.quantities import parse_time
from controller.api.reasons import State, Verdict

_STYLES: Mapping[str, str] = {
    State.STABLE: "green",
    State.PROGRESSING: "cyan",
    State.BAKING: "cyan",
    State.PAUSED: "yellow",
    State.BLIND: "magenta",
    State.ROLLED_BACK: "bold red",
    State.REJECTED: "bold red",
    State.KILLED: "bold red",
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.INSUFFICIENT: "yellow",
    Verdict.ERROR: "magenta",
    "Warning": "yellow",
}


def coloured(word: str) -> Text:
    """A state, a verdict or the type of an event, in its colour if it has one."""
    return Text(word, _STYLES.get(word, ""))


def age(length: timedelta) -> str:
    """As kubectl writes it: two units at most, and the second only while it matters."""
    seconds = max(0, int(length.total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{hours}h" if hours < 48 else f"{days}d"


def age_of(time: Any, now: datetime) -> str:
    """How long ago something was, from RFC 3339 text; ``–`` if that is not known."""
    return age(now - parse_time(time)) if time else "–"


def short(artifact: str) -> str:
    """The first digits of an artifact ID, as many as name its AgentRevision."""
    return artifact.removeprefix("sha256:")[:10]
