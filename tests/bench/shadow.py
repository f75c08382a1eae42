"""``python -m tests.bench.shadow``: do users feel that somebody listens, and what if who listens hangs, dies or reads nothing?"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import psutil
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from controller.core.traffic import ShadowSplit
from devkit.process import LOOPBACK, Process, free_port
from tests.bench.conditions import Quantiles, conditions, headline, write
from tests.bench.shadow_parts import Part, part
from tests.integration.envoy_lab import HOST, Lab, backend, eventually, table
from tests.integration.shadow_lab import MEBIBYTE, SAMPLED, SUBJECT

UPLOAD = bytes(8 * MEBIBYTE)
QUESTION = bytes(2_000)
OTHER = "conversation-0"
"""A conversation that is not sampled, as ``SAMPLED`` is one that is."""

TICKS = 200
"""Of a stream: ten seconds."""

_SPLIT = ShadowSplit(SUBJECT, sampled_ppm=500_000, noise_ppm=500_000, timeout=timedelta(seconds=30))
"""Every other user of this bench is sampled, and each of their requests is answered three times."""


class State(StrEnum):
    """What is wrong with those who listen."""

    OFF = "without shadow"
    ON = "with shadow"
    RECORDER_STOPPED = "recorder stopped"
    RECORDER_KILLED = "recorder killed"
    CANDIDATE_STOPPED = "candidate stopped"


@dataclass(frozen=True)
class Settings:
    """How it is measured.

    Attributes:
        seconds: How long each state is measured.
        per_second: Small requests.
        uploads_per_second: Of 8 MiB, every other one without saying how large it is.
        streams: Answers that are streamed at the same time.
    """

    seconds: float
    per_second: float
    uploads_per_second: float
    streams: int


LOADS = ("small", "uploads", "events")


@dataclass
class Felt:
    """What users of one kind saw: seconds of each request or, of events, that each was late."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Round:
    """One state; users who are sampled and users who are not, at the same time through the same router.

    Attributes:
        state: Which.
        sampled: Of each of ``LOADS``, seconds of requests, and of events from their sending to their arrival.
        others: The same of users who are not sampled.
        errors: What failed, in words.
        memory_mib: Of the router: at the start, at its peak, at the end.
        recorder: The last line of the recorder: pairs, other ends, open streams, bytes held.
    """

    state: State
    sampled: dict[str, Quantiles]
    others: dict[str, Quantiles]
    errors: list[str]
    memory_mib: tuple[float, float, float]
    recorder: str


@dataclass
class World:
    """The processes of one round."""

    lab: Lab
    stable: Process
    candidate: Process
    recorder: Process
    user: aiohttp.ClientSession

    async def ask(
        self, felt: Felt, user: str, path: str, data: Any, seen: Callable[[bytes], None] | None = None
    ) -> None:
        """One request; what it meets is noted."""
        began = time.monotonic()
        headers = {"host": HOST, "x-session-id": user}
        url = f"http://{LOOPBACK}:{self.lab.user_port}{path}"
        try:
            async with self.user.post(url, data=data, headers=headers) as response:
                async for line in response.content:
                    if seen is not None:
                        seen(line)
                if response.status != 200:
                    felt.errors.append(f"{path}: {response.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            felt.errors.append(f"{path}: {error!r}")
        if seen is None:
            felt.seconds.append(time.monotonic() - began)


@contextlib.asynccontextmanager
async def world(state: State) -> AsyncIterator[World]:
    """Fresh processes, and a router that mirrors unless the state is that it does not."""
    ports = [free_port() for _ in range(3)]
    with tempfile.TemporaryDirectory(prefix="agentrollout-shadow-") as scratch:
        stable, candidate, recorder = (
            part(Part.AGENT, ports[0], "stable", Path(scratch)),
            part(Part.AGENT, ports[1], "candidate", Path(scratch)),
            part(Part.RECORDER, ports[2], "recorder", Path(scratch)),
        )
        try:
            for each in (stable, candidate, recorder):
                await asyncio.to_thread(each.start)
            for port in ports:
                assert await eventually(partial(_listens, port), bool, timeout=30)
            wanted = table(backend("stable", ports[0]), backend("candidate", ports[1]))
            if state is not State.OFF:
                wanted = replace(wanted, shadow=_SPLIT)
            limit = aiohttp.ClientTimeout(total=60)
            async with (
                Lab({"shadow_address": (LOOPBACK, ports[2])}) as lab,
                aiohttp.ClientSession(timeout=limit, connector=aiohttp.TCPConnector(limit=0)) as user,
            ):
                await lab.start(wanted)
                await asyncio.sleep(2)  # the recorder is found
                yield World(lab, stable, candidate, recorder, user)
        finally:
            for each in (stable, candidate, recorder):
                each.resume()
                await asyncio.to_thread(each.stop)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.transport.abort()
    return True


async def measure(state: State, settings: Settings) -> Round:
    """All loads at the same time; who listens goes wrong when a tenth of the time is over."""
    async with world(state) as found:
        memory = psutil.Process(found.lab.envoys[0].process.pid)
        sizes = [_mib(memory)]
        felt = {(load, user): Felt() for load in LOADS for user in (SAMPLED, OTHER)}
        end = time.monotonic() + settings.seconds

        async def small(user: str) -> None:
            await found.ask(felt["small", user], user, "/echo", QUESTION)

        async def upload(user: str) -> None:
            mine = felt["uploads", user]
            data = _chunks() if len(mine.seconds) % 2 else io.BytesIO(UPLOAD)
            await found.ask(mine, user, "/length", data)

        async def stream(user: str) -> None:
            mine = felt["events", user]

            def arrived(line: bytes) -> None:
                if line.startswith(b"data: "):
                    mine.seconds.append(time.monotonic() - float(line.removeprefix(b"data: ")))

            while time.monotonic() < end:
                await found.ask(mine, user, f"/ticks/{TICKS}", b"", arrived)

        async with asyncio.TaskGroup() as load:
            load.create_task(_at_rate(end, settings.per_second, small))
            load.create_task(_at_rate(end, settings.uploads_per_second, upload))
            for number in range(settings.streams):
                load.create_task(stream(OTHER if number % 2 else SAMPLED))
            load.create_task(_go_wrong(state, found, settings.seconds / 10))
            load.create_task(_watch(end, memory, sizes))
        last = found.recorder.log.read_text().splitlines()[-1:] or [""]
        return Round(
            state,
            {load: Quantiles.of(felt[load, SAMPLED].seconds) for load in LOADS},
            {load: Quantiles.of(felt[load, OTHER].seconds) for load in LOADS},
            [error for each in felt.values() for error in each.errors],
            (sizes[0], max(sizes), sizes[-1]),
            last[0],
        )


async def _chunks() -> AsyncIterator[bytes]:
    for start in range(0, len(UPLOAD), MEBIBYTE // 4):
        yield UPLOAD[start : start + MEBIBYTE // 4]


async def _at_rate(end: float, per_second: float, one: Callable[[str], Awaitable[None]]) -> None:
    """Start them whether or not the ones before have ended; users take turns."""
    async with asyncio.TaskGroup() as group:
        due, users = time.monotonic(), itertools.cycle((SAMPLED, OTHER))
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(_awaited(one(next(users))))
            due += 1 / per_second


async def _awaited(one: Awaitable[None]) -> None:
    await one


async def _go_wrong(state: State, found: World, after: float) -> None:
    await asyncio.sleep(after)
    if state is State.RECORDER_STOPPED:
        found.recorder.pause()
    elif state is State.RECORDER_KILLED:
        await asyncio.to_thread(found.recorder.kill)
    elif state is State.CANDIDATE_STOPPED:
        found.candidate.pause()


async def _watch(end: float, process: psutil.Process, sizes: list[float]) -> None:
    while time.monotonic() < end:
        sizes.append(_mib(process))
        await asyncio.sleep(0.2)


def _mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss / MEBIBYTE)


def rows(rounds: list[Round]) -> Iterator[list[str]]:
    """A load of a state each: how much longer it took users who are sampled than those who are not, and than without shadow."""
    without = rounds[0]
    for each in rounds:
        memory = " / ".join(f"{size:.0f}" for size in each.memory_mib)
        for load in LOADS:
            sampled, others, base = each.sampled[load], each.others[load], without.sampled[load]
            cells = [each.state.value, load, str(sampled.count)]
            for quantile in ("p50", "p99"):
                value, beside, usual = (getattr(of, quantile) for of in (sampled, others, base))
                cells += [f"{value * 1000:.1f}", f"{value / beside:.2f}", f"{value / usual:.2f}"]
            first = load == LOADS[0]
            yield [*cells, *([str(len(each.errors)), memory, each.recorder] if first else ["", "", ""])]


def main(
    quick: Annotated[bool, typer.Option(help="A smoke run: ten seconds a state.")] = False,
    minutes: Annotated[float, typer.Option(help="How long each state is measured.")] = 10,
    output: Annotated[Path, typer.Option(help="Where every round goes, as JSON.")] = Path(
        "build/bench-shadow.json"
    ),
) -> None:
    """Measure what users feel of shadow mode, and of its parts going wrong."""
    console = Console(width=190)
    found = conditions()
    console.print(headline(found))
    settings = Settings(10 if quick else minutes * 60, per_second=50, uploads_per_second=1, streams=6)
    rounds = []
    with console.status("") as status:
        for state in State:
            status.update(state.value)
            rounds.append(asyncio.run(measure(state, settings)))
    title = (
        f"{settings.seconds:g} s each: {settings.per_second:g} small requests a second, {settings.uploads_per_second:g} "
        f"upload of 8 MiB a second, {settings.streams} streams. Users who are sampled, in ms, and how many times as long as users "
        "who are not at the same time, and as without shadow; memory at start / peak / end"
    )
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    times = ("p50", "others", "without", "p99", "others", "without")
    for column in ("", "load", "count", *times, "errors", "router MiB", "pairs, ends, open, bytes"):
        result.add_column(column, justify="right" if column else "left")
    for row in rows(rounds):
        result.add_row(*row)
    console.print(result)
    write(output, {"conditions": found, "settings": settings, "rounds": rounds})
    console.print(f"Every round is in {output}.")
    if any(each.errors for each in rounds):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
