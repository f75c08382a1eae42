"""AgentRevision: one immutable artifact."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from controller.api.agent import Agent
from controller.api.model import Model, ObjectMeta
from controller.api.quantities import rule


class RevisionSpec(Model):
    """The artifact and its ID; never changes."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self == oldSelf",
                    "spec is immutable: change the AgentRollout's spec.agent to get a new revision",
                )
            ]
        }
    )

    rollout: Annotated[str, Field(max_length=52)] = Field(description="Name of the AgentRollout.")
    artifact_id: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")] = Field(
        description="sha256 of the agent's canonical JSON (RFC 8785)."
    )
    agent: Agent


class AgentRevision(Model):
    """One artifact: code, prompts, model settings and dependencies under the hash of them all."""

    metadata: ObjectMeta
    spec: RevisionSpec
