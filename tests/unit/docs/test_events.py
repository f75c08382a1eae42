"""docs/reference/events.md names every action that an event can have."""

from __future__ import annotations

import re

from controller.api.action import ActionName
from controller.core.plan import RULES
from controller.reconcilers import transitions
from tests.unit.docs.pages import ROOT, rows

COMPARED = "Compare"
"""The action of conditions that speak of more than what the plan did."""


def test_every_action_of_an_event_is_documented_and_a_verb() -> None:
    kills = set(transitions._KILL_ACTIONS.values())
    actions = (
        kills
        | {transitions.action_of(rule.__name__) for rule in RULES}
        | {verb.value for verb in ActionName}
        | {COMPARED}
    )
    assert all(re.fullmatch("([A-Z][a-z]+)+", action) for action in actions)
    page = ROOT / "docs" / "reference" / "events.md"
    assert {action.strip("`") for action, _ in rows(page, "Actions")} == actions
