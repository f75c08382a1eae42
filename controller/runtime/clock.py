"""Time as a parameter: everything in the runtime that waits or measures takes a Clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """A call that has been put off."""

    def cancel(self) -> None:
        """Drop the call; harmless when it has already been made."""


class Clock(Protocol):
    """A source of time. `controller.runtime.testing.FakeClock` stands in for it in tests."""

    def now(self) -> datetime:
        """The wall-clock time, aware, in UTC: for what is written down."""

    def monotonic(self) -> float:
        """Seconds that never go backwards, from an arbitrary start: for durations and deadlines."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the running event loop in ``seconds``."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""


class SystemClock:
    """The clock of the machine and of the running event loop."""

    def now(self) -> datetime:
        """The wall-clock time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the running event loop in ``seconds``."""
        return asyncio.get_running_loop().call_later(max(0.0, seconds), callback)

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        await asyncio.sleep(max(0.0, seconds))
