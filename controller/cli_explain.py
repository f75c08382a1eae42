"""``agentrollout explain``: why a rollout was decided as it was."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from controller.adapters.ports import MetricSourceError
from controller.adapters.prometheus import PrometheusSource
from controller.api.rollout import AgentRollout
from controller.cli_values import PrometheusHttpFile, fail, read_url
from controller.core.artifact import revision_name
from controller.errors import ExitCode
from controller.explanation.charts import FORMATS, ChartError, in_terminal, to_file
from controller.explanation.tables import headline, limits, over_time, sentences, verdicts
from controller.explanation.timeline import NAMES, Timeline, lifetime, timeline
from controller.reconcilers.evidence_metrics import CANDIDATE_INFO
from controller.reconcilers.observed import ROLLOUTS, in_words
from controller.runtime.client import ResourceClient
from controller.runtime.errors import ApiError, NotFound
from controller.runtime.transport import ConfigurationError, KubernetesTransport

POINTS = 200
"""Of the timeline, at most."""

WIDTH = 100
LOOKBACK = timedelta(days=7)
LEAST_STEP = timedelta(seconds=1)


def _plot(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"{path} ends with neither {' nor '.join(FORMATS)}")
    return path


def explain(
    name: Annotated[str, typer.Argument(help="The AgentRollout.")],
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Its namespace.")] = "default",
    prometheus_url: Annotated[
        str | None,
        typer.Option(
            callback=lambda text: text and read_url(text),
            help="Prometheus that scrapes the operators (their --http-address, /metrics); without it there is no timeline.",
        ),
    ] = None,
    prometheus_http_config_file: PrometheusHttpFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            callback=_plot, help="Also draw the timeline to this file, .svg or .png (needs matplotlib)."
        ),
    ] = None,
    kubeconfig: Annotated[
        str | None, typer.Option(help="Left out: $KUBECONFIG, the pod's account, ~/.kube/config.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context within the kubeconfig.")] = None,
) -> None:
    """Show the evidence for and against a rollout's candidate: what each metric says, what is missing, and over time.

    Of a candidate that was taken back it shows the evidence that decided.
    """
    rollout = asyncio.run(_rollout(f"{namespace}/{name}", kubeconfig, context))
    console = Console(width=min(Console().width, WIDTH), highlight=False)
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
                PrometheusSource(prometheus_url, http=prometheus_http_config_file),
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


async def _rollout(key: str, kubeconfig: str | None, context: str | None) -> AgentRollout:
    try:
        transport = await KubernetesTransport.connect(kubeconfig=kubeconfig, context=context)
    except ConfigurationError as error:
        fail(str(error), ExitCode.USAGE)
    try:
        raw = await ResourceClient(transport, ROLLOUTS, field_manager="agentrollout-explain").get(key)
        return AgentRollout.model_validate(raw)
    except NotFound:
        fail(f"there is no AgentRollout {key}; -n names another namespace", ExitCode.FAILED)
    except ApiError as error:
        fail(f"{key} cannot be read: {error}", ExitCode.FAILED)
    except ValidationError as error:
        problem = in_words(error.errors(include_url=False, include_input=False))
        fail(f"{key} cannot be understood: {problem}", ExitCode.FAILED)
    finally:
        await transport.close()


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
