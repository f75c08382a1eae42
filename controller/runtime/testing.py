"""Stand-ins for tests of code that is built on the runtime."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(order=True, slots=True)
class _FakeTimer:
    due: float
    order: int
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """A clock that stands still until it is told to advance.

    Args:
        start: The wall-clock time at monotonic 0; aware.
    """

    def __init__(self, start: datetime = _EPOCH) -> None:
        self._start = start
        self._monotonic = 0.0
        self._timers: list[_FakeTimer] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        """The fake wall-clock time."""
        return self._start + timedelta(seconds=self._monotonic)

    def monotonic(self) -> float:
        """Seconds advanced so far."""
        return self._monotonic

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _FakeTimer:
        """Call ``callback`` once the clock has been advanced by ``seconds``; never from within this call."""
        timer = _FakeTimer(self._monotonic + max(0.0, seconds), next(self._order), callback)
        heapq.heappush(self._timers, timer)
        return timer

    async def sleep(self, seconds: float) -> None:
        """Return once the clock has been advanced by ``seconds``; at once, after a turn of the loop, for 0."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()

    def advance(self, seconds: float) -> None:
        """Move time on, making the calls that fall due in their order, each at its own instant.

        Tasks woken by it run at the next turn of the event loop: see `run_for` and `settle`.
        """
        until = self._monotonic + seconds
        while (due := self.next_due()) is not None and due <= until:
            timer = heapq.heappop(self._timers)
            self._monotonic = max(self._monotonic, timer.due)
            timer.callback()
        self._monotonic = until

    def next_due(self) -> float | None:
        """The monotonic instant of the earliest pending call, if there is one."""
        while self._timers and self._timers[0].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0].due if self._timers else None

    async def run_for(self, seconds: float) -> None:
        """Advance step by step, letting tasks run between the steps, so that sleeps in loops all get their turn."""
        until = self._monotonic + seconds
        await settle()
        while (due := self.next_due()) is not None and due <= until:
            self.advance(due - self._monotonic)
            await settle()
        self.advance(until - self._monotonic)
        await settle()


async def settle(turns: int = 20) -> None:
    """Let every task that can run without I/O or time do so."""
    for _ in range(turns):
        await asyncio.sleep(0)
