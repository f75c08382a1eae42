"""The next stage."""

from __future__ import annotations

from controller.core.outcome import Outcome, View
from controller.core.rules.begin import enter


def advance(view: View) -> Outcome | None:
    """The stage was passed and is not the last -> the next one."""
    following = view.stage.index + 1
    return enter(view, following) if following < len(view.snapshot.stages) else None
