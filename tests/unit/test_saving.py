"""What is news and what can wait: each row is a change of status."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from controller.api.guardrails import GuardrailAction
from controller.api.reasons import ConditionType, Reason, Verdict
from controller.api.status import (
    Counts,
    Evidence,
    GuardrailStatus,
    MetricEvidence,
    RolloutStatus,
    SplitEvidence,
)
from controller.core.saving import EVERY, is_news, is_old
from tests.virtual import VirtualRollout, rollout_of, started

LONG = [{"weight": "50%", "minDuration": "1h", "minRequests": 10}, {"weight": "100%"}]


@pytest.fixture(scope="module")
def world() -> VirtualRollout:
    world = started(spec={"stages": LONG})
    world.want("http://v2")
    world.settle()
    world.live(60)
    return world


def metric(status: RolloutStatus, **changes: Any) -> RolloutStatus:
    (only,) = status.analysis
    return status.model_copy(update={"analysis": [only.model_copy(update=changes)]})


def condition(status: RolloutStatus, kind: ConditionType, **changes: Any) -> RolloutStatus:
    conditions = [c.model_copy(update=changes) if c.type is kind else c for c in status.conditions]
    return status.model_copy(update={"conditions": conditions})


def evidence(status: RolloutStatus, **changes: Any) -> RolloutStatus:
    before = status.evidence or Evidence()
    return status.model_copy(update={"evidence": before.model_copy(update=changes)})


Change = Callable[[RolloutStatus], RolloutStatus]

NO_NEWS: dict[str, Change] = {
    "nothing": lambda s: s,
    "counts": lambda s: metric(s, candidate=Counts(bad=7, total=900)),
    "the e-value of safety": lambda s: metric(s, safety=7.5),
    "what could have been shown": lambda s: metric(s, min_detectable_ratio=2.5),
    "an e-value": lambda s: metric(s, evidence=2.5),
    "numbers in a verdict's words": lambda s: metric(
        s,
        message="no harm found: candidate 7/900 (0.778 %), baseline 1/6 (16.7 %), e-value 1.2e+03 of 2; an odds ratio of "
        "11 would have shown",
    ),
    "the requests of the stage": lambda s: s.model_copy(
        update={"stage": s.stage and s.stage.model_copy(update={"requests": 4711})}
    ),
    "numbers in what Progressing says": lambda s: condition(
        s, ConditionType.PROGRESSING, message="stage 99% goes on until 2030-12-31T23:59:59.001Z"
    ),
    "where counting stands": lambda s: evidence(s, counted_until=None, evaluated_at=None),
    "the state of the split's check": lambda s: evidence(s, splits=[SplitEvidence(test="v1 9")]),
    "the state of the tests": lambda s: evidence(
        s, metrics=[MetricEvidence(name="errors", tests=["v1 9"], reference=[Counts(total=1)])]
    ),
}

NEWS: dict[str, Change] = {
    "a verdict": lambda s: metric(s, verdict=Verdict.INSUFFICIENT),
    "other words about a metric": lambda s: metric(s, message="harm is suspected"),
    "one metric less": lambda s: s.model_copy(update={"analysis": []}),
    "a stage": lambda s: s.model_copy(update={"stage": s.stage and s.stage.model_copy(update={"index": 1})}),
    "no stage": lambda s: s.model_copy(update={"stage": None}),
    "a weight": lambda s: s.model_copy(update={"weight": 1}),
    "what the data plane acknowledged": lambda s: s.model_copy(update={"programmed": 1}),
    "the candidate": lambda s: s.model_copy(update={"candidate": None}),
    "a reason": lambda s: condition(s, ConditionType.PROGRESSING, reason=Reason.ANALYSIS_BLIND),
    "other words of Progressing": lambda s: condition(s, ConditionType.PROGRESSING, message="errors: worse"),
    "numbers in other conditions": lambda s: condition(
        s, ConditionType.PROGRAMMED, message="2 router instances acknowledged the wanted split"
    ),
    "why the evidence cannot be read": lambda s: evidence(s, problem="Prometheus cannot be reached"),
    "the edges of a histogram": lambda s: evidence(
        s, metrics=[MetricEvidence(name="errors", edges=[100.0, 200.0])]
    ),
    "no evidence at all": lambda s: s.model_copy(update={"evidence": None}),
}


@pytest.mark.parametrize("change", NO_NEWS.values(), ids=NO_NEWS.keys())
def test_what_every_evaluation_moves_is_no_news(world: VirtualRollout, change: Change) -> None:
    status = world.rollout.status
    assert "goes on until" in next(
        c.message for c in status.conditions if c.type is ConditionType.PROGRESSING
    )
    assert not is_news(status, change(status))


@pytest.mark.parametrize("change", NEWS.values(), ids=NEWS.keys())
def test_what_a_person_would_want_to_hear_is_news(world: VirtualRollout, change: Change) -> None:
    status = world.rollout.status
    assert is_news(status, change(status))


def test_the_numbers_of_a_guardrail_are_no_news_and_its_verdict_is(world: VirtualRollout) -> None:
    said = GuardrailStatus(
        name="toolErrors",
        verdict=Verdict.PASS,
        action=GuardrailAction.HOLD,
        candidate=Counts(bad=1, total=60),
        evidence=0.5,
        message="within the limit: 1/60",
    )

    def with_guardrail(**changes: Any) -> RolloutStatus:
        return world.rollout.status.model_copy(update={"guardrails": [said.model_copy(update=changes)]})

    moved = with_guardrail(candidate=Counts(total=90), evidence=2.0, message="within the limit: 0/90")
    assert not is_news(with_guardrail(), moved)
    assert is_news(with_guardrail(), with_guardrail(verdict=Verdict.FAIL))
    assert is_news(with_guardrail(), world.rollout.status)


def test_stored_evidence_is_old_after_a_minute_or_when_the_clock_was_set_back(world: VirtualRollout) -> None:
    status = world.rollout.status
    assert status.evidence is not None
    at = status.evidence.evaluated_at
    assert at is not None
    assert not is_old(status, at)
    assert not is_old(status, at + EVERY - timedelta(milliseconds=1))
    assert is_old(status, at + EVERY)
    assert is_old(status, at - timedelta(seconds=1))
    assert is_old(rollout_of().status, at)
