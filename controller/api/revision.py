"""AgentRevision: one immutable artifact."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, WithJsonSchema

from controller.api.agent import FrozenAgent
from controller.api.model import Model, ObjectMeta
from controller.api.quantities import rule

_ARTIFACT_ID = "^sha256:[0-9a-f]{64}$"

ArtifactID = Annotated[
    str,
    Field(pattern=_ARTIFACT_ID),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 71,
            "x-kubernetes-validations": [
                rule(f"self.matches('{_ARTIFACT_ID}')", "must be sha256: and 64 digits of 0-9 and a-f")
            ],
        }
    ),
]


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
    artifact_id: ArtifactID = Field(description="sha256 of the agent's canonical JSON (RFC 8785).")
    agent: FrozenAgent = Field(
        description="The agent as it was when it became a version; texts of ConfigMaps are in its prompts."
    )


class AgentRevision(Model):
    """One artifact: code, prompts, model settings and dependencies under the hash of them all."""

    metadata: ObjectMeta
    spec: RevisionSpec
