"""How a version is delivered: stages, and the evidence that lets it pass them. Frozen when a candidate is accepted."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, WithJsonSchema

from controller.api.model import Model
from controller.api.quantities import Duration, Interval, Rate, Weight, rule

WHOLE_PPM = 1_000_000

_HEADER_NAME = "^[a-z0-9][a-z0-9_-]*$"

HeaderName = Annotated[
    str,
    Field(max_length=128, pattern=_HEADER_NAME),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 128,
            "x-kubernetes-validations": [
                rule(
                    f"self.matches('{_HEADER_NAME}')",
                    "must be the name of a header in lower case, such as x-user-group",
                ),
                rule(
                    "!self.startsWith('x-agentrollout-')",
                    "headers that begin with x-agentrollout- are the router's own: it removes them from requests",
                ),
            ],
        }
    ),
]
HeaderValue = Annotated[str, Field(min_length=1, max_length=256)]


class Audience(Model):
    """Requests whose header has one of the values, such as internal users. Something trusted must set the header."""

    header: HeaderName = Field(description="Request header in lower case; something trusted must set it.")
    values: Annotated[list[HeaderValue], Field(min_length=1, max_length=64)] = Field(
        description="A request belongs to the audience if the header has exactly one of these values."
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

    @property
    def weight_ppm(self) -> int:
        """The candidate's share of the stage's requests in parts per million."""
        return WHOLE_PPM if self.weight is None else self.weight


class MetricName(StrEnum):
    """Built-in metrics; both come from the router and need nothing from the agent."""

    ERRORS = "errors"
    """Bad: answers with 5xx, broken or timed-out requests."""
    LATENCY = "latency"
    """Bad: slower than the baseline's P50 (and P95) from before the candidate's first request."""


class Metric(Model):
    """One source of evidence."""

    name: MetricName = Field(
        description="errors counts answers with 5xx, broken and timed-out requests. latency counts requests slower "
        "than the P50 and P95 that stable had before the candidate's first request."
    )


class Analysis(Model):
    """How evidence is gathered and judged."""

    interval: Interval = Field(default=timedelta(seconds=15), description="Time between two evaluations.")
    false_rollback_rate: Rate = Field(
        default=10_000,
        description="The chance that a good version is taken back, for the whole rollout.",
    )
    clustering: Annotated[float, Field(ge=1, le=1000)] = Field(
        default=10.0,
        description="How strongly failures come in bunches within conversations; 1 for independent requests.",
    )
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=16)] = Field(
        default=[Metric(name=MetricName.ERRORS), Metric(name=MetricName.LATENCY)],
        description="What is compared between candidate and stable. Default: errors and latency.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


def default_stages() -> list[Stage]:
    """1 %, 10 %, 50 %, 100 %."""
    return [
        Stage(weight=10_000, min_duration=timedelta(minutes=10)),
        Stage(weight=100_000, min_duration=timedelta(minutes=30)),
        Stage(weight=500_000, min_duration=timedelta(minutes=30)),
        Stage(weight=WHOLE_PPM, min_duration=timedelta(hours=1)),
    ]
