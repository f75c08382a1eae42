"""Rollouts under a rule: watched at one weight, or delivered stage by stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from controller.api.delivery import WHOLE_PPM, default_stages
from tests.bench.conditions import Quantiles
from tests.bench.decision_rules import Rule
from tests.bench.decision_traffic import INTERVAL_SECONDS, Floats, Simulation, World

STAGES = tuple(
    (stage.weight_ppm / WHOLE_PPM, round(stage.min_duration.total_seconds() / INTERVAL_SECONDS))
    for stage in default_stages()
)
"""Weight and intervals of each of the default stages."""

SUM_OF_DURATIONS = sum(intervals for _, intervals in STAGES)
DEADLINE = 3 * SUM_OF_DURATIONS // 2


def watch(
    world: World, weight: float, rules: Mapping[str, Rule], *, runs: int, intervals: int, seed: int
) -> dict[str, Floats]:
    """In which interval each rule takes each rollout back, all of them at one weight; infinite if in none."""
    simulation, everywhere = Simulation(world, runs, seed), np.ones(runs, dtype=bool)
    first: dict[str, Floats] = {name: np.full(runs, math.inf) for name in rules}
    for now in range(intervals):
        interval = simulation.draw(np.full(runs, weight))
        for name, rule in rules.items():
            if math.isinf(first[name].max()):
                back = rule.takes_back(interval, everywhere) & np.isinf(first[name])
                first[name][back] = now + 1
    return first


@dataclass(frozen=True)
class Deliveries:
    """How deliveries of one version ended.

    Attributes:
        runs: How many there were.
        taken_back: How many were taken back.
        through: How many were promoted within 1.5 times the sum of the minDurations.
        minutes: How long these took.
    """

    runs: int
    taken_back: int
    through: int
    minutes: Quantiles | None

    @property
    def share(self) -> float:
        """Of all, what came through."""
        return self.through / self.runs


def deliver(world: World, rule: Rule, *, seed: int) -> Deliveries:
    """The default stages, up to 1.5 times the sum of their minDurations."""
    runs = rule.runs
    simulation = Simulation(world, runs, seed)
    weights, lengths = (np.array(each) for each in zip(*STAGES, strict=True))
    stage, since = np.zeros(runs, dtype=np.int64), np.zeros(runs, dtype=np.int64)
    promoted_at, back = np.full(runs, math.inf), np.zeros(runs, dtype=bool)
    for now in range(DEADLINE):
        weight = weights[stage]
        # The interval in which the split changes is not counted.
        interval = simulation.draw(weight).only(since > 0)
        since += 1
        compared = weight < 1
        serving = ~back & np.isinf(promoted_at)
        back |= rule.takes_back(interval, compared) & serving
        passes = serving & ~back & (since >= lengths[stage]) & ~rule.holds()
        promoted_at[passes & (stage == len(STAGES) - 1)] = now + 1
        entered = passes & (stage < len(STAGES) - 1)
        stage[entered] += 1
        since[entered] = 0
        rule.enters_stage(entered, weights[stage] < 1)
        if not (~back & np.isinf(promoted_at)).any():
            break
    took = promoted_at[np.isfinite(promoted_at)] * INTERVAL_SECONDS / 60
    return Deliveries(runs, int(back.sum()), len(took), Quantiles.of(took.tolist()) if len(took) else None)
