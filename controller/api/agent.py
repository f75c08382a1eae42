"""The agent: everything that makes one version differ from another. Its hash is the artifact ID."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, WithJsonSchema

from controller.api.model import Model
from controller.api.quantities import rule

_URL_CEL = r"self.matches('^https?://([A-Za-z0-9._-]+|\\[[0-9a-fA-F:]+\\])(:[0-9]{1,5})?/?$')"

Url = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 512,
            "x-kubernetes-validations": [
                rule(_URL_CEL, "must be http://host[:port] or https://host[:port], without a path")
            ],
        }
    ),
]

FreeForm = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]

PromptText = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 131072,
            "x-kubernetes-validations": [
                rule("self.trim().size() > 0", "must not be empty: write the prompt or remove its name")
            ],
        }
    ),
]

Text = Annotated[str, Field(max_length=256)]


class Code(Model):
    """Where the agent's code runs. Exactly one of the fields is set; only ``url`` is supported by this version."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "[has(self.url), has(self.service), has(self.image)].filter(x, x).size() == 1",
                    "exactly one of url, service and image must be set",
                ),
                rule(
                    "!has(self.service)",
                    "service is not supported by this version: use url",
                    fieldPath=".service",
                ),
                rule(
                    "!has(self.image)", "image is not supported by this version: use url", fieldPath=".image"
                ),
            ]
        }
    )

    url: Url | None = Field(default=None, description="Base URL of the running agent.")
    service: FreeForm | None = Field(default=None, description="Not supported by this version.")
    image: Text | None = Field(default=None, description="Not supported by this version.")


class LanguageModel(Model):
    """The model and its settings."""

    provider: Text = Field(description="Who serves the model, such as openai.")
    name: Text = Field(description="The model's name at its provider.")
    parameters: FreeForm = Field(
        default_factory=dict, description="Settings such as temperature; any JSON values."
    )


class Agent(Model):
    """Code, prompts, model settings and dependencies of one version."""

    code: Code
    prompts: dict[str, PromptText] = Field(
        default_factory=dict,
        max_length=32,
        description="Prompt texts by name; together at most 128 KiB.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.all(k, k.size() > 0 && k.size() <= 128)",
                    "names of prompts must have 1 to 128 characters",
                ),
                rule(
                    "self.map(k, self[k].size()).sum() <= 131072",
                    "prompts together must not exceed 131072 characters (128 KiB)",
                ),
            ]
        },
    )
    model: LanguageModel | None = None
    dependencies: dict[str, Text] = Field(
        default_factory=dict,
        max_length=256,
        description="Versions or digests of everything else that changes behaviour: tools, lock files, indexes.",
    )
