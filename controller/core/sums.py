"""The few special functions that the tests of harm need, as sums that numpy adds up.

scipy has them too, for an eighth of the operator's memory at its start (docs/adr/0020-numpy-without-scipy.md); the
tests hold these against scipy's.
"""

from __future__ import annotations

import math

import numpy as np

Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]

_STANDARD_DEVIATIONS_KEPT = 20
"""Of a lower tail: what lies further down adds nothing to 16 digits."""

_FEW_TERMS = 256
"""So many are added up for all slopes at once."""

_NEGLIGIBLE_LOG = 60.0
"""A million terms of which each is e⁻⁶⁰ of the largest add nothing to 16 digits."""


def log_sum_exp(logarithms: Vector) -> float:
    """Logarithm of the sum of what the logarithms stand for; −inf stands for 0."""
    largest = float(np.max(logarithms))
    if largest == -math.inf:
        return largest
    return largest + math.log(float(np.sum(np.exp(logarithms - largest))))


def log_sums(weights: Vector, steps: Vector, slopes: list[float]) -> list[float]:
    """Log of Σ_k exp(weights_k + slope · steps_k) for each slope, where the terms rise to one peak and fall, as pmfs do.

    Of many terms only those near the peak are added up: exponentials are what takes the time.
    """
    if len(weights) > _FEW_TERMS:
        return [_log_sum_near_peak(weights + slope * steps) for slope in slopes]
    terms = weights + np.multiply.outer(np.array(slopes), steps)
    largest = terms.max(axis=1)
    sums: list[float] = (largest + np.log(np.exp(terms - largest[:, None]).sum(axis=1))).tolist()
    return sums


def _log_sum_near_peak(terms: Vector) -> float:
    peak = int(np.argmax(terms))
    least = terms[peak] - _NEGLIGIBLE_LOG
    first = int(np.searchsorted(terms[:peak], least))
    beyond = int(np.searchsorted(terms[:peak:-1], least))
    return log_sum_exp(terms[first : len(terms) - beyond])


def log_ways(drawn: int, others: int, marked: int, low: int, high: int) -> Vector:
    """How many ways there are to have k marked ones among the drawn, for k = low … high, relative to k = low.

    The logarithm of C(drawn, k) · C(others, marked − k), but for a constant; from one k to the next it changes by a
    factor of four small numbers, which keeps more digits than differences of large factorials.

    Args:
        drawn: Size of one group.
        others: Size of the other.
        marked: How many are marked in both together.
        low: At least max(0, marked − others).
        high: At most min(marked, drawn).
    """
    k = np.arange(low, high, dtype=float)
    steps = np.log((drawn - k) * (marked - k)) - np.log((k + 1) * (others - marked + k + 1))
    return np.concatenate(([0.0], np.cumsum(steps)))


def log_ways_of_each(
    drawn: Vector, others: Vector, marked: Vector, low: Vector, high: Vector, most: int
) -> Matrix:
    """``log_ways`` of several pairs of groups, a row for each; −inf beyond a row's own ``high``.

    Args:
        drawn: As there, of each pair.
        others: Likewise.
        marked: Likewise.
        low: Likewise.
        high: Likewise.
        most: The largest of high − low.
    """
    k = np.add.outer(low, np.arange(most))
    up, down = (drawn[:, None] - k) * (marked[:, None] - k), (k + 1) * ((others - marked)[:, None] + k + 1)
    steps = np.full((len(low), most + 1), -math.inf)
    steps[:, 0] = 0.0
    np.log(up / down, out=steps[:, 1:], where=k < high[:, None])
    return steps.cumsum(axis=1)


def upper_bound(bad: int, total: int, confidence: float) -> float:
    """The one-sided confidence bound on a rate of which ``bad`` of ``total`` were seen (Clopper & Pearson 1934).

    It is the rate at which so few or fewer would be seen with probability 1 − confidence, found by halving; 1 if
    nothing good was seen.
    """
    if bad >= total:
        return 1.0
    kept = min(bad, 50 + int(_STANDARD_DEVIATIONS_KEPT * math.sqrt(bad)))
    k = np.arange(bad, bad - kept, -1, dtype=float)
    # log C(total, bad − j) − log C(total, bad) for j = 0 … kept
    fewer = np.concatenate(([0.0], np.cumsum(np.log(k) - np.log(total - k + 1))))
    ways = math.lgamma(total + 1) - math.lgamma(bad + 1) - math.lgamma(total - bad + 1)
    down, wanted = np.arange(kept + 1), math.log1p(-confidence)
    low, high = bad / total, 1.0
    while low < (rate := (low + high) / 2) < high:
        seen, unseen = math.log(rate), math.log1p(-rate)
        exactly = ways + bad * seen + (total - bad) * unseen
        if exactly + log_sum_exp(fewer - down * (seen - unseen)) > wanted:
            low = rate
        else:
            high = rate
    return high
