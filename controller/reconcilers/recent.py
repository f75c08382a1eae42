"""Which rollouts have a candidate, or had one until not long ago."""

from __future__ import annotations

from controller.core.traffic import TrafficTable
from controller.runtime.clock import Clock


class RecentCandidates:
    """Remembers when tables lose their candidate."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        """Nothing is known yet.

        Args:
            clock: Source of time.
            seconds: How long after its loss a candidate still counts.
        """
        self._clock = clock
        self._seconds = seconds
        self._serving: set[str] = set()
        self._cut_at: dict[str, float] = {}

    def note(self, key: str, table: TrafficTable | None) -> bool:
        """Take note of the rollout's present table, None if it is gone; whether it has a candidate, or had one lately."""
        if table is None:
            self._serving.discard(key)
            self._cut_at.pop(key, None)
        elif table.candidate is not None:
            self._serving.add(key)
        elif key in self._serving:
            self._serving.remove(key)
            self._cut_at[key] = self._clock.monotonic()
        return key in self._serving or self._is_recent(key)

    def left(self, key: str) -> float:
        """Seconds for which the loss of the rollout's candidate still counts; 0 if it has one, or lost none lately."""
        if key in self._serving or not self._is_recent(key):
            return 0.0
        return self._cut_at[key] + self._seconds - self._clock.monotonic()

    def forget_old(self) -> list[str]:
        """Forget the losses that count no longer; keys of the rollouts that have no other candidate by now."""
        old = [key for key in self._cut_at if not self._is_recent(key)]
        for key in old:
            del self._cut_at[key]
        return [key for key in old if key not in self._serving]

    def _is_recent(self, key: str) -> bool:
        at = self._cut_at.get(key)
        return at is not None and self._clock.monotonic() - at < self._seconds
