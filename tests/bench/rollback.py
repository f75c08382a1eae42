"""``python -m tests.bench.rollback``: how long bad versions stay, from the evidence to Envoy's acknowledgement."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from controller.adapters.prometheus import PrometheusSource
from tests.bench.conditions import Quantiles, conditions, headline, write
from tests.bench.deliveries import FAULTS, Delivery, Fleet, Scenario, watched
from tests.bench.evidence import stored
from tests.bench.world import delivery_lab

SCENARIOS = (
    Scenario("20 at once, default-like interval", 20, side_by_side=20, interval=5, scrape=1, at_once=True),
    Scenario("300, short interval", 300, side_by_side=24, interval=1, scrape=0.5, at_once=False),
)
QUICK = (
    Scenario("6 at once, default-like interval", 6, side_by_side=6, interval=5, scrape=1, at_once=True),
    Scenario("12, short interval", 12, side_by_side=6, interval=1, scrape=0.5, at_once=False),
)


@dataclass(frozen=True)
class Rollback:
    """One measured rollback; seconds.

    Attributes:
        rollout: ``namespace/name``.
        fault: Share of the version's answers that were failures.
        fault_to_sufficient: From the first instant at which it could fail a user.
        sufficient_to_acknowledged: From the first scrape whose samples suffice.
        answer_to_acknowledged: From Prometheus' deciding answer, as the operator had it.
        since_evaluation: From the evaluation before the deciding one to the cut; about an interval.
        receded: How many evaluations found the evidence short again after it had sufficed between two of them.
        requests: Requests that met the bad version.
        failed: How many of them failed.
    """

    rollout: str
    fault: float
    fault_to_sufficient: float
    sufficient_to_acknowledged: float
    answer_to_acknowledged: float
    since_evaluation: float
    receded: int
    requests: int
    failed: int


async def run(scenario: Scenario, console: Console) -> list[Rollback]:
    """Measure one scenario."""
    async with delivery_lab(scrape=scenario.scrape) as lab, watched(lab) as story:
        fleet = Fleet(lab, scenario, story)
        await fleet.initialise()
        load = lab.load(
            per_second=scenario.per_second * scenario.side_by_side, conversations=200, hosts=fleet.hosts()
        )
        load.start()
        with console.status("") as status:
            count = 0

            def done() -> None:
                nonlocal count
                count += 1
                status.update(f"{scenario.name}: {count} of {scenario.rollbacks} taken back")

            deliver = fleet.deliver_bad_at_once if scenario.at_once else fleet.deliver_bad_from_the_start
            deliveries = await deliver(done)
            status.update(f"{scenario.name}: replaying the evidence")
            report = await asyncio.to_thread(load.stop)
            if set(report.statuses) - {"200", "500"}:
                console.print(f"[red]users met more than the versions' own answers: {report.errors}")
            source = PrometheusSource(lab.prometheus.url)
            logged = _by_rollout(lab.log())
            found = [await _measured(source, each, logged[each.key]) for each in deliveries]
            await source.close()
    return [rollback for rollback in found if rollback is not None]


async def _measured(
    source: PrometheusSource, delivery: Delivery, logged: list[dict[str, Any]]
) -> Rollback | None:
    candidate = delivery.states[-1].status.candidate
    assert candidate
    artifact = candidate.artifact_id
    cut = next(e for e in logged if e["event"] == "cut_pushed" and e["artifact"] == artifact)
    pushed = datetime.fromisoformat(cut["timestamp"])
    acknowledged = next(
        at
        for e in logged
        if e["event"] == "split_acknowledged"
        and e["seconds_since_cut"] is not None
        and (at := datetime.fromisoformat(e["timestamp"])) >= pushed
    )
    found = await stored(source, delivery, acknowledged)
    if found is None:
        return None
    return Rollback(
        rollout=delivery.key,
        fault=delivery.fault,
        fault_to_sufficient=(found.sufficient_at - delivery.fault_at).total_seconds(),
        sufficient_to_acknowledged=(acknowledged - found.sufficient_at).total_seconds(),
        answer_to_acknowledged=(acknowledged - pushed).total_seconds() + cut["seconds_since_evidence"],
        since_evaluation=(pushed - found.evaluated_at).total_seconds(),
        receded=found.receded,
        requests=found.requests,
        failed=found.failed,
    )


def _by_rollout(lines: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        if "rollout" in line:
            found[line["rollout"]].append(line)
    return found


def table(scenario: Scenario, rollbacks: list[Rollback]) -> Table:
    """Quantiles for people."""
    told = "all turn bad at one instant" if scenario.at_once else "bad from the first request"
    title = (
        f"{scenario.name}: {len(rollbacks)} of {scenario.rollbacks} measured, {scenario.side_by_side} side by side, {told}; "
        f"evaluated every {scenario.interval:g} s, scraped every {scenario.scrape:g} s, "
        f"{scenario.per_second:g} requests/s each, candidate at {scenario.weight}"
    )
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("seconds", "fault", "n", "p50", "p90", "p99", "max"):
        result.add_column(column, justify="left" if column == "seconds" else "right")
    result.add_row(
        f"sufficient samples → weight 0 acknowledged (target ≤ {scenario.interval + 1:g})",
        "all",
        *Quantiles.of(r.sufficient_to_acknowledged for r in rollbacks).cells(),
    )
    result.add_row(
        "  of these, where it sufficed at the next evaluation too",
        "all",
        *Quantiles.of(r.sufficient_to_acknowledged for r in rollbacks if not r.receded).cells(),
    )
    result.add_row(
        "evaluation before the deciding one → cut",
        "all",
        *Quantiles.of(r.since_evaluation for r in rollbacks).cells(),
    )
    result.add_row(
        "deciding answer → weight 0 acknowledged (target p50 ≤ 0.1)",
        "all",
        *Quantiles.of(r.answer_to_acknowledged for r in rollbacks).cells(3),
    )
    for fault in FAULTS:
        of_fault = [r for r in rollbacks if r.fault == fault]
        if of_fault:
            share = f"{fault:.0%}"
            result.add_row(
                "fault → sufficient samples",
                share,
                *Quantiles.of(r.fault_to_sufficient for r in of_fault).cells(1),
            )
            result.add_row(
                "requests that met the version", share, *Quantiles.of(r.requests for r in of_fault).cells(0)
            )
            result.add_row("failed among them", share, *Quantiles.of(r.failed for r in of_fault).cells(0))
    return result


def main(
    quick: Annotated[bool, typer.Option(help="A smoke run: a few rollbacks of each kind.")] = False,
    output: Annotated[Path, typer.Option(help="Where every measured rollback goes, as JSON.")] = Path(
        "build/bench-rollback.json"
    ),
) -> None:
    """Measure rollbacks on real parts and print quantiles."""
    console = Console(width=150)
    found = conditions()
    console.print(headline(found))
    measured = []
    missed = 0
    for scenario in QUICK if quick else SCENARIOS:
        rollbacks = asyncio.run(run(scenario, console))
        missed += scenario.rollbacks - len(rollbacks)
        missed += sum(r.sufficient_to_acknowledged > scenario.interval + 1 for r in rollbacks)
        console.print(table(scenario, rollbacks))
        measured.append({"scenario": asdict(scenario), "rollbacks": rollbacks})
    write(output, {"conditions": found, "measured": measured})
    console.print(f"Every rollback is in {output}.")
    if missed:
        console.print(f"[red]{missed} rollbacks missed one interval + 1 s.")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
