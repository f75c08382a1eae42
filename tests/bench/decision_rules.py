"""What takes a version back: the product's decision, and the shapes of rules that are in use elsewhere."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from enum import Enum

import numpy as np

from controller.core.mixture import FREEDOM
from controller.core.safety import THRESHOLD as SAFE
from controller.core.soundness import CONTROL_RATIOS
from controller.core.statistics import ODDS_RATIOS, tolerated_rate
from controller.core.traffic import CONTROL_SLICES
from controller.core.verdict import SUSPICION
from tests.bench.decision_statistics import (
    Harm,
    Pair,
    Safe,
    Scatters,
    clusterings,
    control_log_e_values,
    is_significant,
    log_e_values_against_rate,
    log_likelihoods,
)
from tests.bench.decision_traffic import Bools, Counted, Floats, Intervals

LIMIT = 0.05
"""The error rate that the rules with a fixed threshold do not accept."""

MINUTE = 4
"""Intervals."""


class Rule(ABC):
    """Looks at every interval of many rollouts."""

    def __init__(self, runs: int) -> None:
        """Before the first interval."""
        self.runs = runs

    @abstractmethod
    def takes_back(self, interval: Intervals, compared: Bools) -> Bools:
        """Which rollouts it takes back after one more interval.

        Args:
            interval: What was counted.
            compared: Where stable served beside the candidate.
        """

    def holds(self) -> Bools:
        """Which rollouts may not go on to the next stage now, though nothing is taken back."""
        return np.zeros(self.runs, dtype=bool)

    def enters_stage(self, entered: Bools, compared: Bools) -> None:  # noqa: B027  most remember no stage
        """These rollouts enter a stage, in which stable serves beside the candidate or not."""


class Unit(Enum):
    """What our test counts."""

    REQUESTS = "requests"
    CONVERSATIONS = "conversations"
    BOTH = "both"


class Ours(Rule):
    """``controller.core``'s decision on one metric: ``assess``, ``verdict.judge``, ``rules.hold``."""

    def __init__(
        self,
        runs: int,
        *,
        alpha: float = 0.01,
        clustering: float = 1.0,
        unit: Unit = Unit.REQUESTS,
        sliced: bool = False,
        checked: bool = False,
        max_ratio: float | None = None,
        min_requests: int = 100,
    ) -> None:
        """A rule for so many rollouts.

        Args:
            runs: How many.
            alpha: ``falseRollbackRate``.
            clustering: ``analysis.clustering``.
            unit: What is counted; conversations need no tempering, since each is drawn and counted once.
            sliced: Whether control slices adapt the clustering.
            checked: Whether the A/A check holds what it finds to be noise.
            max_ratio: ``maxRatio`` with ``advanceOn: Evidence``; None for ``Time``.
            min_requests: The stage's.
        """
        super().__init__(runs)
        self._alpha, self._prior, self._unit = alpha, clustering, unit
        self._sliced, self._checked, self._max_ratio, self._least = sliced, checked, max_ratio, min_requests
        self._requests, self._conversations = Harm(runs), Harm(runs)
        self._control = Harm(runs, alternatives=CONTROL_SLICES * len(CONTROL_RATIOS))
        self._noisy: Bools = np.zeros(runs, dtype=bool)
        self._safe = Safe(runs)
        self._slices = np.zeros((2, runs, 8), dtype=np.int64)
        self._scatter = Scatters(runs)
        self._counted = np.zeros(runs, dtype=np.int64)
        self._reference = np.zeros((2, runs), dtype=np.int64)
        self._tolerated = np.full(runs, math.nan)
        self._compared: Bools = np.ones(runs, dtype=bool)
        self._e_values = np.ones(runs)

    def takes_back(self, interval: Intervals, compared: Bools) -> Bools:
        requests = interval.requests
        phi = self._clustering()
        freedom = self._scatter.freedoms(self._prior) if self._sliced else FREEDOM
        self._counted += requests.total[:, 0]
        self._compared = compared
        self._requests.add(self._values(requests, compared, phi), phi, freedom)
        found = [self._requests.e_values] if self._unit is not Unit.CONVERSATIONS else []
        if self._unit is not Unit.REQUESTS:
            trials = interval.conversations
            self._conversations.add(_against(trials.candidate, trials.stable), 1.0)
            found.append(self._conversations.e_values)
        self._e_values = np.mean(found, axis=0)
        if self._max_ratio is not None:
            told = requests.only(compared)
            self._safe.add(told.candidate, told.stable, self._max_ratio, phi, freedom)
        self._reference += np.stack(requests.stable) * compared
        beyond = self._e_values
        if self._sliced:
            if self._checked:
                beyond = beyond / np.maximum(1.0, self._add_control(requests, phi, freedom))
            self._slices += np.stack(requests.slices)
            self._scatter.add(requests.parts)
        failed: Bools = beyond >= 1 / self._alpha
        return failed

    def _clustering(self) -> Floats | float:
        if not self._sliced:
            return self._prior
        return clusterings(
            (self._slices[0], self._slices[1]), self._prior, self._scatter.clusterings(self._prior)
        )

    def _values(self, requests: Counted, compared: Bools, phi: Floats | float) -> Floats:
        values = _against(requests.candidate, requests.stable)
        alone = np.flatnonzero(~compared)
        if len(alone):
            phis = np.broadcast_to(phi, len(compared))
            for run in alone[np.isnan(self._tolerated[alone])]:
                known_bad, known = (int(self._reference[i, run]) for i in (0, 1))
                self._tolerated[run] = tolerated_rate(known_bad, known, float(phis[run]))
            bad, total = requests.candidate
            values[alone] = log_e_values_against_rate((bad[alone], total[alone]), self._tolerated[alone])
        return values

    def _add_control(self, requests: Counted, phi: Floats | float, freedom: Floats | float) -> Floats:
        self._control.add(control_log_e_values(requests.slices, requests.stable), phi, freedom)
        self._control.forget(1 / self._alpha)
        control = self._control.e_values
        self._noisy = control >= 1 / self._alpha
        return control

    def holds(self) -> Bools:
        held: Bools = (self._counted < self._least) | (self._e_values >= SUSPICION) | self._noisy
        if self._max_ratio is not None:
            held |= self._compared & (self._safe.e_values < SAFE)
        return held

    def enters_stage(self, entered: Bools, compared: Bools) -> None:
        self._counted[entered] = 0
        # What has a baseline in the next stage forgets the last one's; the bake keeps it.
        self._reference[:, entered & compared] = 0


class _Windowed(Rule):
    """Looks at the error rate of the last so many intervals, where there was any request."""

    def __init__(self, runs: int, window: int) -> None:
        super().__init__(runs)
        self._window: deque[Pair] = deque(maxlen=window)
        self._seen = 0

    def _exceeds(self, interval: Intervals) -> Bools:
        self._window.append(interval.requests.candidate)
        self._seen += 1
        bad, total = (np.sum([pair[i] for pair in self._window], axis=0) for i in (0, 1))
        exceeds: Bools = bad > LIMIT * total
        return exceeds


class Threshold(_Windowed):
    """Error rate above 5 % over 5 minutes, looked at in every interval."""

    def __init__(self, runs: int) -> None:
        super().__init__(runs, 5 * MINUTE)

    def takes_back(self, interval: Intervals, compared: Bools) -> Bools:
        return self._exceeds(interval)


class RepeatedFisher(Rule):
    """Fisher's exact test at 5 % on all that was counted so far, looked at in every interval."""

    def __init__(self, runs: int) -> None:
        super().__init__(runs)
        self._sums = np.zeros((4, runs), dtype=np.int64)

    def takes_back(self, interval: Intervals, compared: Bools) -> Bools:
        requests = interval.requests.only(compared)
        self._sums += np.stack([*requests.candidate, *requests.stable])
        s_c, n_c, s_b, n_b = self._sums
        return is_significant((s_c, n_c), (s_b, n_b), 0.05) & compared


class Consecutive(_Windowed):
    """Flagger's shape: the error rate of a minute is above the threshold in 5 checks in a row, one a minute."""

    def __init__(self, runs: int) -> None:
        super().__init__(runs, MINUTE)
        self._failed = np.zeros(runs, dtype=np.int64)
        self._last: Bools = np.zeros(runs, dtype=bool)

    def takes_back(self, interval: Intervals, compared: Bools) -> Bools:
        exceeds = self._exceeds(interval)
        if self._seen % MINUTE == 0:
            self._last = exceeds
            self._failed = np.where(exceeds, self._failed + 1, 0)
        return self._failed >= 5

    def holds(self) -> Bools:
        return self._last


class Cumulative(_Windowed):
    """Argo Rollouts' shape: the error rate of a minute was above the threshold in more than 3 checks in all, one a minute."""

    def __init__(self, runs: int) -> None:
        super().__init__(runs, MINUTE)
        self._failed = np.zeros(runs, dtype=np.int64)

    def takes_back(self, interval: Intervals, compared: Bools) -> Bools:
        exceeds = self._exceeds(interval)
        if self._seen % MINUTE == 0:
            self._failed += exceeds
        return self._failed > 3


class Never(Rule):
    """Holds always: it never takes back a good version, and never lets one through."""

    def takes_back(self, interval: Intervals, compared: Bools) -> Bools:
        return np.zeros(self.runs, dtype=bool)

    def holds(self) -> Bools:
        return np.ones(self.runs, dtype=bool)


def _against(candidate: Pair, baseline: Pair) -> Floats:
    """``harm_log_e_values`` by rollout."""
    values = log_likelihoods(candidate, baseline, (*ODDS_RATIOS, 1.0))
    result: Floats = values[:, :-1] - values[:, -1:]
    return result
