"""RolloutActions: what is asked of a rollout, whether the API server checked who asks, and telling what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from controller.api import GROUP, VERSION
from controller.api.action import ActionPhase, ActionStatus, RolloutAction
from controller.api.policy import API_VERSION, BINDING, NAME, POLICY
from controller.api.reasons import Reason
from controller.api.status import ActionRecord
from controller.core.policy import policy_problem
from controller.core.snapshot import Action
from controller.reconcilers.metrics import RolloutMetrics
from controller.runtime.client import ResourceClient
from controller.runtime.clock import Clock
from controller.runtime.errors import ApiError, Conflict, Forbidden, NotFound
from controller.runtime.resource import Resource, split_key
from controller.runtime.store import Store
from controller.runtime.writes import WriteThrough

ACTIONS = Resource(GROUP, VERSION, "rolloutactions", "RolloutAction")
_ADMISSION_GROUP, _ADMISSION_VERSION = API_VERSION.split("/")
POLICIES = Resource(
    _ADMISSION_GROUP, _ADMISSION_VERSION, "validatingadmissionpolicies", POLICY["kind"], namespaced=False
)
BINDINGS = Resource(
    _ADMISSION_GROUP,
    _ADMISSION_VERSION,
    "validatingadmissionpolicybindings",
    BINDING["kind"],
    namespaced=False,
)
BY_ROLLOUT = "rollout"

POLICY_SECONDS = 1.0
"""How long a decision may wait for the policy: an API server that hangs must not keep a failing version in service."""

RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ObservedAction:
    """A RolloutAction.

    Attributes:
        key: Its own key.
        rollout: Key of the AgentRollout.
        resource_version: Of this state of it.
        created: When somebody asked.
        action: What decisions use of it.
    """

    key: str
    rollout: str
    resource_version: str
    created: datetime
    action: Action


def observe_action(raw: dict[str, Any]) -> ObservedAction:
    """The projection of a RolloutAction."""
    found = RolloutAction.model_validate(raw)
    metadata = found.metadata
    created = metadata.creation_timestamp or datetime.min.replace(tzinfo=UTC)
    return ObservedAction(
        key=metadata.key,
        rollout=f"{metadata.namespace}/{found.spec.rollout}",
        resource_version=metadata.resource_version,
        created=created,
        action=Action(
            uid=metadata.uid,
            name=metadata.name,
            # Several are created within a second; until one is decided on, its resourceVersion is that of its creation.
            order=(created, int(metadata.resource_version or 0)),
            spec=found.spec,
            phase=found.status.phase,
        ),
    )


@dataclass(frozen=True, slots=True)
class AskedFor:
    """What is asked of one rollout.

    Attributes:
        actions: All that are known, but those of which it cannot be said now whether the API server checked them.
        retry_after: When to ask again, in seconds, if there are such.
    """

    actions: tuple[Action, ...] = ()
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Actions:
    """The RolloutActions of all rollouts.

    Attributes:
        store: Of RolloutActions, with the index `BY_ROLLOUT`.
        client: Writes their status and deletes them, and `store` sees it at once.
        policies: Reads ValidatingAdmissionPolicies.
        bindings: Reads their bindings.
        clock: Of decisions about actions of rollouts that are not there.
        metrics: Where they are counted.
    """

    store: Store[ObservedAction]
    client: WriteThrough[ObservedAction]
    policies: ResourceClient
    bindings: ResourceClient
    clock: Clock
    metrics: RolloutMetrics

    def decided(self, key: str) -> tuple[Action, ...]:
        """What was asked of the rollout and decided."""
        return tuple(
            each.action for each in self.store.by_index(BY_ROLLOUT, key) if each.action.phase.is_final
        )

    def is_asked(self, key: str) -> bool:
        """Whether something is asked of the rollout that is to be decided."""
        return not all(each.action.phase.is_final for each in self.store.by_index(BY_ROLLOUT, key))

    async def of(self, key: str) -> AskedFor:
        """What is asked of the rollout, and whether the API server checked it by the policy, which is read for that."""
        known = self.store.by_index(BY_ROLLOUT, key)
        try:
            async with asyncio.timeout(POLICY_SECONDS):
                policy, binding = await asyncio.gather(_read(self.policies), _read(self.bindings))
        except Forbidden as error:
            problem = f"{Reason.POLICY_MISSING}: the operator may not read the policy of actions: {error}"
            return AskedFor(tuple(replace(each.action, problem=problem) for each in known))
        except (ApiError, TimeoutError) as error:
            _log.warning("policy_unreadable", error=str(error) or "no answer in time")
            return AskedFor(self.decided(key), RETRY_SECONDS)
        return AskedFor(
            tuple(
                replace(each.action, problem=policy_problem(policy, binding, each.created)) for each in known
            )
        )

    async def tell(self, namespace: str, records: Iterable[ActionRecord]) -> None:
        """Have actions show what became of them.

        Raises:
            ApiError: One of them could not be written.
        """
        for record in records:
            found = self.store.get(f"{namespace}/{record.name}")
            if found is None or found.action.uid != record.uid or found.action.phase.is_final:
                continue
            status = ActionStatus(phase=record.phase, message=record.message, at=record.at)
            await self._write(found, status)

    async def expire(self, key: str) -> None:
        """There is no such rollout.

        Raises:
            ApiError: One of its actions could not be written.
        """
        namespace, name = split_key(key)
        message = f"there is no AgentRollout {name} in namespace {namespace}; nothing was done"
        for found in self.store.by_index(BY_ROLLOUT, key):
            if not found.action.phase.is_final:
                status = ActionStatus(phase=ActionPhase.EXPIRED, message=message, at=self.clock.now())
                await self._write(found, status)

    async def delete(self, namespace: str, names: Iterable[str]) -> None:
        """Delete actions that the history has no place for.

        Raises:
            ApiError: One of them could not be deleted.
        """
        for name in names:
            try:
                await self.client.delete(f"{namespace}/{name}")
            except NotFound:
                continue
            _log.info("action_deleted", action=name)

    async def _write(self, found: ObservedAction, status: ActionStatus) -> None:
        try:
            await self.client.update_status(
                found.key,
                status.to_json(),
                resource_version=found.resource_version,
                uid=found.action.uid,
            )
        except NotFound:
            return  # whoever deleted it knows
        except Conflict:
            # Do not wait for the watch, which may be half open, to tell what has changed.
            with suppress(NotFound):
                await self.client.get(found.key)
            raise
        spec = found.action.spec
        self.metrics.action(found.rollout, spec.action, status.phase)
        _log.info(
            "action_decided",
            rollout=found.rollout,
            action=spec.action,
            by=spec.requested_by,
            reason=spec.reason,
            phase=status.phase,
            message=status.message,
        )


async def _read(client: ResourceClient) -> dict[str, Any] | None:
    try:
        return await client.get(NAME)
    except NotFound:
        return None
