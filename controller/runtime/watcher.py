"""The loop that drives the state machine of `controller.runtime.listwatch`: it asks, waits and backs off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from controller.runtime.backoff import Backoff
from controller.runtime.client import ListerWatcher
from controller.runtime.clock import Clock
from controller.runtime.errors import ApiError, Gone, Unavailable
from controller.runtime.listwatch import Event, ListRequest, ListWatch, WatchRequest
from controller.runtime.metrics import RuntimeMetrics, private_metrics

_log = structlog.get_logger(__name__)

DEFAULT_BACKOFF = Backoff(base=0.5, cap=10.0)
"""Between watches that end early. Nothing rises while a watch is down, and operators are few: a server that comes back
is found within seconds."""


@dataclass(frozen=True, slots=True)
class WatcherSettings:
    """How patient a watcher is.

    Attributes:
        backoff: Between requests after failures, and after watches that ended early, cleanly or not.
        healthy_after: A watch that lasted so long, in seconds, starts the backoff anew.
        server_timeout: After how many seconds the server is asked to end a watch; spread by up to the half more, so
            that the watches of many replicas do not end together.
        inactivity_timeout: A watch silent for so long, in seconds, is given up as half open.
        initial_timeout: So long, in seconds, may a WatchList take to tell of all objects.
        page_size: Objects per page of a list.
        watch_list: Whether to ask for WatchLists before lists.
    """

    backoff: Backoff = DEFAULT_BACKOFF
    healthy_after: float = 30.0
    server_timeout: float = 300.0
    inactivity_timeout: float = 150.0
    initial_timeout: float = 60.0
    page_size: int = 500
    watch_list: bool = True


class Watcher:
    """Drives a `ListWatch` against the API server, for ever.

    Args:
        client: Lists and watches.
        clock: Source of waits.
        settings: Deadlines and backoff.
        metrics: Where to count.
    """

    def __init__(
        self,
        client: ListerWatcher,
        clock: Clock,
        settings: WatcherSettings | None = None,
        metrics: RuntimeMetrics | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._settings = settings or WatcherSettings()
        self._metrics = metrics or private_metrics()
        self._machine = ListWatch(self._settings.page_size, self._settings.watch_list)
        self._failures = 0
        self._expired = False
        self.problem = ""
        """Why the last request failed; empty from the next page or line on."""

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Hand every event to ``emit``; returns only by cancellation."""
        while True:
            wait = await self._step(emit)
            if wait > 0:
                await self._clock.sleep(wait)

    async def _step(self, emit: Callable[[Event], None]) -> float:
        """Make one request and say how many seconds to wait before the next."""
        error: ApiError | None = None
        watching_since = self._clock.monotonic()
        try:
            match self._machine.request:
                case ListRequest(limit, continue_token):
                    page = await self._client.list_page(limit=limit, continue_token=continue_token)
                    for event in self._machine.page(page):
                        emit(event)
                    self.problem = ""
                    return 0.0
                case WatchRequest() as request:
                    await self._watch(request, emit)
        except ApiError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - an answer that makes no sense must not end the watcher
            _log.error("watch_answer_not_understood", resource=self._client.resource.name, exc_info=failure)
            error = Gone(f"the server's answer makes no sense, listing again: {failure}")
        self._machine.ended(error)
        return self._pause(error, self._clock.monotonic() - watching_since)

    async def _watch(self, request: WatchRequest, emit: Callable[[Event], None]) -> None:
        spread = 1.0 + 0.5 * self._settings.backoff.uniform()
        stream = self._client.watch(
            request.resource_version,
            send_initial_events=request.initial,
            server_timeout=self._settings.server_timeout * spread,
            inactivity_timeout=self._settings.inactivity_timeout,
        )
        limit = self._settings.initial_timeout if request.initial else None
        try:
            async with aclosing(stream), asyncio.timeout(limit) as deadline:
                async for line in stream:
                    self.problem = ""
                    for event in self._machine.change(line):
                        emit(event)
                    if not self._machine.is_initial:
                        deadline.reschedule(None)
        except TimeoutError as error:
            raise Unavailable(f"not all objects were told within {limit:g} s", reason="Inactive") from error

    def _pause(self, error: ApiError | None, lasted: float) -> float:
        """The backoff after a watch that ended, cleanly or not, or a list that failed."""
        # That a version is too old is the answer of a server that is well again; only once in a row, to be sure.
        recovered = isinstance(error, Gone) and not self._expired
        self._expired = isinstance(error, Gone)
        starts_anew = recovered or lasted >= self._settings.healthy_after
        self._failures = 1 if starts_anew else self._failures + 1
        wait = self._settings.backoff.delay(self._failures)
        if error is None:
            reason = "closed"
        else:
            reason = error.reason or type(error).__name__
            wait = max(wait, error.retry_after or 0.0)
            self.problem = str(error)
            _log.info(
                "watch_interrupted",
                resource=self._client.resource.name,
                reason=reason,
                error=str(error),
                retry_in=round(wait, 3),
            )
        self._metrics.watch_restarts.labels(resource=self._client.resource.name, reason=reason).inc()
        return wait
