"""Kill switches: flags by which people take a version from all users, or one of its features from all agents."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from controller.api.agent import KeyRef
from controller.api.model import Model
from controller.api.quantities import checked_text, rule

MAX_SWITCHES = 16

_NAME = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_FLAG = "^[A-Za-z0-9][A-Za-z0-9._/-]*$"
_ONE = "exactly one of configMap, ofrep and flagd must be set"
_IS_ONE = "[has(self.configMap), has(self.ofrep), has(self.flagd)].filter(is_set, is_set).size() == 1"


class KillScope(StrEnum):
    """What a switch takes away."""

    CANDIDATE = "Candidate"
    """The version on its way: while the switch is on, nobody gets one."""
    FEATURE = "Feature"
    """What agents make of it: the flag's value goes to those of every version, as a request header."""


class SwitchSource(StrEnum):
    """Who says whether a switch is on."""

    CONFIG_MAP = "ConfigMap"
    OFREP = "OFREP"
    FLAGD = "flagd"


class FlagRef(Model):
    """A flag of the server that the operator was given."""

    flag: Annotated[
        str,
        Field(max_length=256, pattern=_FLAG),
        checked_text(
            256, rule(f"self.matches('{_FLAG}')", "must be the key of a flag: letters, digits, ., _, / and -")
        ),
    ] = Field(description="Key of the flag.")


class KillSwitch(Model):
    """One switch. Exactly one of configMap, ofrep and flagd says where it is thrown."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [rule(_IS_ONE, _ONE)]})

    name: Annotated[
        str,
        Field(max_length=40, pattern=_NAME),
        checked_text(40, rule(f"self.matches('{_NAME}')", "must be a name of a-z, 0-9 and -, such as ops")),
    ] = Field(description="Name of the switch, unique in the list.")
    scope: KillScope = Field(
        default=KillScope.CANDIDATE,
        description="What it takes away. Candidate: while it is on, nobody gets a candidate. Feature: nothing; the flag's "
        "value goes to the agents of every version as the request header x-agentrollout-flag-<name of the switch>.",
    )
    config_map: KeyRef | None = Field(
        default=None,
        description="A key of a ConfigMap with the label agentrollout.dev/kill-switch; true is on, false is off.",
    )
    ofrep: FlagRef | None = Field(
        default=None,
        description="A flag of the server of the operator's --ofrep-url; true is on, false is off.",
    )
    flagd: FlagRef | None = Field(
        default=None,
        description="A flag of the server of the operator's --flagd-address; true is on, false is off.",
    )
    auto_resume: bool = Field(
        default=False,
        description="Whether turning it off is enough to start the version anew. If not, someone has to resume as well.",
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(each is not None for each in (self.config_map, self.ofrep, self.flagd)) != 1:
            raise ValueError(_ONE)
        return self

    @property
    def source(self) -> SwitchSource:
        """Who says whether it is on."""
        if self.config_map is not None:
            return SwitchSource.CONFIG_MAP
        return SwitchSource.OFREP if self.ofrep is not None else SwitchSource.FLAGD

    def flag(self, namespace: str) -> str:
        """What its source calls it; of ConfigMaps ``namespace/name/key``."""
        if self.config_map is not None:
            return f"{namespace}/{self.config_map.name}/{self.config_map.key}"
        found = self.ofrep or self.flagd
        assert found is not None  # noqa: S101  validated above
        return found.flag
