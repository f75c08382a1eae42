"""Is the evidence itself sound? Two checks beside the comparison of candidate and stable.

**Split check.** The router was told to give the candidate a share w of the requests. If it plainly gets another, what was
programmed is not what users meet, and nothing rises. Needs no control slices; with them, their scatter tells how sure it
may be (``dispersion.share_clustering``).

**A/A check.** Every control slice is a twin of the candidate's arm, but for its version: a part of the users, drawn by
conversation, that is compared with all the rest of stable. If the test of harm alarms there, it was fooled by something
else than a version. Per interval and pair of counts that is tested:

    control = control.after(control_log_e_values(slices, stable), φ_t)

Harm counts as far as it goes beyond that (``beyond_noise``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from controller.core.counts import Events
from controller.core.mixture import FREEDOM, StartMixture
from controller.core.statistics import Interval, log_e_value_against_reference, log_likelihoods_of_each
from controller.core.traffic import CONTROL_SLICES

SPLIT_THRESHOLD = 1000.0
"""E-value of a wrong split from which on nothing rises: at most one delivery in a thousand is held by mistake."""

SPLIT_CLUSTERING = 20.0
"""How strongly requests come in bunches by conversation, at least, unless control slices tell.

For conversations of 1 to 20 requests the variance of a share is 14 times that of requests drawn one by one.
"""

_BEYOND = (1.5, 3.0, 10.0)
"""How far beyond half or double its share an arm's odds may be."""

_MOST_LOG_EVIDENCE = math.log(1e6)
"""What is more is forgotten, so that a split that was put right is believed as soon as a split that was wrong.

Cutting down an e-process keeps it one.
"""


@dataclass(frozen=True, slots=True)
class SplitTest(StartMixture):
    """Evidence that the candidate's share is not within the bounds of ``share_bounds``."""

    log_evidence: tuple[float, ...] = (-math.inf,) * (2 * len(_BEYOND))

    def after(self, log_e_values: tuple[float, ...], clustering: float, freedom: float = FREEDOM) -> Self:
        """The state after one more interval; see ``StartMixture``."""
        return StartMixture.after(self, log_e_values, clustering, freedom).at_most(_MOST_LOG_EVIDENCE)


def share_bounds(share: float) -> tuple[float, float]:
    """Between which shares nothing is wrong: neither arm has less than half of what it should have, or more than double.

    Args:
        share: The programmed share, strictly between 0 and 1.
    """
    other = 1 - share
    return max(share / 2, 1 - 2 * other), min(2 * share, 1 - other / 2)


def split_log_e_values(candidate: int, baseline: int, share: float) -> tuple[float, ...]:
    """Natural logarithms of binomial likelihood ratios of shares beyond each bound against the bound.

    Args:
        candidate: Requests of the candidate in the interval.
        baseline: Requests of stable among the same users.
        share: The candidate's programmed share, strictly between 0 and 1.
    """
    low, high = share_bounds(share)
    total = candidate + baseline
    return (
        *(log_e_value_against_reference(candidate, total, factor, high) for factor in _BEYOND),
        *(log_e_value_against_reference(candidate, total, 1 / factor, low) for factor in _BEYOND),
    )


def is_split_wrong(test: SplitTest) -> bool:
    """Whether the verdict of what is compared across this split is Error, SplitMismatch."""
    return test.e_value >= SPLIT_THRESHOLD


_MARGIN = 3.0
"""Noise that goes on stays above the bar through a few intervals without any; noise that has ended falls below it soon."""

CONTROL_RATIOS = (2.0, 8.0, 100.0)
"""How much worse than the rest of stable a slice may look."""


def most_log_evidence(enough: float) -> float:
    """What of one ratio of one slice is remembered, so that it alone can make the mean ``enough``."""
    return math.log(_MARGIN * enough * CONTROL_SLICES * len(CONTROL_RATIOS))


@dataclass(frozen=True, slots=True)
class ControlTest(StartMixture):
    """The A/A check: evidence that a control slice is worse than all the rest of stable, averaged over the slices."""

    log_evidence: tuple[float, ...] = (-math.inf,) * (CONTROL_SLICES * len(CONTROL_RATIOS))

    def forgetting(self, enough: float) -> Self:
        """The same without what makes no difference any more, so that noise which has ended is believed to have ended.

        Cutting down an e-process keeps it one.

        Args:
            enough: What the e-value needs to stay able to reach by one ratio of one slice alone.
        """
        return self.at_most(most_log_evidence(enough))


def control_intervals(slices: Sequence[Events], stable: Events) -> list[Interval]:
    """What the A/A check compares: each slice with all the rest of stable.

    Args:
        slices: Counts of each of the ``CONTROL_SLICES`` slices in the interval.
        stable: Counts of all of stable in it, the slices included.
    """
    bad, total = stable.bad, stable.total
    return [Interval(each.bad, each.total, bad - each.bad, total - each.total) for each in slices]


def control_log_e_values(slices: Sequence[Events], stable: Events) -> tuple[float, ...]:
    """Natural logarithms of FNCH(s_j; ω) / FNCH(s_j; 1) for each slice j and each of ``CONTROL_RATIOS`` ω."""
    found = log_likelihoods_of_each(control_intervals(slices, stable), (*CONTROL_RATIOS, 1.0))
    return tuple(value - same for *worse, same in found for value in worse)


def beyond_noise(e_value: float, control: float) -> float:
    """The evidence of harm that is left when what stable shows against itself is taken off."""
    return e_value / max(1.0, control)


def is_noisy(control: float, alpha: float) -> bool:
    """Whether the A/A check's e-value alarms: what has not failed is Error, NoisyEvidence."""
    return control >= 1 / alpha
