"""Which decisions are worth a write of status.

Every evaluation moves counts and e-values, and says so in messages. Written each time, 500 rollouts would cost the API
server and everyone who watches 33 writes a second, for numbers that change nothing. So evidence goes on in memory and is
stored with whatever a person would call news, or once a minute. Losing memory loses no interval: the stored
``countedUntil`` and the state of the tests belong together, and the samples after it are read again.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from controller.api.reasons import ConditionType
from controller.api.status import (
    Condition,
    Counts,
    Evidence,
    GuardrailStatus,
    MetricEvidence,
    MetricStatus,
    RolloutStatus,
)

EVERY = timedelta(seconds=60)
"""How long evidence without news stays in memory."""

_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")


def is_news(stored: RolloutStatus, decided: RolloutStatus) -> bool:
    """Whether they differ in more than counts, e-values and the instants of counting."""
    return _told(stored) != _told(decided)


def is_old(stored: RolloutStatus, now: datetime) -> bool:
    """Whether the stored evidence was read long ago; in the future, as after a clock was set back, counts too."""
    read_at = stored.evidence.evaluated_at if stored.evidence else None
    return read_at is None or not timedelta(0) <= now - read_at < EVERY


def _told(status: RolloutStatus) -> RolloutStatus:
    """The status without what moves at every evaluation."""
    stage, evidence = status.stage, status.evidence
    return status.model_copy(
        update={
            "stage": stage and stage.model_copy(update={"requests": 0}),
            "analysis": [_metric(metric) for metric in status.analysis],
            "guardrails": [_guardrail(guardrail) for guardrail in status.guardrails],
            "evidence": evidence and _evidence(evidence),
            "conditions": [_condition(condition) for condition in status.conditions],
        }
    )


def _metric(metric: MetricStatus) -> MetricStatus:
    nothing = {"candidate": Counts(), "baseline": Counts(), "wins": None, "evidence": 0.0, "safety": None}
    return metric.model_copy(
        update={**nothing, "message": _words(metric.message), "min_detectable_ratio": None}
    )


def _guardrail(guardrail: GuardrailStatus) -> GuardrailStatus:
    nothing = {"candidate": Counts(), "evidence": 0.0, "value": None, "message": _words(guardrail.message)}
    return guardrail.model_copy(update=nothing)


def _evidence(evidence: Evidence) -> Evidence:
    fixed = [MetricEvidence(name=metric.name, edges=metric.edges) for metric in evidence.metrics]
    return Evidence(problem=_words(evidence.problem), metrics=fixed)


def _condition(condition: Condition) -> Condition:
    """Only these repeat the numbers of the evidence; those of the others are news."""
    if condition.type not in {ConditionType.PROGRESSING, ConditionType.WITHIN_LIMITS}:
        return condition
    return condition.model_copy(update={"message": _words(condition.message)})


def _words(message: str) -> str:
    return _NUMBER.sub("#", message)
