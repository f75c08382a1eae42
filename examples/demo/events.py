"""The rollout as a story: what changed between two states of it, in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controller.api.reasons import State, Verdict
from controller.api.rollout import AgentRollout
from controller.api.status import MetricStatus, RolloutStatus, StageStatus

_AUDIENCE = " (audience)"


class Tone(StrEnum):
    """How an event is to be taken; the value is its colour."""

    PLAIN = "default"
    GOOD = "green"
    BAD = "red"
    QUIET = "bright_black"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        at: When, by the product's own clock where it says so.
        text: What, in a few words.
        tone: How to take it.
    """

    at: datetime
    text: str
    tone: Tone = Tone.PLAIN


def transitions(before: AgentRollout | None, after: AgentRollout, now: datetime) -> list[Event]:
    """What happened between two states that were seen one after the other."""
    old, new = before.status if before else RolloutStatus(), after.status
    return [
        *_candidate(old, new, now),
        *_stage(old.stage, new.stage),
        *_verdicts(after, old, now),
        *_end(old, new, now),
        *_state(old, new, now),
    ]


def _candidate(old: RolloutStatus, new: RolloutStatus, now: datetime) -> list[Event]:
    if new.candidate is None or (old.candidate and old.candidate.artifact_id == new.candidate.artifact_id):
        return []
    return [Event(now, f"{new.candidate.revision} accepted as candidate")]


def _stage(old: StageStatus | None, new: StageStatus | None) -> list[Event]:
    if new is None or new.programmed_at is None:
        return []
    if old and old.programmed_at and old.index == new.index:
        return []
    waited = (new.programmed_at - new.entered_at).total_seconds() * 1000
    return [Event(new.programmed_at, f"stage {new.title}: acknowledged by Envoy after {waited:.0f} ms")]


def _verdicts(rollout: AgentRollout, old: RolloutStatus, now: datetime) -> list[Event]:
    """Pass of the stage's own users, and Error; what comes of Fail is told as the rollback.

    The others passed in earlier stages: that they still do is no news.
    """
    new = rollout.status
    known = {metric.name: metric.verdict for metric in old.analysis}
    tones = {Verdict.PASS: Tone.GOOD, Verdict.ERROR: Tone.BAD}
    at = (new.evidence and new.evidence.evaluated_at) or now
    return [
        Event(at, f"{metric.name}: {metric.verdict}, {numbers(metric)}", tones[metric.verdict])
        for metric in new.analysis
        if metric.verdict is not known.get(metric.name)
        and metric.verdict in tones
        and (metric.verdict is not Verdict.PASS or _is_own(metric.name, rollout))
    ]


def base_metric(name: str) -> str:
    """``errors`` of ``errors (audience)``, the metric without the users whom it is about."""
    return name.removesuffix(_AUDIENCE)


def _is_own(name: str, rollout: AgentRollout) -> bool:
    status = rollout.status
    stages = status.frozen.stages if status.frozen else rollout.spec.stages
    is_audience_stage = status.stage is not None and stages[status.stage.index].audience is not None
    return name.endswith(_AUDIENCE) == is_audience_stage


def _end(old: RolloutStatus, new: RolloutStatus, now: datetime) -> list[Event]:
    events = []
    if new.last_rollback and new.last_rollback != old.last_rollback:
        record = new.last_rollback
        events.append(
            Event(record.at, f"taken back on {record.metric or record.reason}: {record.message}", Tone.BAD)
        )
    if new.stable and (old.stable is None or old.stable.artifact_id != new.stable.artifact_id):
        events.append(Event(now, f"{new.stable.revision} is stable", Tone.GOOD))
    return events


def _state(old: RolloutStatus, new: RolloutStatus, now: datetime) -> list[Event]:
    if old.state is new.state or new.state not in {State.BLIND, State.REJECTED}:
        return []
    message = "; ".join(condition.message for condition in new.conditions if condition.message)
    return [Event(now, f"{new.state}: {message}", Tone.BAD)]


def numbers(metric: MetricStatus) -> str:
    """Bad and all requests of both versions, such as ``9 of 43 against 1 of 160``."""
    candidate, baseline = metric.candidate, metric.baseline
    return f"{candidate.bad} of {candidate.total} against {baseline.bad} of {baseline.total}"
