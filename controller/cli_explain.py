"""``agentrollout explain``: why a rollout was decided as it was."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controller.adapters.ports import MetricSourceError
from controller.adapters.prometheus import PrometheusSource
from controller.adapters.prometheus_http import HttpConfig
from controller.api.rollout import AgentRollout
from controller.cli_cluster import in_cluster
from controller.cli_files import terminal
from controller.cli_values import Where, fail
from controller.core.artifact import revision_name
from controller.errors import ExitCode
from controller.explanation.charts import ChartError, in_terminal, to_file
from controller.explanation.tables import headline, limits, over_time, sentences, verdicts
from controller.explanation.timeline import NAMES, Timeline, lifetime, timeline
from controller.reconcilers.evidence_metrics import CANDIDATE_INFO

POINTS = 200
"""Of the timeline, at most."""

LOOKBACK = timedelta(days=7)
LEAST_STEP = timedelta(seconds=1)


def run(
    name: str,
    where: Where,
    prometheus_url: str | None,
    prometheus_http: HttpConfig | None,
    plot: Path | None,
) -> None:
    """See ``controller.cli_evidence.explain``."""
    rollout = in_cluster(where, lambda cluster: cluster.rollout(name))
    console = terminal()
    console.print(headline(rollout))
    metrics = rollout.status.analysis
    if metrics:
        evidence = rollout.status.evidence
        console.print(verdicts(metrics, evidence.evaluated_at if evidence else None))
        for sentence in sentences(metrics):
            console.print(sentence)
    for sentence in limits(rollout.status.guardrails):
        console.print(sentence)
    revision = _revision(rollout)
    if revision is None:
        console.print("No candidate was ever on its way: there is nothing to explain.")
        return
    if prometheus_url is None:
        console.print("For the timeline say --prometheus-url.")
        return
    try:
        found = asyncio.run(
            _timeline(
                PrometheusSource(prometheus_url, http=prometheus_http),
                rollout.metadata.key,
                revision,
            )
        )
    except MetricSourceError as error:
        fail(f"there is no timeline: {error}", ExitCode.FAILED)
    if not any(point.metrics for point in found.points):
        console.print(
            f"Prometheus has no {CANDIDATE_INFO} of {revision} in the last {LOOKBACK.days} days, so there is no timeline: "
            "have it scrape the operators' /metrics."
        )
        return
    console.print()
    console.print(over_time(found))
    console.print(in_terminal(found, console.width))
    if plot:
        _draw(found, plot, f"{rollout.metadata.key}, {revision}")
        console.print(f"The plot is in {plot}.")


def _draw(found: Timeline, path: Path, title: str) -> None:
    try:
        to_file(found, path, title)
    except ChartError as error:
        fail(str(error), ExitCode.FAILED)


def _revision(rollout: AgentRollout) -> str | None:
    """Whose story is told: the candidate's, or that of the version that was taken back last."""
    if rollout.status.candidate:
        return rollout.status.candidate.revision
    back = rollout.status.last_rollback
    return revision_name(rollout.metadata.name, back.artifact_id) if back else None


async def _timeline(source: PrometheusSource, key: str, revision: str) -> Timeline:
    try:
        now = datetime.now(UTC)
        span = lifetime(await source.samples(CANDIDATE_INFO, {"rollout": key}, LOOKBACK, now), revision)
        if span is None:
            return Timeline()
        began, ended = span
        step = max((ended - began) / POINTS, LEAST_STEP)
        # One step more: the evidence that decided is shown from then on.
        until = min(ended + 15 * LEAST_STEP + step, now)
        return timeline(await source.history(NAMES, {"rollout": key}, began, until, step), revision)
    finally:
        await source.close()
