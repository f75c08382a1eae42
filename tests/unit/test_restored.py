"""What becomes of stored evidence that cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.delivery import AdvanceOn
from controller.api.reasons import State
from controller.api.status import Evidence
from tests.talking import TalkingRollout, talking
from tests.virtual import Behaviour

STAGES = [{"weight": weight, "minDuration": "5m", "minRequests": 10} for weight in ("10%", "100%")]
UNREADABLE = "v0 of another version"


def delivering() -> TalkingRollout:
    guardrail = {"name": "toolErrors", "action": "Alert"}
    world = talking("errors", stages=STAGES, guardrails=[guardrail], per_second=100)
    analysis = world.rollout.spec.analysis
    world.change_spec(analysis=analysis.model_copy(update={"advance_on": AdvanceOn.EVIDENCE}))
    world.want("http://v2")
    world.live(60)
    return world


def evidence_of(world: TalkingRollout) -> Evidence:
    assert world.rollout.status.evidence is not None
    return world.rollout.status.evidence


def spoil(world: TalkingRollout, field: str, **texts: Any) -> None:
    """Store texts in the first of the evidence's metrics, splits or guardrails that no version can read."""
    evidence = evidence_of(world)
    first, *others = getattr(evidence, field)
    assert all(getattr(first, name) for name in texts)
    spoilt = evidence.model_copy(update={field: [first.model_copy(update=texts), *others]})
    status = world.rollout.status.model_copy(update={"evidence": spoilt})
    world.rollout = world.rollout.model_copy(update={"status": status})


@pytest.mark.parametrize(
    ("field", "texts"),
    [
        ("metrics", {"controls": [UNREADABLE]}),
        ("metrics", {"safety": [UNREADABLE]}),
        ("splits", {"test": UNREADABLE}),
        ("guardrails", {"test": UNREADABLE}),
        ("guardrails", {"baseline": UNREADABLE}),
    ],
)
def test_a_check_that_cannot_be_read_begins_anew_and_harm_is_still_found(
    field: str, texts: dict[str, Any]
) -> None:
    world = delivering()
    spoil(world, field, **texts)
    world.live(30)
    assert evidence_of(world).problem == ""
    assert world.rollout.status.state is not State.BLIND
    stored = getattr(evidence_of(world), field)[0]
    assert all(getattr(stored, name) not in ("", [], text) for name, text in texts.items())
    spoil(world, field, **texts)
    world.behaviour["v2"] = Behaviour(errors=0.9)
    world.live(120)
    assert world.rollout.status.state is State.ROLLED_BACK


def test_a_test_of_harm_that_cannot_be_read_leaves_the_rollout_blind() -> None:
    world = delivering()
    spoil(world, "metrics", tests=[UNREADABLE])
    world.live(30)
    assert "unknown state" in evidence_of(world).problem
    assert world.rollout.status.state is State.BLIND
