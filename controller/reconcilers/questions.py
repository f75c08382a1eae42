"""What an evaluation asks of the metric source."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from controller.adapters.ports import Question
from controller.api.delivery import Analysis
from controller.api.guardrails import GuardrailName
from controller.api.status import Evidence, RolloutStatus
from controller.core.agents import AgentDefinition, shadow_definition
from controller.core.guardrails import read_definitions
from controller.core.snapshot import Snapshot
from controller.core.stages import Arm, comparisons, sampled_ppm
from controller.core.tally import Catalogue
from controller.reconcilers.lookback import Lookback

BASELINE_LOOKBACK = timedelta(minutes=30)
"""How much of stable's past tells its latency."""

MIN_MARGIN, MAX_MARGIN = timedelta(seconds=30), timedelta(seconds=120)
"""Further back than the interval: the scrape before its first one and the rhythm of scrapes must be seen."""


def router_question(
    snapshot: Snapshot, catalogue: Catalogue, now: datetime, lookback: Lookback | None = None
) -> Question:
    """What this evaluation needs: the compared versions' counters, or stable's past before the first stage.

    Args:
        snapshot: The rollout.
        catalogue: Which series of the router say what.
        now: The instant of the evaluation.
        lookback: What the answers so far tell about how much is needed.
    """
    key, status = snapshot.rollout.metadata.key, snapshot.rollout.status
    edges: set[float] | None = None
    if status.stage:
        counted = status.evidence.counted_until if status.evidence else None
        begins, most = _counting_from(status, counted, now), _margin(snapshot.analysis.interval)
        margin = (lookback or Lookback()).margin(key, [counted], begins, most)
        window = now - begins + margin
        compared = comparisons(status, snapshot.stages)
        sides = {side for each in compared for side in (each.candidate, each.baseline) if side}
        evidence = status.evidence or Evidence()
        edges = {edge for metric in evidence.metrics for edge in metric.edges}
        edges |= {each.limit for each in evidence.guardrails if each.name == GuardrailName.LATENCY}
    else:
        window, sides = BASELINE_LOOKBACK, set[Arm]()
    assert status.stable is not None  # noqa: S101  evidence is only due once there is a candidate
    sides = sides or {Arm(status.stable.revision, audience=False)}
    return Question.about(
        catalogue,
        [
            *(each.name for each in snapshot.analysis.metrics),
            *(each.name for each in snapshot.analysis.guardrails),
        ],
        (catalogue.value(key, side.revision, side.audience) for side in sides),
        edges=edges,
        window=window,
        at=now,
    )


def report_questions(
    snapshot: Snapshot, now: datetime, lookback: Lookback | None = None
) -> tuple[Question, ...]:
    """What this evaluation needs of what agents report: one question for all metrics with one label for the version.

    Args:
        snapshot: The rollout.
        now: The instant of the evaluation.
        lookback: What the answers so far tell about how much is needed.
    """
    status, analysis = snapshot.rollout.status, snapshot.analysis
    evidence = status.evidence or Evidence()
    counted = [
        *((metric.name, metric.counted_until) for metric in evidence.metrics),
        *((guardrail.name, guardrail.counted_until) for guardrail in evidence.guardrails),
    ]
    by_label: dict[str, list[AgentDefinition]] = defaultdict(list)
    ends: list[datetime | None] = []
    for definition in _reported(snapshot):
        by_label[definition.label].append(definition)
        ends += [until for name, until in counted if name == definition.name] or [None]
    begins = min((_counting_from(status, until, now) for until in ends), default=now)
    # Which comparisons ended without a verdict is told of the last minutes, not of one interval.
    seen = lookback if lookback and not sampled_ppm(status) else Lookback()
    margin = seen.margin(snapshot.rollout.metadata.key, ends, begins, MAX_MARGIN)
    window = now - begins + margin if status.stage else BASELINE_LOOKBACK
    for guardrail in analysis.guardrails:
        if guardrail.name == GuardrailName.TOOL_ERRORS:
            window = max(window, guardrail.over + MAX_MARGIN)
    versions = [version for version in (status.stable, status.candidate) if version]
    return tuple(
        Question(
            processes=frozenset(),
            names=frozenset().union(*(definition.names for definition in group)),
            label=label,
            values=frozenset(definition.value(version) for definition in group for version in versions),
            only=(),
            edges=_edges(group, analysis, evidence) if status.stage else None,
            window=window,
            at=now,
        )
        for label, group in by_label.items()
    )


def _reported(snapshot: Snapshot) -> tuple[AgentDefinition, ...]:
    """What others than the routers tell at this evaluation: in the shadow, nothing but comparisons."""
    status, key = snapshot.rollout.status, snapshot.rollout.metadata.key
    told = () if status.is_in_shadow else read_definitions(snapshot.analysis, key)
    return (*told, shadow_definition(key)) if sampled_ppm(status) else told


def _edges(group: list[AgentDefinition], analysis: Analysis, evidence: Evidence) -> frozenset[float] | None:
    """The edges that are compared; all of them where a mean is limited."""
    names = {definition.name for definition in group}
    if any(each.name == GuardrailName.TOKENS_PER_TASK for each in analysis.guardrails) and (
        GuardrailName.TOKENS_PER_TASK in names
    ):
        return None
    fixed = (metric.edges for metric in evidence.metrics if metric.name in names)
    return frozenset().union(*(definition.edges for definition in group), *fixed)


def _counting_from(status: RolloutStatus, counted: datetime | None, now: datetime) -> datetime:
    """From where the next interval counts: what was counted before, or the stage's start."""
    programmed = status.stage.programmed_at if status.stage else None
    return min(max(time for time in (programmed, counted, now - BASELINE_LOOKBACK) if time), now)


def _margin(interval: timedelta) -> timedelta:
    """Short intervals go with frequent scrapes, whose many samples need not be read that far back."""
    return min(max(8 * interval, MIN_MARGIN), MAX_MARGIN)
