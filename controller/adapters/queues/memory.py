"""The queue of one process: bounded, quick, and gone with it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from controller.adapters.shadow_ports import QueueFullError, TooLargeError
from controller.runtime.clock import Clock, SystemClock, Timer

MAX_MESSAGES = 10_000
MAX_BYTES = 256 << 20


@dataclass(slots=True)
class _Message:
    key: str
    payload: bytes
    attempt: int = 0
    timer: Timer | None = None


class MemoryDelivery:
    """See ``Delivery``."""

    def __init__(self, queue: MemoryQueue, message: _Message) -> None:
        """Count the attempt."""
        message.attempt += 1
        self._queue, self._message = queue, message

    @property
    def payload(self) -> bytes:
        """As it was put."""
        return self._message.payload

    @property
    def attempt(self) -> int:
        """Counts from 1."""
        return self._message.attempt

    async def working(self) -> None:
        """Nobody else could have it: a worker of this process dies with the queue."""

    async def done(self) -> None:
        """It leaves the queue."""
        self._queue.forget(self._message)

    async def again(self, seconds: float) -> None:
        """It comes back after the delay."""
        self._queue.postpone(self._message, seconds)


class MemoryQueue:
    """See ``Queue``. What a worker has, and what waits to be tried again, counts towards the bounds.

    Args:
        max_messages: That nobody is done with.
        max_bytes: Of these.
        clock: Source of delays.
    """

    patience = 3600.0

    def __init__(
        self, *, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES, clock: Clock | None = None
    ) -> None:
        """Empty."""
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._clock = clock or SystemClock()
        self._ready: deque[_Message] = deque()
        self._kept: dict[str, _Message] = {}
        self._bytes = 0
        self._arrived = asyncio.Event()

    async def put(self, key: str, payload: bytes) -> None:
        """See ``Queue.put``."""
        if key in self._kept:
            return
        if len(payload) > self._max_bytes:
            raise TooLargeError
        if len(self._kept) >= self._max_messages or self._bytes + len(payload) > self._max_bytes:
            raise QueueFullError
        message = _Message(key, payload)
        self._kept[key] = message
        self._bytes += len(payload)
        self._push(message)

    async def get(self) -> MemoryDelivery:
        """See ``Queue.get``."""
        while not self._ready:
            self._arrived.clear()
            await self._arrived.wait()
        return MemoryDelivery(self, self._ready.popleft())

    @property
    def waiting(self) -> int:
        """Messages that nobody is done with."""
        return len(self._kept)

    @property
    def held_bytes(self) -> int:
        """Of these."""
        return self._bytes

    @property
    def problem(self) -> str:
        """It is always there."""
        return ""

    async def close(self) -> int:
        """All that nobody is done with is lost."""
        for message in self._kept.values():
            if message.timer is not None:
                message.timer.cancel()
        lost = len(self._kept)
        self._kept.clear()
        self._ready.clear()
        self._bytes = 0
        return lost

    def forget(self, message: _Message) -> None:
        """Used by deliveries."""
        if self._kept.pop(message.key, None) is not None:
            self._bytes -= len(message.payload)

    def postpone(self, message: _Message, seconds: float) -> None:
        """Used by deliveries."""
        message.timer = self._clock.call_later(seconds, lambda: self._push(message))

    def _push(self, message: _Message) -> None:
        message.timer = None
        if message.key in self._kept:
            self._ready.append(message)
            self._arrived.set()
