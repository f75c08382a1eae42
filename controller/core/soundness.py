"""Is the evidence itself sound? Two checks beside the comparison of candidate and stable.

**Split check.** The router was told to give the candidate a share w of the requests. If it plainly gets another, what was
programmed is not what users meet, and nothing rises. Needs no control slices; with them, their scatter tells how sure it
may be (``dispersion.share_clustering``).

**A/A check.** The harm test between the control slices, which run stable, and the rest of stable. One that alarms was
fooled by something else than the candidate. How it is called, for each pair of counts that is tested:

    control = control.after(harm_log_e_values(control_interval(slices, rest)), φ_t)     a HarmTest, stored beside the other
    Finding(…, control=control.e_value)                                                  averaged like the metric's own

``verdict.judge`` does the rest with ``is_noisy`` and ``outweighs``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from controller.api.status import Counts
from controller.core.mixture import StartMixture
from controller.core.statistics import Interval, log_e_value_against_reference

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

    def after(self, log_e_values: tuple[float, ...], clustering: float) -> Self:
        """The state after one more interval; see ``StartMixture``."""
        grown = StartMixture.after(self, log_e_values, clustering)
        kept = tuple(min(each, _MOST_LOG_EVIDENCE) for each in grown.log_evidence)
        return type(self)(grown.intervals, kept)


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


def control_interval(slices: Iterable[Counts], rest: Counts) -> Interval:
    """The A/A check's table: all control slices as the candidate, the rest of stable as the baseline."""
    counted = list(slices)
    return Interval(
        sum(each.bad for each in counted), sum(each.total for each in counted), rest.bad, rest.total
    )


def is_noisy(control: float, alpha: float) -> bool:
    """Whether the A/A check's e-value alarms: the verdict is Error, NoisyEvidence, unless ``outweighs``."""
    return control >= 1 / alpha


def outweighs(e_value: float, control: float, alpha: float) -> bool:
    """Whether evidence of harm is so much above what noise alone showed that it stands in spite of it."""
    return e_value >= control / alpha
