"""Unknown is not off: what is not known of a kill switch holds every raise."""

from __future__ import annotations

from controller.core import killing
from controller.core.outcome import Outcome, View


def unknown(view: View) -> Outcome | None:
    """A switch whose source never answered, or said what is no word of a switch -> the weight stays."""
    held = killing.unknown(view.snapshot.switches)
    return Outcome(view.status, held, create_revision=view.is_wanted_revision_missing) if held else None
