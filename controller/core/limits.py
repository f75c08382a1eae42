"""Anytime-valid evidence that an absolute limit is broken, for shares and for means.

A share: with limit p0 and the alternative that the odds are ω times those of p0, each interval's binomial likelihood ratio
has expectation at most 1 while the share is at most p0.

A mean: for amounts X ≥ 0 with mean at most m, 1 + λ·(X/m − 1) has expectation at most 1 for any λ in [0, 1], whatever
their distribution, so that a product of such factors bets against the limit (Waudby-Smith & Ramdas, "Estimating means
of bounded random variables by betting"). A histogram gives lower bounds of X, with which the factors are only smaller.

Both are mixed over start times as the harm test is, so that a healthy hour does not hide what comes after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from controller.core.statistics import ODDS_RATIOS, log_e_value_against_reference

ALPHA = 0.001
"""The chance that a guardrail finds a limit broken that is kept, over a whole delivery."""

THRESHOLD = 1 / ALPHA

_STAKES = (0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8)
"""λ: small ones find a mean that is a little too large, large ones one that is many times so; as many as `ODDS_RATIOS`."""


def share_log_e_values(bad: int, total: int, limit: float) -> tuple[float, ...]:
    """Natural logarithms of one interval's e-values against "the share of bad events is at most the limit".

    Args:
        bad: Bad events in the interval.
        total: All events in the interval.
        limit: Strictly between 0 and 1.
    """
    return tuple(log_e_value_against_reference(bad, total, ratio, limit) for ratio in ODDS_RATIOS)


def mean_log_e_values(buckets: Mapping[float, int], limit: float) -> tuple[float, ...]:
    """Natural logarithms of one interval's e-values against "the mean is at most the limit".

    Args:
        buckets: Events at or below each edge, cumulative; the whole under infinity. Amounts are at least 0.
        limit: Above 0.
    """
    amounts = [(low / limit, count) for low, _, count in _parts(buckets)]
    return tuple(
        sum(count * math.log1p(stake * (amount - 1)) for amount, count in amounts) for stake in _STAKES
    )


def mean_at_most(buckets: Mapping[float, int]) -> float:
    """An upper bound of the mean of a histogram's events, as far as it has edges; 0 of an empty one."""
    parts = _parts(buckets)
    total = sum(count for _, _, count in parts)
    return sum(high * count for _, high, count in parts) / total if total else 0.0


def _parts(buckets: Mapping[float, int]) -> list[tuple[float, float, int]]:
    """For each bucket its lower and upper edge, and its events; the last one is taken to end where it begins."""
    edges = sorted({0.0, *buckets})
    return [
        (low, high if math.isfinite(high) else low, max(buckets[high] - buckets.get(low, 0), 0))
        for low, high in pairwise(edges)
    ]
