"""``agentrollout judge …``: whether a judge may be believed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer
from rich import box
from rich.table import Table

from controller.adapters.judges.loading import JudgeHandle, load_judges
from controller.cli_files import terminal
from controller.cli_values import fail
from controller.core.shadow.health import MEASURES, Bar, Health
from controller.errors import ExitCode
from controller.shadow.health import check_health

_SHOWN = 10
"""Names of pairs that are listed."""


def run(path: Path | None, name: str | None) -> None:
    """See ``controller.cli_evidence.judge_check``."""
    try:
        judges = load_judges(path)
    except ValueError as error:
        fail(str(error), ExitCode.USAGE)
    if name is not None and name not in judges:
        fail(f"--judge: there is no judge {name!r}: it can be {', '.join(sorted(judges))}", ExitCode.USAGE)
    chosen = [handle for handle in judges.values() if name in {None, handle.name}]
    results = asyncio.run(_check(chosen))
    console = terminal()
    console.print(_table(chosen, results))
    for handle, health in zip(chosen, results, strict=True):
        console.print(f"{handle.name}: {_sentence(handle, health)}", markup=False)
    if not all(health.fit for health in results):
        raise typer.Exit(ExitCode.FAILED)


async def _check(handles: list[JudgeHandle]) -> list[Health]:
    try:
        return [await check_health(handle) for handle in handles]
    finally:
        for handle in handles:
            await handle.close()


def _table(handles: list[JudgeHandle], results: list[Health]) -> Table:
    bar = Bar()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("judge", overflow="fold")
    table.add_column("artifact", no_wrap=True)
    for measure in MEASURES:
        table.add_column(f"{measure}\n≥ {getattr(bar, measure):.0%}", justify="right", no_wrap=True)
    table.add_column("held to", justify="right", no_wrap=True)
    table.add_column("fit", no_wrap=True)
    for handle, health in zip(handles, results, strict=True):
        table.add_row(
            handle.name,
            health.judge_artifact.removeprefix("sha256:")[:10],
            *(
                f"[{'green' if value >= getattr(bar, measure) else 'red'}]{value:.1%}[/]"
                for measure, value in health.measures.items()
            ),
            f"{health.held_to} of {health.pairs}",
            "[green]yes[/]" if health.fit else "[red]no[/]",
        )
    return table


def _sentence(handle: JudgeHandle, health: Health) -> str:
    kinds = {pair.name: pair.kind for pair in handle.labelled}
    wrong = [f"{name} ({kinds[name]})" for name in health.wrong]
    listed = ", ".join(wrong[:_SHOWN]) + (f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
    verdict = f"not fit: {health.problem}" if health.problem else "fit to judge"
    return verdict + (f"; wrong about {listed}" if listed else "")
