"""Exponential backoff with full jitter."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

# 2.0 ** 1024 overflows a float; any sensible cap is reached long before this many doublings.
_MAX_EXPONENT = 60


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after the n-th failure in a row.

    The wait is drawn evenly from 0 to the exponential bound ("full jitter"), which spreads many clients that failed
    at the same moment better than any fixed series does.

    Attributes:
        base: Bound of the first wait, seconds.
        cap: Largest bound, seconds.
        uniform: Gives numbers in [0, 1).
    """

    base: float
    cap: float
    uniform: Callable[[], float] = random.random

    def bound(self, failures: int) -> float:
        """The longest possible wait, in seconds, after ``failures`` (≥ 1) failures in a row."""
        return float(min(self.cap, self.base * 2.0 ** min(max(failures, 1) - 1, _MAX_EXPONENT)))

    def delay(self, failures: int) -> float:
        """The wait, in seconds, after ``failures`` (≥ 1) failures in a row."""
        return self.uniform() * self.bound(failures)
