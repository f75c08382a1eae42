"""Starts the parts of a process in order, watches over them, and stops them in the opposite order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

_log = structlog.get_logger(__name__)


class SyncedSource(Protocol):
    """What the manager needs of an `Informer`."""

    name: str

    @property
    def has_synced(self) -> bool:
        """Whether its store is complete."""

    @property
    def problem(self) -> str:
        """Why it does not get on; empty while all is well."""

    async def wait_for_sync(self) -> None:
        """Return once its store is complete."""

    async def run(self) -> None:
        """Work until cancelled."""


class Stoppable(Protocol):
    """What the manager needs of a `Controller`."""

    name: str

    async def run(self) -> None:
        """Work until `stop`, then finish and return."""

    def stop(self) -> None:
        """Ask `run` to return soon."""


@dataclass(frozen=True, slots=True)
class Health:
    """An answer to a health probe.

    Attributes:
        ok: Whether all is well.
        reasons: Why not, one sentence each.
    """

    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is nothing to complain of."""
        return not self.reasons


class PartEndedError(Exception):
    """A part that should have run on has ended by itself."""


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    task: asyncio.Task[None]
    stop: Callable[[], None] | None = None


class Manager:
    """One process' worth of informers, controllers and servers.

    Start: early runnables (health endpoints), informers; once all have synced, late runnables (whatever serves from the
    stores), then controllers. Stop: the other way round; controllers get to finish their running reconciles.

    Args:
        stop_grace: How long, in seconds, each group of parts may take to stop before it is cancelled, or, if it
            was only to be cancelled, before it is left behind.
    """

    def __init__(self, *, stop_grace: float = 20.0) -> None:
        self._stop_grace = stop_grace
        self._early: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._late: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._informers: list[SyncedSource] = []
        self._controllers: list[Stoppable] = []
        self._ready_checks: list[Callable[[], str]] = []
        self._groups: list[list[_Part]] = []
        self._stop_requested = asyncio.Event()
        self._started = False

    def add_informer(self, informer: SyncedSource) -> None:
        """Run an informer, and hold everything late back until it has synced."""
        self._informers.append(informer)

    def add_controller(self, controller: Stoppable) -> None:
        """Run a controller once all informers have synced."""
        self._controllers.append(controller)

    def add_runnable(
        self, name: str, run: Callable[[], Awaitable[None]], *, before_sync: bool = False
    ) -> None:
        """Run something else until it is cancelled, once all informers have synced unless ``before_sync``."""
        (self._early if before_sync else self._late).append((name, run))

    def add_ready_check(self, check: Callable[[], str]) -> None:
        """Be ready only while ``check()`` gives ``""``; it says else, in one sentence, why not."""
        self._ready_checks.append(check)

    def live(self) -> Health:
        """Whether the process works at all; it should be restarted if not."""
        ended = [part.name for group in self._groups for part in group if part.task.done()]
        if self._stop_requested.is_set():
            return Health()
        return Health(tuple(f"{name} has ended" for name in ended))

    def ready(self) -> Health:
        """Whether the process does its work now."""
        if self._stop_requested.is_set():
            return Health(("the process is stopping",))
        waiting = [
            f"{informer.name} is not synced" + (f": {informer.problem}" if informer.problem else "")
            for informer in self._informers
            if not informer.has_synced
        ]
        if not waiting and not self._started:
            waiting = ["the controllers are not started"]
        failed = [reason for check in self._ready_checks if (reason := check())]
        return Health((*waiting, *failed, *self.live().reasons))

    def stop(self) -> None:
        """Have `run` stop everything and return; may be called from a signal handler of the event loop."""
        self._stop_requested.set()

    def stop_on_signals(self) -> None:
        """`stop` on SIGTERM and SIGINT, from the running event loop on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)

    async def run(self) -> None:
        """Start everything and return after `stop`, when everything has stopped.

        Raises:
            PartEndedError: A part ended by itself or raised (its cause); everything else has been stopped.
        """
        try:
            self._start([(name, run, None) for name, run in self._early])
            self._start([(informer.name, informer.run, None) for informer in self._informers])
            await self._unless_stopped(self._wait_for_sync())
            if not self._stop_requested.is_set():
                self._start([(name, run, None) for name, run in self._late])
                self._start([(each.name, each.run, each.stop) for each in self._controllers])
                self._started = True
                _log.info("started", informers=len(self._informers), controllers=len(self._controllers))
            await self._unless_stopped(asyncio.Event().wait())
        finally:
            self._stop_requested.set()
            for group in reversed(self._groups):
                await self._stop_group(group)
            _log.info("stopped")

    def _start(
        self, parts: list[tuple[str, Callable[[], Awaitable[None]], Callable[[], None] | None]]
    ) -> None:
        self._groups.append(
            [_Part(name, asyncio.create_task(_run(run), name=name), stop) for name, run, stop in parts]
        )

    async def _wait_for_sync(self) -> None:
        for informer in self._informers:
            await informer.wait_for_sync()

    async def _unless_stopped(self, condition: Coroutine[Any, Any, object]) -> None:
        """Wait for the condition or the stop, whichever is first, as long as all parts run."""
        waits = [asyncio.create_task(condition), asyncio.create_task(self._stop_requested.wait())]
        parts = [part for group in self._groups for part in group]
        try:
            await asyncio.wait([*waits, *(part.task for part in parts)], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        for part in parts:
            if part.task.done() and not self._stop_requested.is_set():
                error = None if part.task.cancelled() else part.task.exception()
                raise PartEndedError(f"{part.name} ended: {error or 'without an error'}") from error

    async def _stop_group(self, group: list[_Part]) -> None:
        if not group:
            return
        tasks = [part.task for part in group]
        for part in group:
            if part.stop is not None:
                part.stop()
            else:
                part.task.cancel()
        _, late = await asyncio.wait(tasks, timeout=self._stop_grace)
        for task in late:
            _log.warning("stop_deadline_passed", part=task.get_name(), seconds=self._stop_grace)
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=self._stop_grace)
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                _log.error("part_failed", part=task.get_name(), exc_info=error)


async def _run(run: Callable[[], Awaitable[None]]) -> None:
    await run()
