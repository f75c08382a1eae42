"""Brings what references lead to into a snapshot: the artifact that the spec wants, and what has drifted.

This is the last thing that is gathered. A cut is decided without it, and what cannot be read keeps nothing from
serving: it only keeps a new version from being made.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import structlog

from controller.api.agent import Agent, FrozenAgent
from controller.api.reasons import Reason
from controller.core.artifact import revision_name, spec_hash
from controller.core.references import UNRESOLVED, NoContent, Resolved, drift_of, records_in_force, resolve
from controller.core.snapshot import Drift, Problem, Snapshot
from controller.reconcilers.observed import ObservedRollout
from controller.reconcilers.sources import Sources
from controller.runtime.client import ResourceClient
from controller.runtime.errors import Conflict

_log = structlog.get_logger(__name__)

RETRY_SECONDS = 30.0
"""Until something that could not be read is asked for again; what is not there announces itself by the watch."""

PATIENCE_SECONDS = 1.0
"""While a candidate is watched, its next evaluation must not wait long for a reference."""

TOO_LATE = Problem(
    Reason.REFERENCE_UNREADABLE,
    f"spec.agent.promptsFrom: no answer from the API server within {PATIENCE_SECONDS:g} s",
)


@dataclass(frozen=True, slots=True)
class Referred:
    """A snapshot with references.

    Attributes:
        snapshot: The snapshot.
        agent: The wanted agent with what its references led to, if they were resolved just now.
        retry_after: Seconds until it should be looked at again.
    """

    snapshot: Snapshot
    agent: FrozenAgent | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class References:
    """Resolves and compares references.

    Attributes:
        rollout_client: Reads specs; the store keeps no prompts.
        sources: Reads what they refer to.
    """

    rollout_client: ResourceClient
    sources: Sources

    async def refer(self, observed: ObservedRollout, snapshot: Snapshot, *, creating: bool) -> Referred:
        """The snapshot with references resolved where they were not, and compared where they were.

        Args:
            observed: The rollout.
            snapshot: What was gathered of it.
            creating: Whether the wanted artifact's AgentRevision is about to be made.

        Raises:
            ApiError: The spec cannot be read, or has changed.
        """
        hurry = PATIENCE_SECONDS if snapshot.rollout.status.candidate else None
        try:
            async with asyncio.timeout(hurry):
                if snapshot.problem is UNRESOLVED:
                    return await self._compare(await self._resolve(observed, snapshot))
                if creating and observed.spec_hash and _is_revision_missing(snapshot):
                    return await self._compare(await self._restore(observed, snapshot))
                return await self._compare(Referred(snapshot))
        except TimeoutError:
            late = replace(snapshot, problem=TOO_LATE) if snapshot.problem is UNRESOLVED else snapshot
            return Referred(late, retry_after=RETRY_SECONDS)

    async def _resolve(self, observed: ObservedRollout, snapshot: Snapshot) -> Referred:
        found = await self._read(observed)
        if isinstance(found, Problem):
            return Referred(replace(snapshot, problem=found), retry_after=_retry(found.reason))
        return _with(snapshot, observed, found)

    async def _restore(self, observed: ObservedRollout, snapshot: Snapshot) -> Referred:
        """What a version was made of is kept by its AgentRevision alone; where that is gone, only the same will do."""
        found = await self._read(observed)
        if isinstance(found, Resolved) and found.record.artifact_id == snapshot.artifact_id:
            return Referred(snapshot, found.agent)
        status = snapshot.rollout.status
        if any(ref and ref.artifact_id == snapshot.artifact_id for ref in (status.stable, status.candidate)):
            _log.warning("revision_lost", artifact=snapshot.artifact_id)
            return Referred(snapshot)
        if isinstance(found, Problem):
            unresolved = replace(snapshot, artifact_id="", resolved=None, problem=found)
            return Referred(unresolved, retry_after=_retry(found.reason))
        return _with(snapshot, observed, found)

    async def _read(self, observed: ObservedRollout) -> Resolved | Problem:
        metadata = observed.rollout.metadata
        agent = Agent.model_validate((await self.rollout_client.get(metadata.key))["spec"]["agent"])
        if spec_hash(agent) != observed.spec_hash:
            raise Conflict(f"spec.agent of {metadata.key} has changed since it was seen")
        found = resolve(agent, await self.sources.read(metadata.namespace, agent.prompts_from))
        if isinstance(found, Resolved):
            _log.info(
                "references_resolved", artifact=found.record.artifact_id, references=len(agent.prompts_from)
            )
        return found

    async def _compare(self, referred: Referred) -> Referred:
        snapshot = referred.snapshot
        rollout = snapshot.rollout
        records = records_in_force(rollout.status, snapshot.artifact_id, snapshot.resolved)
        if not records:
            return referred
        drift: list[Drift] = []
        retry = referred.retry_after
        for record in records:
            sources = {ref.prompt: ref for ref in record.references}
            found = await self.sources.compare(rollout.metadata.namespace, sources)
            drift += drift_of(rollout.metadata.name, record, found)
            unread = (each.reason for each in found.values() if isinstance(each, NoContent))
            retry = next(filter(None, map(_retry, unread)), retry)
        return replace(referred, snapshot=replace(snapshot, drift=tuple(drift)), retry_after=retry)


def _retry(reason: Reason) -> float | None:
    return RETRY_SECONDS if reason is Reason.REFERENCE_UNREADABLE else None


def _with(snapshot: Snapshot, observed: ObservedRollout, found: Resolved) -> Referred:
    artifact = found.record.artifact_id
    revision = revision_name(observed.rollout.metadata.name, artifact)
    backend = observed.backend and replace(observed.backend, revision=revision, artifact_id=artifact)
    resolved = replace(
        snapshot, artifact_id=artifact, wanted_backend=backend, problem=None, resolved=found.record
    )
    return Referred(resolved, found.agent)


def _is_revision_missing(snapshot: Snapshot) -> bool:
    return all(revision.artifact_id != snapshot.artifact_id for revision in snapshot.revisions)
