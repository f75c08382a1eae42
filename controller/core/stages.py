"""What a stage means for traffic and evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from controller.api.delivery import ROUTER_METRICS, WHOLE_PPM, Stage
from controller.api.quantities import format_percent
from controller.api.reasons import ConditionType, Reason
from controller.api.rollout import AgentRollout, InFlightAction, RolloutSpec
from controller.api.status import RolloutStatus, StageStatus
from controller.core.shadow.exchange import Subject
from controller.core.snapshot import Revision
from controller.core.traffic import (
    AudienceSplit,
    ShadowSplit,
    TrafficTable,
    has_control_slices,
    most_sampled_ppm,
)

WAITS = frozenset({Reason.AWAITING_APPROVAL, Reason.OUTSIDE_WINDOW, Reason.KILL_SWITCH_UNKNOWN})
"""Reasons of Progressing for a candidate that people or the calendar keep where it is."""

LONG_AGO = datetime.min.replace(tzinfo=UTC)

GRID = timedelta(seconds=1)
"""Evaluations begin at whole seconds: the load stays even, and as many queries suffice as the interval has seconds."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of the comparison: a revision's general traffic, or its traffic from the stage's audience.

    Attributes:
        revision: Name of the AgentRevision.
        audience: Whether it is the audience's traffic.
    """

    revision: str
    audience: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """The candidate beside stable, for one group of users that the candidate serves.

    Attributes:
        candidate: The candidate's side.
        baseline: Stable's side; None when every user is on the candidate.
        own: Whether the current stage is about these users; the others were won in earlier stages and stay watched.
        weight_ppm: The candidate's programmed share of these users' requests; all of them if it is compared with others.
    """

    candidate: Arm
    baseline: Arm | None
    own: bool
    weight_ppm: int

    @property
    def is_sliced(self) -> bool:
        """Whether the baseline has control slices: none where the candidate serves an audience, or most users."""
        return not self.candidate.audience and has_control_slices(self.weight_ppm)


def title(stage: Stage) -> str:
    """The stage in a word or two, such as ``internal`` or ``10%``."""
    return stage.name or ("audience " if stage.audience else "") + format_percent(stage.weight_ppm)


def general_weight_ppm(stages: list[Stage], index: int) -> int:
    """The candidate's share of everyone outside the audiences in this stage; an audience stage keeps what was."""
    return max((s.weight_ppm for s in stages[: index + 1] if s.audience is None), default=0)


def audience_splits(stages: list[Stage], index: int) -> tuple[AudienceSplit, ...]:
    """The audiences of this stage and of those before it: a passed audience keeps at least its weight."""
    general = general_weight_ppm(stages, index)
    return tuple(
        AudienceSplit(s.audience.header, tuple(s.audience.values), max(s.weight_ppm, general))
        for s in stages[: index + 1]
        if s.audience is not None
    )


def comparisons(status: RolloutStatus, stages: list[Stage]) -> tuple[Comparison, ...]:
    """Everyone whom the candidate serves, with whom to compare them; empty before it serves anybody.

    An audience that is wholly on the candidate is compared with stable's other users.
    """
    if not (status.stable and status.candidate and status.stage):
        return ()
    index = status.stage.index
    stable, candidate = status.stable.revision, status.candidate.revision
    everyone = Arm(stable, audience=False)
    weight, splits, found = general_weight_ppm(stages, index), audience_splits(stages, index), []
    is_audience_stage = stages[index].audience is not None
    rest = None if weight == WHOLE_PPM else everyone
    if weight > 0:
        found.append(Comparison(Arm(candidate, audience=False), rest, not is_audience_stage, weight))
    if splits:
        within = min(split.weight_ppm for split in splits)
        baseline = Arm(stable, audience=True) if within < WHOLE_PPM else rest
        found.append(Comparison(Arm(candidate, audience=True), baseline, is_audience_stage, within))
    return tuple(found)


def watch_name(metric: str, comparison: Comparison) -> str:
    """The metric, and of whose requests: ``errors`` is everyone's, ``errors (audience)`` the audience's.

    What agents report is everyone's: they do not tell the audience apart.
    """
    return f"{metric} (audience)" if comparison.candidate.audience and metric in ROUTER_METRICS else metric


def watches(stages: list[Stage]) -> int:
    """How many groups of users are compared in the course of a rollout: everyone, and its audience if there is one."""
    return 1 + any(stage.audience is not None for stage in stages)


def sampled_ppm(status: RolloutStatus) -> int:
    """The share of all conversations outside the audiences whose requests the candidate answers to nobody."""
    shadow = status.frozen.shadow if status.frozen else None
    if shadow is None or status.stage is None or not (status.is_in_shadow or shadow.also_in_stages):
        return 0
    return min(shadow.fraction, most_sampled_ppm(status.weight))


def _shadow_split(
    key: str, status: RolloutStatus, candidate: Revision, stable: Revision
) -> ShadowSplit | None:
    sampled = sampled_ppm(status)
    if not (sampled and status.frozen and status.frozen.shadow):
        return None
    shadow = status.frozen.shadow
    return ShadowSplit(
        subject=Subject(
            rollout=key,
            candidate=candidate.name,
            candidate_artifact=candidate.artifact_id,
            stable=stable.name,
            stable_artifact=stable.artifact_id,
            models=tuple(dict.fromkeys(each.model for each in (candidate, stable) if each.model)),
            judge=shadow.judge,
        ),
        sampled_ppm=sampled,
        noise_ppm=sampled * shadow.noise // WHOLE_PPM,
        timeout=shadow.timeout,
        removed_headers=tuple(shadow.remove_headers),
        recorded_tools=shadow.recorded_tools,
    )


def draining(spec: RolloutSpec, status: RolloutStatus, *, killed: bool) -> str:
    """The revision that was last taken off, or is now, if its answers could be cut and are to go on."""
    if InFlightAction.CUT not in (spec.on_kill, spec.in_flight.on_rollback):
        return ""
    if status.candidate is None:
        return status.draining
    action = spec.on_kill if killed else spec.in_flight.on_rollback
    return status.candidate.revision if action is InFlightAction.DRAIN else ""


def table_of(
    rollout: AgentRollout, status: RolloutStatus, revisions: Iterable[Revision]
) -> TrafficTable | None:
    """The traffic that a status asks for; None while a revision that it names is not known."""
    known = {revision.name: revision for revision in revisions}
    if status.stable is None or status.stable.revision not in known:
        return None
    table = TrafficTable(
        key=rollout.metadata.key,
        hosts=tuple(rollout.spec.traffic.envoy.hosts),
        affinity_header=rollout.spec.traffic.affinity.header,
        stable=known[status.stable.revision].backend,
        cut_on_rollback=rollout.spec.in_flight.on_rollback is InFlightAction.CUT,
        cut_on_kill=rollout.spec.on_kill is InFlightAction.CUT,
        draining=status.draining,
    )
    if status.candidate is None:
        return table
    if status.candidate.revision not in known:
        return None
    candidate, serving = known[status.candidate.revision], known[status.stable.revision]
    stages = status.frozen.stages if status.frozen else rollout.spec.stages
    analysis = status.frozen.analysis if status.frozen else rollout.spec.analysis
    return replace(
        table,
        candidate=candidate.backend,
        weight_ppm=status.weight if status.stage else 0,
        audiences=audience_splits(stages, status.stage.index) if status.stage else (),
        attempt=status.candidate.attempt,
        exposure=analysis.exposure,
        shadow=_shadow_split(rollout.metadata.key, status, candidate, serving),
    )


def needs_past(status: RolloutStatus, stages: list[Stage]) -> bool:
    """Whether stable's past is to be read before the candidate's first request, and was not yet.

    It gives latency and other histograms their edges, and a reference to rollouts that go from nobody to everybody at once.
    """
    if status.frozen is None or (status.evidence and status.evidence.metrics):
        return False
    analysis = status.frozen.analysis
    has_edges = any(metric.has_edges for metric in analysis.metrics)
    has_limits = any(guardrail.has_edges for guardrail in analysis.guardrails)
    return (
        has_edges
        or has_limits
        or all(
            stage.weight_ppm == WHOLE_PPM
            for stage in stages
            if stage.audience is None and not stage.is_shadow
        )
    )


def stage_end(stage: StageStatus, stages: list[Stage]) -> datetime:
    """When minDuration is over for a stage whose split was acknowledged."""
    return (stage.programmed_at or stage.entered_at) + stages[stage.index].min_duration


def evaluation_due(
    status: RolloutStatus, stages: list[Stage], interval: timedelta, now: datetime, *, paused: bool = False
) -> datetime | None:
    """When evidence is to be read next; None while no candidate waits for any.

    Besides every interval it is read at the very end of a stage, so that a short stage does not wait for a tick. An
    instant in the future (a clock was set back) counts as now. The intervals of all rollouts end on one grid, so that
    those that end together are read together. Before the first stage a rollout that is paused, or waits for people or a window,
    reads nothing: its past would be old by the time of the first request.
    """
    if status.candidate is None:
        return None
    evaluated = min((status.evidence and status.evidence.evaluated_at) or LONG_AGO, now)
    if status.stage is None:
        said = status.condition(ConditionType.PROGRESSING)
        if said is not None and said.reason in WAITS:
            return None
        again = _on_grid(evaluated + interval, interval) if evaluated > LONG_AGO else LONG_AGO
        return again if needs_past(status, stages) and not paused else None
    if status.stage.programmed_at is None:
        return None
    last = min(max(evaluated, status.stage.programmed_at), now)
    end, following = stage_end(status.stage, stages), _on_grid(last + interval, interval)
    return end if last < end < following else following


def _on_grid(time: datetime, interval: timedelta) -> datetime:
    """The last point of the grid up to ``time``: never later than due, and at most a fifth of an interval earlier."""
    step = min(GRID, interval / 5)
    return time - (time - LONG_AGO) % step
