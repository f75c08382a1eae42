"""What was found in each cell, and where it falls short of what is promised."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from tests.bench.conditions import Quantiles
from tests.bench.decision_runs import Deliveries
from tests.bench.decision_traffic import Floats

OURS = "ours"
CLUSTERED_TARGET = 0.05
"""False rollbacks of the tempered test alone where conversations fail as a whole."""

THROUGH = 0.95
"""Good deliveries that are to be through within 1.5 times the sum of the minDurations."""


@dataclass(frozen=True)
class FalseRollbacks:
    """Good versions that were taken back within an hour at one weight, by rule."""

    rate: float
    weight: float
    times: str
    seed: int
    runs: int
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Clustered:
    """The same for conversations of 1 to ``longest`` requests that fail as a whole, by what is tested."""

    rate: float
    weight: float
    longest: int
    seed: int
    runs: int
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Good:
    """Deliveries of good versions under one rule.

    Attributes:
        enough: Whether there is traffic enough for what the rule asks.
    """

    rule: str
    rate: float
    per_minute: float
    seed: int
    enough: bool
    found: Deliveries


@dataclass(frozen=True)
class Delay:
    """How late one rule took bad versions back.

    Attributes:
        early: Share that it had taken back before the fault.
        found: Of the others, the share taken back in time.
        minutes: From the fault on, for these; infinite for those that were not found.
    """

    early: float
    found: float
    minutes: Quantiles | None

    @property
    def median(self) -> float:
        """Minutes, of all that the fault met; infinite if fewer than half were found."""
        return self.minutes.p50 if self.minutes else math.inf

    @classmethod
    def of(cls, first: Floats, begins: int) -> Self:
        """From the intervals in which it took them back."""
        met = first[first > begins]
        minutes = (met - begins) / 4
        return cls(
            early=float((first <= begins).mean()),
            found=float(np.isfinite(met).mean()) if len(met) else 0.0,
            minutes=Quantiles.of(minutes.tolist()) if len(met) else None,
        )


@dataclass(frozen=True)
class Delays:
    """Bad versions at one weight, by rule; ``begins`` is the fault's interval."""

    rate: float
    weight: float
    ratio: float
    begins: int
    seed: int
    rules: Mapping[str, Delay]

    @classmethod
    def of(
        cls, rate: float, weight: float, ratio: float, begins: int, seed: int, first: Mapping[str, Floats]
    ) -> Self:
        """From the intervals in which each rule took them back."""
        rules = {name: Delay.of(at, begins) for name, at in first.items()}
        return cls(rate, weight, ratio, begins, seed, rules)


@dataclass(frozen=True)
class Report:
    """All cells; ``alpha`` is the stated rate of false rollbacks."""

    alpha: float
    false_rollbacks: list[FalseRollbacks]
    clustered: list[Clustered]
    good: list[Good]
    delays: list[Delays]

    def bound(self, runs: int, target: float | None = None) -> float:
        """What so many runs may show while the true rate is the stated one: three binomial standard deviations more."""
        rate = self.alpha if target is None else target
        return rate + 3 * math.sqrt(rate * (1 - rate) / runs)

    def worst_false(self, rule: str, rate: float, weight: float) -> float:
        """The largest share of good versions that a rule took back at this rate and weight."""
        cells = (cell for cell in self.false_rollbacks if (cell.rate, cell.weight) == (rate, weight))
        return max((cell.shares[rule] for cell in cells), default=0.0)


def shortcomings(report: Report) -> list[str]:
    """Each place where what is promised was not seen, or another rule that keeps to α was faster."""
    return [
        *_wrong(report),
        *_wrong_in_conversations(report),
        *_slow_deliveries(report),
        *_faster_elsewhere(report),
    ]


def _wrong(report: Report) -> Iterator[str]:
    for cell in report.false_rollbacks:
        if cell.shares[OURS] > report.bound(cell.runs):
            yield (
                f"false rollbacks: {cell.shares[OURS]:.2%} at a rate of {cell.rate:.1%}, weight {cell.weight:.1%}, {cell.times}"
            )


def _wrong_in_conversations(report: Report) -> Iterator[str]:
    targets = {
        "conversation trials": report.alpha,
        "and A/A check": CLUSTERED_TARGET,
        "tempered by slices": CLUSTERED_TARGET,
    }
    for cell, (rule, target) in ((c, t) for c in report.clustered for t in targets.items()):
        if cell.shares[rule] > report.bound(cell.runs, target):
            yield (
                f"conversations, {rule}: {cell.shares[rule]:.2%} false rollbacks (target {target:.0%}) at a rate of "
                f"{cell.rate:.1%}, weight {cell.weight:.1%}"
            )


def _slow_deliveries(report: Report) -> Iterator[str]:
    for cell in report.good:
        if cell.rule.startswith(OURS) and cell.enough and cell.found.share < THROUGH:
            yield (
                f"good deliveries, {cell.rule}: {cell.found.share:.1%} through at a rate of {cell.rate:.1%}, "
                f"{cell.per_minute:g}/min ({cell.found.taken_back / cell.found.runs:.1%} taken back)"
            )


def _faster_elsewhere(report: Report) -> Iterator[str]:
    for cell in report.delays:
        ours = cell.rules[OURS].median
        for name, delay in cell.rules.items():
            false = report.worst_false(name, cell.rate, cell.weight)
            if delay.median < ours and false <= report.alpha:
                yield (
                    f"{name} is faster: {delay.median:g} against {ours:g} min for ×{cell.ratio:g} after "
                    f"{cell.begins // 4} min at a rate of {cell.rate:.1%}, weight {cell.weight:.1%} "
                    f"(false rollbacks there at most {false:.2%})"
                )
