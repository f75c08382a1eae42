"""Guardrails: absolute limits that a candidate must keep, whatever stable does."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from controller.api.model import Model
from controller.api.quantities import Duration, Rate, rule


class GuardrailName(StrEnum):
    """Built-in guardrails."""

    TOOL_ERRORS = "toolErrors"
    """The share of calls of tools that end in an error."""
    LATENCY = "latency"
    """The P95 of the time to an answer, beside the one that stable had before the candidate's first request."""
    TOKENS_PER_TASK = "tokensPerTask"
    """The mean of the tokens of a task, beside what is expected."""


class GuardrailAction(StrEnum):
    """What follows when a limit is broken."""

    ROLLBACK = "Rollback"
    """The candidate is taken back."""
    HOLD = "Hold"
    """The weight is held."""
    ALERT = "Alert"
    """People are told; nothing else follows, nor does the guardrail hold anything while it lacks evidence."""


_SHARES = "maxShare and window belong to toolErrors: latency and tokensPerTask have a factor"
_FACTORS = "toolErrors has a maxShare, such as 5%, and no factor"
_ABOVE_ONE = "factor must be above 1, such as 2 or 1.5"
_EXPECTED = "expected belongs to tokensPerTask"


class Guardrail(Model):
    """One limit. It is broken when the evidence for that is a thousand times more probable than within the limit."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("self.name == 'toolErrors' || !(has(self.maxShare) || has(self.window))", _SHARES),
                rule("self.name != 'toolErrors' || !has(self.factor)", _FACTORS),
                # For a number without decimals the API server takes a minimum of 1.01 for one of 1.
                rule("!has(self.factor) || double(self.factor) > 1.0", _ABOVE_ONE),
                rule("self.name == 'tokensPerTask' || !has(self.expected)", _EXPECTED),
            ]
        }
    )

    name: GuardrailName = Field(
        description="toolErrors limits the share of calls of tools that end in an error. latency limits the P95 to a "
        "multiple of what stable had before the candidate's first request. tokensPerTask limits the mean to a multiple "
        "of what is expected."
    )
    max_share: Rate | None = Field(
        default=None, description="For toolErrors: the largest share that is allowed; 5% if left out."
    )
    window: Duration | None = Field(
        default=None,
        description="For toolErrors: the share must also be above the limit over this time; 5m if left out.",
    )
    factor: Annotated[float, Field(ge=1.01, le=1000)] | None = Field(
        default=None,
        description="For latency and tokensPerTask: the largest multiple that is allowed; 2 and 3 if left out.",
    )
    expected: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None,
        description="For tokensPerTask: the mean that is expected; what stable had before the candidate's first request "
        "if left out.",
    )
    min_samples: Annotated[int, Field(ge=11, le=1_000_000_000)] = Field(
        default=50, description="So many events of the candidate must have been counted in the stage."
    )
    action: GuardrailAction = Field(
        default=GuardrailAction.ROLLBACK,
        description="What follows when the limit is broken by the candidate alone. Rollback: it is taken back. Hold: "
        "the weight is held. Alert: people are told by the condition WithinLimits, and nothing else. What stable "
        "breaks as well is always held, or told.",
    )

    @model_validator(mode="after")
    def _has_its_own(self) -> Self:
        """What the CRD refuses as well; an object may have been stored before it did."""
        is_share = self.name is GuardrailName.TOOL_ERRORS
        if not is_share and (self.max_share is not None or self.window is not None):
            raise ValueError(_SHARES)
        if is_share and self.factor is not None:
            raise ValueError(_FACTORS)
        if self.factor == 1:
            raise ValueError(_ABOVE_ONE)
        if self.name is not GuardrailName.TOKENS_PER_TASK and self.expected is not None:
            raise ValueError(_EXPECTED)
        return self

    @property
    def limit_ppm(self) -> int:
        """The largest share of bad events in parts per million; of latency those above its limit, since it is a P95."""
        return self.max_share if self.max_share is not None else 50_000

    @property
    def multiple(self) -> float:
        """The largest multiple."""
        return self.factor or (2.0 if self.name is GuardrailName.LATENCY else 3.0)

    @property
    def over(self) -> timedelta:
        """Over which time the share of toolErrors must be above the limit as well."""
        return self.window or timedelta(minutes=5)

    @property
    def has_edges(self) -> bool:
        """Whether its limit comes of stable's past."""
        return self.name is not GuardrailName.TOOL_ERRORS and self.expected is None
