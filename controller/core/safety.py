"""Anytime-valid evidence that the candidate is not much worse: the mirror image of the harm test.

The null hypothesis is "the odds ratio is ρ1 or more". In each interval e'(ω') = FNCH(s_c; ω') / FNCH(s_c; ρ1) with ω'
below ρ1 has expectation at most 1 under it, so the product over intervals, mixed over a few ω', ever reaches 1/β with
probability at most β for a version that is ρ1 times as bad or worse.

Here nothing is forgotten: evidence of all stages counts for one and the same version, and one that turns bad on the way
is the harm test's to find, without which nothing passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from controller.core.mixture import FREEDOM, decode_state, encode_state, log_mean_exp, tempered
from controller.core.statistics import Interval, log_likelihoods

BETA = 0.05
"""β, the chance to find a version safe that is as bad as the largest ratio allowed, or worse."""

THRESHOLD = 1 / BETA
"""E' of so much shows that a version is safe."""

_LARGEST_LOG = 700.0


def _alternatives(tolerated: float) -> tuple[float, ...]:
    return (0.5, 1.0, tolerated)


def safety_log_e_values(interval: Interval, max_ratio: float, tolerated: float = 1.0) -> tuple[float, ...]:
    """Natural logarithm of FNCH(s_c; ω') / FNCH(s_c; ρ1) for ω' of ½, 1 and ρ0.

    Args:
        interval: The interval's counts.
        max_ratio: ρ1, the odds ratio that must be ruled out; above 1 and ρ0.
        tolerated: ρ0, the odds ratio that is no harm.
    """
    *alternatives, null = log_likelihoods(interval, (*_alternatives(tolerated), max_ratio))
    return tuple(each - null for each in alternatives)


def sign_safety_log_e_values(
    losses: int, wins: int, max_ratio: float, tolerated: float = 1.0
) -> tuple[float, ...]:
    """The same of comparisons that were lost or won, where the odds of a loss are what must stay below ρ1.

    Args:
        losses: Lost in the interval.
        wins: Won in the interval.
        max_ratio: ρ1, losses by wins that must be ruled out; above 1 and ρ0.
        tolerated: ρ0, losses by wins that are no harm.
    """
    alternatives = (each / (1 + each) for each in _alternatives(tolerated))
    null = max_ratio / (1 + max_ratio)
    return tuple(losses * math.log(p / null) + wins * math.log((1 - p) / (1 - null)) for p in alternatives)


@dataclass(frozen=True, slots=True)
class SafetyTest:
    """The evidence so far.

    Attributes:
        log_evidence: log Π e'_t(ω') for each ω'.
    """

    log_evidence: tuple[float, ...] = (0.0, 0.0, 0.0)

    def after(
        self, log_e_values: tuple[float, ...], clustering: float, freedom: float = FREEDOM
    ) -> SafetyTest:
        """The state after one more interval, its likelihood ratio ``tempered`` for a clustering φ."""
        grown = zip(self.log_evidence, tempered(log_e_values, clustering, freedom), strict=True)
        return SafetyTest(tuple(before + more for before, more in grown))

    @property
    def e_value(self) -> float:
        """E', the mean over ω'."""
        return math.exp(min(log_mean_exp(self.log_evidence), _LARGEST_LOG))

    def encode(self) -> str:
        """One line of text; ``decode`` reads it back."""
        return encode_state("s1", *self.log_evidence)

    @classmethod
    def decode(cls, text: str) -> SafetyTest:
        """The state written by ``encode``.

        Raises:
            UnknownStateError: If the text is not such a state.
        """
        return cls(decode_state(text, "s1", len(cls().log_evidence)))
