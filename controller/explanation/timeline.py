"""The evidence of one candidate over time, from what the operator told Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median

from controller.api.status import Counts
from controller.core.counts import Series
from controller.reconcilers.evidence_metrics import (
    CANDIDATE_INFO,
    E_VALUE,
    E_VALUE_THRESHOLD,
    EVENTS,
    VERDICT,
)

HOLE_STEPS = 10
"""A candidate that was not seen for so many scrapes was none; operators that restart are away for less."""

NAMES = (CANDIDATE_INFO, E_VALUE, E_VALUE_THRESHOLD, EVENTS, VERDICT)


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """What one metric said at one time.

    Attributes:
        e_value: E-value of its harm test.
        candidate: The candidate's counts of the stage so far.
        baseline: The baseline's.
        verdict: In a word; empty if it was not known.
    """

    e_value: float
    candidate: Counts
    baseline: Counts
    verdict: str


@dataclass(frozen=True, slots=True)
class Point:
    """What the evidence said at one time.

    Attributes:
        at: When.
        stage: Title of the stage; empty before the first one.
        metrics: Each metric that had evidence, by name.
    """

    at: datetime
    stage: str
    metrics: Mapping[str, MetricPoint]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The story of one candidate.

    Attributes:
        points: What was known, oldest first.
        threshold: The e-value that alone is enough to fail; 0 if there is none yet.
    """

    points: tuple[Point, ...] = ()
    threshold: float = 0.0

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics, the one with the largest e-value first."""
        highest: dict[str, float] = defaultdict(float)
        for point in self.points:
            for name, metric in point.metrics.items():
                highest[name] = max(highest[name], metric.e_value)
        return tuple(sorted(highest, key=lambda name: (-highest[name], name)))

    @property
    def stages(self) -> tuple[tuple[str, datetime], ...]:
        """Each stage and when it was first seen."""
        found: list[tuple[str, datetime]] = []
        for point in self.points:
            if point.stage and (not found or found[-1][0] != point.stage):
                found.append((point.stage, point.at))
        return tuple(found)


def lifetime(series: Iterable[Series], revision: str) -> tuple[datetime, datetime] | None:
    """From when to when the revision was last seen as the candidate; None if never.

    Args:
        series: All samples of ``CANDIDATE_INFO`` of one rollout.
        revision: Name of the AgentRevision.
    """
    times = sorted(
        time for one in series if one.labels.get("revision") == revision for time, _ in one.samples
    )
    if not times:
        return None
    usual = median([later - earlier for earlier, later in pairwise(times)] or [0.0])
    began = times[-1]
    for earlier, later in pairwise(reversed(times)):
        if earlier - later > HOLE_STEPS * usual:
            break  # an earlier attempt of the same artifact is another story
        began = later
    return datetime.fromtimestamp(began, UTC), datetime.fromtimestamp(times[-1], UTC)


def timeline(series: Iterable[Series], revision: str) -> Timeline:
    """The story of the candidate with this revision.

    Args:
        series: Samples of ``NAMES`` of one rollout during its lifetime, on one grid of times.
        revision: Name of its AgentRevision.
    """
    by_name: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        by_name[one.labels["__name__"]].append(one)
    stage_at = {
        time: one.labels.get("stage", "")
        for one in by_name[CANDIDATE_INFO]
        if one.labels.get("revision") == revision
        for time, _ in one.samples
    }
    metrics_at = _metrics(by_name)
    last = max(stage_at, default=0.0)
    # What is decided last ends the candidate: that evidence is still shown, the candidate is not any more.
    decided = sorted(time for time in metrics_at if time > last)[:1]
    points = tuple(
        Point(
            datetime.fromtimestamp(time, UTC),
            stage_at.get(time, stage_at.get(last, "")),
            metrics_at.get(time, {}),
        )
        for time in sorted({*stage_at, *decided})
    )
    thresholds = [value for one in by_name[E_VALUE_THRESHOLD] for _, value in one.samples]
    return Timeline(points, thresholds[-1] if thresholds else 0.0)


def _metrics(by_name: Mapping[str, list[Series]]) -> dict[float, dict[str, MetricPoint]]:
    counts: dict[tuple[float, str, str, str], int] = {}
    for one in by_name[EVENTS]:
        labels = one.labels
        for time, value in one.samples:
            counts[time, labels["metric"], labels["version"], labels["kind"]] = round(value)
    verdicts = {
        (time, one.labels["metric"]): one.labels["verdict"]
        for one in by_name[VERDICT]
        for time, _ in one.samples
    }
    found: dict[float, dict[str, MetricPoint]] = defaultdict(dict)
    for one in by_name[E_VALUE]:
        name = one.labels["metric"]
        for time, value in one.samples:
            candidate, baseline = (
                Counts(
                    bad=counts.get((time, name, version, "bad"), 0),
                    total=counts.get((time, name, version, "all"), 0),
                )
                for version in ("candidate", "baseline")
            )
            found[time][name] = MetricPoint(value, candidate, baseline, verdicts.get((time, name), ""))
    return found
