"""Guardrails: absolute limits that a candidate must keep, whatever stable does."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from controller.api.model import Model
from controller.api.quantities import WORD, Duration, Rate, rule, word
from controller.api.selectors import LabelValues


class GuardrailName(StrEnum):
    """Built-in guardrails."""

    TOOL_ERRORS = "toolErrors"
    """The share of calls of tools that end in an error."""
    LATENCY = "latency"
    """The P95 of the time to an answer, beside the one that stable had before the candidate's first request."""
    TOKENS_PER_TASK = "tokensPerTask"
    """The mean of the tokens of a task, beside what is expected."""
    DAILY_COST = "dailyCost"
    """What the agent cost in 24 hours, beside the mean of the seven days before."""


class GuardrailAction(StrEnum):
    """What follows when a limit is broken."""

    ROLLBACK = "Rollback"
    """The candidate is taken back."""
    HOLD = "Hold"
    """The weight is held."""
    ALERT = "Alert"
    """People are told; nothing else follows, nor does the guardrail hold anything while it lacks evidence."""


ARTIFACT, REVISION = "$artifact", "$revision"
"""What stands in a query for the artifact ID of a version, and for the name of its AgentRevision."""

_BUILT_IN = "['toolErrors', 'latency', 'tokensPerTask', 'dailyCost']"
_SHARES = "maxShare and window belong to toolErrors: latency, tokensPerTask and dailyCost have a factor"
_FACTORS = "toolErrors has a maxShare, such as 5%, and no factor"
_NEEDS_QUERY = (
    "a guardrail of your own needs a query; built in are toolErrors, latency, tokensPerTask and dailyCost"
)
_IS_BUILT_IN = "toolErrors, latency, tokensPerTask and dailyCost have no query: choose another name for a guardrail of your own"
_OF_QUERIES = "max, min, for and samples belong to a guardrail with a query"
_NO_FACTOR = "factor belongs to latency, tokensPerTask and dailyCost: the limit of a query is max or min"
_NEEDS_LIMIT = "query needs max, min or both"
_CROSSED = "min must not be above max"
_NO_TIME = "for must be a duration above zero, such as 5m"
_NEEDS_SAMPLES = (
    "action Rollback needs samples, a query that gives how many events the value rests on; or choose the action Hold or "
    "Alert"
)
_ABOVE_ONE = "factor must be above 1, such as 2 or 1.5"
_OF_STABLE = (GuardrailName.LATENCY, GuardrailName.TOKENS_PER_TASK)
_EXPECTED = "expected belongs to tokensPerTask"
_LABELS = "labels belong to dailyCost"


_MULTIPLES: dict[str, float] = {
    GuardrailName.LATENCY: 2.0,
    GuardrailName.TOKENS_PER_TASK: 3.0,
    GuardrailName.DAILY_COST: 1.5,
}

_Query = Annotated[str, Field(min_length=1, max_length=2048)]
_Limit = Annotated[float, Field(allow_inf_nan=False)]


class Guardrail(Model):
    """One limit.

    toolErrors, latency and tokensPerTask are broken when the evidence for that is a thousand times more probable than within
    the limit; one with a query when its value was beyond the limit for long enough; dailyCost when its sum is.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("self.name == 'toolErrors' || !(has(self.maxShare) || has(self.window))", _SHARES),
                rule("self.name != 'toolErrors' || !has(self.factor)", _FACTORS),
                # For a number without decimals the API server takes a minimum of 1.01 for one of 1.
                rule("!has(self.factor) || double(self.factor) > 1.0", _ABOVE_ONE),
                rule("self.name == 'tokensPerTask' || !has(self.expected)", _EXPECTED),
                rule("self.name == 'dailyCost' || !has(self.labels)", _LABELS),
                rule(f"self.name in {_BUILT_IN} || has(self.query)", _NEEDS_QUERY),
                rule(f"!(self.name in {_BUILT_IN} && has(self.query))", _IS_BUILT_IN),
                # CEL's own words are escaped: __for__ is for.
                rule(
                    "has(self.query) || !(has(self.max) || has(self.min) || has(self.__for__) || has(self.samples))",
                    _OF_QUERIES,
                ),
                rule("!(has(self.query) && has(self.factor))", _NO_FACTOR),
                rule("!has(self.query) || has(self.max) || has(self.min)", _NEEDS_LIMIT),
                rule("!has(self.max) || !has(self.min) || double(self.min) <= double(self.max)", _CROSSED),
                rule(
                    "!has(self.query) || has(self.samples) || (has(self.action) && self.action != 'Rollback')",
                    _NEEDS_SAMPLES,
                ),
            ]
        }
    )

    name: Annotated[
        str,
        WORD,
        word("refunds"),
    ] = Field(
        description="toolErrors limits the share of calls of tools that end in an error. latency limits the P95 to a "
        "multiple of what stable had before the candidate's first request. tokensPerTask limits the mean to a multiple "
        "of what is expected. dailyCost limits what all versions of the agent cost in 24 hours to a multiple of the mean of the "
        "seven days before. Any other name is a guardrail of your own, with a query."
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
        description="For latency, tokensPerTask and dailyCost: the largest multiple that is allowed; 2, 3 and 1.5 if left out.",
    )
    expected: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None,
        description="For tokensPerTask: the mean that is expected; what stable had before the candidate's first request "
        "if left out.",
    )
    labels: LabelValues | None = Field(
        default=None,
        description="For dailyCost: labels that all series of this agent have, such as job, where others in the namespace "
        "report their cost too.",
    )
    query: _Query | None = Field(
        default=None,
        description=f"PromQL that gives one value, for a guardrail of your own. {ARTIFACT} in it stands for the candidate's "
        f"artifact ID, {REVISION} for the name of its AgentRevision; with one of them stable is asked about as well.",
    )
    max: _Limit | None = Field(default=None, description="The largest value of the query that is allowed.")
    min: _Limit | None = Field(default=None, description="The smallest value of the query that is allowed.")
    for_: Duration | None = Field(
        default=None,
        alias="for",
        description="For so long the value must be beyond its limit, seen at each evaluation; 1m if left out.",
    )
    samples: _Query | None = Field(
        default=None,
        description="PromQL that gives how many events the value of the query rests on. Rollback needs it.",
    )
    min_samples: Annotated[int, Field(ge=11, le=1_000_000_000)] = Field(
        default=50,
        description="So many events of the candidate must have been counted in the stage, or be given by samples; for dailyCost "
        "so many tasks of all versions in the last 24 hours.",
    )
    action: GuardrailAction | None = Field(
        default=None,
        description="What follows when the limit is broken by the candidate alone. Rollback: it is taken back. Hold: "
        "the weight is held. Alert: people are told by the condition WithinLimits, and nothing else. What stable "
        "breaks as well is always held, or told. Left out: Alert for dailyCost, Rollback for all others.",
    )

    @model_validator(mode="after")
    def _has_its_own(self) -> Self:
        """What the CRD refuses as well; an object may have been stored before it did."""
        is_share = self.name == GuardrailName.TOOL_ERRORS
        if not is_share and (self.max_share is not None or self.window is not None):
            raise ValueError(_SHARES)
        if is_share and self.factor is not None:
            raise ValueError(_FACTORS)
        if self.factor == 1:
            raise ValueError(_ABOVE_ONE)
        if self.name != GuardrailName.TOKENS_PER_TASK and self.expected is not None:
            raise ValueError(_EXPECTED)
        if self.name != GuardrailName.DAILY_COST and self.labels is not None:
            raise ValueError(_LABELS)
        return self

    @model_validator(mode="after")
    def _asks_its_own(self) -> Self:
        """The same of queries."""
        is_built_in = self.name in set(GuardrailName)
        if self.query is None:
            if not is_built_in:
                raise ValueError(f"{self.name}: {_NEEDS_QUERY}")
            if (self.max, self.min, self.for_, self.samples) != (None, None, None, None):
                raise ValueError(_OF_QUERIES)
            return self
        limits = [each for each in (self.min, self.max) if each is not None]
        problems = {
            _IS_BUILT_IN: is_built_in,
            _NO_FACTOR: self.factor is not None,
            _NEEDS_LIMIT: not limits,
            _CROSSED: limits != sorted(limits),
            _NO_TIME: self.for_ == timedelta(0),
            _NEEDS_SAMPLES: self.follows is GuardrailAction.ROLLBACK and self.samples is None,
        }
        if problem := next((words for words, is_so in problems.items() if is_so), ""):
            raise ValueError(f"{self.name}: {problem}")
        return self

    @property
    def limit_ppm(self) -> int:
        """The largest share of bad events in parts per million; of latency those above its limit, since it is a P95."""
        return self.max_share if self.max_share is not None else 50_000

    @property
    def multiple(self) -> float:
        """The largest multiple."""
        return self.factor or _MULTIPLES[self.name]

    @property
    def follows(self) -> GuardrailAction:
        """What follows when the limit is broken."""
        return self.action or (
            GuardrailAction.ALERT if self.name == GuardrailName.DAILY_COST else GuardrailAction.ROLLBACK
        )

    @property
    def over(self) -> timedelta:
        """Over which time the share of toolErrors must be above the limit as well."""
        return self.window or timedelta(minutes=5)

    @property
    def has_edges(self) -> bool:
        """Whether its limit comes of stable's past."""
        return self.name in _OF_STABLE and self.expected is None

    @property
    def holds_for(self) -> timedelta:
        """For how long the value of a query must be beyond its limit."""
        return self.for_ or timedelta(minutes=1)

    @property
    def asks_of_versions(self) -> bool:
        """Whether its query says which version it is about."""
        return self.query is not None and any(each in self.query for each in (ARTIFACT, REVISION))
