"""AgentRollout: the wanted agent and how to deliver it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from controller.api.agent import Agent
from controller.api.delivery import Analysis, HeaderName, Stage, default_stages
from controller.api.model import Model, ObjectMeta
from controller.api.quantities import rule
from controller.api.status import RolloutStatus

_IS_GENERAL = "!has({0}.audience) && has({0}.weight)"
_NUMBER = "double({0}.weight.replace('%', ''))"
# Rules run over `self` itself: the API server knows the bounds of its items, and loses them behind filter().
_SORTED = f"self.map(s, {_IS_GENERAL.format('s')}, {_NUMBER.format('s')}).isSorted()"
_DISTINCT = (
    f"self.all(s, !({_IS_GENERAL.format('s')}) || "
    f"self.exists_one(t, {_IS_GENERAL.format('t')} && {_NUMBER.format('t')} == {_NUMBER.format('s')}))"
)

Host = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]


class Delivery(StrEnum):
    """How prompts and model settings reach the running agent."""

    DEPLOYED = "Deployed"
    """The backend was deployed for this artifact: another artifact needs another backend."""
    HEADER = "Header"
    """The agent loads the artifact that the ``x-agentrollout-artifact`` header names."""


class EnvoyTraffic(Model):
    """The built-in Envoy router."""

    hosts: Annotated[list[Host], Field(min_length=1, max_length=16)] = Field(
        description="Host names that this rollout serves, without port."
    )


class Affinity(Model):
    """What sticks to one version: the conversation."""

    header: HeaderName = Field(
        default="x-session-id", description="Request header that identifies the conversation."
    )


class Traffic(Model):
    """Who routes the traffic, and what sticks together."""

    envoy: EnvoyTraffic
    affinity: Affinity = Field(default_factory=Affinity)


class RolloutSpec(Model):
    """What is wanted. A change of ``agent``, and only that, is a new version."""

    agent: Agent
    delivery: Delivery = Delivery.DEPLOYED
    traffic: Traffic
    stages: Annotated[list[Stage], Field(min_length=1, max_length=16)] = Field(
        default_factory=default_stages,
        description="Left out: 1%, 10%, 50%, 100%.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"{_SORTED} && {_DISTINCT}",
                    "weights of stages without audience must strictly increase, such as 1%, 10%, 50%, 100%",
                ),
                rule(
                    "!has(self[self.size() - 1].audience) && has(self[self.size() - 1].weight) && "
                    "double(self[self.size() - 1].weight.replace('%', '')) == 100.0",
                    "the last stage must have weight 100% and no audience",
                ),
            ]
        },
    )
    analysis: Analysis = Field(default_factory=Analysis)
    revision_history_limit: Annotated[int, Field(ge=0, le=100)] = Field(
        default=5, description="How many old AgentRevisions are kept."
    )


class AgentRollout(Model):
    """Delivers new versions of one agent step by step and takes them back on evidence."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 52",
                    "metadata.name must have at most 52 characters of a-z, 0-9 and -",
                )
            ]
        }
    )

    metadata: ObjectMeta
    spec: RolloutSpec
    status: RolloutStatus = Field(default_factory=RolloutStatus)
