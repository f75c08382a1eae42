"""``python -m tests.bench.chaos``: deliveries under load while everything around them breaks, and an audit of it all."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from controller.logs import configure_logs
from controller.settings import LogFormat, LogLevel
from devkit.errors import DevkitError
from tests.bench.audit import Breach, weights_off
from tests.bench.conditions import conditions, headline, write
from tests.bench.disasters import ALL, AT_EVERY_STAGE, Disaster, Disasters
from tests.bench.teams import STAGES, Fate, Team
from tests.bench.vegeta import Result
from tests.bench.world import NAMESPACE, control_plane
from tests.integration.delivery_lab import DeliveryLab

AGENTS_OWN_FAILURE = 500
"""What a bad version answers; nobody else does."""


@dataclass
class Findings:
    """What a run came to.

    Attributes:
        disasters: How often each happened.
        deliveries: How versions ended, by fate.
        breaches: Invariants that did not hold.
        requests: Requests that users made.
        failed_by_us: Answers that failed and were neither a bad version's own nor a restarted router's.
        failed_by_restarts: Answers that failed around a router's restart.
    """

    disasters: Counter[str] = field(default_factory=Counter)
    deliveries: Counter[str] = field(default_factory=Counter)
    breaches: list[Breach] = field(default_factory=list)
    requests: int = 0
    failed_by_us: list[Result] = field(default_factory=list)
    failed_by_restarts: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing went wrong."""
        return not self.breaches and not self.failed_by_us


class Run:
    """One lab, some teams, and disasters."""

    def __init__(
        self, lab: DeliveryLab, disasters: Disasters, teams: int, say: Callable[[str], None]
    ) -> None:
        self.findings = Findings()
        self._lab = lab
        self._random = disasters.random
        self._say = say
        self._disasters = disasters
        seeds = [self._random.random() for _ in range(teams)]
        self._teams = [Team(lab, f"agent-{number}", Random(seed)) for number, seed in enumerate(seeds)]

    async def run(self, story: Callable[[Run], Awaitable[None]], per_second: float) -> Findings:
        """Play the story under load and audit it."""
        for team in self._teams:
            await team.initialise()
        load = self._lab.load(
            per_second=per_second, conversations=1000, hosts=tuple(t.host for t in self._teams)
        )
        load.start()
        sampling = asyncio.create_task(self._sample_weights())
        try:
            await story(self)
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, *(team.close() for team in self._teams), return_exceptions=True)
        report = await asyncio.to_thread(load.stop)
        self.findings.requests = report.requests
        await asyncio.to_thread(self._sort_failures, load.failures())
        for team in self._teams:
            self.findings.breaches += await asyncio.to_thread(team.audit)
            self.findings.deliveries += team.endings
        return self.findings

    async def at_every_stage(self) -> None:
        """Each disaster in each stage of a good delivery, and in the first of a bad one."""
        (team,) = self._teams
        for disaster in AT_EVERY_STAGE:
            for index in range(len(STAGES)):
                await self._strike_during(team, disaster, Fate.GOOD, index)
            await self._strike_during(team, disaster, Fate.TURNS_BAD, 0)

    async def at_random(self, minutes: float) -> None:
        """Teams deliver good and bad versions all the time, and something breaks every quarter of a minute."""
        ending = asyncio.get_running_loop().time() + minutes * 60
        teams = [asyncio.create_task(team.deliver_until(ending)) for team in self._teams]
        while asyncio.get_running_loop().time() < ending:
            await asyncio.sleep(self._random.uniform(5, 20))
            await self._strike(self._random.choice(ALL))
        await asyncio.gather(*teams)

    async def _strike_during(self, team: Team, disaster: Disaster, fate: Fate, index: int) -> None:
        """A delivery that is hit as soon as the routers serve a stage."""
        delivery = asyncio.create_task(team.deliver(fate, index))
        await team.until_serving(index)
        await asyncio.gather(self._strike(disaster), delivery)

    async def _strike(self, disaster: Disaster) -> None:
        name = disaster.__name__.replace("_", " ")
        self.findings.disasters[name] += 1
        self._say(name)
        await disaster(self._disasters)

    async def _sample_weights(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            for envoy in self._lab.envoys:
                with suppress(DevkitError):  # it is being restarted
                    dump = await asyncio.to_thread(
                        envoy.admin_get, "/config_dump", resource="dynamic_route_configs"
                    )
                    # Asked for one kind, Envoy lists its resources without the section around them.
                    sections = {"configs": [{"dynamic_route_configs": dump.json().get("configs", [])}]}
                    self.findings.breaches += [Breach(5, "", words) for words in weights_off(sections)]

    def _sort_failures(self, failures: Iterator[Result]) -> None:
        for failure in failures:
            if failure.status == AGENTS_OWN_FAILURE:
                continue
            if self._disasters.caused_by_a_restart(failure.ended):
                self.findings.failed_by_restarts += 1
            else:
                self.findings.failed_by_us.append(failure)


async def _play(
    story: Callable[[Run], Awaitable[None]], teams: int, random: Random, per_second: float
) -> Findings:
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="agentrollout-chaos-") as directory, control_plane() as plane:
        lab = await asyncio.to_thread(DeliveryLab, plane, NAMESPACE, Path(directory), replicas=2, routers=2)
        async with lab:
            with console.status("setting up") as status:
                run = Run(
                    lab, Disasters(lab, plane, random), teams, lambda words: status.update(_line(run, words))
                )
                return await run.run(story, per_second)


def _line(run: Run, words: str) -> str:
    struck = sum(run.findings.disasters.values())
    return f"{struck} disasters, now: {words}"


def _tables(found: Findings) -> Iterator[Table]:
    disasters = Table("disaster", "times", box=box.SIMPLE)
    for name, times in sorted(found.disasters.items()):
        disasters.add_row(name, str(times))
    yield disasters
    endings = Table("version", "times", box=box.SIMPLE)
    for name, times in sorted(found.deliveries.items()):
        endings.add_row(name, str(times))
    yield endings
    results = Table(
        "requests", "failed by us", "failed around a router's restart", "breaches", box=box.SIMPLE
    )
    results.add_row(
        *map(str, (found.requests, len(found.failed_by_us), found.failed_by_restarts, len(found.breaches)))
    )
    yield results


def _plain(found: Findings) -> dict[str, Any]:
    counted = {"disasters": dict(found.disasters), "deliveries": dict(found.deliveries)}
    lists = {
        "breaches": [asdict(each) for each in found.breaches],
        "failed_by_us": [asdict(each) for each in found.failed_by_us],
    }
    return {**counted, **lists, "requests": found.requests, "failed_by_restarts": found.failed_by_restarts}


def main(
    minutes: Annotated[
        float, typer.Option(help="How long things break at random; 0: each at every stage.")
    ] = 30,
    seed: Annotated[int | None, typer.Option(help="Of an earlier run, to see its schedule again.")] = None,
    teams: Annotated[int, typer.Option(help="Rollouts side by side, at random.")] = 3,
    per_second: Annotated[float, typer.Option(help="Requests of all users together.")] = 500,
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("dist/chaos.json"),
) -> None:
    """Two operators and two routers under load; exit code 1 when an invariant broke or a request failed by us."""
    seed = secrets.randbelow(10**9) if seed is None else seed
    configure_logs(LogFormat.CONSOLE, LogLevel.ERROR)  # of this process' own watches, which break as well
    found, random = conditions(), Random(seed)
    console = Console()
    console.print(headline(found), f"\nseed {seed}, {per_second:g} requests/s", highlight=False)
    story: Callable[[Run], Awaitable[None]] = (
        (lambda run: run.at_random(minutes)) if minutes else Run.at_every_stage
    )
    findings = asyncio.run(_play(story, teams if minutes else 1, random, per_second))
    for table in _tables(findings):
        console.print(table)
    for breach in findings.breaches[:20]:
        console.print(
            f"invariant {breach.invariant}, {breach.rollout}: {breach.words}", style="red", highlight=False
        )
    for failure in findings.failed_by_us[:20]:
        console.print(
            f"failed: {failure.status} {failure.error} at {failure.began:.3f}", style="red", highlight=False
        )
    report: dict[str, Any] = {
        "conditions": found,
        "seed": seed,
        "minutes": minutes,
        "findings": _plain(findings),
    }
    write(output, report)
    raise typer.Exit(0 if findings.holds else 1)


if __name__ == "__main__":
    typer.run(main)
