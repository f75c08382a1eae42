"""Reads the operator's JSON log lines: they know to the millisecond what status says in transitions only."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path


def first_after(log: Path, event: str, rollout: str, since: datetime) -> datetime | None:
    """When ``event`` was first logged for the rollout ``namespace/name`` at or after ``since``; None if never."""
    for line in log.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
            if entry["event"] == event and entry["rollout"] == rollout:
                at = datetime.fromisoformat(entry["timestamp"])
                if at >= since:
                    return at
        except (ValueError, KeyError, TypeError):
            continue  # a traceback, or another program's line
    return None
