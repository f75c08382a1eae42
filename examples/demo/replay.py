"""When the evidence first sufficed: the product's own test, replayed over the stored samples at every scrape."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from operator import itemgetter

from controller.adapters.envoy.catalogue import CATALOGUE
from controller.adapters.ports import MetricSource, MetricSourceError, Question
from controller.api.reasons import Verdict
from controller.api.rollout import AgentRollout
from controller.api.status import RolloutStatus
from controller.core.assess import assess
from controller.core.counts import Series
from controller.core.snapshot import Samples, Snapshot
from controller.core.stages import comparisons, evaluation_due
from controller.core.traffic import Programmed

_MARGIN = timedelta(seconds=20)


async def sufficient_since(source: MetricSource, rollout: AgentRollout, decided_at: datetime) -> datetime:
    """The first scrape whose samples would have failed the candidate.

    Args:
        source: Where the operator read its evidence.
        rollout: The last state that was stored before the rollback.
        decided_at: The evaluation that failed; the answer if no earlier scrape would have.
    """
    try:
        series = await _samples(source, rollout, decided_at)
    except MetricSourceError:
        return decided_at
    scrapes = sorted(
        {
            time
            for one in series
            if one.labels.get("__name__") == CATALOGUE.liveness
            for time, _ in one.samples
        }
    )
    for state, following in pairwise([*evaluations(rollout, series, decided_at), None]):
        assert state is not None  # noqa: S101  the last pair alone ends with None
        end = counted_until(following) if following else decided_at.timestamp()
        for scrape in scrapes:
            if counted_until(state) < scrape <= end and _fails(state, series, scrape):
                return datetime.fromtimestamp(scrape, UTC)
    return decided_at


def evaluations(rollout: AgentRollout, series: tuple[Series, ...], until: datetime) -> Iterator[AgentRollout]:
    """The rollout after each evaluation that the operator made before ``until``; it writes only some of them down."""
    snapshot = _snapshot(rollout, Samples(until))
    while True:
        yield rollout
        due = evaluation_due(rollout.status, snapshot.stages, snapshot.analysis.interval, until)
        if due is None or due >= until:
            return
        status = _assessed(rollout, series, due.timestamp())
        rollout = rollout.model_copy(update={"status": status})


def counted_until(rollout: AgentRollout) -> float:
    """Until when requests were counted, in unix seconds."""
    evidence = rollout.status.evidence
    return evidence.counted_until.timestamp() if evidence and evidence.counted_until else 0.0


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
    return _assessed(rollout, series, scrape).verdict is Verdict.FAIL


def _assessed(rollout: AgentRollout, series: tuple[Series, ...], time: float) -> RolloutStatus:
    """What an evaluation at ``time`` would have made of the samples stored until then."""
    known = tuple(
        Series(one.labels, one.samples[: bisect_right(one.samples, time, key=itemgetter(0))])
        for one in series
    )
    at = datetime.fromtimestamp(time, UTC)
    return assess(_snapshot(rollout, Samples(at, known)), CATALOGUE, at)


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
