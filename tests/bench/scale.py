"""``python -m tests.bench.scale``: many rollouts in one operator, idle, in progress, changed and failing at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table

from controller.core.traffic import TrafficTable
from devkit.process import LOOPBACK
from tests.bench.conditions import Quantiles, conditions, headline, write
from tests.bench.crowd import Crowd, Seen, crowd
from tests.bench.deliveries import Scenario
from tests.bench.footprint import Footprint, Usage, used_within
from tests.bench.rollback import Rollback
from tests.bench.rollback import run as measure_rollbacks
from tests.bench.world import delivery_lab
from tests.integration.delivery_lab import DeliveryLab
from tests.integration.envoy_lab import Lab as RouterLab
from tests.integration.envoy_lab import backend


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        idle: Numbers of rollouts that are measured while nothing happens.
        in_progress: Of the largest of these, how many get a candidate.
        changed: How many rollouts get a new version at the same instant.
        failing: How many candidates fail at the same instant.
        routers: Numbers of rollouts with which the way of one change to Envoy is timed.
        changes: How many such changes.
        window: Seconds for which each footprint is watched.
    """

    idle: tuple[int, ...] = (1_000, 10_000)
    in_progress: int = 500
    changed: int = 100
    failing: int = 100
    routers: tuple[int, ...] = (10, 2_000)
    changes: int = 200
    window: float = 120.0


_WATCHED = (
    *("rollouts", "requests/s", "cores", "reconciles/s", "RSS MiB", "peak MiB"),
    *("files", "tasks", "series", "until then s"),
)
QUICK = Plan((20,), in_progress=5, changed=5, failing=5, routers=(10,), changes=20, window=10)

_PER_SECOND = 100
"""Requests to all rollouts in progress together: enough for evidence, too few to be what is measured."""
_QUIET_SECONDS, _NEVER_QUIET_SECONDS = 5.0, 300.0
_LIMITS_MIB = {1_000: 150, 10_000: 500}


@dataclass(frozen=True)
class Watched:
    """The operator over some time.

    Attributes:
        rollouts: How many there are.
        what: What they do.
        usage: What it used.
        end: How it stood at the end.
        seconds: How long it took to get there.
    """

    rollouts: int
    what: str
    usage: Usage
    end: Footprint
    seconds: float


@dataclass(frozen=True)
class Intervals:
    """Seconds between two evaluations of one candidate, and how many candidates were evaluated at all."""

    candidates: int
    between: Quantiles


class Stand:
    """One lab with a number of rollouts that all serve their first version."""

    def __init__(self, lab: DeliveryLab, rollouts: Crowd, count: int, status: Status) -> None:
        """Nothing is done yet."""
        self._lab = lab
        self._rollouts = rollouts
        self._count = count
        self._status = status
        self._agent = lab.agent("good")
        self.metrics_url = f"http://{LOOPBACK}:{lab.http_port}/metrics"

    async def fill(self) -> float:
        """Make the rollouts; how long until Envoy serves them all, in seconds."""
        began = time.monotonic()
        await self._rollouts.apply(
            range(self._count), self._agent.url, "the first version", told=self._telling("made")
        )
        await self._rollouts.until_all(range(self._count), _is_idle, self._telling("served"))
        return time.monotonic() - began

    async def restart(self) -> float:
        """Restart the operator; how long until it has everything and is ready, in seconds."""
        await asyncio.to_thread(self._lab.operator.stop)
        began = time.monotonic()
        await asyncio.to_thread(self._lab.start_operator)
        return time.monotonic() - began

    async def watch(self, what: str, seconds: float, took: float, *, settle: bool = True) -> Watched:
        """Watch the operator, at first until it has settled."""
        if settle:
            await self._settle()
        self._status.update(f"{self._count} rollouts: watching them {what}")
        usage, end = await used_within(self._lab.operator.pid, self.metrics_url, seconds)
        return Watched(self._count, what, usage, end, took)

    async def _settle(self) -> None:
        """Wait until the operator is through with what was started: less than a request a second."""
        end = time.monotonic() + _NEVER_QUIET_SECONDS
        while time.monotonic() < end:
            self._status.update(f"{self._count} rollouts: waiting until it is quiet")
            usage, _ = await used_within(self._lab.operator.pid, self.metrics_url, _QUIET_SECONDS)
            if usage.requests < 1:
                return

    async def change(self, count: int) -> list[float]:
        """Give some rollouts a new version at once; for each the seconds until Envoy gives it its first users."""
        self._status.update(f"{self._count} rollouts: changing {count} at once")
        began = datetime.now(UTC)
        await self._rollouts.apply(range(count), self._agent.url, "the second version", at_once=count)
        await self._rollouts.until_all(range(count), _has_begun)
        first: dict[str, float] = {}
        for line in self._lab.log():
            if line["event"] == "split_acknowledged" and line["weight"] != "0%":
                after = (datetime.fromisoformat(line["timestamp"]) - began).total_seconds()
                if after > 0:
                    first.setdefault(line["rollout"], after)
        return [first[self._rollouts.key(number)] for number in range(count)]

    async def progress(self, already: int, count: int) -> float:
        """Have ``count`` rollouts in their first stage, with users; how long until they are, in seconds."""
        began = time.monotonic()
        hosts = tuple(f"{self._rollouts.name(number)}.example" for number in range(count))
        self._lab.load(per_second=_PER_SECOND, conversations=20, hosts=hosts).start()
        await self._rollouts.apply(range(already, count), self._agent.url, "the second version")
        await self._rollouts.until_all(range(count), _has_begun, self._telling("in progress"))
        return time.monotonic() - began

    async def intervals(self, count: int, seconds: float) -> Intervals:
        """How regularly the candidates are evaluated, as far as status tells."""
        self._status.update(f"{self._count} rollouts: timing evaluations")
        found: dict[str, list[datetime]] = {}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for number in range(count):
                seen = self._rollouts.seen(number)
                if seen and seen.evaluated:
                    times = found.setdefault(self._rollouts.key(number), [])
                    if not times or times[-1] != seen.evaluated:
                        times.append(seen.evaluated)
            await asyncio.sleep(1)
        gaps = [
            (later - earlier).total_seconds()
            for times in found.values()
            for earlier, later in pairwise(times)
        ]
        return Intervals(len(found), Quantiles.of(gaps or [float("nan")]))

    def _telling(self, what: str) -> Any:
        return lambda count: self._status.update(f"{self._count} rollouts: {count} {what}")


@asynccontextmanager
async def stand(count: int, status: Status, *, scrape: float) -> AsyncIterator[Stand]:
    """A lab with ``count`` rollouts to come."""
    async with delivery_lab(scrape=scrape) as lab, crowd(lab) as rollouts:
        yield Stand(lab, rollouts, count, status)


def _is_idle(seen: Seen) -> bool:
    return seen.state == "Stable" and seen.weight == "0%"


def _has_begun(seen: Seen) -> bool:
    return seen.stage and seen.weight == "50%"


async def idle(count: int, plan: Plan, status: Status, found: dict[str, Any]) -> None:
    """Everything that is measured with ``count`` rollouts."""
    async with stand(count, status, scrape=10 if count > 1_000 else 2) as lab:
        took = await lab.fill()
        found["watched"].append(await lab.watch("idle, since they were made", plan.window, took))
        took = await lab.restart()
        found["watched"].append(await lab.watch("idle, after a restart", plan.window, took))
        found["changed"][count] = await lab.change(min(plan.changed, count))
        if plan.in_progress and count == max(plan.idle):
            took = await lab.progress(plan.changed, plan.in_progress)
            what = f"idle but for {plan.in_progress} in progress, every 15 s"
            found["watched"].append(await lab.watch(what, plan.window, took, settle=False))
            found["intervals"] = await lab.intervals(plan.in_progress, plan.window)


async def router(count: int, changes: int, status: Status) -> list[float]:
    """Milliseconds from a changed weight to Envoy's acknowledgement, with ``count`` rollouts of two versions each."""
    status.update(f"{count} rollouts: timing changes")
    async with RouterLab() as lab:
        tables = [_table(number) for number in range(count)]
        await lab.start(*tables)
        times = []
        for _ in range(changes):
            number = random.randrange(count)
            tables[number] = replace(tables[number], weight_ppm=random.randint(1, 999_999))
            began = time.perf_counter()
            await lab.publish(tables[number])
            times.append((time.perf_counter() - began) * 1000)
            # Changes of one rollout come seconds apart; as fast as possible they would wait for each other.
            await asyncio.sleep(0.01)
    return times


def _table(number: int) -> TrafficTable:
    return TrafficTable(
        key=f"bench/agent-{number}",
        hosts=(f"agent-{number}.example",),
        affinity_header="x-session-id",
        stable=backend(f"agent-{number}-old", 9),
        candidate=backend(f"agent-{number}-new", 9),
        weight_ppm=100_000,
    )


def _table_of(title: str, columns: Iterable[str], rows: Iterable[list[str]]) -> Table:
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        result.add_column(column, justify="right" if number else "left")
    for row in rows:
        result.add_row(*row)
    return result


def tables(plan: Plan, found: dict[str, Any]) -> Iterator[Table]:
    """For people."""
    yield _table_of(
        f"The operator, watched for {plan.window:g} s each; targets when idle: 0.5 requests/s to the API server, "
        "150 MiB with 1000 rollouts, 500 MiB with 10000; in progress: one core",
        _WATCHED,
        (_watched_row(each) for each in found["watched"]),
    )
    if "intervals" in found:
        intervals = found["intervals"]
        yield _table_of(
            f"Seconds between two evaluations of {intervals.candidates} candidates (wanted: 15), as status tells",
            ("", "n", "p50", "p90", "p99", "max"),
            [["", *intervals.between.cells()]],
        )
    rows = [
        [
            f"{len(times)} of {count} artifacts changed at once → first weight (target ≤ 3 s)",
            *Quantiles.of(times).cells(),
        ]
        for count, times in found["changed"].items()
    ]
    if found["failing"]:
        rows += [
            [
                f"{len(found['failing'])} failing at once, evidence suffices → weight 0 (target ≤ 6 s)",
                *Quantiles.of(r.sufficient_to_acknowledged for r in found["failing"]).cells(),
            ]
        ]
    yield _table_of("Seconds to Envoy's acknowledgement", ("", "n", "p50", "p90", "p99", "max"), rows)
    yield _table_of(
        "Milliseconds from a changed weight to Envoy's acknowledgement, through the xDS server alone",
        ("rollouts", "n", "p50", "p90", "p99", "max"),
        ([str(count), *Quantiles.of(times).cells()] for count, times in found["routers"].items()),
    )


def _watched_row(each: Watched) -> list[str]:
    usage, end = each.usage, each.end
    numbers = [f"{usage.requests:.2f}", f"{usage.cores:.3f}", f"{usage.reconciles:.1f}"]
    numbers += [f"{end.rss_mib:.0f}", f"{end.peak_mib:.0f}"]
    return [
        f"{each.rollouts} {each.what}",
        *numbers,
        *(str(value) for value in (end.files, end.tasks, end.series)),
        f"{each.seconds:.1f}",
    ]


def missed(found: dict[str, Any]) -> Iterator[str]:
    """Each target that was missed, in a sentence."""
    for each in found["watched"]:
        limit = _LIMITS_MIB.get(each.rollouts)
        name = f"{each.rollouts} {each.what}"
        if "progress" in each.what:
            if each.usage.cores > 1:
                yield f"{name}: {each.usage.cores:.2f} cores"
            continue
        if limit and each.end.rss_mib > limit:
            yield f"{name}: {each.end.rss_mib:.0f} MiB"
        if each.usage.requests > 0.5:
            yield f"{name}: {each.usage.requests:.2f} requests/s"
    for count, times in found["changed"].items():
        if max(times) > 3:
            yield f"{len(times)} of {count} artifacts changed at once: {max(times):.1f} s"
    slowest = max((r.sufficient_to_acknowledged for r in found["failing"]), default=0.0)
    if slowest > 6:
        yield f"{len(found['failing'])} failing at once: {slowest:.1f} s"


async def measure(plan: Plan, status: Status, console: Console) -> dict[str, Any]:
    """All of the plan, one after the other."""
    found: dict[str, Any] = {"watched": [], "changed": {}, "routers": {}, "failing": list[Rollback]()}
    for count in plan.routers:
        found["routers"][count] = await router(count, plan.changes, status)
    for count in sorted(plan.idle):
        await idle(count, plan, status, found)
    if plan.failing:
        status.stop()
        together = Scenario(
            f"{plan.failing} at once", plan.failing, plan.failing, 5, 1, at_once=True, per_second=5
        )
        found["failing"] = await measure_rollbacks(together, console)
    return found


def main(
    quick: Annotated[bool, typer.Option(help="A smoke run with 20 rollouts.")] = False,
    sizes: Annotated[str, typer.Option(help="Numbers of idle rollouts, with commas between.")] = "1000,10000",
    only: Annotated[
        str, typer.Option(help="Only some parts: idle, progress, failing, router; with commas between.")
    ] = "idle,progress,failing,router",
    window: Annotated[float, typer.Option(help="Seconds for which each footprint is watched.")] = 120,
    output: Annotated[Path, typer.Option(help="Where every measurement goes, as JSON.")] = Path(
        "build/bench-scale.json"
    ),
) -> None:
    """Measure scale on real parts and print tables; ends with 1 if a target was missed."""
    console = Console(width=170)
    at_first = conditions()
    console.print(headline(at_first))
    plan = QUICK if quick else Plan(tuple(int(size) for size in sizes.split(",")), window=window)
    parts = set(only.split(","))
    plan = replace(
        plan,
        idle=plan.idle if "idle" in parts else (),
        in_progress=plan.in_progress if "progress" in parts else 0,
        failing=plan.failing if "failing" in parts else 0,
        routers=plan.routers if "router" in parts else (),
    )
    with console.status("") as status:
        found = asyncio.run(measure(plan, status, console))
    for table in tables(plan, found):
        console.print(table)
    write(output, {"conditions": at_first, "plan": plan, **found})
    console.print(f"Every measurement is in {output}.")
    for sentence in missed(found):
        console.print(f"[red]missed: {sentence}")
    if any(missed(found)):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
