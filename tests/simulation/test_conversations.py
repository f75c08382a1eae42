"""Rollouts whose users come in conversations: the split is drawn by conversation, and what fails fails together."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import numpy as np

from controller.api.reasons import Reason, State
from controller.core.traffic import CONTROL_SLICES, WHOLE_PPM
from tests.virtual import VirtualRollout, rollout_of

ROLLOUTS = 200
STAGES = [
    {"weight": weight, "minDuration": "150s", "minRequests": 10} for weight in ("1%", "10%", "50%", "100%")
]
LONGEST = 20
FAILING = 0.02


class Conversations(VirtualRollout):
    """Each conversation has 1 to 20 requests at once, on one version, and fails as a whole or not at all."""

    def serve(self, requests: float) -> None:
        table = self.served
        if table is None:
            return
        count = self.random.poisson(requests / (1 + LONGEST) * 2)
        lengths = self.random.integers(1, LONGEST + 1, count)
        weight, size = table.weight_ppm, table.control_slice_ppm
        shares = np.array([weight, WHOLE_PPM - weight - CONTROL_SLICES * size, *[size] * CONTROL_SLICES])
        arms = self.random.choice(len(shares), count, p=shares / WHOLE_PPM)
        fails = self.random.random(count) < FAILING
        candidate = table.candidate.revision if table.candidate else table.stable.revision
        for arm in range(len(shares)):
            revision, control = (table.stable.revision, arm - 1) if arm else (candidate, 0)
            total, bad = int(lengths[arms == arm].sum()), int(lengths[(arms == arm) & fails].sum())
            self._add_requests(revision, control, total, bad)

    def _add_requests(self, revision: str, control: int, total: int, bad: int) -> None:
        whose = {"cluster": f"shop/agent/{revision}", **({"slice": str(control)} if control else {})}
        self._add(whose, "total", total)
        if bad:
            self._add(whose, "bad", bad, {"class": "5"})


def deliver(seed: int) -> tuple[State, set[Reason | None]]:
    """How a version that is like stable ends, and what it was held for on the way."""
    analysis = {"interval": "15s", "metrics": [{"name": "errors"}]}
    world = Conversations(
        rollout_of(stages=STAGES, analysis=analysis), per_second=40, scrape=timedelta(seconds=15), seed=seed
    )
    world.settle()
    world.live(30)
    world.want("http://v2")
    world.settle()
    held: set[Reason | None] = set()
    for _ in range(120):
        world.live(15)
        held |= {metric.reason for metric in world.rollout.status.analysis}
        if world.rollout.status.candidate is None:
            break
    return world.rollout.status.state, held


def test_right_splits_of_conversations_are_not_found_wrong_and_good_versions_not_bad() -> None:
    endings = [deliver(seed) for seed in range(ROLLOUTS)]
    assert not [seed for seed, (_, held) in enumerate(endings) if Reason.SPLIT_MISMATCH in held]
    states = Counter(state for state, _ in endings)
    assert states[State.ROLLED_BACK] <= 0.05 * ROLLOUTS
    assert states[State.STABLE] >= 0.9 * ROLLOUTS
