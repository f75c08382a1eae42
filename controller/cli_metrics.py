"""``agentrollout metrics …``: what evidence is made of."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from controller.adapters.ports import MetricSourceError
from controller.adapters.prometheus import PrometheusSource
from controller.api.rollout import AgentRollout
from controller.cli_values import PrometheusHttpFile, fail, read_url
from controller.errors import ExitCode
from controller.manifests import ManifestError, read_rollout
from controller.metric_check import Finding, State
from controller.metric_check import check as look

metrics = typer.Typer(help="What evidence is made of.", no_args_is_help=True)

WIDTH = 100

_STYLES = {State.OK: "green", State.EMPTY: "yellow", State.MISSING: "red", State.MISLABELLED: "red"}
_WRONG = {State.MISSING, State.MISLABELLED}


@metrics.callback()
def _root() -> None:
    """Keep subcommands even while there is one."""


@metrics.command()
def check(
    file: Annotated[Path, typer.Option("-f", "--filename", help="The AgentRollout.")],
    prometheus_url: Annotated[
        str,
        typer.Option(
            callback=read_url,
            help="The Prometheus that scrapes routers and agents.",
        ),
    ] = "http://127.0.0.1:9090",
    prometheus_http_config_file: PrometheusHttpFile = None,
    namespace: Annotated[
        str | None,
        typer.Option("-n", "--namespace", help="Of the rollout. Left out: the file's, else default."),
    ] = None,
) -> None:
    """Look in a Prometheus for every series that a rollout's metrics read.

    Says what is missing, empty or mislabelled; ends with 1 if something is missing or mislabelled.

    Example: agentrollout metrics check -f rollout.yaml --prometheus-url http://127.0.0.1:9090
    """
    try:
        rollout = read_rollout(file)
    except ManifestError as error:
        fail(str(error), ExitCode.USAGE)
    if namespace:
        metadata = rollout.metadata.model_copy(update={"namespace": namespace})
        rollout = rollout.model_copy(update={"metadata": metadata})
    try:
        findings = asyncio.run(
            _look(rollout, PrometheusSource(prometheus_url, http=prometheus_http_config_file))
        )
    except MetricSourceError as error:
        fail(str(error), ExitCode.FAILED)
    console = Console(width=min(Console().width, WIDTH), highlight=False)
    console.print(_table(findings))
    wrong = sum(finding.state in _WRONG for finding in findings)
    if wrong:
        console.print(
            f"{wrong} of {len(findings)} series cannot be read: while that is so, the weight is held."
        )
        raise typer.Exit(ExitCode.FAILED)
    console.print(f"All {len(findings)} series can be read.")


async def _look(rollout: AgentRollout, source: PrometheusSource) -> list[Finding]:
    try:
        return [finding async for finding in look(rollout, source.vector)]
    finally:
        await source.close()


def _table(findings: list[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("metric", "counts", "series"):
        table.add_column(name, overflow="fold", no_wrap=name != "series")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    last = None
    for each in findings:
        probe = each.probe
        note = f"\n[dim]{_escaped(each.note)}[/dim]" if each.note else ""
        table.add_row(
            probe.metric if probe.metric != last else "",
            probe.counts,
            _escaped(probe.text) + note,
            "" if each.value is None else f"{each.value:.6g}",
            f"[{_STYLES[each.state]}]{each.state}[/]",
        )
        last = probe.metric
    return table


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
