"""What a replica does with a key, by its role in the election."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from controller.api.rollout import AgentRollout
from controller.reconcilers.deletion import Deletion
from controller.reconcilers.metrics import RolloutMetrics
from controller.reconcilers.observed import ObservedRollout
from controller.reconcilers.rollouts import RolloutReconciler
from controller.reconcilers.traffic import TrafficPublisher
from controller.runtime.controller import Result
from controller.runtime.election import Role
from controller.runtime.store import Store
from controller.runtime.workqueue import WorkQueue

IDLE_SPACING_SECONDS = 0.005
"""Between the rollouts without a candidate that a new leader looks at."""


class RoleReconciler:
    """Reconciles as the leader, guards while nobody leads, and rests while another replica does.

    Losing the Lease cancels the leader's running reconciles: what they were about to write is somebody else's to
    decide now. Their cuts are latched and stay.

    Args:
        role: The role at this very moment; asked again for each key, also after the process was paused.
        reconciler: Does the work.
        rollouts: Store of AgentRollouts.
        publisher: Holds the cuts.
        queue: Where the keys come from.
        metrics: Shows what the leader decides.
        deletion: Takes the routes of deleted rollouts from this replica's routers.
    """

    def __init__(
        self,
        role: Callable[[], Role],
        reconciler: RolloutReconciler,
        *,
        rollouts: Store[ObservedRollout],
        publisher: TrafficPublisher,
        queue: WorkQueue,
        metrics: RolloutMetrics,
        deletion: Deletion,
    ) -> None:
        self._role = role
        self._reconciler = reconciler
        self._rollouts = rollouts
        self._publisher = publisher
        self._queue = queue
        self._metrics = metrics
        self._deletion = deletion
        self._running: set[asyncio.Task[Result]] = set()

    async def reconcile(self, key: str) -> Result:
        """Do with the key what the role asks for."""
        role, observed = self._role(), self._rollouts.get(key)
        if observed is None:
            self._deletion.forget(key)
        elif role is not Role.LEADING and observed.rollout.metadata.deletion_timestamp:
            return self._deletion.withdraw(observed)
        match role:
            case Role.LEADING:
                return await self._lead(key)
            case Role.GUARDING:
                return await self._reconciler.guard(key)
            case Role.FOLLOWING:
                return Result()

    def role_changed(self, before: Role, after: Role) -> None:
        """Stop what the old role did, and look at everything that the new one is concerned with."""
        if before is Role.LEADING:
            for task in self._running:
                task.cancel()
            self._reconciler.drop_unsaved()
            self._metrics.clear()
        if after is Role.FOLLOWING:
            self._publisher.release_without_reason()
            return
        delivering = [o.rollout.metadata.key for o in self._rollouts.list() if _is_busy(o.rollout)]
        for key in delivering:
            self._queue.add(key)
        if after is Role.LEADING:
            # In one go, thousands that are idle would stand in front of the next evaluation of those that are not.
            everyone = {*self._rollouts.keys(), *self._rollouts.invalid_keys()}
            for number, key in enumerate(sorted(everyone.difference(delivering))):
                self._queue.add_after(key, number * IDLE_SPACING_SECONDS)

    async def _lead(self, key: str) -> Result:
        task = asyncio.create_task(self._reconciler.reconcile(key))
        self._running.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            return Result(0.0)  # the Lease is lost; the key is looked at in the new role
        finally:
            self._running.discard(task)


def _is_busy(rollout: AgentRollout) -> bool:
    """Whether a candidate is on its way, or somebody wanted something while nobody led."""
    metadata, status = rollout.metadata, rollout.status
    going = metadata.deletion_timestamp is not None
    return going or status.candidate is not None or status.observed_generation != metadata.generation
