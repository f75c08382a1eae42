"""Leader election over a Lease of ``coordination.k8s.io/v1``; the decisions are made in `election`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from controller.runtime.client import ResourceClient
from controller.runtime.clock import Clock
from controller.runtime.election import Election, ElectionSettings, LeaseRecord, Role
from controller.runtime.errors import ApiError, Conflict, NotFound
from controller.runtime.metrics import RuntimeMetrics, private_metrics
from controller.runtime.resource import RawObject, Resource, object_key

_log = structlog.get_logger(__name__)

LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")

_LONGEST_SLEEP = 1.0
"""Roles also change by time alone."""

RoleListener = Callable[[Role, Role], None]
"""``listener(before, after)``."""


@dataclass(frozen=True, slots=True)
class LeaseLock:
    """One Lease that a replica writes under its name.

    Attributes:
        client: Writes it.
        namespace: Where it lies.
        name: Its name.
        identity: Name of this replica, unique among all that run at the same time; one that is started again under
            the same name need not wait for a Lease that it held to expire.
        labels: Labels of the Lease, by which watches find it.
    """

    client: ResourceClient
    namespace: str
    name: str
    identity: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Key of the Lease."""
        return object_key(self.namespace, self.name)

    @property
    def metadata(self) -> dict[str, Any]:
        """What it is called and labelled."""
        return {"name": self.name, "namespace": self.namespace, "labels": dict(self.labels)}


class LeaderElector:
    """Takes part in the election until it is cancelled, and then makes room for another replica.

    Args:
        lock: The Lease.
        clock: Source of time.
        settings: Times.
        metrics: Where the role is shown.
    """

    def __init__(
        self,
        lock: LeaseLock,
        *,
        clock: Clock,
        settings: ElectionSettings | None = None,
        metrics: RuntimeMetrics | None = None,
    ) -> None:
        self._lock = lock
        self._clock = clock
        self._election = Election(lock.identity, settings or ElectionSettings(), now=clock.monotonic())
        self._master = (metrics or private_metrics()).leader.labels(name=lock.name)
        self._announced = Role.FOLLOWING
        self._listeners: list[RoleListener] = []
        self._woken = asyncio.Event()
        self._master.set(0)

    @property
    def identity(self) -> str:
        """Name of this replica."""
        return self._election.identity

    @property
    def holder(self) -> str:
        """Identity of the replica that holds the Lease, as last seen; ``""`` for nobody."""
        record = self._election.record
        return record.holder if record else ""

    def role(self) -> Role:
        """What this replica may do at this very moment."""
        return self._election.role(self._clock.monotonic())

    def on_role(self, listener: RoleListener) -> None:
        """Call ``listener(before, after)`` on the event loop after each change."""
        self._listeners.append(listener)

    def saw(self, record: LeaseRecord | None) -> None:
        """The watch has brought the Lease, or its deletion."""
        self._election.saw(record, self._clock.monotonic())
        self._woken.set()

    async def run(self) -> None:
        """Take part; on cancellation a leader releases the Lease, so that the next one need not wait for it to expire."""
        try:
            while True:
                now = self._clock.monotonic()
                if self._election.next_attempt(now) <= 0:
                    await self._attempt()
                self._announce()
                wait = self._election.next_attempt(self._clock.monotonic())
                if wait > 0:
                    await self._pause(min(wait, _LONGEST_SLEEP))
        finally:
            led = self.role() is Role.LEADING
            record = self._election.record
            self._election.resign()
            self._announce()
            if led and record:
                await self._release(record)

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless the watch has news."""
        self._woken.clear()
        timer = self._clock.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()

    async def _attempt(self) -> None:
        sent_at = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._election.patience(sent_at)):
                stored = await self._write()
        except Conflict:
            await self._read_again()
        except (ApiError, TimeoutError) as error:
            retry_after = (error.retry_after if isinstance(error, ApiError) else None) or 0.0
            period = self._election.settings.retry_period
            self._election.failed(self._clock.monotonic(), min(max(retry_after, period), 2 * period))
            _log.info("lease_not_written", lease=self._lock.name, error=str(error) or "no answer in time")
            if isinstance(error, NotFound):
                self._election.saw(None, self._clock.monotonic())
        else:
            self._election.wrote(LeaseRecord.of(stored), sent_at)

    async def _write(self) -> RawObject:
        record = self._election.record
        spec = self._election.spec(self._clock.now())
        if record is None:
            return await self._lock.client.create({"metadata": self._lock.metadata, "spec": spec})
        metadata = {**self._lock.metadata, "resourceVersion": record.resource_version}
        return await self._lock.client.update({"metadata": metadata, "spec": spec})

    async def _read_again(self) -> None:
        """Someone else was faster; the watch may be slow to say so."""
        self._election.failed(self._clock.monotonic(), self._election.settings.retry_period)
        lease: RawObject | None = None
        try:
            lease = await self._lock.client.get(self._lock.key)
        except NotFound:
            pass
        except ApiError as error:
            _log.info("lease_not_read", lease=self._lock.name, error=str(error))
            return
        self._election.read(LeaseRecord.of(lease) if lease else None, self._clock.monotonic())

    async def _release(self, record: LeaseRecord) -> None:
        metadata = {**self._lock.metadata, "resourceVersion": record.resource_version}
        try:
            async with asyncio.timeout(self._election.settings.retry_period):
                await self._lock.client.update(
                    {"metadata": metadata, "spec": self._election.released(self._clock.now())}
                )
        except (ApiError, TimeoutError) as error:
            _log.info("lease_not_released", lease=self._lock.name, error=str(error) or "no answer in time")

    def _announce(self) -> None:
        before, after = self._announced, self.role()
        if before is after:
            return
        self._announced = after
        self._master.set(1 if after is Role.LEADING else 0)
        _log.info("role_changed", lease=self._lock.name, before=before, after=after, holder=self.holder)
        for listener in self._listeners:
            listener(before, after)
