"""The next stage."""

from __future__ import annotations

from controller.core.outcome import Outcome, View
from controller.core.rules.begin import enter


def advance(view: View) -> Outcome | None:
    """The stage was passed and is not the last -> the next one."""
    stage = view.status.stage
    if stage is None or stage.index + 1 >= len(view.snapshot.stages):
        return None
    return enter(view, stage.index + 1)
