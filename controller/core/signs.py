"""Is more lost than won? Evidence from comparisons, which may be looked at after every one of them.

Ties say nothing and are left out. While whatever is decided is lost with probability ½ at most, given all that was decided
before, the likelihood ratio of "lost with probability p" for a p of ½ or more,

    e(p) = (2p)^losses · (2(1 − p))^wins

has an expectation of at most 1, and of just 1 at ½. So has every mean over p, such as that over all p from ½ to 1 alike:

    e = 2 ∫ e(p) dp = Σ_{k ≤ losses} C(n + 1, k) / ((n + 1) · C(n, losses))          n = losses + wins

The integral is a part of a beta function, and that a tail of a binomial distribution (DLMF 8.17.5). 7 losses of 7 give 31.875.

``SignTest`` mixes start times like all tests (``mixture.StartMixture``), which takes a fixed set of p: the nodes of a
Gauss–Legendre quadrature with its weights. Up to 39 decided comparisons their mean is the integral; beyond it is near, and for
any number it is a mean over p, so that it proves what it says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial.legendre import leggauss

from controller.core.mixture import FIRST_WEIGHT, StartMixture
from controller.core.sums import Vector, log_sum_exp

_NODES = 20
_POINTS, _SHARES = leggauss(_NODES)

LOSS_PROBABILITIES: tuple[float, ...] = tuple((0.75 + _POINTS / 4).tolist())
"""Each p of ``SignTest``."""

_LOG_WEIGHTS = np.log(_SHARES / 2)

_MARGIN = 3.0
"""As of the A/A check: what goes on stays above the bar through a few intervals without, what has ended falls below it soon."""


def sign_log_e_values(losses: int, wins: int) -> tuple[float, ...]:
    """Natural logarithm of e(p) of an interval for each of ``LOSS_PROBABILITIES``."""
    return tuple(losses * math.log(2 * p) + wins * math.log(2 * (1 - p)) for p in LOSS_PROBABILITIES)


def log_sign_e_value(losses: int, wins: int) -> float:
    """Natural logarithm of e, the mean over all p."""
    return float(_log_sign_e_values(losses + wins)[losses])


def smallest_odds(decided: int, threshold: float, clustering: float) -> float | None:
    """What "no harm found" is worth: the smallest odds of a loss that so many comparisons would have shown.

    Half of the evidence bets on a fault from the first interval on; that half alone would have reached the threshold.

    Args:
        decided: Comparisons that were lost or won.
        threshold: The e-value that is enough to fail.
        clustering: φ, by which the evidence is tempered.

    Returns:
        Losses by wins; None if not even losses alone would have been enough.
    """
    n = math.floor(decided / clustering)
    (enough,) = np.nonzero(_log_sign_e_values(n) >= math.log(threshold / FIRST_WEIGHT))
    if not len(enough):
        return None
    losses = int(enough[0])
    return (losses + 0.5) / (n - losses + 0.5)


@dataclass(frozen=True, slots=True)
class SignTest(StartMixture):
    """The start-time mixture over log e_t(p) for each of ``LOSS_PROBABILITIES``."""

    log_evidence: tuple[float, ...] = (-math.inf,) * _NODES

    def log_mean(self) -> float:
        """See ``StartMixture``; the mean has the weights of the quadrature."""
        return log_sum_exp(np.array(self.log_evidence) + _LOG_WEIGHTS)

    def forgetting(self, enough: float) -> SignTest:
        """The same without what makes no difference any more, so that what has ended is believed to have ended.

        Cutting down an e-process keeps it one.

        Args:
            enough: More than a few times this makes no difference.
        """
        beyond = max(self.log_mean() - math.log(_MARGIN * enough), 0.0)
        return replace(self, log_evidence=tuple(each - beyond for each in self.log_evidence))


def _log_sign_e_values(decided: int) -> Vector:
    """The same for each number of losses among so many that were decided."""
    below = np.logaddexp.accumulate(_log_ways(decided + 1))[: decided + 1]
    return np.array(below - math.log(decided + 1) - _log_ways(decided))


def _log_ways(size: int) -> Vector:
    """Logarithm of C(size, k) for k = 0 … size."""
    k = np.arange(size, dtype=float)
    return np.concatenate(([0.0], np.cumsum(np.log(size - k) - np.log(k + 1))))
