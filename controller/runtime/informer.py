"""Keeps a store in step with the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Generic

from controller.runtime.client import ListerWatcher
from controller.runtime.clock import Clock
from controller.runtime.listwatch import Applied, Deleted, Event, ListFinished, ListStarted, Progressed
from controller.runtime.metrics import RuntimeMetrics, private_metrics
from controller.runtime.resource import RawObject
from controller.runtime.store import ChangeHandler, Store, T
from controller.runtime.watcher import Watcher, WatcherSettings


class Informer(Generic[T]):
    """One list+watch and its store.

    Args:
        client: Lists and watches the resource.
        project: Makes the slim projection of an object; may raise, see `Store`.
        clock: Source of waits.
        indexers: Indices of the store.
        settings: Deadlines and backoff of the watch.
        metrics: Where to count.
    """

    def __init__(
        self,
        client: ListerWatcher,
        project: Callable[[RawObject], T],
        clock: Clock,
        *,
        indexers: Mapping[str, Callable[[T], Iterable[str]]] | None = None,
        settings: WatcherSettings | None = None,
        metrics: RuntimeMetrics | None = None,
    ) -> None:
        self.name = client.resource.name
        self.store: Store[T] = Store(project, indexers=indexers)
        self._metrics = metrics or private_metrics()
        self._watcher = Watcher(client, clock, settings, self._metrics)
        self._synced = asyncio.Event()

    @property
    def has_synced(self) -> bool:
        """Whether all objects have come in once."""
        return self._synced.is_set()

    async def wait_for_sync(self) -> None:
        """Return once all objects have come in."""
        await self._synced.wait()

    @property
    def problem(self) -> str:
        """Why the last request failed; empty while all is well."""
        return self._watcher.problem

    def on_change(self, handler: ChangeHandler[T]) -> None:
        """Call ``handler(key, old, new)`` after each change of the store, see `Store.on_change`."""
        self.store.on_change(handler)

    async def run(self) -> None:
        """Follow the API server; returns only by cancellation."""
        await self._watcher.run(self._take)

    def _take(self, event: Event) -> None:
        match event:
            case ListStarted(resource_version):
                self.store.list_started(resource_version)
            case Applied(key, obj):
                self.store.applied(key, obj)
            case Deleted(key, obj):
                self.store.deleted(key, obj)
            case ListFinished(keys, resource_version):
                self.store.list_finished(keys, resource_version)
                self._synced.set()
                self._measure()
            case Progressed(resource_version):
                self.store.observed(resource_version)
                self._measure()

    def _measure(self) -> None:
        self._metrics.store_objects.labels(resource=self.name).set(len(self.store))
        self._metrics.store_invalid.labels(resource=self.name).set(self.store.invalid_count)
