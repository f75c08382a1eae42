"""What "no harm found" is worth: the smallest odds ratio that this much traffic could have shown.

Exactly: the smallest ρ at which, had the candidate been ρ times as bad as tolerated, with the requests that both arms
had and the rate that the baseline had, the expected log-likelihood ratio, tempered by φ, would have reached the
logarithm of 14 times the threshold. 14 is what the harm test pays for knowing neither the ratio (seven are mixed) nor
the start (half of the weight is on the first interval). So a version that was that bad from the start would have been
taken back by now in about one of two cases, and a worse one more probably.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from controller.core.mixture import FIRST_WEIGHT
from controller.core.statistics import ODDS_RATIOS

LARGEST_RATIO = 1000.0
"""Up to here ratios are looked at."""

_PRICE = len(ODDS_RATIOS) / FIRST_WEIGHT
_EXACT = 2e-4
"""Of the ratio's logarithm."""


def min_detectable_ratio(
    candidate: int,
    baseline: int,
    baseline_bad: int,
    *,
    threshold: float,
    clustering: float,
    tolerated: float = 1.0,
) -> float | None:
    """The ratio as the module says; None if it would be above ``LARGEST_RATIO``.

    Args:
        candidate: The candidate's requests.
        baseline: The baseline's requests.
        baseline_bad: Bad ones among them; half a one is added, since a rate of 0 makes every ratio nothing.
        threshold: The e-value that is enough to fail.
        clustering: φ, by which the evidence was tempered.
        tolerated: ρ0.
    """
    odds = (baseline_bad + 0.5) / (baseline - baseline_bad + 0.5)
    return _smallest(
        lambda ratio: expected_evidence(candidate, baseline, odds, ratio, tolerated),
        wanted=math.log(threshold * _PRICE) * clustering,
        above=tolerated,
    )


def min_detectable_ratio_against_rate(
    candidate: int, rate: float, *, threshold: float, clustering: float
) -> float | None:
    """The same where nobody is left to compare with, as a multiple of the odds of a tolerated rate."""
    odds = rate / (1 - rate)
    return _smallest(
        lambda ratio: candidate * _divergence(_rate(odds * ratio), rate),
        wanted=math.log(threshold * _PRICE) * clustering,
        above=1.0,
    )


def _smallest(evidence: Callable[[float], float], wanted: float, above: float) -> float | None:
    """By false position on the square root, which grows almost in proportion to the ratio's logarithm."""
    low, high, target = math.log(above), math.log(LARGEST_RATIO), math.sqrt(wanted)
    at_low, at_high, was_beyond = -target, math.sqrt(evidence(LARGEST_RATIO)) - target, None
    if at_high < 0:
        return None
    middle, error = high, math.inf
    while error > _EXACT:
        slope = (at_high - at_low) / (high - low)
        middle = high - at_high / slope
        found = math.sqrt(max(evidence(math.exp(middle)), 0.0)) - target
        error = abs(found) / slope
        # An end that stays in place twice is what slows false position down: it counts half (Illinois).
        halved = 0.5 if was_beyond is (found >= 0) else 1.0
        was_beyond = found >= 0
        if was_beyond:
            high, at_high, at_low = middle, found, at_low * halved
        else:
            low, at_low, at_high = middle, found, at_high * halved
    return math.exp(middle)


def expected_evidence(
    candidate: int, baseline: int, odds: float, ratio: float, tolerated: float = 1.0
) -> float:
    """Expected log-likelihood ratio of an odds ratio against the tolerated one, each with the rates that suit it best.

    With n requests each, rates p of the alternative and q of the null that have the same sum of bad events, it is
    n_c·KL(p_c‖q_c) + n_b·KL(p_b‖q_b), half of the G statistic. It grows with the requests of either arm and, above the
    tolerated one, with the ratio.

    Args:
        candidate: The candidate's requests.
        baseline: The baseline's requests.
        odds: The baseline's odds of a bad event.
        ratio: The candidate's odds as a multiple of those.
        tolerated: ρ0.
    """
    if not candidate or not baseline:
        return 0.0
    worse, usual = _rate(odds * ratio), _rate(odds)
    null = _null_odds(candidate, baseline, candidate * worse + baseline * usual, tolerated)
    return candidate * _divergence(worse, _rate(null * tolerated)) + baseline * _divergence(
        usual, _rate(null)
    )


def _null_odds(candidate: int, baseline: int, bad: float, tolerated: float) -> float:
    """The baseline's odds at which both arms together expect ``bad`` events, the candidate's being ρ0 times as large."""
    a = tolerated * (candidate + baseline - bad)
    b = candidate * tolerated + baseline - bad * (1 + tolerated)
    # Of the two forms of the positive root, the one without a difference of nearly equal numbers.
    root = math.sqrt(b * b + 4 * a * bad)
    return 2 * bad / (b + root) if b > 0 else (root - b) / (2 * a)


def _rate(odds: float) -> float:
    return odds / (1 + odds)


def _divergence(p: float, q: float) -> float:
    """Kullback–Leibler divergence of two Bernoulli distributions, both strictly between 0 and 1."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
