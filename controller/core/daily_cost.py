"""The guardrail dailyCost: what the agent cost in the last 24 hours, beside the mean of the seven days before them.

It is about the agent with all its versions, as a budget is. Dollars are no trials, so nothing here is a test of chance. Whose
doing it is shows in what is left without the candidate's own tasks: if that is beyond the limit too, it is not the candidate's.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from controller.api.delivery import Metric, MetricName
from controller.api.guardrails import Guardrail
from controller.api.reasons import Reason, Verdict
from controller.api.status import Counts, GuardrailEvidence, GuardrailStatus, VersionRef
from controller.core.agents import NAMESPACE_LABEL, TASK_COST, definition_of
from controller.core.answers import NothingError, UnknownError, value_of
from controller.core.snapshot import Answer, Snapshot

DAYS = 7
"""So many days before the last 24 hours make the mean."""

_WORDS = {
    "day": "the dollars of the last 24 hours",
    "candidate": "the candidate's dollars",
    "tasks": "the tasks of the last 24 hours",
    "mean": "the mean of the days before",
}

AGAIN = timedelta(minutes=5)
"""Days of samples are not read at each evaluation, since a sum over a day moves slowly."""


def cost_queries(
    guardrail: Guardrail, metrics: Iterable[Metric], namespace: str, candidate: VersionRef
) -> Mapping[str, str]:
    """PromQL for one number each, by what it gives.

    Dollars of the last ``day``, those of the ``candidate`` among them, how many ``tasks`` that were, and the ``mean`` of the
    days before, which gives nothing unless these are whole and have no gap of a day.

    Args:
        guardrail: The guardrail.
        metrics: Of the rollout: ``cost`` among them says which label names the version.
        namespace: Of the rollout.
        candidate: The version on its way.
    """
    cost = (metric for metric in metrics if metric.name == MetricName.COST)
    version = definition_of(next(cost, Metric(name=MetricName.COST)))
    matchers = _matchers(guardrail, namespace)
    dollars, tasks = _selector(f"{TASK_COST}_sum", matchers), _selector(f"{TASK_COST}_count", matchers)
    own = _selector(f"{TASK_COST}_sum", [*matchers, _is(version.label, version.value(candidate))])
    # Looked at every six hours, eighteen are never without reports, so that no day is missing; and some are from before.
    no_gap = f"count_over_time(count(present_over_time({dollars}[18h]))[{DAYS}d:6h] offset 1d) >= {4 * DAYS}"
    before = f"count(present_over_time({dollars}[1d] offset {DAYS + 1}d))"
    return {
        "day": f"sum(increase({dollars}[1d]))",
        "candidate": f"sum(increase({own}[1d])) or vector(0)",
        "tasks": f"sum(increase({tasks}[1d]))",
        "mean": f"sum(increase({dollars}[{DAYS}d] offset 1d)) / {DAYS} and on() {no_gap} and on() {before}",
    }


def asked_of(guardrail: Guardrail, snapshot: Snapshot) -> Mapping[str, str]:
    """The queries about a rollout whose candidate serves users."""
    candidate = snapshot.rollout.status.candidate
    assert candidate is not None  # noqa: S101  the caller looked
    return cost_queries(guardrail, snapshot.analysis.metrics, snapshot.rollout.metadata.namespace, candidate)


def is_due(state: GuardrailEvidence | None, shown: GuardrailStatus | None, at: datetime) -> bool:
    """Whether the queries are to be asked: not while what they gave is young, and still shown."""
    asked = state.counted_until if state else None
    return asked is None or shown is None or not timedelta(0) <= at - asked < AGAIN


def daily_cost(
    guardrail: Guardrail, snapshot: Snapshot, state: GuardrailEvidence, shown: GuardrailStatus | None
) -> tuple[GuardrailEvidence, GuardrailStatus]:
    """What it says after one more evaluation; as before, if nothing was asked.

    Args:
        guardrail: The guardrail.
        snapshot: The rollout and the answers.
        state: Its state before.
        shown: What it said in this stage so far.
    """
    assert snapshot.samples is not None  # noqa: S101  the caller looked
    if shown is not None and not is_due(state, shown, snapshot.samples.at):
        return state, shown
    answers, asked = snapshot.samples.answers, asked_of(guardrail, snapshot)
    try:
        found = {what: _known(answers, query, what) for what, query in asked.items()}
    except UnknownError as error:
        return state, _said(guardrail, Verdict.ERROR, str(error))
    state = state.model_copy(update={"counted_until": snapshot.samples.at})
    return state, _judged(guardrail, found)


def _known(answers: Mapping[str, Answer], query: str, what: str) -> float | None:
    """The number, or None if there is none yet.

    Raises:
        UnknownError: If it cannot be known.
    """
    try:
        return value_of(answers, query, f"the query for {_WORDS[what]}")
    except NothingError:
        return None


def _judged(guardrail: Guardrail, found: Mapping[str, float | None]) -> GuardrailStatus:
    day, mean = found["day"], found["mean"]
    if day is None:
        return _said(
            guardrail, Verdict.INSUFFICIENT, f"Prometheus has no {TASK_COST}_sum of the last 24 hours"
        )
    tasks, candidate = math.floor(found["tasks"] or 0), found["candidate"] or 0.0
    numbers = f"{day:.4g} dollars in 24 hours, {candidate:.4g} of them the candidate's"
    if tasks < guardrail.min_samples:
        verdict, reason = Verdict.INSUFFICIENT, None
        message = f"{tasks} of {guardrail.min_samples} tasks counted in the last 24 hours: {numbers}"
    elif not mean:
        verdict, reason = Verdict.INSUFFICIENT, None
        message = f"there are no {DAYS} full days of cost before the last 24 hours to compare with: {numbers}"
    else:
        limit = guardrail.multiple * mean
        numbers += (
            f", {limit:.4g} are allowed, {guardrail.multiple:g} times the mean of the {DAYS} days before"
        )
        if day <= limit:
            verdict, reason, message = Verdict.PASS, None, f"within the limit: {numbers}"
        elif day - candidate > limit:
            verdict, reason = Verdict.ERROR, Reason.BASELINE_UNHEALTHY
            message = f"the other versions alone are beyond the limit: {numbers}"
        else:
            verdict, reason = Verdict.FAIL, Reason.GUARDRAIL_BROKEN
            message = f"beyond the limit: {numbers}"
    return _said(guardrail, verdict, message, reason=reason, tasks=tasks, day=day)


def _said(
    guardrail: Guardrail,
    verdict: Verdict,
    message: str,
    *,
    reason: Reason | None = None,
    tasks: int = 0,
    day: float | None = None,
) -> GuardrailStatus:
    return GuardrailStatus(
        name=guardrail.name,
        verdict=verdict,
        action=guardrail.follows,
        reason=reason,
        candidate=Counts(total=max(tasks, 0)),
        value=day,
        message=message,
    )


def _matchers(guardrail: Guardrail, namespace: str) -> list[str]:
    """What the series of all of the agent's versions have: none of another namespace, unless the labels say where."""
    labels = guardrail.labels or {}
    own = (
        [] if NAMESPACE_LABEL in labels else [f"{NAMESPACE_LABEL}=~{json.dumps(f'|{re.escape(namespace)}')}"]
    )
    return [*own, *(_is(name, value) for name, value in sorted(labels.items()))]


def _is(label: str, value: str) -> str:
    # PromQL strings escape like JSON's.
    return f"{label}={json.dumps(value)}"


def _selector(metric: str, matchers: Iterable[str]) -> str:
    return f"{metric}{{{', '.join(matchers)}}}"
