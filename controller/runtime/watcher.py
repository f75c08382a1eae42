"""List and watch of one resource, as a state machine without I/O and a loop that drives it.

The machine knows what to ask next and what an answer means; it can be tested with tables. The loop asks, waits and
backs off.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from controller.runtime.backoff import Backoff
from controller.runtime.client import ListerWatcher, Page, WatchEvent
from controller.runtime.clock import Clock
from controller.runtime.errors import ApiError, Gone
from controller.runtime.metrics import RuntimeMetrics, private_metrics
from controller.runtime.resource import RawObject, key_of

_log = structlog.get_logger(__name__)

DEFAULT_BACKOFF = Backoff(base=0.5, cap=30.0)
"""Between watches that end early: gentle enough for a server that comes back to many clients at once."""


@dataclass(frozen=True, slots=True)
class ListStarted:
    """The first page of a list has come; the list shows the resource at this version."""

    resource_version: int


@dataclass(frozen=True, slots=True)
class Applied:
    """An object exists in this version."""

    key: str
    object: RawObject


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object is gone; ``object`` is its last version, with the resourceVersion of the deletion."""

    key: str
    object: RawObject


@dataclass(frozen=True, slots=True)
class ListFinished:
    """A list is complete: at this version there was nothing but ``keys``. What else was known has vanished."""

    keys: frozenset[str]
    resource_version: int


@dataclass(frozen=True, slots=True)
class Progressed:
    """Everything up to this version has been delivered."""

    resource_version: int


Event = ListStarted | Applied | Deleted | ListFinished | Progressed


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Ask for one page; a limit of 0 asks for everything in one."""

    limit: int
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """Ask for the changes after a version."""

    resource_version: str


@dataclass
class ListWatch:
    """The state machine: `request` says what to ask, the other methods take the answers and give the events.

    Attributes:
        page_size: Objects per page of a list.
        request: What to ask next.
    """

    page_size: int = 500
    request: ListRequest | WatchRequest = field(init=False)
    _seen: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.request = ListRequest(self.page_size)

    def page(self, page: Page) -> list[Event]:
        """A page of the list has come."""
        events: list[Event] = []
        version = int(page.resource_version)
        if isinstance(self.request, ListRequest) and not self.request.continue_token:
            self._seen.clear()
            events.append(ListStarted(version))
        applied = [Applied(key_of(item), item) for item in page.items]
        self._seen.update(event.key for event in applied)
        events += applied
        if page.continue_token:
            self.request = ListRequest(self.page_size, page.continue_token)
            return events
        events.append(ListFinished(frozenset(self._seen), version))
        self._seen.clear()
        self.request = WatchRequest(page.resource_version)
        return events

    def change(self, event: WatchEvent) -> list[Event]:
        """A line of the watch has come."""
        version = (event.object.get("metadata") or {}).get("resourceVersion", "")
        if not version.isdecimal():
            raise ValueError(f"a {event.type} event without a usable resourceVersion: {version!r}")
        self.request = WatchRequest(version)
        match event.type:
            case "ADDED" | "MODIFIED":
                changed: list[Event] = [Applied(key_of(event.object), event.object)]
            case "DELETED":
                changed = [Deleted(key_of(event.object), event.object)]
            case _:
                changed = []
        return [*changed, Progressed(int(version))]

    def failed(self, error: ApiError) -> None:
        """The request failed, or the watch broke off."""
        if isinstance(error, Gone):
            # A list whose tokens run out while it is read would do so again; in one piece it cannot.
            paging = isinstance(self.request, ListRequest) and self.request.continue_token
            self.request = ListRequest(0 if paging else self.page_size)
        elif isinstance(self.request, ListRequest):
            self.request = ListRequest(self.request.limit)


@dataclass(frozen=True, slots=True)
class WatcherSettings:
    """How patient a watcher is.

    Attributes:
        backoff: Between requests after failures, and after watches that ended early, cleanly or not.
        healthy_after: A watch that lasted so long, in seconds, starts the backoff anew.
        server_timeout: After how many seconds the server is asked to end a watch; spread by up to the half more, so
            that the watches of many replicas do not end together.
        inactivity_timeout: A watch silent for so long, in seconds, is given up as half open.
        page_size: Objects per page of a list.
    """

    backoff: Backoff = DEFAULT_BACKOFF
    healthy_after: float = 30.0
    server_timeout: float = 300.0
    inactivity_timeout: float = 150.0
    page_size: int = 500


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
        self._machine = ListWatch(self._settings.page_size)
        self._failures = 0
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
                case WatchRequest(resource_version):
                    await self._watch(resource_version, emit)
        except ApiError as failure:
            error = failure
            self._machine.failed(failure)
        except Exception as failure:  # noqa: BLE001 - an answer that makes no sense must not end the watcher
            _log.error("watch_answer_not_understood", resource=self._client.resource.name, exc_info=failure)
            error = Gone(f"the server's answer makes no sense, listing again: {failure}")
            self._machine.failed(error)
        return self._pause(error, self._clock.monotonic() - watching_since)

    async def _watch(self, resource_version: str, emit: Callable[[Event], None]) -> None:
        spread = 1.0 + 0.5 * self._settings.backoff.uniform()
        stream = self._client.watch(
            resource_version,
            server_timeout=self._settings.server_timeout * spread,
            inactivity_timeout=self._settings.inactivity_timeout,
        )
        async with aclosing(stream):
            async for line in stream:
                self.problem = ""
                for event in self._machine.change(line):
                    emit(event)

    def _pause(self, error: ApiError | None, lasted: float) -> float:
        """The backoff after a watch that ended, cleanly or not, or a list that failed."""
        self._failures = 1 if lasted >= self._settings.healthy_after else self._failures + 1
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
