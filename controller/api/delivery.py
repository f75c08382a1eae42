"""How a version is delivered: stages, and the evidence that lets it pass them. Frozen when a candidate is accepted."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from controller.api.guardrails import Guardrail
from controller.api.model import Model
from controller.api.quantities import WORD, Duration, Interval, Rate, Weight, checked_text, rule, word
from controller.api.selectors import Convention, Selector, VersionLabel

WHOLE_PPM = 1_000_000

_HEADER_NAME = "^[a-z0-9][a-z0-9_-]*$"

HeaderName = Annotated[
    str,
    Field(max_length=128, pattern=_HEADER_NAME),
    checked_text(
        128,
        rule(
            f"self.matches('{_HEADER_NAME}')",
            "must be the name of a header in lower case, such as x-user-group",
        ),
        rule(
            "!self.startsWith('x-agentrollout-')",
            "headers that begin with x-agentrollout- are the router's own: it removes them from requests",
        ),
    ),
]
HeaderValue = Annotated[str, Field(min_length=1, max_length=256)]


class Audience(Model):
    """Requests whose header has one of the values, such as internal users. Something trusted must set the header."""

    header: HeaderName = Field(description="Request header in lower case; something trusted must set it.")
    values: Annotated[list[HeaderValue], Field(min_length=1, max_length=64)] = Field(
        description="A request belongs to the audience if the header has exactly one of these values."
    )


class Approval(Model):
    """Who has to agree before a stage begins."""

    required: Annotated[int, Field(ge=1, le=10)] = Field(
        default=1,
        description="How many different people must approve of the candidate, by RolloutActions, before the stage begins.",
    )


class Stage(Model):
    """One step: at least one of weight and audience is set."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("has(self.audience) || has(self.weight)", "a stage without audience needs a weight")
            ]
        }
    )

    name: Annotated[str, Field(max_length=63)] = Field(default="", description="A name for people.")
    audience: Audience | None = Field(
        default=None, description="Limits the stage to matching requests; weight is then a share of those."
    )
    weight: Weight | None = Field(
        default=None,
        description="The candidate's share of the traffic, such as 10% or 0.1%; 100% of an audience if left out.",
    )
    min_duration: Duration = Field(
        default=timedelta(minutes=10), description="The stage lasts at least this long."
    )
    min_requests: Annotated[int, Field(ge=1, le=1_000_000_000)] = Field(
        default=100, description="The candidate must have answered this many requests in this stage."
    )
    approval: Approval | None = Field(
        default=None,
        description="The stage does not begin before people have approved of the candidate. Left out: nobody is asked.",
    )

    @property
    def weight_ppm(self) -> int:
        """The candidate's share of the stage's requests in parts per million."""
        return WHOLE_PPM if self.weight is None else self.weight

    @property
    def is_shadow(self) -> bool:
        """Whether the candidate serves nobody in it, and only answers beside stable; no spec can ask for such a stage."""
        return self.audience is None and self.weight == 0


class MetricName(StrEnum):
    """Built-in metrics. The first two come from the router and need nothing from the agent, the others from agents."""

    ERRORS = "errors"
    """Bad: answers with 5xx, broken or timed-out requests."""
    LATENCY = "latency"
    """Bad: slower than the baseline's P50 (and P95) from before the candidate's first request."""
    TOOL_ERRORS = "toolErrors"
    """Bad: calls of a tool that ended in an error, of all its calls."""
    TOKENS_PER_TASK = "tokensPerTask"
    """Bad: tasks that took more tokens than the baseline's P50 (and P95) from before the candidate's first request."""
    COST = "cost"
    """Bad: tasks that cost more than the baseline's P50 (and P95) from before the candidate's first request."""
    CONVERSATIONS = "conversations"
    """Bad: conversations with a bad request within the exposure after their first; the operator counts them."""


ROUTER_METRICS = frozenset({MetricName.ERRORS, MetricName.LATENCY})
"""Counted by the router, whose events are the requests that it splits; all others are reported by others."""

DEFAULT_EXPOSURE = timedelta(minutes=1)
"""A failure later in a conversation than this is rarely the first."""

_KNOWN_BY_ROUTER = ("errors", "latency", "conversations")
_BUILT_IN = "['errors', 'latency', 'toolErrors', 'tokensPerTask', 'cost', 'conversations']"
_HAS_PARTS = "(has(self.total) || has(self.bad) || has(self.good))"
_IS_WHOLE = "(has(self.total) && has(self.bad) != has(self.good))"
_NEITHER = "a metric of your own needs total, and either bad or good"
_IS_BUILT_IN = "is built in: remove total, bad and good, or choose another name for a metric of your own"
_IS_KNOWN = "errors, latency and conversations come from the router, which knows the version: remove version and convention"
_ONLY_CONVERSATIONS = "only conversations have an exposure: remove it"
_NOT_ALONE = "conversations are judged late, and no audience's: add errors beside them"
_ONLY_TOOL_ERRORS = (
    "OpenTelemetry has only toolErrors: it knows no tokens or cost of a task (docs/metrics.md)"
)


class Metric(Model):
    """One source of evidence: bad events among all, of the candidate beside those of stable."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"self.name in {_BUILT_IN} || {_IS_WHOLE}",
                    f"{_NEITHER}; built in are errors, latency, conversations, toolErrors, tokensPerTask and cost",
                ),
                rule(
                    f"!(self.name in {_BUILT_IN}) || !{_HAS_PARTS}",
                    _IS_BUILT_IN,
                ),
                rule(
                    f"!(self.name in {list(_KNOWN_BY_ROUTER)}) || !(has(self.version) || has(self.convention))",
                    _IS_KNOWN,
                ),
                rule("!has(self.exposure) || self.name == 'conversations'", _ONLY_CONVERSATIONS),
                rule(
                    "!has(self.convention) || self.convention == 'Agent' || self.name == 'toolErrors'",
                    _ONLY_TOOL_ERRORS,
                ),
            ]
        }
    )

    name: Annotated[
        str,
        WORD,
        word("refusals"),
    ] = Field(
        description="errors counts answers with 5xx, broken and timed-out requests. latency counts requests slower "
        "than the P50 and P95 that stable had before the candidate's first request. conversations counts conversations "
        "with a bad request. toolErrors, tokensPerTask and cost are reported by agents, see docs/metrics.md. Any other "
        "name is a metric of your own, with total and bad or good."
    )
    convention: Convention | None = Field(
        default=None,
        description="Whose names the agent's series of a built-in metric have: Agent (those of docs/metrics.md, the "
        "default) or OpenTelemetry.",
    )
    total: Selector | None = Field(default=None, description="Counts all events of a metric of your own.")
    bad: Selector | None = Field(default=None, description="Counts the bad ones among them.")
    good: Selector | None = Field(
        default=None,
        description="Counts the good ones instead, such as the bucket of a histogram up to a limit: the others are bad.",
    )
    version: VersionLabel | None = Field(
        default=None,
        description="Which label of the series names the version, and how. Left out: artifact, with the artifact ID.",
    )
    exposure: Interval | None = Field(
        default=None,
        description="For conversations: how long after its first request each one is judged. Left out: 1m. Conversations "
        "met in the first five exposures, or in the sixty before, are not counted.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """What the CRD refuses as well; an object may have been stored before it did."""
        if self.name not in set(MetricName):
            if not self.total or bool(self.bad) == bool(self.good):
                raise ValueError(f"{self.name}: {_NEITHER}")
        elif self.total or self.bad or self.good:
            raise ValueError(f"{self.name} {_IS_BUILT_IN}")
        elif self.name in _KNOWN_BY_ROUTER and (self.version or self.convention):
            raise ValueError(_IS_KNOWN)
        if self.exposure and self.name != MetricName.CONVERSATIONS:
            raise ValueError(_ONLY_CONVERSATIONS)
        if self.convention is Convention.OPEN_TELEMETRY and self.name != MetricName.TOOL_ERRORS:
            raise ValueError(_ONLY_TOOL_ERRORS)
        return self

    @property
    def is_from_router(self) -> bool:
        """Whether the router counts it; all others are reported by others."""
        return self.name in ROUTER_METRICS

    @property
    def has_edges(self) -> bool:
        """Whether it counts what lies above edges, which are fixed by stable's past."""
        return self.name in {MetricName.LATENCY, MetricName.TOKENS_PER_TASK, MetricName.COST}


# A rule, not a minimum: the API server compares whole numbers with the whole part of a minimum.
MaxRatio = Annotated[
    float,
    Field(ge=1.1, le=100),
    WithJsonSchema(
        {
            "type": "number",
            "x-kubernetes-validations": [rule("self >= 1.1 && self <= 100.0", "must be from 1.1 to 100")],
        }
    ),
]


class AdvanceOn(StrEnum):
    """What a metric needs to pass, beside enough requests and no harm found."""

    TIME = "Time"
    """Nothing more: what minDuration and minRequests did not show is no reason to wait."""
    EVIDENCE = "Evidence"
    """Evidence that the candidate is less than maxRatio times as bad as stable."""


class Analysis(Model):
    """How evidence is gathered and judged."""

    interval: Interval = Field(default=timedelta(seconds=15), description="Time between two evaluations.")
    false_rollback_rate: Rate = Field(
        default=10_000,
        description="The chance that a good version is taken back, for the whole rollout.",
    )
    clustering: Annotated[float, Field(ge=1, le=1000)] = Field(
        default=10.0,
        description="How strongly failures come in bunches within conversations; 1 for independent requests. While stable has "
        "control slices, up to a weight of 50%, what they show counts as much as this.",
    )
    advance_on: AdvanceOn = Field(
        default=AdvanceOn.TIME,
        description="What ends a stage when minDuration is over and minRequests are counted. Time: that no harm was found. "
        "Evidence: that the candidate was also shown to be less than maxRatio times as bad as stable. For a ratio of 2 that "
        "takes about as many of the candidate's requests as 13 failures need at stable's rate, times clustering. At 100% "
        "there is nobody to compare with, and what was shown before counts.",
    )
    max_ratio: MaxRatio = Field(
        default=2.0,
        description="With advanceOn: Evidence, the ratio of the odds of a bad event, candidate to stable, that must be "
        "ruled out.",
    )
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=16)] = Field(
        default=[Metric(name=MetricName.ERRORS), Metric(name=MetricName.LATENCY)],
        description="What is compared between candidate and stable. Default: errors and latency.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "x-kubernetes-validations": [
                rule(
                    "!self.exists(m, m.name == 'conversations') || self.exists(m, m.name == 'errors')",
                    _NOT_ALONE,
                )
            ],
        },
    )
    guardrails: Annotated[list[Guardrail], Field(max_length=16)] = Field(
        default_factory=list,
        description="Limits that a candidate must keep, whatever stable does.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )

    @field_validator("metrics")
    @classmethod
    def _has_errors(cls, metrics: list[Metric]) -> list[Metric]:
        """What the CRD refuses as well; an object may have been stored before it did."""
        names = {metric.name for metric in metrics}
        if MetricName.CONVERSATIONS in names and MetricName.ERRORS not in names:
            raise ValueError(_NOT_ALONE)
        return metrics

    @property
    def exposure(self) -> timedelta | None:
        """For how long conversations are watched as trials; None if they are not a metric."""
        found = (metric for metric in self.metrics if metric.name == MetricName.CONVERSATIONS)
        return next((metric.exposure or DEFAULT_EXPOSURE for metric in found), None)


def default_stages() -> list[Stage]:
    """1 %, 10 %, 50 %, 100 %."""
    return [
        Stage(weight=10_000, min_duration=timedelta(minutes=10)),
        Stage(weight=100_000, min_duration=timedelta(minutes=30)),
        Stage(weight=500_000, min_duration=timedelta(minutes=30)),
        Stage(weight=WHOLE_PPM, min_duration=timedelta(hours=1)),
    ]
