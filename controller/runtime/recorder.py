"""Kubernetes events (``events.k8s.io/v1``) that never hold anything up.

`Recorder.record` only takes a note; `Recorder.run` writes, one event after the other. With the API server away the
notes wait, at most a bounded number of them, and the oldest are dropped first. An event that repeats is one object
whose ``series`` counts, as in client-go.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from controller.runtime.backoff import Backoff
from controller.runtime.client import ResourceClient
from controller.runtime.clock import Clock
from controller.runtime.errors import ApiError, TooManyRequests, Unauthorized, Unavailable
from controller.runtime.metrics import RuntimeMetrics, private_metrics
from controller.runtime.resource import RawObject, Resource

_log = structlog.get_logger(__name__)

EVENTS = Resource("events.k8s.io", "v1", "events", "Event")

MAX_PENDING = 5000
"""Events that wait to be written; beyond it the oldest are dropped."""

MAX_SERIES = 6000
"""Events that are remembered, to recognise a repetition."""

SERIES_SECONDS = 360.0
"""A repetition within this time after the last one belongs to the same series; client-go's figure."""

REWRITE_SECONDS = 30.0
"""The count of a series is written at most this often."""

SPACING_SECONDS = 0.05
"""Between two writes: where many rollouts change at once, what serves users comes before what tells of it."""

DEFAULT_BACKOFF = Backoff(base=1.0, cap=60.0)
"""Between attempts while the API server does not answer."""

_MAX_NOTE_BYTES = 1024
_TRANSIENT = (Unavailable, TooManyRequests, Unauthorized)


class EventType(StrEnum):
    """How bad the news is."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """The object that an event is about; its uid ties the event to this very one, not to a namesake."""

    resource: Resource
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class _Fact:
    """What makes two events the same."""

    regarding: ObjectReference
    type: EventType
    reason: str
    action: str
    note: str


@dataclass(slots=True)
class _Series:
    """One event object; ``count`` is how often it happened so far, ``written_at`` monotonic."""

    name: str
    first: datetime
    last: datetime
    last_seen: float
    count: int = 1
    written_at: float | None = None


class Recorder:
    """Records what happened to objects.

    Args:
        client: Of `EVENTS`.
        clock: Source of times and waits.
        controller: ``reportingController``, a qualified name such as ``example.com/operator``.
        instance: ``reportingInstance``, this process' name.
        backoff: Between attempts while the API server does not answer.
        metrics: Where to count.
    """

    def __init__(
        self,
        client: ResourceClient,
        clock: Clock,
        *,
        controller: str,
        instance: str,
        backoff: Backoff = DEFAULT_BACKOFF,
        metrics: RuntimeMetrics | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._reporting = {"reportingController": controller, "reportingInstance": instance[:128]}
        self._backoff = backoff
        self._outcomes = (metrics or private_metrics()).events
        self._series: OrderedDict[_Fact, _Series] = OrderedDict()
        self._pending: OrderedDict[_Fact, _Series] = OrderedDict()
        self._recorded = asyncio.Event()
        self._failures = 0

    def record(
        self,
        regarding: ObjectReference,
        *,
        event_type: EventType,
        reason: str,
        action: str,
        note: str,
    ) -> None:
        """Take note of an event; returns at once, and never raises.

        Args:
            regarding: What it is about.
            event_type: How bad the news is.
            reason: Why, one word in CamelCase.
            action: What was done, one verb in CamelCase.
            note: One sentence for people; cut at 1 KiB.
        """
        fact = _Fact(regarding, event_type, reason, action, note)
        now = self._clock.monotonic()
        series = self._series.pop(fact, None)
        if series is None or now - series.last_seen > SERIES_SECONDS:
            name = f"{regarding.name[:230]}.{secrets.token_hex(8)}"
            series = _Series(name, self._clock.now(), self._clock.now(), now)
        else:
            series.count += 1
            series.last, series.last_seen = self._clock.now(), now
        self._series[fact] = series
        self._forget_old(now)
        self._pending.setdefault(fact, series)
        if len(self._pending) > MAX_PENDING:
            self._drop_oldest()
        self._recorded.set()

    def _forget_old(self, now: float) -> None:
        """Forget series that no repetition can belong to any more; the one that was seen longest ago comes first."""
        while self._series:
            longest_ago = next(iter(self._series.values())).last_seen
            if now - longest_ago <= SERIES_SECONDS and len(self._series) <= MAX_SERIES:
                return
            self._series.popitem(last=False)

    async def run(self) -> None:
        """Write what was recorded; returns only by cancellation, which drops what still waits."""
        while True:
            self._recorded.clear()
            fact, wait = self._next()
            if fact is None:
                await self._recorded_or(wait)
            else:
                await self._clock.sleep(await self._write(fact, self._pending.pop(fact)))

    def _next(self) -> tuple[_Fact | None, float | None]:
        """The first event that may be written now; or how many seconds until there is one, if one waits."""
        now = self._clock.monotonic()
        wait: float | None = None
        for fact, series in self._pending.items():
            due = 0.0 if series.written_at is None else series.written_at + REWRITE_SECONDS - now
            if due <= 0:
                return fact, None
            wait = min(due, wait or due)
        return None, wait

    async def _recorded_or(self, seconds: float | None) -> None:
        """Wait for the next `record`, or for so many seconds."""
        timer = None if seconds is None else self._clock.call_later(seconds, self._recorded.set)
        try:
            await self._recorded.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _write(self, fact: _Fact, series: _Series) -> float:
        """Write one event and say how many seconds to wait before the next."""
        outcome = "created" if series.written_at is None else "updated"
        try:
            # An apply can be repeated after a lost answer, and makes an event anew that has expired meanwhile.
            await self._client.apply(self._body(fact, series), force=True)
        except _TRANSIENT as error:
            self._failures += 1
            self._put_back(fact, series)
            return max(self._backoff.delay(self._failures), error.retry_after or 0.0)
        except ApiError as error:
            _log.warning("event_refused", reason=fact.reason, regarding=fact.regarding.name, error=str(error))
            outcome = "refused"
        self._failures = 0
        series.written_at = self._clock.monotonic()
        self._outcomes.labels(outcome=outcome).inc()
        return SPACING_SECONDS

    def _put_back(self, fact: _Fact, series: _Series) -> None:
        self._pending.setdefault(fact, series)
        self._pending.move_to_end(fact, last=False)
        if len(self._pending) > MAX_PENDING:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._pending.popitem(last=False)
        self._outcomes.labels(outcome="dropped").inc()

    def _body(self, fact: _Fact, series: _Series) -> RawObject:
        regarding = fact.regarding
        reference = {
            "apiVersion": regarding.resource.api_version,
            "kind": regarding.resource.kind,
            "name": regarding.name,
            "uid": regarding.uid,
        }
        if regarding.namespace:
            reference["namespace"] = regarding.namespace
        body: RawObject = {
            # Events about cluster-scoped objects are kept in the default namespace.
            "metadata": {"name": series.name, "namespace": regarding.namespace or "default"},
            "eventTime": _micro_time(series.first),
            "regarding": reference,
            "type": fact.type.value,
            "reason": fact.reason,
            "action": fact.action,
            "note": _cut(fact.note),
            **self._reporting,
        }
        if series.count > 1:
            body["series"] = {"count": series.count, "lastObservedTime": _micro_time(series.last)}
        return body


def _micro_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _cut(note: str) -> str:
    """The note within the API's limit, which is in bytes."""
    if len(note.encode()) <= _MAX_NOTE_BYTES:
        return note
    return note.encode()[: _MAX_NOTE_BYTES - 3].decode(errors="ignore") + "…"
