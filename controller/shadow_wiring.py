"""Puts the parts of the shadow process together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time

import structlog
from prometheus_client import CollectorRegistry

from controller.adapters.asking import HttpAgents
from controller.adapters.cron import Cron
from controller.adapters.envoy.capture import Capture
from controller.adapters.judges.loading import JudgeHandle, load_judges
from controller.adapters.queues.memory import MemoryQueue
from controller.adapters.records import SqlRecords
from controller.adapters.shadow_ports import Queue, Records
from controller.core.shadow.exchange import Exchange
from controller.core.shadow.pairing import Pairing
from controller.core.shadow.recognisers import Found, Recogniser, built_in
from controller.runtime.clock import Clock, SystemClock
from controller.runtime.manager import Manager
from controller.runtime.metrics import process_metrics
from controller.settings import Address, Redactor, ShadowSettings
from controller.shadow.captured import CaptureMetrics
from controller.shadow.funnel import FORGOTTEN_AFTER_SECONDS, Funnel
from controller.shadow.health import check_health
from controller.shadow.intake import Intake
from controller.shadow.panel import JudgePanel
from controller.shadow.replays import Replays
from controller.shadow.worker import Workers
from controller.web import HttpServer, create_app

REMOVED_AT_HOUR = 3
CHECKED_AT_HOUR = 4
"""UTC."""

HANDING_OVER_SECONDS = 10.0
"""How long a process that stops waits for the queue to take what was captured."""

_log = structlog.get_logger(__name__)


async def run_shadow(settings: ShadowSettings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        ValueError: A setting is wrong; the message says which.
        OSError: An address cannot be bound, or the queue cannot be reached.
        RecordsError: The database cannot be used.
    """
    clock = SystemClock()
    recognise = recogniser(settings)
    judges = load_judges(settings.judges, clock=clock)
    try:
        records = SqlRecords(settings.records)
    except ValueError as error:
        raise ValueError(f"--records: {error}") from error
    queue = await _queue(settings)
    try:
        _restore_budgets(judges, records, clock)
        parts = _Parts(settings, recognise, judges, records, queue, clock)
        parts.manager.stop_on_signals()
        try:
            await parts.manager.run()
        finally:
            await parts.finish()
    finally:
        lost = await queue.close()
        if lost:
            _log.warning("queue_lost", comparisons=lost, reason="the queue is in memory")
        for handle in judges.values():
            await handle.close()
        records.close()


def recogniser(settings: ShadowSettings) -> Recogniser:
    """What finds personal data, as it was asked for.

    Raises:
        ValueError: Presidio or its model is not installed.
    """
    if settings.redactor is Redactor.BUILT_IN:
        return built_in
    try:
        from controller.adapters.presidio import PresidioRecogniser  # noqa: PLC0415  an extra, and slow to import

        presidio = PresidioRecogniser(settings.presidio_model)
    except ImportError as error:
        raise ValueError("--redactor presidio: install agentrollout with the extra `presidio`") from error
    except OSError as error:
        raise ValueError(
            f"--presidio-model: no spaCy model {settings.presidio_model} is installed, and none is downloaded"
        ) from error

    def both(text: str) -> Iterator[Found]:
        yield from built_in(text)
        yield from presidio(text)

    return both


class _Parts:
    """Everything that runs."""

    def __init__(
        self,
        settings: ShadowSettings,
        recognise: Recogniser,
        judges: dict[str, JudgeHandle],
        records: Records,
        queue: Queue,
        clock: Clock,
    ) -> None:
        registry = CollectorRegistry()
        process_metrics(registry)
        self._settings, self._records, self._clock = settings, records, clock
        self._funnel = Funnel(registry, clock.monotonic)
        self._funnel.pending("queue", lambda: queue.waiting)
        self._panel = JudgePanel(judges, check_health, registry, clock)
        self._agents = HttpAgents(at_once=settings.replays) if settings.replays else None
        replays = Replays(self._agents, self._funnel, settings.replays) if self._agents else None
        self._intake = Intake(Pairing(), recognise, queue, self._funnel, clock, replays)
        workers = Workers(queue, self._panel, records, self._funnel, clock=clock, count=settings.workers)
        self.manager = Manager()
        app = create_app(live=self.manager.live, ready=self.manager.ready, registry=registry)
        web = HttpServer(app, settings.http_address.host, settings.http_address.port)
        self.manager.add_runnable("http", web.run, before_sync=True)
        self.manager.add_runnable("cron", self._cron().run)
        if settings.capture_address is not None:
            self.manager.add_runnable("pairing", self._intake.run)
            captures = _Captures(self._hear, settings.capture_address, registry)
            self.manager.add_controller(captures)
            self.manager.add_ready_check(lambda: captures.problem)
        if settings.workers:
            self.manager.add_runnable("judges", self._panel.run)
            self.manager.add_controller(workers)
        self.manager.add_ready_check(lambda: queue.problem)
        self.manager.add_ready_check(lambda: workers.problem)
        _log.info("shadow_listening", http=str(Address(settings.http_address.host, web.port)))

    async def finish(self) -> None:
        """Hand over what was captured."""
        lost = await self._intake.finish(HANDING_OVER_SECONDS)
        if lost:
            _log.warning("captured_lost", comparisons=lost, reason="they were not in the queue yet")
        if self._agents is not None:
            await self._agents.close()

    def _hear(self, exchange: Exchange) -> None:
        if self._settings.workers:
            self._panel.know(exchange.subject)
        self._intake.take(exchange)

    def _cron(self) -> Cron:
        cron = Cron()
        cron.daily("remove old records", REMOVED_AT_HOUR, self._remove_old)
        if self._settings.workers:
            cron.daily("check judges", CHECKED_AT_HOUR, self._panel.check_all)
        return cron

    async def _remove_old(self) -> None:
        self._funnel.forget_old()
        self._panel.forget_old(FORGOTTEN_AFTER_SECONDS)
        before = self._clock.now() - self._settings.retention
        removed = await asyncio.to_thread(self._records.remove_before, before.timestamp())
        _log.info("old_records_removed", comparisons=removed)


class _Captures:
    """The server that routers send to, as a part that is stopped like a controller: no capture is cut off."""

    name = "capture"

    def __init__(
        self, hear: Callable[[Exchange], None], address: Address, registry: CollectorRegistry
    ) -> None:
        self._capture, self._address = Capture(hear), address
        CaptureMetrics(registry, self._capture)
        self._stop = asyncio.Event()
        self.problem = "the capture does not listen yet"

    async def run(self) -> None:
        port = await self._capture.start(self._address.host, self._address.port)
        self.problem = ""
        _log.info("capture_listening", address=str(Address(self._address.host, port)))
        try:
            await self._stop.wait()
        finally:
            await self._capture.stop()

    def stop(self) -> None:
        self._stop.set()


async def _queue(settings: ShadowSettings) -> Queue:
    if settings.queue is None:
        return MemoryQueue()
    try:
        from controller.adapters.queues.nats import NatsQueue  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ValueError("--queue: install agentrollout with the extra `nats`") from error
    return await NatsQueue.connect(settings.queue)


def _restore_budgets(judges: dict[str, JudgeHandle], records: Records, clock: Clock) -> None:
    """What was spent today counts after a restart, too."""
    today = clock.now().date()
    for spent in records.spent(datetime.combine(today, time(), UTC).timestamp()):
        if spent.judge in judges:
            judges[spent.judge].restore(spent.rollout, today, spent.tokens, spent.cost)
