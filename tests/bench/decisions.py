"""``python -m tests.bench.decisions``: how often decisions are wrong, how late they are, and those of other rules beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.bench.conditions import conditions, headline, write
from tests.bench.decision_costs import Cost, costs
from tests.bench.decision_rules import (
    Consecutive,
    Cumulative,
    Never,
    Ours,
    RepeatedFisher,
    Rule,
    Threshold,
    Unit,
)
from tests.bench.decision_runs import STAGES, SUM_OF_DURATIONS, deliver, watch
from tests.bench.decision_tables import (
    show_clustered,
    show_costs,
    show_delays,
    show_deliveries,
    show_false_rollbacks,
    show_shortcomings,
)
from tests.bench.decision_traffic import HOUR, World
from tests.bench.decision_verdict import Clustered, Delays, FalseRollbacks, Good, Report, shortcomings

ALPHA = 0.01
RATES = (0.001, 0.01, 0.02, 0.05)
WEIGHTS = (0.001, 0.01, 0.1, 0.5)
RATIOS = (1.5, 2.0, 3.0, 8.0)
DISTURBANCES = ("drifts", "waves", "bursts", "resets")
LONGEST = 50
MIN_FAILURES = 20
"""Failures that stable would have had among the candidate's requests: enough traffic to show safety by."""

OTHERS: dict[str, Callable[[int], Rule]] = {
    "threshold": Threshold,
    "Fisher": RepeatedFisher,
    "Flagger": Consecutive,
    "Argo": Cumulative,
}


@dataclass(frozen=True)
class Settings:
    """How much is simulated.

    Attributes:
        null_runs: Rollouts of a good version watched for an hour, in each cell.
        good_runs: Deliveries of a good version, in each cell.
        fault_runs: Rollouts of a bad version, in each cell.
        rates: Common rates of bad events.
        weights: The candidate's shares.
        ratios: How much worse the bad ones are.
        traffics: Requests a minute, of good deliveries.
        horizon: Intervals in which a fault may be found.
        seed: The first cell's; each further cell has the next.
    """

    null_runs: int = 2000
    good_runs: int = 200
    fault_runs: int = 100
    rates: tuple[float, ...] = RATES
    weights: tuple[float, ...] = WEIGHTS
    ratios: tuple[float, ...] = RATIOS
    traffics: tuple[float, ...] = (200.0, 2000.0, 20_000.0)
    horizon: int = 2 * HOUR
    seed: int = 1


QUICK = Settings(
    null_runs=40,
    good_runs=10,
    fault_runs=10,
    rates=(0.02,),
    weights=(0.1,),
    ratios=(8.0,),
    traffics=(2000.0,),
    horizon=40,
)


@dataclass
class Bench:
    """All cells, each with a seed of its own."""

    settings: Settings
    progress: Callable[[str], None]
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        self.seed = self.settings.seed

    def _next_seed(self) -> int:
        self.seed += 1
        return self.seed - 1

    def false_rollbacks(self) -> Iterator[FalseRollbacks]:
        """A good version at one weight for an hour, in steady times and when everything is in motion."""
        cells: list[tuple[float, float, tuple[str, ...]]] = [
            (rate, weight, disturbed)
            for rate, weight in product(self.settings.rates, self.settings.weights)
            for disturbed in ((), DISTURBANCES)
        ]
        middle = (self.settings.rates[len(self.settings.rates) // 2], self.settings.weights[-1])
        cells += [(*middle, (each,)) for each in DISTURBANCES]
        for rate, weight, disturbed in cells:
            self.progress(
                f"a good version: {rate:.1%} bad, {weight:.1%} of the traffic, {', '.join(disturbed) or 'steady'}"
            )
            world = World(rate, **dict.fromkeys(disturbed, True))
            runs, seed = self.settings.null_runs, self._next_seed()
            rules = {"ours": Ours(runs, alpha=ALPHA), **{name: make(runs) for name, make in OTHERS.items()}}
            first = watch(world, weight, rules, runs=runs, intervals=HOUR, seed=seed)
            yield FalseRollbacks(
                rate,
                weight,
                world.words,
                seed,
                runs,
                {name: float((at <= HOUR).mean()) for name, at in first.items()},
            )

    def clustered(self) -> Iterator[Clustered]:
        """The same where conversations fail as a whole."""
        for rate, weight in product(self.settings.rates, self.settings.weights):
            self.progress(f"conversations: {rate:.1%} bad, {weight:.1%} of the traffic")
            runs, seed = self.settings.null_runs, self._next_seed()
            rules: dict[str, Rule] = {
                "requests as if independent": Ours(runs, alpha=ALPHA),
                "tempered by 10": Ours(runs, alpha=ALPHA, clustering=10.0),
                "tempered by slices": Ours(runs, alpha=ALPHA, clustering=10.0, sliced=True),
                "and A/A check": Ours(runs, alpha=ALPHA, clustering=10.0, sliced=True, checked=True),
                "conversation trials": Ours(runs, alpha=ALPHA, unit=Unit.CONVERSATIONS),
                "trials and requests": Ours(runs, alpha=ALPHA, clustering=10.0, sliced=True, unit=Unit.BOTH),
            }
            world = World(rate, longest=LONGEST)
            first = watch(world, weight, rules, runs=runs, intervals=HOUR, seed=seed)
            shares = {name: float((at <= HOUR).mean()) for name, at in first.items()}
            yield Clustered(rate, weight, LONGEST, seed, runs, shares)

    def good(self) -> Iterator[Good]:
        """Good versions through all stages."""
        runs = self.settings.good_runs
        for rate, traffic in product(self.settings.rates, self.settings.traffics):
            rules: dict[str, Rule] = {
                "ours": Ours(runs, alpha=ALPHA),
                "ours, Evidence": Ours(runs, alpha=ALPHA, max_ratio=2.0),
                "always hold": Never(runs),
            }
            if traffic == 2000.0:
                rules |= {name: make(runs) for name, make in OTHERS.items()}
            for name, rule in rules.items():
                yield self._good(name, rule, World(rate, traffic))
            clustered = Ours(runs, alpha=ALPHA, clustering=10.0, sliced=True, checked=True)
            yield self._good("ours, conversations", clustered, World(rate, traffic, longest=LONGEST))

    def _good(self, name: str, rule: Rule, world: World) -> Good:
        self.progress(f"deliveries: {name}, {world.rate:.1%} bad, {world.per_minute:g}/min")
        seed = self._next_seed()
        weight, intervals = STAGES[0]
        # What the first stage has until 1.5 times the sum of the minDurations can no longer be kept.
        minutes = (intervals + SUM_OF_DURATIONS / 2) / 4
        failures = weight * world.per_minute * minutes * world.rate
        enough = "Evidence" not in name or failures >= MIN_FAILURES
        return Good(name, world.rate, world.per_minute, seed, enough, deliver(world, rule, seed=seed))

    def delays(self) -> Iterator[Delays]:
        """Bad versions: how long until they are taken back."""
        runs, horizon = self.settings.fault_runs, self.settings.horizon
        rates, weights = self.settings.rates[::2], self.settings.weights[-3:]
        for rate, weight, ratio, begins in product(rates, weights, self.settings.ratios, (0, HOUR)):
            self.progress(f"×{ratio:g} after {begins // 4} min: {rate:.1%} bad, {weight:.1%} of the traffic")
            seed = self._next_seed()
            rules = {"ours": Ours(runs, alpha=ALPHA), **{name: make(runs) for name, make in OTHERS.items()}}
            world = World(rate, ratio=ratio, fault_at=begins)
            first = watch(world, weight, rules, runs=runs, intervals=begins + horizon, seed=seed)
            yield Delays.of(rate, weight, ratio, begins, seed, first)


def run(settings: Settings, progress: Callable[[str], None]) -> Report:
    """Everything."""
    bench = Bench(settings, progress)
    return Report(
        ALPHA,
        false_rollbacks=list(bench.false_rollbacks()),
        clustered=list(bench.clustered()),
        good=list(bench.good()),
        delays=list(bench.delays()),
    )


def show(report: Report, spent: list[Cost], console: Console) -> None:
    """All tables."""
    show_false_rollbacks(report, console)
    show_clustered(report, console)
    show_deliveries(report, console)
    show_delays(report, console)
    show_costs(spent, console)
    show_shortcomings(shortcomings(report), console)


def main(
    quick: Annotated[bool, typer.Option(help="A smoke run: one cell of each kind, few rollouts.")] = False,
    seed: Annotated[int, typer.Option(help="The first cell's seed.")] = 1,
    report: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("build/bench-decisions.json"),
) -> None:
    """False rollbacks, good deliveries and delays, of our decisions and of other rules."""
    console = Console(width=160)
    settings = Settings(**{**vars(QUICK if quick else Settings()), "seed": seed})
    started, began = conditions(), time.monotonic()
    with console.status("") as status:
        found = run(settings, status.update)
    spent = costs()
    console.print(headline(started))
    console.print(
        f"seeds from {seed}, α = {ALPHA:.0%}, intervals of 15 s, {time.monotonic() - began:.0f} s in all"
    )
    show(found, spent, console)
    write(
        report,
        {
            "conditions": started,
            "settings": settings,
            "found": found,
            "costs": spent,
            "short": shortcomings(found),
        },
    )


if __name__ == "__main__":
    typer.run(main)
