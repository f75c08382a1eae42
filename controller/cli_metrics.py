"""``agentrollout metrics …``: what evidence is made of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer
from rich import box
from rich.table import Table

from controller.adapters.ports import MetricSourceError
from controller.adapters.prometheus import PrometheusSource
from controller.adapters.prometheus_http import HttpConfig
from controller.api.rollout import AgentRollout
from controller.cli_files import read_file, terminal
from controller.cli_values import fail
from controller.errors import ExitCode
from controller.metric_check import Finding, State
from controller.metric_check import check as look

_STYLES = {State.OK: "green", State.EMPTY: "yellow", State.MISSING: "red", State.MISLABELLED: "red"}
_WRONG = {State.MISSING, State.MISLABELLED}


def run(file: Path, prometheus_url: str, prometheus_http: HttpConfig | None, namespace: str | None) -> None:
    """See ``controller.cli_evidence.check``."""
    rollout = read_file(file)
    if namespace:
        metadata = rollout.metadata.model_copy(update={"namespace": namespace})
        rollout = rollout.model_copy(update={"metadata": metadata})
    try:
        findings = asyncio.run(_look(rollout, PrometheusSource(prometheus_url, http=prometheus_http)))
    except MetricSourceError as error:
        fail(str(error), ExitCode.FAILED)
    console = terminal()
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
