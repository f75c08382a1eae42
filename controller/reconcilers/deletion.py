"""A rollout is deleted: its candidate goes, then its routes, then the object.

The finalizer keeps the object until the routers have let go. Every replica takes its own routers through the two steps;
the leader then removes the finalizer. A router that does not answer delays that for a while and not for ever.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import structlog

from controller.adapters.ports import DataPlane
from controller.reconcilers.fleet import Fleet
from controller.reconcilers.observed import ObservedRollout
from controller.reconcilers.traffic import TrafficPublisher
from controller.runtime.clock import Clock
from controller.runtime.controller import Result
from controller.runtime.errors import Conflict, NotFound
from controller.runtime.writes import WriteThrough

FINALIZER = "agentrollout.dev/router"
"""On every AgentRollout that was ever served."""

PATIENCE_SECONDS = 30.0
"""How long connected routers have for both steps."""

_log = structlog.get_logger(__name__)


class Deletion:
    """Holds rollouts until the routers have let go of them.

    Args:
        publisher: Serves a rollout that is being deleted without its candidate; takes its routes off.
        own: The routers that are connected to this replica.
        fleet: Those of all replicas.
        client: Of AgentRollouts.
        clock: Measures patience.
    """

    def __init__(
        self,
        publisher: TrafficPublisher,
        own: DataPlane,
        fleet: Fleet,
        client: WriteThrough[ObservedRollout],
        clock: Clock,
    ) -> None:
        self._publisher = publisher
        self._own = own
        self._fleet = fleet
        self._client = client
        self._clock = clock
        self._since: dict[str, tuple[str, float]] = {}

    async def hold(self, observed: ObservedRollout) -> bool:
        """Add the finalizer before anything is served; whether it was missing. Decide anew then.

        Raises:
            ApiError: It could not be added.
        """
        kept = observed.rollout.metadata.finalizers
        if FINALIZER in kept:
            return False
        await self._set(observed, [*kept, FINALIZER])
        return True

    def withdraw(self, observed: ObservedRollout) -> Result:
        """Take the routers of this replica a step further: once nobody reaches the candidate, the routes go."""
        key, uid = observed.rollout.metadata.key, observed.rollout.metadata.uid
        if (
            key not in self._since or self._since[key][0] != uid
        ):  # a namesake made anew has all the patience again
            self._since[key] = uid, self._clock.monotonic()
        table, programmed = self._publisher.published(key), self._own.programmed(key)
        if table is None or programmed.serves(table) or not programmed.instances or not self._left(key):
            self._publisher.withdraw(key)
            return Result()
        return Result(self._left(key))

    async def finish(self, observed: ObservedRollout) -> Result:
        """`withdraw`, and remove the finalizer once no router of any replica serves the rollout.

        Raises:
            ApiError: It could not be removed.
        """
        metadata = observed.rollout.metadata
        waiting = self.withdraw(observed)
        if FINALIZER not in metadata.finalizers:
            return waiting
        is_removed = self._publisher.is_withdrawn(metadata.key) and self._fleet.is_removed(metadata.key)
        if not is_removed and self._left(metadata.key):
            return Result(self._left(metadata.key))
        if not is_removed:
            _log.warning("deleted_without_acknowledgement", seconds=PATIENCE_SECONDS)
        with suppress(NotFound):
            await self._set(observed, [each for each in metadata.finalizers if each != FINALIZER])
        return Result()

    def forget(self, key: str) -> None:
        """The object is gone."""
        self._since.pop(key, None)

    def _left(self, key: str) -> float:
        return max(self._since[key][1] + PATIENCE_SECONDS - self._clock.monotonic(), 0.0)

    async def _set(self, observed: ObservedRollout, finalizers: list[str]) -> None:
        metadata = observed.rollout.metadata
        changes: dict[str, Any] = {"metadata": {"finalizers": finalizers}}
        try:
            await self._client.merge(
                metadata.key, changes, resource_version=metadata.resource_version, uid=metadata.uid
            )
        except Conflict:
            # Do not wait for the watch, which may be half open, to tell what has changed.
            await self._client.get(metadata.key)
            raise
