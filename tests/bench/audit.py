"""What must hold in every recorded history of a rollout, whatever broke meanwhile; the numbers are those of the design."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from controller.api.delivery import Stage
from controller.api.rollout import AgentRollout
from controller.api.status import StageStatus

Raw = dict[str, Any]

MANAGER = "agentrollout"
_OURS = frozenset({"f:status", "f:metadata"})
_MILLISECOND = timedelta(milliseconds=1)

Requests = Callable[[str, datetime, datetime], int]
"""``requests(revision, start, end)``: what the routers' stored counters say that the revision answered."""


@dataclass(frozen=True)
class Breach:
    """An invariant that did not hold.

    Attributes:
        invariant: Its number.
        rollout: Name of the rollout.
        words: What was seen instead.
    """

    invariant: int
    rollout: str
    words: str


def audit(name: str, versions: Sequence[Raw], requests: Requests) -> list[Breach]:
    """Check all versions of one AgentRollout, oldest first, as the API server had them."""
    story = [AgentRollout.model_validate(raw) for raw in versions]
    found = [
        *(Breach(1, name, words) for words in _rises_without_evidence(story, requests)),
        *(Breach(2, name, words) for words in _taken_back_and_seen_again(story)),
        *(Breach(3, name, words) for words in _stable_without_last_stage(story)),
        *(Breach(6, name, words) for words in _counted_twice(story, requests)),
        *(Breach(8, name, words) for words in _written_without_owning(versions)),
    ]
    return list(dict.fromkeys(found))


def _rises_without_evidence(story: Sequence[AgentRollout], requests: Requests) -> Iterator[str]:
    for before, after in _same_attempt(story):
        left, entered = before.status.stage, after.status.stage
        if left is None or entered is None or left.index == entered.index:
            continue
        assert before.status.frozen
        assert before.status.candidate
        wanted = before.status.frozen.stages[left.index]
        began = left.programmed_at
        if entered.index != left.index + 1:
            yield f"stage {left.index} was followed by stage {entered.index}"
        elif began is None:
            yield f"stage {left.index} was left before it was programmed"
        else:
            yield from _too_early(left, began, entered, wanted, requests, before.status.candidate.revision)


def _too_early(
    left: StageStatus,
    began: datetime,
    entered: StageStatus,
    wanted: Stage,
    requests: Requests,
    revision: str,
) -> Iterator[str]:
    lasted = entered.entered_at - began
    if lasted < wanted.min_duration - _MILLISECOND:
        yield f"stage {left.index} lasted {lasted}, not {wanted.min_duration}"
    answered = requests(revision, began, entered.entered_at)
    if answered < wanted.min_requests:
        yield f"stage {left.index} was left after {answered} requests, not {wanted.min_requests}"


def _taken_back_and_seen_again(story: Sequence[AgentRollout]) -> Iterator[str]:
    gone: set[tuple[str, int]] = set()
    for before, after in pairwise(story):
        record, candidate = after.status.last_rollback, after.status.candidate
        if record and record != before.status.last_rollback:
            taken = before.status.candidate
            if taken and taken.artifact_id == record.artifact_id:
                gone.add((taken.artifact_id, taken.attempt))
        if candidate and (candidate.artifact_id, candidate.attempt) in gone:
            yield f"{candidate.revision} was taken back and is a candidate again"
        if candidate is None and after.status.weight:
            yield f"nobody is the candidate, with a weight of {after.status.weight} ppm"


def _stable_without_last_stage(story: Sequence[AgentRollout]) -> Iterator[str]:
    for before, after in pairwise(story):
        old, new = before.status.stable, after.status.stable
        if old is None or old == new:
            continue
        candidate, stage, frozen = before.status.candidate, before.status.stage, before.status.frozen
        if new is None:
            yield "stable was lost"
        elif candidate is None or candidate.artifact_id != new.artifact_id:
            yield f"{new.revision} became stable without being the candidate"
        elif stage is None or frozen is None or stage.index != len(frozen.stages) - 1:
            yield f"{new.revision} became stable before its last stage"


def _counted_twice(story: Sequence[AgentRollout], requests: Requests) -> Iterator[str]:
    for before, after in _same_attempt(story):
        earlier, later = _counted_until(before), _counted_until(after)
        if earlier and (later is None or later < earlier):
            yield f"counting went back from {earlier} to {later}"
    for each in story:
        stage, candidate, until = each.status.stage, each.status.candidate, _counted_until(each)
        if not (stage and candidate and until and stage.programmed_at and stage.requests):
            continue
        stored = requests(candidate.revision, stage.programmed_at, until)
        if stage.requests > stored:
            yield f"{candidate.revision}: {stage.requests} requests were counted of {stored} in stage {stage.index}"


def _written_without_owning(versions: Sequence[Raw]) -> Iterator[str]:
    for raw in versions:
        for entry in raw["metadata"].get("managedFields", ()):
            if entry["manager"] == MANAGER and (others := entry.get("fieldsV1", {}).keys() - _OURS):
                yield f"the operator owns {', '.join(sorted(others))}"


def _same_attempt(story: Sequence[AgentRollout]) -> Iterator[tuple[AgentRollout, AgentRollout]]:
    return (
        (before, after)
        for before, after in pairwise(story)
        if before.status.candidate is not None and before.status.candidate == after.status.candidate
    )


def _counted_until(rollout: AgentRollout) -> datetime | None:
    return rollout.status.evidence.counted_until if rollout.status.evidence else None


def weights_off(config_dump: Raw) -> Iterator[str]:
    """Splits of a router that do not sum to the whole (invariant 5)."""
    for config in _route_configurations(config_dump):
        for host in config.get("virtual_hosts", ()):
            for route in host.get("routes", ()):
                split = (route.get("route") or {}).get("weighted_clusters")
                if split and (total := sum(each["weight"] for each in split["clusters"])) != 1_000_000:
                    yield f"route {route.get('name')} of {config['name']} sums to {total}"


def _route_configurations(dump: Raw) -> Iterator[Raw]:
    for section in dump["configs"]:
        for each in section.get("dynamic_route_configs", ()):
            yield each["route_config"]
