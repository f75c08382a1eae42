"""Simulated intervals of many rollouts at once: what the counters of candidate, stable and control slices moved by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from controller.core.traffic import CONTROL_SLICES

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Bools = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

INTERVAL_SECONDS = 15
HOUR = 3600 // INTERVAL_SECONDS

_CANDIDATE, _REST = 0, CONTROL_SLICES + 1
_ARMS = CONTROL_SLICES + 2
_WORST_RATE = 0.8


@dataclass(frozen=True)
class Counted:
    """Bad events and totals of every rollout in one interval.

    Attributes:
        bad: By rollout and arm: the candidate, the control slices, the rest of stable.
        total: Likewise.
    """

    bad: Ints
    total: Ints

    @property
    def candidate(self) -> tuple[Ints, Ints]:
        """Bad and total of the candidate."""
        return self.bad[:, _CANDIDATE], self.total[:, _CANDIDATE]

    @property
    def stable(self) -> tuple[Ints, Ints]:
        """Bad and total of stable, the slices included."""
        return self.bad[:, 1:].sum(axis=1), self.total[:, 1:].sum(axis=1)

    @property
    def slices(self) -> tuple[Ints, Ints]:
        """Bad and total of each control slice."""
        return self.bad[:, 1:_REST], self.total[:, 1:_REST]

    @property
    def parts(self) -> tuple[Ints, Ints]:
        """Bad and total of each control slice, then of the rest of stable."""
        return self.bad[:, 1:], self.total[:, 1:]

    def only(self, counted: Bools) -> Counted:
        """Nothing of the rollouts that are not counted."""
        return Counted(self.bad * counted[:, None], self.total * counted[:, None])


@dataclass(frozen=True)
class Intervals:
    """One interval: requests, and the conversations that they belong to."""

    requests: Counted
    conversations: Counted

    def only(self, counted: Bools) -> Intervals:
        """Nothing of the rollouts that are not counted."""
        return Intervals(self.requests.only(counted), self.conversations.only(counted))


@dataclass(frozen=True)
class World:
    """What users and versions do, alike in all rollouts but for chance.

    Attributes:
        rate: The rate of bad events that both versions have in common.
        per_minute: Requests of all users.
        ratio: The candidate's odds of a bad event as a multiple of stable's, once it is at fault.
        fault_at: In which interval that begins.
        longest: Conversations have 1 to so many requests and fail as a whole; 1 for independent requests.
        drifts: Whether the common rate wanders threefold up or down within the hour.
        waves: Whether traffic swings threefold up and down, and the rate against it.
        bursts: Whether both versions have one to four intervals with ten times the rate, about every ten minutes.
        resets: Whether routers restart, so that part of an interval in a hundred is lost.
    """

    rate: float
    per_minute: float = 2000.0
    ratio: float = 1.0
    fault_at: int = 0
    longest: int = 1
    drifts: bool = False
    waves: bool = False
    bursts: bool = False
    resets: bool = False

    @property
    def words(self) -> str:
        """What disturbs, for a table."""
        names = ("drifts", "waves", "bursts", "resets")
        found = [name for name in names if getattr(self, name)]
        return "all at once" if len(found) == len(names) else ", ".join(found) or "steady"


@dataclass
class Simulation:
    """Draws one interval after the other for ``runs`` rollouts."""

    world: World
    runs: int
    seed: int
    now: int = 0
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self._wandered = np.zeros(self.runs)
        self._bursting = np.zeros(self.runs, dtype=np.int64)

    def draw(self, weight: Floats) -> Intervals:
        """The next interval.

        Args:
            weight: The candidate's share of the traffic in each rollout.
        """
        rate, requests = self._rate(), self._requests()
        at_fault = self.world.ratio if self.now >= self.world.fault_at else 1.0
        worse = at_fault * rate / (1 - rate + at_fault * rate)
        draw: Callable[..., tuple[Counted, Counted]] = (
            self._independent if self.world.longest == 1 else self._in_conversations
        )
        of_requests, of_conversations = draw(requests, weight, worse, rate)
        self.now += 1
        return Intervals(of_requests, of_conversations)

    def _rate(self) -> Floats:
        world, random, log_rate = self.world, self.random, np.full(self.runs, math.log(self.world.rate))
        if world.drifts:
            self._wandered = np.clip(
                self._wandered + random.normal(0, 0.1, self.runs), -math.log(3), math.log(3)
            )
            log_rate = log_rate + self._wandered
        if world.waves:
            log_rate = log_rate - math.log(2) * math.sin(2 * math.pi * self.now / (HOUR / 2))
        if world.bursts:
            begins = (self._bursting == 0) & (random.random(self.runs) < 1 / 40)
            self._bursting = np.where(
                begins, random.integers(1, 5, self.runs), np.maximum(self._bursting - 1, 0)
            )
            log_rate = log_rate + math.log(10) * (self._bursting > 0)
        rate: Floats = np.minimum(np.exp(log_rate), _WORST_RATE)
        return rate

    def _requests(self) -> Ints:
        world, random = self.world, self.random
        expected = world.per_minute * INTERVAL_SECONDS / 60
        if world.waves:
            expected *= math.exp(math.log(3) * math.sin(2 * math.pi * self.now / (HOUR / 2)))
        seen = np.full(self.runs, expected)
        if world.resets:
            # What came between the last scrape and a restart is lost, in both arms alike.
            lost = (random.random(self.runs) < 0.01) * random.random(self.runs)
            seen = seen * (1 - lost)
        mean_length = (1 + world.longest) / 2
        return random.poisson(seen / mean_length)

    def _independent(
        self, requests: Ints, weight: Floats, worse: Floats, rate: Floats
    ) -> tuple[Counted, Counted]:
        total = np.zeros((self.runs, _ARMS), dtype=np.int64)
        total[:, _CANDIDATE] = self.random.binomial(requests, weight)
        left, share = requests - total[:, _CANDIDATE], 1 - weight
        size = control_share(weight)
        for arm in range(1, _REST):
            within = np.divide(size, share, out=np.zeros(self.runs), where=share > 0)
            total[:, arm] = self.random.binomial(left, np.minimum(within, 1))
            left, share = left - total[:, arm], share - size
        total[:, _REST] = left
        rates = np.where(np.arange(_ARMS) == _CANDIDATE, worse[:, None], rate[:, None])
        counted = Counted(self.random.binomial(total, rates), total)
        return counted, counted

    def _in_conversations(
        self, conversations: Ints, weight: Floats, worse: Floats, rate: Floats
    ) -> tuple[Counted, Counted]:
        of = np.repeat(np.arange(self.runs), conversations)
        drawn = self.random.random(len(of))
        size = control_share(weight)[of]
        # Slices lie at the far end of the ring of cohorts.
        behind = np.divide(1 - drawn, size, out=np.full(len(of), np.inf), where=size > 0)
        arm = np.where(behind < CONTROL_SLICES, np.minimum(behind, CONTROL_SLICES) + 1, _REST).astype(
            np.int64
        )
        arm[drawn < weight[of]] = _CANDIDATE
        length = self.random.integers(1, self.world.longest + 1, len(of))
        fails = self.random.random(len(of)) < np.where(arm == _CANDIDATE, worse[of], rate[of])
        cell = of * _ARMS + arm

        def counted(weights: Ints) -> Ints:
            sums = np.bincount(cell, weights=weights, minlength=self.runs * _ARMS)
            return sums.reshape(self.runs, _ARMS).astype(np.int64)

        ones = np.ones(len(of), dtype=np.int64)
        return Counted(counted(length * fails), counted(length)), Counted(
            counted(ones * fails), counted(ones)
        )


def control_share(weight: Floats) -> Floats:
    """The share of each control slice; none above one half."""
    return np.where(weight <= 0.5, np.minimum(weight, (1 - weight) / (2 * CONTROL_SLICES)), 0.0)
