"""A circuit breaker: what fails again and again is left alone for a while, then tried by one."""

from __future__ import annotations

from dataclasses import dataclass

_FAILURES = 5
"""In a row."""
_REST_SECONDS = 30.0


@dataclass(slots=True)
class Breaker:
    """Whether one model may be asked. Time is that of a clock that never goes back, in seconds.

    Attributes:
        failures: In a row.
        open_until: Until when nobody asks; one may try then. None while nothing is wrong.
        trying: Whether somebody is trying now.
    """

    failures: int = 0
    open_until: float | None = None
    trying: bool = False

    def admits(self, now: float) -> bool:
        """Whether to ask. Whoever was let in says how it went: ``succeeded``, ``failed`` or ``gave_up``."""
        if self.open_until is None:
            return True
        if now < self.open_until or self.trying:
            return False
        self.trying = True
        return True

    def succeeded(self) -> None:
        """It works."""
        self.failures, self.open_until, self.trying = 0, None, False

    def failed(self, now: float, rest: float = 0.0) -> None:
        """It does not, and asked for so many seconds of rest."""
        self.failures += 1
        self.trying = False
        if rest or self.failures >= _FAILURES:
            self.open_until = max(now + max(rest, _REST_SECONDS), self.open_until or 0.0)

    def gave_up(self) -> None:
        """Nothing was learnt."""
        self.trying = False
