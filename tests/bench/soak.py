"""``python -m tests.bench.soak``: whether the operator grows while everything around it changes and breaks."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
import yaml
from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table

from controller.runtime.errors import ApiError, NotFound
from devkit.process import LOOPBACK
from tests.bench.conditions import conditions, headline, write
from tests.bench.crowd import Crowd, Seen, crowd
from tests.bench.footprint import Footprint
from tests.bench.relay import Relay
from tests.bench.world import delivery_lab
from tests.integration.delivery_lab import DeliveryLab, stage

ROLLOUTS = 24
_PER_SECOND = 20
_PAUSE_SECONDS = 4.0
_WARM_UP = 0.2
_SAMPLES = 120
_QUICKLY: dict[str, Any] = {
    "stages": [stage("20%", seconds=3, requests=8), stage("100%", seconds=3, requests=8)],
    "analysis": {"interval": "1s", "clustering": 1, "metrics": [{"name": "errors"}, {"name": "latency"}]},
}


@dataclass(frozen=True)
class Gauge:
    """One thing that must not grow.

    Attributes:
        name: For people.
        of: Its value.
        allowed: Growth that is noise, in its own unit.
    """

    name: str
    of: Callable[[Footprint], float]
    allowed: float


GAUGES = (
    Gauge("RSS MiB", lambda f: f.rss_mib, 8),
    Gauge("open files", lambda f: f.files, 12),
    Gauge("tasks", lambda f: f.tasks, 12),
    Gauge("metric series", lambda f: f.series, 30),
)


@dataclass(frozen=True)
class Growth:
    """How one gauge went after the warm-up.

    Attributes:
        name: Of the gauge.
        first: Median of the first third.
        last: Median of the last third.
        most: The largest value.
        per_hour: Slope of the straight line through all values.
        grown: Whether it grew by more than noise.
    """

    name: str
    first: float
    last: float
    most: float
    per_hour: float
    grown: bool

    @classmethod
    def of(cls, gauge: Gauge, samples: Sequence[Footprint]) -> Growth:
        """Of three samples or more."""
        values = [gauge.of(sample) for sample in samples]
        third = max(1, len(values) // 3)
        first, last = median(values[:third]), median(values[-third:])
        hours = [(sample.at - samples[0].at) / 3600 for sample in samples]
        return cls(gauge.name, first, last, max(values), _slope(hours, values), last - first > gauge.allowed)


@dataclass
class Churn:
    """What happens to the operator, each kind in a rhythm of its own, and how often it did."""

    lab: DeliveryLab
    rollouts: Crowd
    relay: Relay
    chance: random.Random
    happened: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Everything at once, until the block ends."""
        good, bad = self.lab.agent("good").url, self.lab.agent("bad")
        bad.set_failures(0.5)
        self.rollouts.on_state(self._reached)
        work: list[Callable[[], Awaitable[None]]] = [
            *(self._deliveries(number, good, bad.url) for number in range(ROLLOUTS)),
            lambda: self._passing(good),
            lambda: self._again(20, 40, "cuts of all connections to the API server", self._cut),
            lambda: self._again(40, 80, "restarts of the router", self._restart_router),
            lambda: self._again(30, 60, "pauses of Prometheus", self._pause_prometheus),
            lambda: self._again(60, 120, "restarts of Prometheus", self._restart_prometheus),
        ]
        tasks = [asyncio.create_task(self._keep_going(each)) for each in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_going(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except ApiError as error:
                self.happened[f"bench: {type(error).__name__}"] += 1
                await asyncio.sleep(1)

    def _deliveries(self, number: int, good: str, bad: str) -> Callable[[], Awaitable[None]]:
        """One rollout with a new version every while, good or bad; now and then deleted and made anew."""

        async def deliver() -> None:
            version = f"version {self.chance.getrandbits(64):x}"
            url = bad if self.chance.random() < 0.3 and self.rollouts.seen(number) else good
            await self.rollouts.apply([number], url, version, **_QUICKLY)
            self.happened["versions"] += 1
            await asyncio.sleep(self.chance.uniform(8, 40))
            if self.chance.random() < 0.1:
                await self.rollouts.delete([number])
                self.happened["deleted"] += 1

        return deliver

    async def _passing(self, url: str) -> None:
        """Rollouts with names that never come again."""
        number = 1_000_000 + self.happened["passers-by"]
        self.happened["passers-by"] += 1
        await self.rollouts.apply([number], url, "the only version", **_QUICKLY)
        await asyncio.sleep(self.chance.uniform(2, 6))
        with contextlib.suppress(NotFound):
            await self.rollouts.delete([number])

    async def _again(self, least: float, most: float, what: str, act: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(self.chance.uniform(least, most))
        await act()
        self.happened[what] += 1

    async def _cut(self) -> None:
        self.relay.cut()

    async def _restart_router(self) -> None:
        await asyncio.to_thread(self.lab.envoy.restart)

    async def _restart_prometheus(self) -> None:
        await asyncio.to_thread(self.lab.prometheus.restart)

    async def _pause_prometheus(self) -> None:
        process = self.lab.prometheus.process
        process.pause()
        try:
            await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            process.resume()

    def _reached(self, old: Seen | None, new: Seen) -> None:
        if old is None or old.state == new.state:
            return
        if new.state == "RolledBack":
            self.happened["taken back"] += 1
        elif new.state == "Stable" and old.state == "Baking":
            self.happened["promoted"] += 1


async def run(minutes: float, seed: int, status: Status) -> tuple[list[Footprint], Counter[str]]:
    """Look at the operator again and again while everything around it changes."""
    samples: list[Footprint] = []
    async with (
        delivery_lab(scrape=1, controllers=True) as lab,
        crowd(lab) as rollouts,
        Relay(urlsplit(_server(lab.control_plane.kubeconfig)).port or 443) as relay,
    ):
        await asyncio.to_thread(_lead_through, lab, relay)
        hosts = tuple(f"{rollouts.name(number)}.example" for number in range(ROLLOUTS))
        lab.load(per_second=_PER_SECOND * ROLLOUTS, conversations=100, hosts=hosts).start()
        churn = Churn(lab, rollouts, relay, random.Random(seed))
        url = f"http://{LOOPBACK}:{lab.http_port}/metrics"
        async with churn.going_on():
            began, step = time.monotonic(), max(minutes * 60 / _SAMPLES, 2.0)
            while (past := time.monotonic() - began) < minutes * 60:
                await asyncio.sleep(step)
                samples.append(await Footprint.of(lab.operator.pid, url))
                newest, counted = samples[-1], ", ".join(f"{n} {what}" for what, n in churn.happened.items())
                status.update(
                    f"{past / 60:.0f} of {minutes:g} min: {newest.rss_mib:.0f} MiB, {newest.files} files, "
                    f"{newest.tasks} tasks, {newest.series} series; {counted}"
                )
    return samples, churn.happened


def _lead_through(lab: DeliveryLab, relay: Relay) -> None:
    """Have the operator reach the API server through the relay."""
    direct = lab.operator_kubeconfig
    relayed = direct.with_name("relayed.kubeconfig")
    relayed.write_text(direct.read_text().replace(_server(direct), f"https://{LOOPBACK}:{relay.port}"))
    lab.operator.stop()
    lab.operator.command = [part.replace(str(direct), str(relayed)) for part in lab.operator.command]
    lab.replicas[0].start()


def _server(kubeconfig: Path) -> str:
    """The URL of the API server that a kubeconfig leads to."""
    return str(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line with the least squares."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((value - mean_x) ** 2 for value in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0


def table(growths: Sequence[Growth], title: str) -> Table:
    """For people."""
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(("", "first third", "last third", "most", "slope per hour", "")):
        result.add_column(column, justify="right" if number else "left")
    for each in growths:
        numbers = (each.first, each.last, each.most, each.per_hour)
        result.add_row(each.name, *(f"{value:.1f}" for value in numbers), "grew" if each.grown else "")
    return result


def main(
    minutes: Annotated[float, typer.Option(min=1, help="How long.")] = 60,
    seed: Annotated[int | None, typer.Option(help="Repeats an earlier run's order of events.")] = None,
    output: Annotated[Path, typer.Option(help="Where every sample goes, as JSON.")] = Path("build/soak.json"),
) -> None:
    """Churn for a while, and print how memory, files, tasks and series went; ends with 1 if one of them grew."""
    console = Console(width=150)
    at_first = conditions()
    seed = random.randrange(2**32) if seed is None else seed
    console.print(headline(at_first))
    console.print(f"seed {seed}")
    with console.status("") as status:
        samples, happened = asyncio.run(run(minutes, seed, status))
    after = [sample for sample in samples if sample.at - samples[0].at >= _WARM_UP * minutes * 60]
    growths = [Growth.of(gauge, after) for gauge in GAUGES]
    counted = ", ".join(f"{count} {what}" for what, count in sorted(happened.items()))
    console.print(
        table(growths, f"{minutes:g} min with {ROLLOUTS} rollouts, after a fifth of warm-up: {counted}")
    )
    found: dict[str, Any] = {"minutes": minutes, "seed": seed, "happened": happened, "growth": growths}
    write(output, {"conditions": at_first, **found, "samples": samples})
    console.print(f"Every sample is in {output}.")
    if any(growth.grown for growth in growths):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
