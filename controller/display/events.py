"""What happened to a rollout, from Kubernetes' events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.table import Table

from controller.api.quantities import parse_time
from controller.display.words import age, coloured


@dataclass(frozen=True, slots=True)
class Happening:
    """One event.

    Attributes:
        at: When it happened last.
        type: ``Normal`` or ``Warning``.
        reason: Why, in a word.
        note: In a sentence.
        count: How often.
    """

    at: datetime
    type: str
    reason: str
    note: str
    count: int = 1


def happenings(events: Iterable[dict[str, Any]], uid: str) -> list[Happening]:
    """The events of this very object, not of a namesake before it; oldest first."""
    own = (each for each in events if (each.get("regarding") or {}).get("uid") in {uid, None, ""})
    return sorted((_happening(each) for each in own), key=lambda each: each.at)


def _happening(event: dict[str, Any]) -> Happening:
    series = event.get("series") or {}
    at = series.get("lastObservedTime") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return Happening(
        parse_time(at),
        str(event.get("type") or ""),
        str(event.get("reason") or ""),
        str(event.get("note") or ""),
        int(series.get("count") or 1),
    )


def events_table(found: Sequence[Happening], now: datetime) -> Table:
    """What happened, newest last."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("AGO", "EVENT", "WHAT HAPPENED"):
        table.add_column(name, no_wrap=name != "WHAT HAPPENED", overflow="fold")
    for each in found:
        times = f" (×{each.count})" if each.count > 1 else ""
        reason = coloured(each.type)
        reason.plain = each.reason
        table.add_row(age(now - each.at), reason, each.note + times)
    return table
