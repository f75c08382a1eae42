"""A queue of keys with the semantics of client-go's workqueue.

A key stands for "look at this object again", so it is in the queue at most once, however often it is added. What makes
that safe are two sets. ``dirty`` holds the keys that need to be looked at; ``processing`` the ones that a worker looks
at right now. A key added while it is processed only becomes dirty and enters the queue when the worker is done: no
change is missed, and never do two workers have the same key.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable

from controller.runtime.backoff import Backoff
from controller.runtime.clock import Clock, Timer
from controller.runtime.metrics import RuntimeMetrics, private_metrics

DEFAULT_BACKOFF = Backoff(base=0.05, cap=60.0)
"""Between failures of one key: quick at first, since most are a lost race, and at most a minute."""


class ShutDown(Exception):  # noqa: N818 - client-go's name for it, and no error
    """The queue has been shut down and is empty."""


class WorkQueue:
    """Keys to reconcile; for use on one event loop.

    Args:
        name: Label of the metrics.
        clock: Source of delays.
        backoff: Delays of `add_rate_limited`, per key.
        metrics: Where to count.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        *,
        backoff: Backoff = DEFAULT_BACKOFF,
        metrics: RuntimeMetrics | None = None,
    ) -> None:
        self.name = name
        self._clock = clock
        self._backoff = backoff
        self._queue: deque[str] = deque()
        self._dirty: dict[str, float] = {}
        self._processing: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._delayed = _DelayedKeys(clock, self.add)
        self._shut_down = False
        self._changed = asyncio.Event()
        metrics = metrics or private_metrics()
        self._depth = metrics.depth.labels(name=name)
        self._adds = metrics.adds.labels(name=name)
        self._retries = metrics.retries.labels(name=name)
        self._queue_seconds = metrics.queue_seconds.labels(name=name)
        self._work_seconds = metrics.work_seconds.labels(name=name)
        metrics.unfinished.labels(name=name).set_function(lambda: sum(self._ages()))
        metrics.longest_running.labels(name=name).set_function(lambda: max(self._ages(), default=0.0))

    def __len__(self) -> int:
        """Keys that wait for a worker, without the delayed ones."""
        return len(self._queue)

    @property
    def processing(self) -> frozenset[str]:
        """The keys that workers have."""
        return frozenset(self._processing)

    def add(self, key: str) -> None:
        """Have ``key`` looked at as soon as possible; once, if it is waiting already."""
        if self._shut_down or key in self._dirty:
            return
        self._dirty[key] = self._clock.monotonic()
        self._adds.inc()
        if key not in self._processing:
            self._push(key)

    def add_all(self, keys: Iterable[str]) -> None:
        """`add` each of ``keys``."""
        for key in keys:
            self.add(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Add ``key`` in ``seconds``; of several such calls the earliest instant counts."""
        if self._shut_down:
            return
        if seconds <= 0:
            self.add(key)
        else:
            self._delayed.put(key, seconds)

    def add_rate_limited(self, key: str) -> None:
        """Add ``key`` after a delay that grows with each call until `forget`."""
        self._failures[key] = self._failures.get(key, 0) + 1
        self._retries.inc()
        self.add_after(key, self._backoff.delay(self._failures[key]))

    def forget(self, key: str) -> None:
        """The key went well: its next failure starts with the shortest delay again."""
        self._failures.pop(key, None)

    def failures(self, key: str) -> int:
        """How often `add_rate_limited` was called for ``key`` since it was last forgotten."""
        return self._failures.get(key, 0)

    async def get(self) -> str:
        """The next key; the caller has it alone until it calls `done`.

        Raises:
            ShutDown: There will be no more keys.
        """
        while not self._queue:
            if self._shut_down:
                raise ShutDown(self.name)
            self._changed.clear()
            await self._changed.wait()
        key = self._queue.popleft()
        now = self._clock.monotonic()
        self._queue_seconds.observe(now - self._dirty.pop(key))
        self._processing[key] = now
        self._measure_depth()
        return key

    def done(self, key: str) -> None:
        """The caller of `get` is through with ``key``; if it was added meanwhile, it goes back into the queue.

        Raises:
            ValueError: Nobody has the key.
        """
        started = self._processing.pop(key, None)
        if started is None:
            raise ValueError(f"done({key!r}) without get()")
        self._work_seconds.observe(self._clock.monotonic() - started)
        if key in self._dirty:
            self._push(key)
        self._changed.set()

    def shut_down(self) -> None:
        """Take no more keys and drop the delayed ones; what waits is still handed out, then `get` raises."""
        self._shut_down = True
        self._delayed.clear()
        self._changed.set()

    async def drained(self) -> None:
        """Return once nothing waits and nothing is processed."""
        while self._queue or self._processing:
            self._changed.clear()
            await self._changed.wait()

    def _ages(self) -> list[float]:
        now = self._clock.monotonic()
        # A copy in one step: a scrape may come from another thread.
        return [now - started for started in tuple(self._processing.values())]

    def _push(self, key: str) -> None:
        self._queue.append(key)
        self._measure_depth()
        self._changed.set()

    def _measure_depth(self) -> None:
        self._depth.set(len(self._queue))


class _DelayedKeys:
    """Keys with an instant each, handed to ``release`` when it comes; one timer for all of them."""

    def __init__(self, clock: Clock, release: Callable[[str], None]) -> None:
        self._clock = clock
        self._release = release
        self._due: dict[str, float] = {}
        # Entries are not removed when an earlier instant replaces theirs; those that differ from _due are stale.
        self._heap: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._timer: Timer | None = None

    def put(self, key: str, seconds: float) -> None:
        due = self._clock.monotonic() + seconds
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._order), key))
        if len(self._heap) > 2 * len(self._due) + 16:
            self._drop_stale()
        self._arm()

    def clear(self) -> None:
        self._due.clear()
        self._heap.clear()
        self._arm()

    def _drop_stale(self) -> None:
        """Keep the heap in proportion to its keys: an instant far away, replaced again and again, would fill it."""
        self._heap = [(due, order, key) for due, order, key in self._heap if self._due.get(key) == due]
        heapq.heapify(self._heap)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._heap:
            self._timer = self._clock.call_later(self._heap[0][0] - self._clock.monotonic(), self._fire)

    def _fire(self) -> None:
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self._release(key)
        self._arm()
