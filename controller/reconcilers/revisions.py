"""AgentRevisions: what a version is made of, kept for ever under its hash."""

from __future__ import annotations

import structlog

from controller.api.agent import Agent, AgentParts
from controller.core.artifact import artifact_id, content, revision_name
from controller.core.snapshot import Snapshot
from controller.reconcilers.observed import ROLLOUTS, ObservedRevision, ObservedRollout
from controller.runtime.errors import Conflict, NotFound
from controller.runtime.writes import WriteThrough

_log = structlog.get_logger(__name__)


async def create_revision(
    rollouts: WriteThrough[ObservedRollout],
    revisions: WriteThrough[ObservedRevision],
    snapshot: Snapshot,
    agent: AgentParts | None,
) -> None:
    """Freeze the wanted artifact under its name; ``agent`` is it, if it is at hand.

    Raises:
        Conflict: The spec has changed since the decision, or what it refers to has.
    """
    if agent is None and snapshot.resolved is not None:
        return  # it is there, or what it was made of is lost
    metadata, artifact = snapshot.rollout.metadata, snapshot.artifact_id
    wanted = agent or await _wanted_agent(rollouts, snapshot)
    await revisions.apply(
        {
            "metadata": {
                "name": revision_name(metadata.name, artifact),
                "namespace": metadata.namespace,
                "ownerReferences": [_owner(metadata.name, metadata.uid)],
            },
            "spec": {"rollout": metadata.name, "artifactID": artifact, "agent": content(wanted)},
        },
        owner=metadata.key,
    )


async def delete_revision(revisions: WriteThrough[ObservedRevision], key: str, *, owner: str) -> None:
    """Delete an AgentRevision that nobody needs any more."""
    try:
        await revisions.delete(key, owner=owner)
    except NotFound:
        return
    _log.info("revision_deleted", revision=key)


async def _wanted_agent(rollouts: WriteThrough[ObservedRollout], snapshot: Snapshot) -> AgentParts:
    """The wanted agent, which refers to nothing.

    Of a version that is served the store keeps no prompts, so the spec is read again; if it has changed since, the plan
    is no longer wanted.
    """
    key = snapshot.rollout.metadata.key
    agent = Agent.model_validate((await rollouts.get(key))["spec"]["agent"])
    if agent.prompts_from or artifact_id(agent) != snapshot.artifact_id:
        raise Conflict(f"spec.agent of {key} has changed since it was decided on")
    return agent


def _owner(name: str, uid: str) -> dict[str, object]:
    return {
        "apiVersion": ROLLOUTS.api_version,
        "kind": ROLLOUTS.kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
