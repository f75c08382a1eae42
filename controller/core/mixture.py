"""Evidence that forgets: e-values mixed over the time at which a fault may have begun."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

HORIZON = 240
"""Start times are weighted as if about this many intervals were ahead; nothing ends when they are over."""

FIRST_WEIGHT = 0.5
"""Share of the evidence that bets on a fault from the first interval on."""

FREEDOM = 5.0
"""Degrees of freedom in which clustered counts are taken to scatter; the fewer, the less a single interval proves."""

_STRAIGHT = 1e-12
_LARGEST_LOG = 700.0
"""Of what a float can hold."""


class UnknownStateError(ValueError):
    """A stored state that this version cannot go on with, written by another version or by hand."""


def encode_state(version: str, *numbers: float) -> str:
    """One line of text for a test's state; ``decode_state`` reads it back."""
    return version + " %.9g" * len(numbers) % numbers


def decode_state(text: str, version: str, count: int) -> tuple[float, ...]:
    """The numbers of such a line.

    Raises:
        UnknownStateError: If it is not a line of this version with so many numbers, or one is NaN.
    """
    found, *rest = text.split() or [""]
    try:
        numbers = tuple(map(float, rest))
    except ValueError:
        numbers = ()
    if found != version or len(numbers) != count or any(map(math.isnan, numbers)):
        raise UnknownStateError(f"status.evidence has the unknown state {text[:60]!r}")
    return numbers


def tempered(log_e_values: Iterable[float], clustering: float, freedom: float = FREEDOM) -> list[float]:
    """What log e-values of independent requests are worth where requests fail φ at a time.

    First to the 1/φ-th power: K requests prove as much as K/φ conversations. That alone is too sure, because φ is an
    average and an estimate: one conversation that is much longer than others is an outlier, and a normal tail takes it for a
    proof. So evidence of harm in one interval grows with its logarithm, as the likelihood of Student's t does,

        x → ν · log(1 + x/ν)  for  x = log e / φ > 0,  ν = dφ/(φ − 1)

    which changes little where x is small or φ near 1. It is never more than x, so what was an e-value stays one.

    Args:
        log_e_values: Of one interval.
        clustering: φ ≥ 1.
        freedom: d, how many degrees of freedom φ is known in.
    """
    curved = max((clustering - 1) / (freedom * clustering), _STRAIGHT)
    scaled = [each / clustering for each in log_e_values]
    return [math.log1p(curved * each) / curved if each > 0 else each for each in scaled]


def log_mean_exp(logarithms: Sequence[float]) -> float:
    """Logarithm of the mean of what the logarithms stand for; −inf stands for 0."""
    largest = max(logarithms)
    if largest == -math.inf:
        return largest
    return largest + math.log(sum(math.exp(each - largest) for each in logarithms) / len(logarithms))


@dataclass(frozen=True, slots=True)
class StartMixture:
    """The mixture over start times, as the few numbers that go on after a restart.

    With start weights w_1 = ½ and w_t = (1 − Σ_{j<t} w_j)/240, fixed in advance,

        R_t(ω) = (R_{t−1}(ω) + w_t) · e_t(ω)         E_t = mean_ω R_t(ω) + (1 − Σ_{j≤t} w_j)

    so that a fault that begins after an hour of health is not held back by that hour. E_t is an e-process: while the
    null hypothesis of every e_t holds, it ever reaches 1/α with probability at most α.

    Attributes:
        intervals: t, the number of intervals counted so far.
        log_evidence: log R_t(ω) for each alternative ω; −inf before the first interval.
    """

    intervals: int = 0
    log_evidence: tuple[float, ...] = ()

    def after(self, log_e_values: tuple[float, ...], clustering: float, freedom: float = FREEDOM) -> Self:
        """The state after one more interval.

        Args:
            log_e_values: log e_t(ω) for each alternative.
            clustering: φ ≥ 1, see ``tempered``.
            freedom: d, see ``tempered``.
        """
        start = math.log(start_weight(self.intervals + 1))
        grown = []
        for before, more in zip(self.log_evidence, tempered(log_e_values, clustering, freedom), strict=True):
            larger, smaller = (before, start) if before > start else (start, before)
            grown.append(larger + math.log1p(math.exp(smaller - larger)) + more)
        return self._with(self.intervals + 1, grown)

    def at_most(self, log_evidence: float) -> Self:
        """The same with no more than so much of each alternative; cutting down an e-process keeps it one.

        Args:
            log_evidence: The most that is kept of log R_t(ω).
        """
        if max(self.log_evidence) <= log_evidence:
            return self
        return self._with(self.intervals, (min(each, log_evidence) for each in self.log_evidence))

    def _with(self, intervals: int, log_evidence: Iterable[float]) -> Self:
        """The same test; ``replace`` would take longer than what is worked out."""
        return type(self)(intervals, tuple(log_evidence))

    @property
    def e_value(self) -> float:
        """E_t."""
        return math.exp(min(self.log_mean(), _LARGEST_LOG)) + unstarted_weight(self.intervals)

    def log_mean(self) -> float:
        """Natural logarithm of mean_ω R_t(ω)."""
        return log_mean_exp(self.log_evidence)

    def encode(self) -> str:
        """One line of text; ``decode`` reads it back."""
        return encode_state("v1", self.intervals, *self.log_evidence)

    @classmethod
    def decode(cls, text: str) -> Self:
        """The state written by ``encode``.

        Raises:
            UnknownStateError: If the text is not such a state.
        """
        found: Self = _decoded(cls, text)  # type: ignore[arg-type]  # mypy takes the instances' hash for the class's
        return found


@lru_cache(maxsize=512)
def _decoded(kind: type[StartMixture], text: str) -> Any:
    """An evaluation asks for the same state several times."""
    intervals, *log_evidence = decode_state(text, "v1", 1 + len(kind().log_evidence))
    if not 0 <= intervals < math.inf:
        raise UnknownStateError(f"status.evidence has the unknown state {text[:60]!r}")
    return kind(int(intervals), tuple(log_evidence))


def unstarted_weight(intervals: int) -> float:
    """1 − Σ_{j≤t} w_j."""
    if intervals == 0:
        return 1.0
    return float((1 - FIRST_WEIGHT) * (1 - 1 / HORIZON) ** (intervals - 1))


def start_weight(interval: int) -> float:
    """w_t for t = 1, 2, …."""
    return FIRST_WEIGHT if interval == 1 else unstarted_weight(interval - 1) / HORIZON
