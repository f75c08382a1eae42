"""``python -m tests.bench.throughput``: what the split costs, against asking the agent directly."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import psutil
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from devkit.upstream import StaticUpstream
from tests.bench.conditions import conditions, headline, write
from tests.bench.vegeta import LoadReport, Vegeta, target
from tests.bench.world import delivery_lab
from tests.integration.delivery_lab import DeliveryLab, manifest, stage

CONVERSATIONS = 4000
HOST = "agent.example"


@dataclass(frozen=True)
class Settings:
    """How it is measured.

    Attributes:
        rounds: How often each way is measured; the ways alternate.
        seconds: How long each time.
        workers: Connections, each with one request at a time, when as many requests as possible are sent.
        per_second: The constant rate at which latency is compared.
    """

    rounds: int
    seconds: float
    workers: int
    per_second: float


@dataclass(frozen=True)
class Round:
    """Both ways under both loads, measured one right after the other."""

    direct: LoadReport
    split: LoadReport
    direct_at_rate: LoadReport
    split_at_rate: LoadReport


@dataclass(frozen=True)
class Hop:
    """Where the router sends requests: an address, and the program that listens there."""

    cluster: str
    address: str
    program: str


async def run(settings: Settings, console: Console) -> tuple[list[Round], list[Hop]]:
    """Measure all rounds with the operator dead: whatever it does cannot be in the path."""
    async with delivery_lab(scrape=5) as lab:
        old, new = lab.agent("old"), lab.agent("new")
        await _split_in_half(lab, old, new)
        await asyncio.to_thread(lab.operator.kill)
        rounds = []
        with (
            console.status("") as status,
            tempfile.TemporaryDirectory(prefix="agentrollout-load-") as scratch,
        ):
            for number in range(settings.rounds):
                status.update(f"round {number + 1} of {settings.rounds}")
                load = partial(_load, settings, Path(scratch))
                rounds.append(await asyncio.to_thread(_round, load, settings, f"{old.url}/", lab.users_url))
        return rounds, list(_hops(lab))


async def _split_in_half(lab: DeliveryLab, old: StaticUpstream, new: StaticUpstream) -> None:
    await lab.apply(manifest(lab.namespace, old.url))
    await lab.until(lambda r: r.status.programmed == 0)
    await lab.apply(manifest(lab.namespace, new.url, stages=[stage("50%", seconds=3600), stage("100%")]))
    await lab.until(lambda r: r.status.programmed == 500_000)


def _round(load: Callable[[str, float], LoadReport], settings: Settings, direct: str, split: str) -> Round:
    return Round(
        direct=load(direct, 0),
        split=load(split, 0),
        direct_at_rate=load(direct, settings.per_second),
        split_at_rate=load(split, settings.per_second),
    )


def _load(settings: Settings, scratch: Path, url: str, per_second: float) -> LoadReport:
    targets = [target(url, host=HOST, conversation=f"c{number}") for number in range(CONVERSATIONS)]
    workers = 0 if per_second else settings.workers
    load = Vegeta(scratch, targets, per_second=per_second, seconds=settings.seconds, workers=workers)
    try:
        load.start()
        report = load.wait(settings.seconds + 60)
    finally:
        load.close()
    if report.success < 1:
        raise RuntimeError(f"requests failed: {report.statuses} {report.errors}")
    return report


def _hops(lab: DeliveryLab) -> Iterator[Hop]:
    """Each endpoint of each cluster that users' requests can go to, as the router itself has it."""
    known = lab.envoy.admin_get("/clusters", format="json").json()["cluster_statuses"]
    for cluster in known:
        if cluster["name"].startswith(f"{lab.namespace}/"):
            for host in cluster["host_statuses"]:
                address = host["address"]["socket_address"]
                program = _listening_on(address["port_value"])
                yield Hop(cluster["name"], f"{address['address']}:{address['port_value']}", program)


def _listening_on(port: int) -> str:
    """The executable of the process that listens on a port of this machine."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            listening = (c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
            if any(c.laddr.port == port for c in listening):
                return Path(process.exe()).name
    return "unknown"


def table(settings: Settings, rounds: list[Round]) -> Table:
    """Medians of all rounds, and the median of the rounds' ratios."""
    title = (
        f"{settings.rounds} rounds of {settings.seconds:g} s each way, alternating; "
        f"{CONVERSATIONS} conversations, split 50 to 50; medians"
    )
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("", "direct", "split", "split / direct", "of the rounds"):
        result.add_column(column, justify="right" if column else "left")
    for label, scale, digits, pick, first, second in _rows(settings):
        pairs = [(pick(getattr(one, first)) * scale, pick(getattr(one, second)) * scale) for one in rounds]
        ratios = sorted(split / direct for direct, split in pairs)
        result.add_row(
            label,
            f"{median(direct for direct, _ in pairs):.{digits}f}",
            f"{median(split for _, split in pairs):.{digits}f}",
            f"{median(ratios):.2f}",
            f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
        )
    return result


def _rows(settings: Settings) -> Iterator[tuple[str, float, int, Callable[[LoadReport], float], str, str]]:
    most = f"as many as {settings.workers} connections manage"
    rate = f"at {settings.per_second:g} requests/s"
    yield f"requests/s, {most}", 1, 0, lambda r: r.throughput, "direct", "split"
    yield f"p99 ms, {most}", 1000, 2, lambda r: r.p99, "direct", "split"
    yield f"p50 ms, {rate}", 1000, 2, lambda r: r.p50, "direct_at_rate", "split_at_rate"
    yield f"p99 ms, {rate}", 1000, 2, lambda r: r.p99, "direct_at_rate", "split_at_rate"


def main(
    quick: Annotated[bool, typer.Option(help="A smoke run: two short rounds.")] = False,
    output: Annotated[Path, typer.Option(help="Where every round goes, as JSON.")] = Path(
        "build/bench-throughput.json"
    ),
) -> None:
    """Measure requests a second and latency through the split and directly, and print medians."""
    console = Console(width=150)
    found = conditions()
    console.print(headline(found))
    settings = Settings(rounds=2 if quick else 7, seconds=2 if quick else 6, workers=32, per_second=1000)
    rounds, hops = asyncio.run(run(settings, console))
    console.print(table(settings, rounds))
    console.print(
        "The operator was dead all the while. Where the router sends requests, and which program listens:"
    )
    for hop in hops:
        console.print(f"  {hop.cluster} → {hop.address}: {hop.program}")
    write(output, {"conditions": found, "settings": settings, "rounds": rounds, "hops": hops})
    console.print(f"Every round is in {output}.")
    if any(hop.program != "envoy" for hop in hops):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
