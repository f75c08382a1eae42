"""Anytime-valid evidence of harm from interval counts.

In one interval the candidate had ``s_c`` bad events among ``n_c`` and the baseline ``s_b`` among ``n_b``. Given the
sum of bad events K, the candidate's number follows Fisher's noncentral hypergeometric distribution (FNCH) with the
odds ratio of the two versions, whatever rate both drift through together. The likelihood ratio of "ω times worse"
against "tolerated" has expectation 1 when the version is just tolerable, so products over intervals are e-processes
and may be looked at as often as one likes (Ville's inequality; see Grünwald, de Heide & Koolen, "Safe Testing").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from controller.core.mixture import StartMixture
from controller.core.sums import Matrix, Vector, log_sums, log_ways, log_ways_of_each, upper_bound

ODDS_RATIOS = (1.5, 2.0, 3.0, 5.0, 8.0, 20.0, 100.0)
"""How much worse a version may be; the large ones find a version that simply breaks."""

_LARGEST_LOG = 600.0
"""Of powers of odds ratios: far enough from what a float can hold that ways too few for one make no difference."""

_SOME_TERMS = 1024
"""Of intervals with more, only the terms near the peak are worth an exponential."""

REFERENCE_CONFIDENCE = 0.99
"""One-sided confidence of the upper bound on a finished baseline's rate."""

REFERENCE_TOLERANCE = 2.0
"""Odds ratio that is tolerated against a finished baseline: load and users are not those of its time any more."""


class Interval(NamedTuple):
    """Bad events and totals of candidate and baseline in one interval; all are counts."""

    candidate_bad: int
    candidate_total: int
    baseline_bad: int
    baseline_total: int


def log_likelihoods(interval: Interval, odds_ratios: tuple[float, ...]) -> tuple[float, ...]:
    """Natural logarithm of FNCH(s_c; ω) for each odds ratio ω, but for one constant that is the same for all.

    So differences of two are log e-values; the ways to draw the events are counted once for every test that asks.
    """
    return tuple(log_likelihoods_of_each([interval], odds_ratios)[0])


def log_likelihoods_of_each(
    intervals: Sequence[Interval], odds_ratios: tuple[float, ...]
) -> list[list[float]]:
    """The same of several intervals, all but the largest of them together."""
    if not intervals:
        return []
    logs, rows = np.log(np.array(odds_ratios)), np.array(intervals, dtype=float)
    spread = np.minimum(rows[:, 0] + rows[:, 2], rows[:, 1]) - np.maximum(
        0, rows[:, 0] - rows[:, 3] + rows[:, 2]
    )
    few = spread * np.abs(logs).max() <= _LARGEST_LOG
    if few.all():
        return _by_powers(rows, logs).tolist()
    some = ~few & (spread <= _SOME_TERMS)
    found = np.empty((len(rows), len(logs)))
    for which, worked_out in ((few, _by_powers), (some, _by_exponents)):
        if which.any():
            found[which] = worked_out(rows[which], logs)
    for row in np.flatnonzero(~few & ~some).tolist():
        found[row] = _log_likelihoods(intervals[row], logs.tolist())
    return found.tolist()


def _by_powers(rows: Matrix, logs: Vector) -> Matrix:
    """While powers of the ratios are numbers that a float can hold: the quickest."""
    bad_by_low, ways = _ways(rows)
    largest = ways.max(axis=1, keepdims=True)
    sums = np.exp(ways - largest) @ np.exp(np.multiply.outer(np.arange(ways.shape[1]), logs))
    return np.array(np.multiply.outer(bad_by_low, logs) - largest - np.log(sums))


def _by_exponents(rows: Matrix, logs: Vector) -> Matrix:
    """With each ratio's terms relative to their largest."""
    bad_by_low, ways = _ways(rows)
    terms = ways[:, None, :] + np.multiply.outer(logs, np.arange(ways.shape[1]))
    largest = terms.max(axis=2)
    sums = np.exp(terms - largest[:, :, None]).sum(axis=2)
    return np.array(np.multiply.outer(bad_by_low, logs) - largest - np.log(sums))


def _ways(rows: Matrix) -> tuple[Vector, Matrix]:
    """How far each candidate's bad events are above the fewest possible, and the ways to have so many or more."""
    s_c, n_c, s_b, n_b = rows.T
    bad = s_c + s_b
    low, high = np.maximum(0, bad - n_b), np.minimum(bad, n_c)
    return s_c - low, log_ways_of_each(n_c, n_b, bad, low, high, int((high - low).max()))


def _log_likelihoods(interval: Interval, logs: list[float]) -> list[float]:
    """Of one table with as many terms as there may be."""
    bad = interval.candidate_bad + interval.baseline_bad
    low = max(0, bad - interval.baseline_total)
    high = min(bad, interval.candidate_total)
    ways = log_ways(interval.candidate_total, interval.baseline_total, bad, low, high)
    beyond = np.arange(low - interval.candidate_bad, high - interval.candidate_bad + 1, dtype=float)
    return [-each for each in log_sums(ways, beyond, logs)]


def log_e_value(interval: Interval, odds_ratio: float, tolerated: float = 1.0) -> float:
    """Natural logarithm of FNCH(s_c; ω) / FNCH(s_c; ρ0).

    Golden: 5 of 100 against 10 of 1000 with ω = 2, ρ0 = 1 gives e = 8.733503205859948.
    """
    alternative, null = log_likelihoods(interval, (odds_ratio, tolerated))
    return alternative - null


def harm_log_e_values(interval: Interval, tolerated: float = 1.0) -> tuple[float, ...]:
    """``log_e_value`` for each of ``ODDS_RATIOS`` times as bad as tolerated.

    The alternatives lie above ρ0 whatever it is: then expectations are at most 1 for every odds ratio up to ρ0.
    """
    return harm_log_e_values_of_each([interval], tolerated)[0]


def harm_log_e_values_of_each(
    intervals: Sequence[Interval], tolerated: float = 1.0
) -> list[tuple[float, ...]]:
    """The same of several intervals."""
    ratios = (*(ratio * tolerated for ratio in ODDS_RATIOS), tolerated)
    found = log_likelihoods_of_each(intervals, ratios)
    return [tuple(each - null for each in alternatives) for *alternatives, null in found]


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
def tolerated_rate(bad: int, total: int, clustering: float = 1.0) -> float:
    """The worst rate that a finished baseline leaves unquestioned, strictly between 0 and 1.

    The upper 99 % confidence bound on its rate (Clopper & Pearson 1934), with twice the odds. Events that scatter φ times
    as much as independent ones tell no more than a φ-th of them would.

    Args:
        bad: The baseline's bad events.
        total: All of its events.
        clustering: φ.
    """
    bad, total = math.ceil(bad / clustering), math.floor(total / clustering)
    bound = min(max(upper_bound(bad, total, REFERENCE_CONFIDENCE), 1e-9), 1 - 1e-9)
    return REFERENCE_TOLERANCE * bound / (1 - bound + REFERENCE_TOLERANCE * bound)


@dataclass(frozen=True, slots=True)
class HarmTest(StartMixture):
    """The start-time mixture over log e_t(ω) for each of ``ODDS_RATIOS``.

    E_t of at least 1/α happens with probability at most α while the candidate is no worse than tolerated.
    """

    log_evidence: tuple[float, ...] = (-math.inf,) * len(ODDS_RATIOS)
