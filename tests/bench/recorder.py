"""``python -m tests.bench.recorder``: what a core of the shadow process manages, and what a full queue takes.

Pairs go from captured halves through pairing, redaction, the queue in memory and the judge of deterministic checks into
records in SQLite, all in this process. What is measured is its processor time, so that a busy machine matters little.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import psutil
import structlog
import typer
from prometheus_client import CollectorRegistry
from rich import box
from rich.console import Console
from rich.table import Table

from controller.adapters.judges.loading import load_judges
from controller.adapters.queues.memory import MAX_BYTES, MemoryQueue
from controller.adapters.records import SqlRecords
from controller.core.shadow.exchange import Answer, Exchange, Question, Side
from controller.core.shadow.pairing import Pairing
from controller.core.shadow.recognisers import built_in
from controller.runtime.clock import SystemClock
from controller.shadow.funnel import Funnel
from controller.shadow.health import check_health
from controller.shadow.intake import Intake
from controller.shadow.panel import JudgePanel
from controller.shadow.worker import Workers
from tests.bench.conditions import conditions, headline, write
from tests.compared import SUBJECT

WORDS = "Your order 4711 left on Monday, Ann, and ann.b@example.com gets the bill. "
SIZES = {"1 KB": 1_000, "10 KB": 10_000, "100 KB": 100_000}
"""Of each of the three bodies."""

_MIB = 1 << 20


@dataclass(frozen=True)
class Speed:
    """What one core manages.

    Attributes:
        size: Of each body.
        streamed: Whether answers are streams of events, a word each.
        pairs: That were measured in each round.
        intake: Pairs per second of processor time, up to the queue.
        whole: The same, with judge and record.
    """

    size: str
    streamed: bool
    pairs: int
    intake: float
    whole: float


@dataclass(frozen=True)
class Full:
    """A queue that takes no more.

    Attributes:
        size: Of each body.
        comparisons: In the queue.
        held_mib: Their payloads.
        rss_mib: By how much the process grew.
    """

    size: str
    comparisons: int
    held_mib: float
    rss_mib: float


def halves(number: int, size: int, *, streamed: bool) -> Iterator[Exchange]:
    """Both halves of a pair with an e-mail address in each sentence."""
    text = (WORDS * (size // len(WORDS) + 1))[:size]
    asked = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    kind = "text/event-stream" if streamed else "application/json"
    for side in (Side.STABLE, Side.CANDIDATE):
        if streamed:
            words = ({"choices": [{"delta": {"content": f"{word} "}}]} for word in text.split(" "))
            said = "".join(f"data: {json.dumps(word)}\n\n" for word in words).encode()
        else:
            message = {"role": "assistant", "content": f"{text} {side}"}
            said = json.dumps({"choices": [{"message": message}]}).encode()
        yield Exchange(
            f"{number}-{size}-{streamed}",
            side,
            SUBJECT,
            Question("POST", "/v1/chat/completions", (("content-type", "application/json"),), asked),
            Answer(200, (("content-type", kind),), said, complete=True, seconds=0.5),
        )


class Recorder:
    """The parts of the process, without network."""

    def __init__(self, records: SqlRecords, queue: MemoryQueue) -> None:
        clock, registry = SystemClock(), CollectorRegistry()
        self.queue, self.funnel = queue, Funnel(registry, clock.monotonic)
        self.panel = JudgePanel(load_judges(None), check_health, registry, clock)
        self.intake = Intake(Pairing(), built_in, queue, self.funnel, clock)
        self.workers = Workers(queue, self.panel, records, self.funnel, clock=clock, count=8)

    async def take(self, exchanges: list[Exchange]) -> None:
        """All halves, and wait until the queue has the pairs."""
        for number, one in enumerate(exchanges):
            self.intake.take(one)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await self.intake.finish(600)

    async def work(self) -> None:
        """Until nothing waits."""
        running = asyncio.create_task(self.workers.run())
        while self.queue.waiting:  # noqa: ASYNC110  it is what is measured
            await asyncio.sleep(0.01)
        self.workers.stop()
        await running


async def speed(name: str, size: int, pairs: int, *, streamed: bool) -> Speed:
    """One round."""
    exchanges = [one for number in range(pairs) for one in halves(number, size, streamed=streamed)]
    with tempfile.TemporaryDirectory() as folder:
        records = SqlRecords(f"sqlite:///{folder}/records.db")
        recorder = Recorder(records, MemoryQueue())
        await recorder.panel.check_all()
        began = time.process_time()
        await recorder.take(exchanges)
        taken = time.process_time()
        await recorder.work()
        ended = time.process_time()
        records.close()
    return Speed(name, streamed, pairs, pairs / (taken - began), pairs / (ended - began))


def speeds(rounds: int, budget: int) -> Iterator[Speed]:
    """Medians of the rounds; every size is measured with about as many bytes."""
    for name, size in SIZES.items():
        for streamed in (False, True):
            pairs = max(20, min(5_000, budget // size))
            found = [asyncio.run(speed(name, size, pairs, streamed=streamed)) for _ in range(rounds)]
            yield Speed(
                name, streamed, pairs, median(one.intake for one in found), median(one.whole for one in found)
            )


async def full(name: str, size: int) -> Full:
    """Fill a queue of the default bounds."""
    with tempfile.TemporaryDirectory() as folder:
        records = SqlRecords(f"sqlite:///{folder}/records.db")
        recorder, number = Recorder(records, MemoryQueue()), 0
        process = psutil.Process()
        before = process.memory_info().rss
        waiting = -1
        while recorder.queue.waiting != waiting:
            waiting = recorder.queue.waiting
            await recorder.take(
                [h for n in range(number, number + 50) for h in halves(n, size, streamed=False)]
            )
            number += 50
        grown = process.memory_info().rss - before
        records.close()
        return Full(name, waiting, recorder.queue.held_bytes / _MIB, grown / _MIB)


def main(
    quick: Annotated[bool, typer.Option(help="A smoke run: one short round.")] = False,
    output: Annotated[Path, typer.Option(help="Where it goes, as JSON.")] = Path("build/bench-recorder.json"),
) -> None:
    """Measure pairs per second of processor time, and memory at a full queue."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console(width=110)
    found = conditions()
    console.print(headline(found))
    measured = list(speeds(1 if quick else 3, 200_000 if quick else 3_000_000))
    table = Table(title="Pairs per second and core", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("each body", "answers", "pairs", "into the queue", "into the records"):
        table.add_column(column, justify="right" if column != "answers" else "left")
    for one in measured:
        said = "events" if one.streamed else "JSON"
        table.add_row(one.size, said, str(one.pairs), f"{one.intake:.0f}", f"{one.whole:.0f}")
    console.print(table)
    filled = [asyncio.run(full(name, size)) for name, size in SIZES.items() if not quick or size < 5_000]
    table = Table(
        title=f"A full queue of {MAX_BYTES // _MIB} MiB at most", title_justify="left", box=box.SIMPLE_HEAD
    )
    for column in ("each body", "comparisons", "payloads MiB", "process grew MiB"):
        table.add_column(column, justify="right")
    for each in filled:
        table.add_row(each.size, str(each.comparisons), f"{each.held_mib:.0f}", f"{each.rss_mib:.0f}")
    console.print(table)
    write(output, {"conditions": found, "speeds": measured, "full": filled})
    console.print(f"It is in {output}.")


if __name__ == "__main__":
    typer.run(main)
