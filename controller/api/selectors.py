"""Which series in Prometheus count events, and how they name the version."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from controller.api.model import Model
from controller.api.quantities import checked_text, rule

_LABEL_NAME = "^([a-zA-Z]|_[a-zA-Z0-9]|_$)[a-zA-Z0-9_]*$"
"""Names that begin with two underscores are Prometheus' own."""
_SERIES_NAME = "^[a-zA-Z_:][a-zA-Z0-9_:]*$"
_EDGE = "^[0-9]+([.][0-9]+)?$"


def _with_readable_names(labels: dict[str, str]) -> dict[str, str]:
    """What the CRD refuses as well; an object may have been stored before it did."""
    for name, value in labels.items():
        if not re.fullmatch(_LABEL_NAME, name):
            raise ValueError(f"{name!r} is not the name of a label")
        if name == "le" and not re.fullmatch(_EDGE, value):
            raise ValueError(f"{value!r} is not the upper edge of a bucket")
    return labels


class Convention(StrEnum):
    """Whose names an agent's series have."""

    AGENT = "Agent"
    """Those of docs/metrics.md: agent_tool_calls_total, agent_task_tokens, agent_task_cost_usd."""
    OPEN_TELEMETRY = "OpenTelemetry"
    """Those of OpenTelemetry's conventions for generative AI, as they arrive in Prometheus."""


class VersionForm(StrEnum):
    """What a label says about the version whose events a series counts."""

    ARTIFACT_ID = "ArtifactID"
    """The artifact ID, as in the header x-agentrollout-artifact."""
    REVISION = "Revision"
    """The name of the AgentRevision."""


LabelName = Annotated[
    str,
    Field(max_length=128, pattern=_LABEL_NAME),
    checked_text(
        128,
        rule(
            f"self.matches('{_LABEL_NAME}')",
            "must be the name of a Prometheus label: letters, digits and _, such as outcome",
        ),
    ),
]

SeriesName = Annotated[
    str,
    Field(max_length=256, pattern=_SERIES_NAME),
    checked_text(
        256,
        rule(
            f"self.matches('{_SERIES_NAME}')",
            "must be the name of a counter in Prometheus: letters, digits, _ and :, such as agent_tasks_total; "
            "labels go into labels",
        ),
    ),
]

LabelValues = Annotated[
    dict[str, Annotated[str, Field(max_length=256)]],
    Field(
        max_length=8,
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"self.all(name, name.size() <= 128 && name.matches('{_LABEL_NAME}'))",
                    "names of labels must be letters, digits and _, such as outcome",
                )
            ]
        },
    ),
    AfterValidator(_with_readable_names),
]


class Selector(Model):
    """Counters in Prometheus, summed over all their series that have the labels."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"!has(self.labels) || !('le' in self.labels) || self.labels['le'].matches('{_EDGE}')",
                    "the label le must be the upper edge of a bucket, such as '4096' or '0.5'",
                )
            ]
        }
    )

    metric: SeriesName = Field(
        description="Name of a counter, or of the buckets or the count of a histogram."
    )
    labels: LabelValues = Field(
        default_factory=dict,
        description="Labels with the values that a series must have; an empty value means that it lacks the label.",
    )


class VersionLabel(Model):
    """How a series says of which version it counts the events."""

    label: LabelName = Field(default="artifact", description="Name of the label.")
    form: VersionForm = Field(
        default=VersionForm.ARTIFACT_ID,
        description="What the label's value is. ArtifactID: as in the header x-agentrollout-artifact of a request. "
        "Revision: the name of the AgentRevision.",
    )
