"""Workers that take keys from a queue and reconcile them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from structlog.contextvars import bound_contextvars

from controller.runtime.clock import Clock
from controller.runtime.errors import ApiError, Conflict
from controller.runtime.metrics import RuntimeMetrics, private_metrics
from controller.runtime.workqueue import ShutDown, WorkQueue

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile that went well asks for.

    Attributes:
        requeue_after: Look at the key again in so many seconds at the latest; None to wait for a change.
    """

    requeue_after: float | None = None


Reconcile = Callable[[str], Awaitable[Result]]
"""``await reconcile(key)``: make the world as the object wants it; must be safe to repeat at any point."""


class Controller:
    """Runs ``reconcile`` for the keys of a queue.

    A reconcile that raises is logged and repeated with the queue's growing delay (or when the server asked for it).
    A Conflict means only that the reconcile worked on an old version: it is repeated in the same way, quietly.

    Args:
        name: Label in logs and metrics.
        queue: Where the keys come from; the controller shuts it down when it stops.
        reconcile: See `Reconcile`.
        clock: For measuring.
        workers: How many reconciles run at the same time, each of another key.
        metrics: Where to count.
    """

    def __init__(
        self,
        name: str,
        queue: WorkQueue,
        reconcile: Reconcile,
        *,
        clock: Clock,
        workers: int = 1,
        metrics: RuntimeMetrics | None = None,
    ) -> None:
        self.name = name
        self._queue = queue
        self._reconcile = reconcile
        self._clock = clock
        self._workers = workers
        self._metrics = metrics or private_metrics()
        self._stopping = False
        self._metrics.announce(name, workers)

    async def run(self) -> None:
        """Work until `stop`; a cancellation cancels the running reconciles."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name}-{number}")

    def stop(self) -> None:
        """Start no more reconciles; `run` returns once the running ones are through."""
        self._stopping = True
        self._queue.shut_down()

    async def _work(self) -> None:
        while True:
            try:
                key = await self._queue.get()
            except ShutDown:
                return
            try:
                # What still waits at the stop is found again by the next start: the state is in the API, not here.
                if not self._stopping:
                    await self._process(key)
            finally:
                self._queue.done(key)

    async def _process(self, key: str) -> None:
        active = self._metrics.active_workers.labels(controller=self.name)
        started = self._clock.monotonic()
        active.inc()
        try:
            with bound_contextvars(controller=self.name, key=key):
                result = await self._attempt(key)
        finally:
            active.dec()
            seconds = self._clock.monotonic() - started
            self._metrics.reconcile_seconds.labels(controller=self.name).observe(seconds)
        self._metrics.reconcile_total.labels(controller=self.name, result=result).inc()

    async def _attempt(self, key: str) -> str:
        """Reconcile once, see to what follows, and name the outcome as controller-runtime does."""
        try:
            result = await self._reconcile(key)
        except Conflict as conflict:
            self._again(key, conflict)
            _log.debug("reconcile_conflict", error=str(conflict))
            return "requeue"
        except Exception as error:  # noqa: BLE001 - one object's trouble must not stop the worker
            self._retry(key, error)
            return "error"
        self._queue.forget(key)
        if result.requeue_after is None:
            return "success"
        self._queue.add_after(key, result.requeue_after)
        return "requeue_after"

    def _retry(self, key: str, error: Exception) -> None:
        self._metrics.reconcile_errors.labels(controller=self.name).inc()
        self._again(key, error)
        failures = self._queue.failures(key)
        if isinstance(error, ApiError):
            # The message says all; where in our code the request was made does not help whoever reads the log.
            _log.warning("reconcile_failed", error=str(error), failures=failures)
        else:
            _log.error("reconcile_failed", error=str(error), failures=failures, exc_info=error)

    def _again(self, key: str, error: Exception) -> None:
        """When the error says, or with the queue's growing delay."""
        retry_after = error.retry_after if isinstance(error, ApiError) else None
        if retry_after:
            self._queue.add_after(key, retry_after)
        else:
            self._queue.add_rate_limited(key)
