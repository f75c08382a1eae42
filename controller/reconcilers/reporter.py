"""Tells the leader what the routers of this replica acknowledged, see `fleet`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from controller.adapters.ports import TrafficRouter
from controller.core.snapshot import Latch
from controller.reconcilers.fleet import CUT_SECONDS, REPORT, Fleet, Report, digest
from controller.reconcilers.recent import RecentCandidates
from controller.reconcilers.traffic import TrafficPublisher
from controller.runtime.clock import Clock
from controller.runtime.errors import ApiError, NotFound
from controller.runtime.leader import LeaseLock

_log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 10.0
COALESCE_SECONDS = 0.05
"""Many splits change at once; one report tells of them all."""
RETRY_SECONDS = 2.0
REMEMBERED_SECONDS = 10 * CUT_SECONDS
"""So long after a cut its acknowledgement is reported; no leader asks for it as long."""
MAX_PENDING = 1000
MAX_LATCHES = 200
MAX_MESSAGE = 300
"""An object of the API has room for some 250 KiB of annotations."""


class FleetReporter:
    """Keeps the report of this replica up to date while another one may lead.

    Args:
        lock: The Lease of this replica's report.
        fleet: Knows which replicas have been gone for long; the leader removes their reports.
        router: The routers that are connected here.
        publisher: What is wanted of them, and the cuts.
        clock: Source of time.
    """

    def __init__(
        self,
        lock: LeaseLock,
        *,
        fleet: Fleet,
        router: TrafficRouter,
        publisher: TrafficPublisher,
        clock: Clock,
    ) -> None:
        self._lock = lock
        self._fleet = fleet
        self._router = router
        self._publisher = publisher
        self._clock = clock
        self._acknowledged: dict[str, str] = {}
        self._recent = RecentCandidates(clock, REMEMBERED_SECONDS)
        self._pending: set[str] = set()
        self._leading = False
        self._reported, self._reported_at = Report(lock.identity, ""), clock.monotonic()
        self._changed = asyncio.Event()
        router.on_change(self.note)
        publisher.on_change(self.note)

    def note(self, key: str) -> None:
        """The rollout's table, its latch or what the routers acknowledged of it may have changed."""
        table = self._publisher.published(key)
        served = table is not None and self._router.programmed(key).serves(table)
        self._acknowledged.pop(key, None)
        self._pending.discard(key)
        if self._recent.note(key, table) and table is not None and served:
            self._acknowledged[key] = digest(table)
        if (table is not None and table.candidate is None and not served) or (
            self._publisher.is_withdrawn(key) and self._router.programmed(key).table is not None
        ):
            self._pending.add(key)
        self._changed.set()

    def leads(self, leading: bool) -> None:
        """Whether this replica leads, and thus has nobody to report to."""
        self._leading = leading
        self._changed.set()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            self._changed.clear()
            try:
                await (self._tidy() if self._leading else self._report())
            except ApiError as error:
                _log.info("report_not_written", error=str(error))
                wait = max(error.retry_after or 0.0, RETRY_SECONDS)
                await self._clock.sleep(min(wait, HEARTBEAT_SECONDS))
            else:
                await self._news()

    async def _report(self) -> None:
        """Write what there is to say; who has nothing to say and had nothing before need not write at all."""
        report = self._current()
        if replace(report, renewed="") == replace(self._reported, renewed="") and not self._beat_is_due(
            report
        ):
            return
        await self._lock.client.apply(
            {
                "metadata": {**self._lock.metadata, "annotations": {REPORT: report.to_json()}},
                "spec": {
                    "holderIdentity": self._lock.identity,
                    "leaseDurationSeconds": round(3 * HEARTBEAT_SECONDS),
                    "renewTime": report.renewed,
                },
            },
            force=True,
        )
        self._reported, self._reported_at = report, self._clock.monotonic()

    def _beat_is_due(self, report: Report) -> bool:
        """Who has nothing to say need not go on saying so."""
        silent = (report.routers, report.latches) == (frozenset(), {})
        return not silent and self._clock.monotonic() - self._reported_at >= HEARTBEAT_SECONDS

    def _current(self) -> Report:
        routers, many = self._router.routers, len(self._pending) > MAX_PENDING
        for key in self._recent.forget_old():
            self._acknowledged.pop(key, None)
        latches = [(key, latch) for key, latch in self._publisher.latches().items() if latch.reason]
        return Report(
            replica=self._lock.identity,
            renewed=self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            routers=routers,
            acknowledged=frozenset(self._acknowledged.values()) if routers else frozenset(),
            pending=frozenset(self._pending) if routers and not many else frozenset(),
            many_pending=bool(routers) and many,
            latches={key: _short(latch) for key, latch in latches[:MAX_LATCHES]},
        )

    async def _tidy(self) -> None:
        """Remove the reports of replicas that have been gone for long."""
        for key in self._fleet.forgotten():
            try:
                await self._lock.client.delete(key)
            except NotFound:
                continue
            _log.info("report_removed", lease=key)

    async def _news(self) -> None:
        """Until there is some, or it is time for a heartbeat; and a moment longer for what comes together with it."""
        timer = self._clock.call_later(HEARTBEAT_SECONDS, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()
        await self._clock.sleep(COALESCE_SECONDS)


def _short(latch: Latch) -> Latch:
    return replace(latch, message=latch.message[:MAX_MESSAGE])
