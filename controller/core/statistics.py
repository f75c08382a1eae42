"""Anytime-valid evidence of harm from interval counts.

In one interval the candidate had ``s_c`` bad events among ``n_c`` and the baseline ``s_b`` among ``n_b``. Given the
sum of bad events K, the candidate's number follows Fisher's noncentral hypergeometric distribution (FNCH) with the
odds ratio of the two versions, whatever rate both drift through together. The likelihood ratio of "ω times worse"
against "tolerated" has expectation 1 when the version is just tolerable, so products over intervals are e-processes
and may be looked at as often as one likes (Ville's inequality; see Grünwald, de Heide & Koolen, "Safe Testing").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from controller.core.sums import log_sum_exp, log_ways, upper_bound

ODDS_RATIOS = (1.5, 2.0, 3.0, 5.0, 8.0, 20.0, 100.0)
"""How much worse a version may be; the large ones find a version that simply breaks."""

HORIZON = 240
"""Start times are weighted as if about this many intervals were ahead; nothing ends when they are over."""

FIRST_WEIGHT = 0.5
"""Share of the evidence that bets on a fault from the first interval on."""

REFERENCE_CONFIDENCE = 0.99
"""One-sided confidence of the upper bound on a finished baseline's rate."""

REFERENCE_TOLERANCE = 2.0
"""Odds ratio that is tolerated against a finished baseline: load and users are not those of its time any more."""


class UnknownStateError(ValueError):
    """A stored state that this version cannot go on with, written by another version or by hand."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Bad events and totals of candidate and baseline in one interval; all are counts."""

    candidate_bad: int
    candidate_total: int
    baseline_bad: int
    baseline_total: int


def log_e_value(interval: Interval, odds_ratio: float, tolerated: float = 1.0) -> float:
    """Natural logarithm of FNCH(s_c; ω) / FNCH(s_c; ρ0).

    Golden: 5 of 100 against 10 of 1000 with ω = 2, ρ0 = 1 gives e = 8.733503205859948.
    """
    return log_e_values(interval, (odds_ratio,), tolerated)[0]


def log_e_values(
    interval: Interval, odds_ratios: tuple[float, ...] = ODDS_RATIOS, tolerated: float = 1.0
) -> tuple[float, ...]:
    """``log_e_value`` for several odds ratios; the ways to draw the events are counted once for all."""
    bad = interval.candidate_bad + interval.baseline_bad
    low = max(0, bad - interval.baseline_total)
    high = min(bad, interval.candidate_total)
    if low >= high:
        return (0.0,) * len(odds_ratios)
    x = np.arange(low, high + 1, dtype=float)
    ways = log_ways(interval.candidate_total, interval.baseline_total, bad, low, high)
    against = math.log(tolerated)
    log_null = log_sum_exp(ways + x * against)
    return tuple(
        (
            interval.candidate_bad * (math.log(ratio) - against)
            - (log_sum_exp(ways + x * math.log(ratio)) - log_null)
        )
        for ratio in odds_ratios
    )


def log_e_value_against_reference(bad: int, total: int, odds_ratio: float, reference: float) -> float:
    """Natural logarithm of the binomial likelihood ratio against a fixed rate, when nobody is left to compare with.

    Args:
        bad: Bad events of the candidate in the interval.
        total: All events of the candidate in the interval.
        odds_ratio: How much worse the alternative is, as a ratio of odds.
        reference: The tolerated rate, strictly between 0 and 1.
    """
    worse = odds_ratio * reference / (1 - reference + odds_ratio * reference)
    return bad * math.log(worse / reference) + (total - bad) * math.log((1 - worse) / (1 - reference))


@lru_cache(maxsize=4096)  # a finished baseline stays as it is for the whole bake
def tolerated_rate(bad: int, total: int) -> float:
    """The worst rate that a finished baseline leaves unquestioned, strictly between 0 and 1.

    The upper 99 % confidence bound on its rate (Clopper & Pearson 1934), with twice the odds.
    """
    bound = min(max(upper_bound(bad, total, REFERENCE_CONFIDENCE), 1e-9), 1 - 1e-9)
    return REFERENCE_TOLERANCE * bound / (1 - bound + REFERENCE_TOLERANCE * bound)


@dataclass(frozen=True, slots=True)
class HarmTest:
    """The start-time mixture, as the few numbers that go on after a restart.

    With start weights w_1 = ½ and w_t = (1 − Σ_{j<t} w_j)/240, fixed in advance,

        R_t(ω) = (R_{t−1}(ω) + w_t) · e_t(ω)         E_t = mean_ω R_t(ω) + (1 − Σ_{j≤t} w_j)

    so that a fault that begins after an hour of health is not held back by that hour.

    Attributes:
        intervals: t, the number of intervals counted so far.
        log_evidence: log R_t(ω) for each of ``ODDS_RATIOS``; −inf before the first interval.
    """

    intervals: int = 0
    log_evidence: tuple[float, ...] = (-math.inf,) * len(ODDS_RATIOS)

    def after(self, log_e_values: tuple[float, ...], clustering: float) -> HarmTest:
        """The state after one more interval.

        Args:
            log_e_values: log e_t(ω) for each of ``ODDS_RATIOS``.
            clustering: φ ≥ 1; the likelihood ratio is tempered to its 1/φ-th power.
        """
        start = math.log(_start_weight(self.intervals + 1))
        return HarmTest(
            self.intervals + 1,
            tuple(
                float(np.logaddexp(log_r, start)) + log_e / clustering
                for log_r, log_e in zip(self.log_evidence, log_e_values, strict=True)
            ),
        )

    @property
    def e_value(self) -> float:
        """E_t; at least 1/α happens with probability at most α while the candidate is no worse than tolerated."""
        waiting = _unstarted_weight(self.intervals)
        log_mean = log_sum_exp(np.array(self.log_evidence)) - math.log(len(ODDS_RATIOS))
        return math.exp(min(log_mean, 700.0)) + waiting

    def encode(self) -> str:
        """One line of text; ``decode`` reads it back."""
        return " ".join(["v1", str(self.intervals), *(f"{value:.9g}" for value in self.log_evidence)])

    @classmethod
    def decode(cls, text: str) -> HarmTest:
        """The state written by ``encode``.

        Raises:
            UnknownStateError: If the text is not such a state.
        """
        version, _, rest = text.partition(" ")
        intervals, *values = rest.split() or [""]
        try:
            state = cls(int(intervals), tuple(float(value) for value in values))
        except ValueError as error:
            raise UnknownStateError(f"status.evidence has the unknown state {text[:60]!r}") from error
        if version != "v1" or len(values) != len(ODDS_RATIOS):
            raise UnknownStateError(f"status.evidence has the unknown state {text[:60]!r}")
        return state


def _unstarted_weight(intervals: int) -> float:
    """1 − Σ_{j≤t} w_j."""
    if intervals == 0:
        return 1.0
    return float((1 - FIRST_WEIGHT) * (1 - 1 / HORIZON) ** (intervals - 1))


def _start_weight(interval: int) -> float:
    """w_t for t = 1, 2, …."""
    return FIRST_WEIGHT if interval == 1 else _unstarted_weight(interval - 1) / HORIZON
