"""When the evidence first sufficed: the product's own test, replayed over the stored samples at every scrape."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from controller.adapters.envoy.catalogue import CATALOGUE
from controller.adapters.ports import MetricSource, MetricSourceError, Question
from controller.api.reasons import Verdict
from controller.api.rollout import AgentRollout
from controller.core.assess import assess
from controller.core.counts import Series
from controller.core.snapshot import Samples, Snapshot
from controller.core.stages import comparisons
from controller.core.traffic import Programmed

_MARGIN = timedelta(seconds=20)


async def sufficient_since(source: MetricSource, rollout: AgentRollout, decided_at: datetime) -> datetime:
    """The first scrape whose samples would have failed the candidate.

    Args:
        source: Where the operator read its evidence.
        rollout: The last state before the rollback, with the evidence counted until then.
        decided_at: The evaluation that failed; the answer if no earlier scrape would have.
    """
    try:
        series = await _samples(source, rollout, decided_at)
    except MetricSourceError:
        return decided_at
    evidence = rollout.status.evidence
    counted = evidence.counted_until.timestamp() if evidence and evidence.counted_until else 0.0
    scrapes = {
        time for one in series if one.labels.get("__name__") == CATALOGUE.liveness for time, _ in one.samples
    }
    for scrape in sorted(time for time in scrapes if counted < time <= decided_at.timestamp()):
        if _fails(rollout, series, scrape):
            return datetime.fromtimestamp(scrape, UTC)
    return decided_at


async def _samples(source: MetricSource, rollout: AgentRollout, at: datetime) -> tuple[Series, ...]:
    status = rollout.status
    compared = comparisons(status, _snapshot(rollout, Samples(at)).stages)
    if not compared or status.stage is None:
        return ()
    sides = {side for each in compared for side in (each.candidate, each.baseline) if side}
    values = [CATALOGUE.value(rollout.metadata.key, side.revision, side.audience) for side in sides]
    window = at - status.stage.entered_at + _MARGIN
    metrics = (metric.name for metric in _snapshot(rollout, Samples(at)).analysis.metrics)
    return await source.read(Question.about(CATALOGUE, metrics, values, edges=None, window=window, at=at))


def _fails(rollout: AgentRollout, series: tuple[Series, ...], scrape: float) -> bool:
    known = tuple(Series(one.labels, tuple(s for s in one.samples if s[0] <= scrape)) for one in series)
    at = datetime.fromtimestamp(scrape, UTC)
    assessed = assess(_snapshot(rollout, Samples(at, known)), CATALOGUE, at)
    return assessed.verdict is Verdict.FAIL


def _snapshot(rollout: AgentRollout, samples: Samples) -> Snapshot:
    return Snapshot(
        rollout=rollout,
        artifact_id="",
        wanted_backend=None,
        problem=None,
        revisions=(),
        programmed=Programmed(table=None, acknowledged_at=None, instances=0),
        samples=samples,
    )
