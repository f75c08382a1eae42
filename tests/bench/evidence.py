"""When the stored samples first sufficed: the product's own test, replayed at every scrape."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from controller.adapters.envoy.catalogue import CATALOGUE
from controller.adapters.envoy.naming import cluster_name
from controller.adapters.ports import Question
from controller.adapters.prometheus import PrometheusSource
from controller.api.delivery import MetricName
from controller.api.reasons import Verdict
from controller.api.rollout import AgentRollout
from controller.core.assess import assess
from controller.core.counts import Series
from controller.core.snapshot import Samples, Snapshot
from controller.core.traffic import Programmed
from examples.demo.replay import counted_until, evaluations
from tests.bench.deliveries import Delivery

_BEFORE = timedelta(seconds=20)
_AFTER = timedelta(seconds=1)


@dataclass(frozen=True)
class Stored:
    """What Prometheus has stored about one delivery.

    Attributes:
        sufficient_at: The first scrape at which an evaluation would have failed the candidate.
        evaluated_at: The last evaluation before the acknowledgement.
        receded: How many evaluations after it did not, because the samples that came next spoke for the candidate.
        requests: Requests that met the bad version, as far as scrapes saw them.
        failed: How many of these failed.
    """

    sufficient_at: datetime
    evaluated_at: datetime
    receded: int
    requests: int
    failed: int


async def stored(source: PrometheusSource, delivery: Delivery, acknowledged: datetime) -> Stored | None:
    """Replay one delivery; None if no scrape before the acknowledgement would have failed the candidate."""
    programmed = [r for r in delivery.states if r.status.stage and r.status.stage.programmed_at]
    first = programmed[0].status
    assert first.candidate
    assert first.stable
    assert first.stage
    assert first.stage.programmed_at
    begin, end = first.stage.programmed_at - _BEFORE, acknowledged + _AFTER
    candidate = cluster_name(delivery.key, first.candidate.revision)
    clusters = (candidate, cluster_name(delivery.key, first.stable.revision))
    series = await source.read(
        Question.about(CATALOGUE, [MetricName.ERRORS], clusters, edges=(), window=end - begin, at=end)
    )
    assert first.frozen
    # The acknowledgement follows upon the evaluation that decided; it is not one of those before.
    deciding = acknowledged - first.frozen.analysis.interval / 2
    evaluated = _evaluations(programmed, series, deciding)
    sufficient = _first_sufficient(evaluated, series, acknowledged.timestamp())
    if sufficient is None:
        return None
    of_candidate = [one for one in series if one.labels.get(CATALOGUE.label) == candidate]
    since = delivery.fault_at.timestamp()
    total = (one for one in of_candidate if one.labels["__name__"] == "envoy_cluster_upstream_rq_completed")
    failed = (one for one in of_candidate if one.labels.get("envoy_response_code_class") == "5")
    return Stored(
        datetime.fromtimestamp(sufficient, UTC),
        evaluated_at(evaluated[-1]) or delivery.fault_at,
        sum(counted_until(state) >= sufficient for state in evaluated),
        round(sum(_grown(one, since) for one in total)),
        round(sum(_grown(one, since) for one in failed)),
    )


def _evaluations(
    states: list[AgentRollout], series: tuple[Series, ...], acknowledged: datetime
) -> list[AgentRollout]:
    """The states after every evaluation, those included that were not written down."""
    return [
        evaluation
        for state, following in pairwise([*states, None])
        if state is not None
        for evaluation in evaluations(state, series, (following and evaluated_at(following)) or acknowledged)
    ]


def evaluated_at(state: AgentRollout) -> datetime | None:
    """When its evidence was read."""
    return state.status.evidence.evaluated_at if state.status.evidence else None


def _first_sufficient(
    states: list[AgentRollout], series: tuple[Series, ...], acknowledged: float
) -> float | None:
    """In each stretch between two evaluations: would one more evaluation, at this scrape, have failed?"""
    scrapes = sorted(
        {time for one in series if one.labels["__name__"] == CATALOGUE.liveness for time, _ in one.samples}
    )
    for state, following in pairwise([*states, None]):
        assert state is not None
        end = counted_until(following) if following else acknowledged
        for scrape in scrapes:
            if counted_until(state) < scrape <= end and _fails(state, series, scrape):
                return scrape
    return None


def _fails(state: AgentRollout, series: tuple[Series, ...], scrape: float) -> bool:
    at = datetime.fromtimestamp(scrape, UTC)
    snapshot = Snapshot(
        rollout=state,
        artifact_id="",
        wanted_backend=None,
        problem=None,
        revisions=(),
        programmed=Programmed(table=None, acknowledged_at=None, instances=0),
        samples=Samples(at, tuple(_until(series, scrape))),
    )
    assessed = assess(snapshot, CATALOGUE, at)
    return assessed.verdict is Verdict.FAIL


def _until(series: tuple[Series, ...], scrape: float) -> Iterator[Series]:
    for one in series:
        end = bisect_right(one.samples, scrape, key=lambda sample: sample[0])
        yield Series(one.labels, one.samples[:end])


def _grown(series: Series, since: float) -> float:
    """A counter's growth from an instant to its last sample."""
    before = [value for time, value in series.samples if time <= since]
    return series.samples[-1][1] - (before[-1] if before else 0.0)
