"""RolloutAction: what a person asks of a rollout, and what became of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, WithJsonSchema

from controller.api.model import Model, ObjectMeta
from controller.api.quantities import Time, checked_text, rule
from controller.api.revision import ArtifactID


class ActionName(StrEnum):
    """What a person may ask for. In lower case it is the verb that RBAC has to grant on ``agentrollouts``."""

    APPROVE = "Approve"
    """Counts for the next stage that asks for approval."""
    PROMOTE = "Promote"
    """The current stage ends now, unless something has failed."""
    ABORT = "Abort"
    """The candidate is taken back at once."""
    PAUSE = "Pause"
    """No weight rises until someone resumes."""
    RESUME = "Resume"
    """Takes back a Pause."""
    RETRY = "Retry"
    """The artifact that was taken back is tried anew."""

    @property
    def verb(self) -> str:
        """The verb that RBAC has to grant."""
        return self.value.lower()


class ActionPhase(StrEnum):
    """What became of an action. The last three are final."""

    PENDING = "Pending"
    """The operator has not looked at it yet."""
    APPLIED = "Applied"
    """It was done."""
    EXPIRED = "Expired"
    """It was about something that is no longer so, such as another artifact; nothing was done."""
    REFUSED = "Refused"
    """It may not be done, or there was nothing to do; the message says why."""

    @property
    def is_final(self) -> bool:
        """Whether it was decided."""
        return self is not ActionPhase.PENDING


def _text(longest: int, what: str) -> WithJsonSchema:
    return checked_text(longest, rule("self.size() > 0", f"must say {what}"))


class ActionSpec(Model):
    """What is asked, by whom and why; never changes."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("self == oldSelf", "spec is immutable: create another RolloutAction")
            ]
        }
    )

    rollout: Annotated[str, Field(max_length=52), _text(52, "which AgentRollout it is about")] = Field(
        description="Name of the AgentRollout, in the same namespace."
    )
    artifact_id: ArtifactID = Field(
        description="The artifact that it is about: status.candidate.artifactID of the rollout or, for Retry, that of the "
        "artifact that was taken back. An action for another artifact does nothing."
    )
    action: ActionName = Field(
        description="Approve counts for the next stage that asks for approval. Promote ends the current stage now, unless "
        "something has failed. Abort takes the candidate back at once. Pause lets nothing rise until Resume. Retry tries an "
        "artifact anew that was taken back."
    )
    reason: Annotated[str, Field(max_length=1024), _text(1024, "why, for those who read the history")] = (
        Field(description="Why, for those who read the history.")
    )
    requested_by: Annotated[str, Field(max_length=512), _text(512, "who asks")] = Field(
        description="Who asks: the name under which the API server knows you (kubectl auth whoami). Another name is refused."
    )


class ActionStatus(Model):
    """What became of it."""

    phase: ActionPhase = Field(
        default=ActionPhase.PENDING,
        description="Pending until the operator has looked at it; then Applied, Expired or Refused.",
    )
    message: str = Field(default="", description="What was done, or why nothing was, in a sentence.")
    at: Time | None = Field(default=None, description="When it was decided.")


class RolloutAction(Model):
    """A person's hand on a rollout: approve, promote, pause, resume, abort or retry one artifact. Kept as its own record."""

    metadata: ObjectMeta
    spec: ActionSpec
    status: ActionStatus = Field(default_factory=ActionStatus)
