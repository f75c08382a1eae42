"""``python -m tests.bench.shadow_decisions``: how often shadows err, and how many comparisons they need.

Everything is the product's own plan in virtual time but the answers and the judge (``tests/answering.py``): 20 % of its verdicts
are random and prefer the answer shown first in 70 % of the cases, it is asked in both orders, and 1 % of all answers fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from controller.core.sums import upper_bound
from tests.answering import answering, in_shadow
from tests.bench.conditions import Quantiles, conditions, headline, write

ALPHA = 0.01
PER_INTERVAL = 40
CONFIDENCE = 0.95
SAME = "the same version"
CONVERSATIONS = 20
"""Requests of the longest."""


@dataclass(frozen=True)
class Kind:
    """One kind of shadow.

    Attributes:
        candidate: The candidate, in words.
        noise: Share of second answers.
        clustering: As in the spec.
        longest: Requests of the longest conversation.
        how: What is special about the answers.
        ends: Which ending is looked for: ``Fail``, ``Pass`` or, of one that must not fail within the horizon, ``nothing``.
    """

    candidate: str
    noise: str
    clustering: float
    longest: int
    how: dict[str, Any] = field(default_factory=dict)
    ends: str = "nothing"


@dataclass(frozen=True)
class Result:
    """What became of the shadows of one kind.

    Attributes:
        kind: Of which kind.
        runs: How many.
        failed: How many ended with the candidate taken back for its answers.
        at_most: The upper 95 % confidence bound of that share.
        noisy: In how many stable was found to differ from itself.
        passed: How many went on to the first stage.
        comparisons: Until the ending that was looked for.
    """

    kind: Kind
    runs: int
    failed: int
    at_most: float
    noisy: int
    passed: int
    comparisons: Quantiles | None


SETUPS = (
    ("15%", 1.0, 1),
    ("15%", 3.0, CONVERSATIONS),
    ("50%", 3.0, CONVERSATIONS),
    ("0%", 1.0, 1),
    ("0%", 3.0, CONVERSATIONS),
)


def kinds() -> Iterator[Kind]:
    """All kinds, each with independent requests and with conversations; those that end soon first."""
    for setup in SETUPS:
        yield Kind("worse in 30 %", *setup, {"worse": 0.3}, "Fail")
        yield Kind("the same version, to be shown", *setup, {"evidence": True}, "Pass")
    for setup in SETUPS:
        yield Kind(SAME, *setup)
        yield Kind("otherwise, no worse, in 40 %", *setup, {"spread": 0.4})


def simulate(kind: Kind, runs: int, intervals: int, seed: int) -> Result:
    """So many shadows of a kind."""
    waits = kind.ends != "Pass"
    shadow = {
        "noise": kind.noise,
        "clustering": kind.clustering,
        # Who must not pass is kept in the shadow, to be looked at as often as possible.
        "minComparisons": 1_000_000 if waits else 100,
        "maxDuration": "10d",
    }
    found = [
        in_shadow(
            answering(
                per_interval=PER_INTERVAL, seed=number, shadow=shadow, longest=kind.longest, **kind.how
            ),
            intervals,
        )
        for number in range(seed, seed + runs)
    ]
    failed = [each for each in found if each.reason == "ShadowRegression"]
    passed = [each for each in found if each.passed]
    wanted = {"Fail": failed, "Pass": passed}.get(kind.ends, [])
    return Result(
        kind,
        runs,
        len(failed),
        upper_bound(len(failed), runs, CONFIDENCE),
        sum(each.noisy for each in found),
        len(passed),
        Quantiles.of([float(each.comparisons) for each in wanted]) if wanted else None,
    )


def table(results: list[Result]) -> Table:
    """One row a kind."""
    shown = Table(box=box.SIMPLE_HEAD)
    for name in ("candidate", "noise", "requests", "clustering"):
        shown.add_column(name)
    for name in ("runs", "failed", "at most", "noisy", "passed", "comparisons p50", "p90", "max"):
        shown.add_column(name, justify="right")
    for each in results:
        kind, needed = each.kind, each.comparisons
        shown.add_row(
            kind.candidate,
            kind.noise,
            "independent" if kind.longest == 1 else f"1 to {kind.longest} a conversation",
            f"{kind.clustering:g}",
            str(each.runs),
            str(each.failed),
            f"{100 * each.at_most:.2g} %" if kind.ends == "nothing" else "",
            str(each.noisy),
            str(each.passed),
            *(f"{value:.0f}" for value in (needed.p50, needed.p90, needed.max)) if needed else ("", "", ""),
        )
    return shown


def main(
    runs: Annotated[int, typer.Option(min=1, help="Shadows of the same version, of each kind.")] = 200,
    fault_runs: Annotated[int, typer.Option(min=1, help="Of all others.")] = 50,
    intervals: Annotated[int, typer.Option(min=1, help="So long each is looked at, in 15 s.")] = 240,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run.")] = False,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path(
        "build/bench-shadow-decisions.json"
    ),
) -> None:
    """Simulate, print and store; ends with 1 if good candidates are taken back more often than they may be."""
    console, found = Console(), conditions()
    if quick:
        runs, fault_runs, intervals = 4, 4, 80
    console.print(headline(found))
    console.print(
        f"{PER_INTERVAL} comparisons every 15 s, {intervals} intervals, falseRollbackRate {ALPHA:.0%}."
    )
    results: list[Result] = []
    report = {"conditions": found, "alpha": ALPHA, "per_interval": PER_INTERVAL, "results": results}
    for kind in kinds():
        count = runs if kind.candidate == SAME else fault_runs
        console.print(f"{kind.candidate}, noise {kind.noise}, clustering {kind.clustering:g} …")
        # A version that is worse may need longer than one that must not fail is looked at.
        horizon = intervals if kind.ends == "nothing" else 4 * intervals
        results.append(simulate(kind, count, horizon, seed))
        write(out, report)
    console.print(table(results))
    wrong = [each for each in results if each.kind.ends == "nothing" and each.failed / each.runs > ALPHA]
    for each in wrong:
        console.print(
            f"{each.kind.candidate}, noise {each.kind.noise}: {each.failed} of {each.runs} taken back"
        )
    raise typer.Exit(1 if wrong and not quick else 0)


if __name__ == "__main__":
    typer.run(main)
