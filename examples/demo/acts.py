"""The acts: what is delivered, how each must end, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from controller.api.reasons import ConditionType
from controller.api.rollout import AgentRollout
from controller.api.status import RolloutStatus
from controller.core.stages import title
from examples.demo import versions
from examples.demo.events import base_metric
from examples.demo.versions import AgentVersion


class Ending(StrEnum):
    """How a delivery ends."""

    PROMOTED = "promoted"
    TAKEN_BACK = "taken back"


@dataclass(frozen=True, slots=True)
class Act:
    """One delivery.

    Attributes:
        number: 1, 2, 3, …
        story: What is special about the version.
        version: The version that is delivered.
        ending: How it must end.
        metric: Which metric must notice, if the version is to be taken back.
        seconds: The deadline.
        shadow: ``spec.shadow`` of the delivery; empty if it has none. A version that is taken back must not have met a
            user then.
    """

    number: int
    story: str
    version: AgentVersion
    ending: Ending
    metric: str = ""
    seconds: float = 60.0
    shadow: Mapping[str, Any] = field(default_factory=dict)

    @property
    def expectation(self) -> str:
        """How it must end, in words."""
        if self.shadow:
            return f"{self.ending} in shadow"
        return f"{self.ending} on {self.metric}" if self.metric else str(self.ending)


def all_acts() -> tuple[Act, ...]:
    """The demo."""
    return (
        Act(1, "a good new prompt", versions.polite(), Ending.PROMOTED, seconds=120),
        Act(
            2,
            "a prompt that makes one answer in five fail",
            versions.talkative(),
            Ending.TAKEN_BACK,
            metric="errors",
        ),
        Act(3, "a prompt that makes answers slow", versions.thorough(), Ending.TAKEN_BACK, metric="latency"),
        Act(
            4,
            "a prompt that makes answers useless, fast and without an error",
            versions.discreet(),
            Ending.TAKEN_BACK,
            metric="shadow",
            shadow={"fraction": "30%", "noise": "30%", "minDuration": "8s", "minComparisons": 200},
        ),
    )


def is_stable(rollout: AgentRollout) -> bool:
    """Whether a version serves everyone and Envoy has acknowledged it."""
    return (
        rollout.status.stable is not None
        and rollout.status.candidate is None
        and _is_programmed(rollout.status)
    )


def is_rejected(rollout: AgentRollout, generation: int) -> bool:
    """Whether the operator does not accept the spec."""
    accepted = rollout.status.condition(ConditionType.ACCEPTED)
    return (
        rollout.status.observed_generation >= generation
        and accepted is not None
        and accepted.status == "False"
    )


def ending(before: RolloutStatus, after: RolloutStatus) -> Ending | None:
    """How the delivery that began at ``before`` ended; None while it goes on or Envoy was not told yet."""
    if after.candidate is not None or not _is_programmed(after):
        return None
    if after.last_rollback != before.last_rollback:
        return Ending.TAKEN_BACK
    if after.stable and before.stable and after.stable.artifact_id != before.stable.artifact_id:
        return Ending.PROMOTED
    return None


def shortcomings(act: Act, rollout: AgentRollout, ended: Ending, stages_seen: list[str], met: int = 0) -> str:
    """What was not as it should be, as sentences; empty if all was.

    Args:
        act: What was played.
        rollout: As it is now.
        ended: How the delivery ended.
        stages_seen: Titles of the stages that Envoy acknowledged.
        met: Requests of users that the version answered.
    """
    record = rollout.status.last_rollback
    name = act.version.name
    if ended is not act.ending:
        why = f": {record.message}" if ended is Ending.TAKEN_BACK and record else ""
        return f"{name} should have been {act.expectation} and was {ended}{why}."
    if ended is Ending.TAKEN_BACK and record and base_metric(record.metric) != act.metric:
        return f"{name} was taken back on {record.metric} and not on {act.metric}: {record.message}."
    if ended is Ending.TAKEN_BACK and act.shadow and met:
        return f"{name} should have met no user and answered {met} requests."
    wanted = [title(stage) for stage in rollout.spec.all_stages]
    if ended is Ending.PROMOTED and stages_seen != wanted:
        return f"{name} should have passed {', '.join(wanted)}, but passed {', '.join(stages_seen) or 'no stage'}."
    return ""


def latency_limit(rollout: AgentRollout) -> float:
    """Above how many seconds the product counts an answer as slow; 0 while it has not measured stable."""
    evidence = rollout.status.evidence
    edges = [edge for metric in (evidence.metrics if evidence else []) for edge in metric.edges]
    return max(edges, default=0.0) / 1000


def _is_programmed(status: RolloutStatus) -> bool:
    programmed = status.condition(ConditionType.PROGRAMMED)
    return programmed is not None and programmed.status == "True"
