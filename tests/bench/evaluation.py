"""``python -m tests.bench.evaluation``: what one evaluation of a rollout costs the operator, in processor time.

From the bytes of Prometheus' answer to the verdicts: reading and decoding, counting, all tests of five metrics with the
control slices, and the verdicts. The answers come from another process, so that only the operator's side is measured.

*At first* is what the first evaluation after a start costs, which looks back two minutes and finds nothing in any cache. The
others are the steady state: each goes on from the one before, whose answer tells how far back it has to look.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from controller.adapters.batching import BatchingSource
from controller.adapters.envoy.catalogue import CATALOGUE
from controller.adapters.ports import Question
from controller.adapters.prometheus import PrometheusSource
from controller.core.assess import assess
from controller.core.plan import plan
from controller.core.snapshot import Samples, Snapshot
from controller.reconcilers.lookback import Lookback
from controller.reconcilers.questions import report_questions, router_question
from devkit.process import LOOPBACK
from tests.bench.conditions import conditions, headline, write
from tests.bench.exposed import METRICS, ExposedRollout, delivering, keep, serve

ROLLOUTS = 10_000
INTERVAL_SECONDS = 15.0


class _Asking:
    """Questions as the operator asks them."""

    def __init__(self, source: BatchingSource) -> None:
        self.source = source
        self._routers, self._reports = Lookback(), Lookback()

    def questions(self, world: ExposedRollout) -> list[Question]:
        """What the next evaluation asks."""
        return self._questions(world.snapshot(), world.now)

    async def ask(self, snapshot: Snapshot, now: datetime) -> Samples:
        """Ask it."""
        key = snapshot.rollout.metadata.key
        router, *others = self._questions(snapshot, now)
        series = await self.source.read(router)
        reports = [one for each in others for one in await self.source.read(each)]
        self._routers.note(key, series)
        self._reports.note(key, reports)
        return Samples(now, series, reports=tuple(reports))

    def _questions(self, snapshot: Snapshot, now: datetime) -> list[Question]:
        router = router_question(snapshot, CATALOGUE, now, self._routers)
        return [router, *report_questions(snapshot, now, self._reports)]


@dataclass(frozen=True)
class Cost:
    """Milliseconds of processor time for one evaluation of one rollout: medians over rounds.

    Attributes:
        routers: How many routers its traffic goes through.
        per_minute: Requests of all its users.
        kilobytes: Of its share of Prometheus' answers.
        reading: From bytes to samples, HTTP included.
        assessing: From samples to verdicts.
        planning: The whole plan, which assesses as well.
        least: Reading and assessing in the quickest round.
        at_first: Reading and assessing in the round before all others.
    """

    routers: int
    per_minute: float
    kilobytes: float
    reading: float
    assessing: float
    planning: float
    least: float
    at_first: float

    @property
    def cores(self) -> float:
        """Of 10 000 rollouts evaluated every 15 s."""
        return (self.reading + self.assessing) * ROLLOUTS / INTERVAL_SECONDS / 1000


def measure(rollouts: int, rounds: int, routers: int, per_minute: float) -> Cost:
    """So many rollouts, evaluated together so many times."""
    worlds = [delivering(number, routers, per_minute) for number in range(rollouts)]
    context = get_context("spawn")
    with TemporaryDirectory() as temporary:
        directory, (port, told) = Path(temporary), context.Pipe(duplex=False)
        server = context.Process(target=serve, args=(directory, told), daemon=True)
        server.start()
        try:
            url = f"http://{LOOPBACK}:{port.recv()}"
            found = asyncio.run(_rounds(url, worlds, rounds, directory))
        finally:
            server.terminate()
            server.join()
    (_, *first, _), *steady = found
    sizes, reading, assessing, planning = zip(*steady, strict=True)
    return Cost(
        routers,
        per_minute,
        kilobytes=median(sizes) / rollouts / 1000,
        reading=1000 * median(reading) / rollouts,
        assessing=1000 * median(assessing) / rollouts,
        planning=1000 * median(planning) / rollouts,
        least=1000 * min(map(sum, zip(reading, assessing, strict=True))) / rollouts,
        at_first=1000 * sum(first) / rollouts,
    )


async def _rounds(
    url: str, worlds: Sequence[ExposedRollout], rounds: int, directory: Path
) -> list[tuple[int, float, float, float]]:
    prometheus = PrometheusSource(url, deadline_seconds=60)
    asking, found = _Asking(BatchingSource(prometheus)), []
    for _ in range(rounds + 1):
        for world in worlds:
            world.now += world.scrape
            world.serve(world.per_second * world.scrape.total_seconds())
            world.take_samples()
        window = max(each.window for world in worlds for each in asking.questions(world)).total_seconds()
        at = worlds[0].now.timestamp()
        size = keep(directory, at, worlds, at - window)
        gc.collect()
        gc.freeze()  # what stands here for routers, pods and Prometheus is none of the operator's
        found.append((size, *await _round(asking, worlds)))
    await asking.source.close()
    await prometheus.close()
    return found


async def _round(asking: _Asking, worlds: Sequence[ExposedRollout]) -> tuple[float, float, float]:
    snapshots = [replace(world.snapshot(), samples=None) for world in worlds]
    began = time.process_time()
    answers = await asyncio.gather(
        *(asking.ask(each, world.now) for each, world in zip(snapshots, worlds, strict=True))
    )
    read = time.process_time()
    informed = [replace(each, samples=answer) for each, answer in zip(snapshots, answers, strict=True)]
    assessed = [assess(each, CATALOGUE, world.now) for each, world in zip(informed, worlds, strict=True)]
    judged = time.process_time()
    plans = [plan(each, CATALOGUE, world.now) for each, world in zip(informed, worlds, strict=True)]
    planned = time.process_time()
    for world, status, decided in zip(worlds, assessed, plans, strict=True):
        assert all(metric.candidate.total for metric in status.analysis), status.analysis
        assert len(status.analysis) == len(METRICS)
        world.rollout = world.rollout.model_copy(update={"status": decided.status})
    return read - began, judged - read, planned - judged


def show(costs: Sequence[Cost], console: Console) -> None:
    """The table."""
    table = Table(
        title="Milliseconds of processor time for one evaluation of five metrics, with control slices",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in (
        "routers",
        "requests/min",
        "kB read",
        "reading",
        "assessing",
        "both",
        "best round",
        "at first",
        "whole plan",
        "cores for 10 000",
    ):
        table.add_column(column, justify="right")
    for cost in costs:
        both = cost.reading + cost.assessing
        figures = (
            cost.kilobytes,
            cost.reading,
            cost.assessing,
            both,
            cost.least,
            cost.at_first,
            cost.planning,
            cost.cores,
        )
        table.add_row(str(cost.routers), f"{cost.per_minute:g}", *(f"{each:.2f}" for each in figures))
    console.print(table)


def main(
    quick: Annotated[bool, typer.Option(help="A smoke run: few rollouts, few rounds.")] = False,
    report: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("build/bench-evaluation.json"),
) -> None:
    """What one evaluation costs, by routers and traffic."""
    console, started = Console(width=140), conditions()
    rollouts, rounds = (4, 2) if quick else (40, 9)
    with console.status("") as status:
        costs = []
        for routers, per_minute in ((1, 200.0), (1, 2000.0), (2, 2000.0), (1, 20_000.0)):
            status.update(f"{routers} routers, {per_minute:g} requests/min")
            costs.append(measure(rollouts, rounds, routers, per_minute))
    console.print(headline(started))
    show(costs, console)
    write(report, {"conditions": started, "rollouts": rollouts, "rounds": rounds, "costs": costs})


if __name__ == "__main__":
    typer.run(main)
