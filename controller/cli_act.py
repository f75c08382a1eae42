"""What a person asks of a rollout: a RolloutAction under their own name, and what became of it."""

from __future__ import annotations

import asyncio
from typing import Any

import typer

from controller.api.action import ActionName, ActionPhase
from controller.api.agent import Agent
from controller.cli_cluster import Cluster, in_cluster
from controller.cli_values import Where, fail
from controller.core.artifact import artifact_id, spec_hash
from controller.display.words import short
from controller.errors import ExitCode
from controller.reconcilers.actions import ACTIONS
from controller.reconcilers.observed import REVISIONS, ROLLOUTS
from controller.runtime.resource import RawObject

_REVIEW = "authentication.k8s.io/v1"

WAIT_SECONDS = 60.0
"""For the operator to decide; one that has to be started, or elected, takes half of it."""


def run(action: ActionName, name: str, reason: str, artifact: str | None, where: Where) -> None:
    """See ``controller.cli_actions``."""
    in_cluster(where, lambda cluster: act(cluster, action, name, reason, artifact))


async def act(
    cluster: Cluster, action: ActionName, name: str, reason: str, artifact: str | None = None
) -> None:
    """Ask, wait, and say what became of it; unless it was done, the command ends with 1."""
    rollout, me = await asyncio.gather(cluster.get(ROLLOUTS, name), _myself(cluster))
    bound = await _named(cluster, artifact) if artifact else bound_to(rollout, action)
    if not bound:
        fail(f"{cluster.namespace}/{name} {_NOTHING[action is ActionName.RETRY]}", ExitCode.FAILED)
    created = await cluster.client(ACTIONS).create(
        {
            "metadata": {"namespace": cluster.namespace, "generateName": f"{name}-{action.verb}-"},
            "spec": {
                "rollout": name,
                "artifactID": bound,
                "action": action,
                "reason": reason,
                "requestedBy": me,
            },
        }
    )
    own = created["metadata"]["name"]
    decided = await cluster.until(ACTIONS, own, _is_decided, WAIT_SECONDS)
    if decided is None:
        fail(
            f"no operator has looked at RolloutAction {own} within {WAIT_SECONDS:g} s. It stays, and counts once one does; "
            f"kubectl delete ract {own} -n {cluster.namespace} takes it back",
            ExitCode.FAILED,
        )
    status = decided["status"]
    said = f"{action} of {name} ({short(bound)}) by {me}: {status['phase']}, {status.get('message', '')}"
    if status["phase"] != ActionPhase.APPLIED:
        fail(said, ExitCode.FAILED)
    typer.echo(said)


_NOTHING = (
    "has no candidate, so there is nothing to decide on",
    "has taken no version back, so there is nothing to retry",
)


def bound_to(rollout: RawObject, action: ActionName) -> str:
    """The artifact that a person means who names none; empty if there is none to mean.

    Args:
        rollout: As stored.
        action: What is asked.
    """
    status: dict[str, Any] = rollout.get("status") or {}
    back = status.get("lastRollback") or {}
    if action is ActionName.RETRY:
        return _wanted(rollout) or str(back["artifactID"]) if back else ""
    if action is ActionName.RESUME and status.get("killed"):
        # The kill has taken the candidate; what may start anew is what the spec wants.
        return _wanted(rollout) or str(back.get("artifactID", ""))
    return str((status.get("candidate") or {}).get("artifactID", ""))


def _wanted(rollout: RawObject) -> str:
    """The artifact of the spec as it is now; empty if it refers to what the operator has not read yet."""
    agent = Agent.model_validate(rollout["spec"]["agent"])
    if not agent.prompts_from:
        return artifact_id(agent)
    written = spec_hash(agent)
    resolved = (rollout.get("status") or {}).get("resolved") or ()
    return next((str(each["artifactID"]) for each in resolved if each["specHash"] == written), "")


async def _named(cluster: Cluster, artifact: str) -> str:
    """The ID of an artifact that is named by it, or by its AgentRevision."""
    if artifact.startswith("sha256:"):
        return artifact
    return str((await cluster.get(REVISIONS, artifact))["spec"]["artifactID"])


async def _myself(cluster: Cluster) -> str:
    """The name under which the API server knows whoever runs this."""
    answer = await cluster.transport.request(
        "POST",
        f"/apis/{_REVIEW}/selfsubjectreviews",
        body={"apiVersion": _REVIEW, "kind": "SelfSubjectReview"},
        timeout=10.0,
    )
    return str(answer["status"]["userInfo"]["username"])


def _is_decided(action: RawObject) -> bool:
    phase = (action.get("status") or {}).get("phase", ActionPhase.PENDING)
    return bool(phase != ActionPhase.PENDING)
