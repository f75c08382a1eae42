"""``python -m tests.bench.kill``: from the flip of a kill switch to the candidate's last request and last byte, under load."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table

from controller.adapters.flags.flagd import POLL_SECONDS
from controller.api.kill_switches import SwitchSource
from controller.api.reasons import State
from controller.api.rollout import AgentRollout
from controller.reconcilers.sources import CONFIG_MAPS
from controller.reconcilers.switch_maps import SWITCH_LABEL
from controller.runtime.client import ResourceClient
from controller.runtime.transport import KubernetesTransport
from devkit.process import LOOPBACK
from tests.bench.conditions import Quantiles, conditions, headline, write
from tests.bench.streams import CANDIDATE, CHUNK_SECONDS, candidate, streams
from tests.bench.vegeta import Result
from tests.bench.world import delivery_lab
from tests.flag_servers import FlagdServer, OfrepServer
from tests.integration.delivery_lab import DeliveryLab, manifest, stage

SETTLE_SECONDS = 2.0
"""So long after status says that nobody is served, somebody who is would be seen."""

HEARD_SECONDS = POLL_SECONDS + 1
"""So long after a release each replica has heard of it; one that has not kills the next attempt by itself."""

SPEC: dict[str, Any] = {
    "stages": [stage("50%", seconds=24 * 3600), stage("100%")],
    "killSwitches": [
        {"name": "config-map", "configMap": {"name": "flags", "key": "agent"}, "autoResume": True},
        {"name": "ofrep", "ofrep": {"flag": "agent"}, "autoResume": True},
        {"name": "flagd", "flagd": {"flag": "agent"}, "autoResume": True},
    ],
}


@dataclass(frozen=True)
class Case:
    """One way in which a candidate is killed.

    Attributes:
        name: For people.
        source: Where the switch is.
        target: What p99 is to be at most, seconds.
        hangs: Whether flagd's stream stays open and tells nothing.
        leader: What happens to the leading replica just before the flip; the other one is left alone.
    """

    name: str
    source: SwitchSource
    target: float
    hangs: bool = False
    leader: str = ""


CASES = (
    Case("ConfigMap", SwitchSource.CONFIG_MAP, 1),
    Case("OFREP, asked every 0.5 s", SwitchSource.OFREP, 1),
    Case("flagd's stream", SwitchSource.FLAGD, 1),
    Case("flagd, its stream hangs", SwitchSource.FLAGD, 5, hangs=True),
    Case("flagd's stream, leader SIGKILLed", SwitchSource.FLAGD, 1, leader="SIGKILL"),
    Case("flagd's stream, leader SIGSTOPped", SwitchSource.FLAGD, 1, leader="SIGSTOP"),
)


@dataclass(frozen=True)
class Kill:
    """One kill as the bench made it; unix seconds.

    Attributes:
        serving: The candidate had half of the users.
        flipped: Just before the switch was turned on.
        last_chunk: When the last of its streams brought something.
        released: Just before the switch was turned off.
    """

    serving: float
    flipped: float
    last_chunk: float
    released: float


@dataclass(frozen=True)
class Measured:
    """All kills of a case; seconds from the flip.

    Attributes:
        case: Which.
        last_request: To the begin, at the user, of the last request that the candidate answered.
        last_byte: To the last byte that a user got of it.
        sent: Users' requests in all, without the streams.
        failed: How many had no answer, or one of 5xx.
    """

    case: Case
    last_request: list[float]
    last_byte: list[float]
    sent: int
    failed: int


@dataclass
class Hand:
    """Turns the switches of one rollout, and hits replicas."""

    lab: DeliveryLab
    config_maps: ResourceClient
    ofrep: OfrepServer
    flagd: FlagdServer
    attempt: int = field(default=0, init=False)

    async def prepare(self, url: str) -> None:
        """A candidate whose switches are all off."""
        await self.turn(SwitchSource.CONFIG_MAP, on=False)
        await self.lab.apply(manifest(self.lab.namespace, self.lab.agent("old").url, **SPEC))
        await self.lab.until(lambda r: r.status.state is State.STABLE and r.status.programmed == 0)
        await self.lab.apply(manifest(self.lab.namespace, url, **SPEC))

    async def turn(self, source: SwitchSource, *, on: bool) -> None:
        if source is SwitchSource.CONFIG_MAP:
            labels = {SWITCH_LABEL: "flags"}
            metadata = {"name": "flags", "namespace": self.lab.namespace, "labels": labels}
            await self.config_maps.apply({"metadata": metadata, "data": {"agent": str(on).lower()}})
        elif source is SwitchSource.OFREP:
            self.ofrep.set(agent=on)
        else:
            self.flagd.set(agent=on)

    async def kill(self, case: Case) -> Kill:
        """Kill the candidate once, at any instant of an interval of flagd's questions, and release it."""
        rollout = await self.lab.until(self._serves, timeout=120)
        assert rollout.status.candidate
        self.attempt = rollout.status.candidate.attempt
        serving, leader = time.time(), await self.lab.leader()
        async with streams(self.lab) as met:
            await asyncio.sleep(0.5 + POLL_SECONDS * random.random())
            if time.time() - met.last_chunk > 10 * CHUNK_SECONDS:
                # A replica that had not heard of the last release has killed this attempt too: the next one, then.
                return await self.kill(case)
            if case.leader == "SIGKILL":
                await asyncio.to_thread(leader.process.kill)
            elif case.leader == "SIGSTOP":
                leader.process.pause()
            flipped = time.time()
            await self.turn(case.source, on=True)
            await self.lab.until(lambda r: r.status.killed and r.status.programmed == 0, timeout=120)
            await asyncio.sleep(SETTLE_SECONDS)
        released = time.time()
        if case.leader == "SIGKILL":
            await asyncio.to_thread(leader.start)
        leader.process.resume()
        await self.turn(case.source, on=False)
        await asyncio.sleep(HEARD_SECONDS)
        return Kill(serving, flipped, met.last_chunk, released)

    def _serves(self, rollout: AgentRollout) -> bool:
        found = rollout.status.candidate
        return rollout.status.programmed == 500_000 and found is not None and found.attempt > self.attempt


async def measure(hand: Hand, case: Case, kills: int, per_second: float, status: Status) -> Measured:
    """All kills of one case, under load."""
    load = hand.lab.load(per_second=per_second)
    load.start()
    hand.flagd.streams = not case.hangs
    made = []
    for number in range(kills):
        status.update(f"{case.name}: {number + 1} of {kills}")
        made.append(await hand.kill(case))
    hand.flagd.streams = True
    hand.flagd.set()
    report = await asyncio.to_thread(load.stop)
    failed = sum(count for code, count in report.statuses.items() if code == "0" or code >= "500")
    last = await asyncio.to_thread(_last_of, made, load.results())
    return Measured(
        case,
        [began - kill.flipped for kill, (began, _) in zip(made, last, strict=True)],
        [max(ended, kill.last_chunk) - kill.flipped for kill, (_, ended) in zip(made, last, strict=True)],
        report.requests,
        failed,
    )


def _last_of(kills: list[Kill], results: Iterable[Result]) -> list[tuple[float, float]]:
    """For each kill the begin of the last request that the candidate answered, and its last end of one."""
    served = [(each.began, each.ended) for each in results if each.upstream == CANDIDATE]
    found = []
    for kill in kills:
        of_it = [each for each in served if kill.serving <= each[0] < kill.released]
        if not of_it:
            raise RuntimeError("the candidate answered nobody: the load is too small to see anything")
        found.append((max(began for began, _ in of_it), max(ended for _, ended in of_it)))
    return found


async def run(kills: int, per_second: float, console: Console) -> list[Measured]:
    """Measure all cases with the same two replicas and one router."""
    async with OfrepServer(agent=False) as ofrep, FlagdServer(agent=False) as flagd, candidate() as url:
        flags = [f"--ofrep-url={ofrep.url}", f"--flagd-address={LOOPBACK}:{flagd.port}"]
        async with delivery_lab(scrape=1, replicas=2, flags=flags, drain_seconds=0) as lab:
            transport = await KubernetesTransport.connect(kubeconfig=str(lab.control_plane.kubeconfig))
            hand = Hand(lab, ResourceClient(transport, CONFIG_MAPS, field_manager="bench"), ofrep, flagd)
            await hand.prepare(url)
            with console.status("") as status:
                found = [await measure(hand, case, kills, per_second, status) for case in CASES]
            await transport.close()
    return found


def table(measured: list[Measured], per_second: float) -> Table:
    """Quantiles for people."""
    title = (
        f"Seconds from the flip, {per_second:g} requests/s, half of them at the candidate, two replicas, Cut"
    )
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("switch", "to the candidate's", "n", "p50", "p90", "p99", "max", "p99 target"):
        result.add_column(column, justify="left" if " " in column or column == "switch" else "right")
    for each in measured:
        case = each.case
        begun, ended = Quantiles.of(each.last_request), Quantiles.of(each.last_byte)
        result.add_row(case.name, "last request", *begun.cells(3), f"≤ {case.target:g}")
        result.add_row("", "last byte", *ended.cells(3))
    return result


def main(
    kills: Annotated[int, typer.Option(help="How many of each kind.")] = 50,
    per_second: Annotated[float, typer.Option(help="Requests a second of all users.")] = 500,
    output: Annotated[Path, typer.Option(help="Where every kill goes, as JSON.")] = Path(
        "build/bench-kill.json"
    ),
) -> None:
    """Flip kill switches on real parts and print quantiles."""
    console = Console(width=150)
    before = conditions()
    console.print(headline(before))
    found = asyncio.run(run(kills, per_second, console))
    console.print(table(found, per_second))
    sent, failed = sum(each.sent for each in found), sum(each.failed for each in found)
    console.print(f"{failed} of {sent} requests failed, those that were cut included.")
    write(output, {"conditions": before, "per_second": per_second, "measured": found})
    console.print(f"Every kill is in {output}.")


if __name__ == "__main__":
    typer.run(main)
