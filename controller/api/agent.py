"""The agent: everything that makes one version differ from another. Its hash is the artifact ID."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, WithJsonSchema

from controller.api.model import Model
from controller.api.quantities import rule

_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
_URL_CEL = rf"self.matches('^https?://({_LABEL}(\\.{_LABEL})*\\.?|\\[[0-9a-fA-F:.]+\\])(:[0-9]+)?/?$')"
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_PORT_CEL = f"!self.matches(':[0-9]+/?$') || self.matches(':{_PORT}/?$')"

Url = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 512,
            "x-kubernetes-validations": [
                rule(
                    _URL_CEL,
                    "must be http://host[:port] or https://host[:port] without user name, path or query",
                ),
                rule(_PORT_CEL, "the port must be from 1 to 65535"),
            ],
        }
    ),
]

FreeForm = Annotated[
    dict[str, Any],
    Field(max_length=64),
    WithJsonSchema({"type": "object", "maxProperties": 64, "x-kubernetes-preserve-unknown-fields": True}),
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

Text = Annotated[str, Field(min_length=1, max_length=256)]


_SERVICE_NAME = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


class ServiceReference(Model):
    """A port of a Service in the AgentRollout's own namespace."""

    name: Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "maxLength": 63,
                "x-kubernetes-validations": [
                    rule(
                        f"self.matches('{_SERVICE_NAME}')",
                        "must be the name of a Service in the AgentRollout's own namespace, without namespace or domain",
                    )
                ],
            }
        ),
    ] = Field(description="Name of the Service.")
    port: Annotated[int, Field(ge=1, le=65_535)] = Field(
        description="The Service's port, as in its spec.ports[].port; not that of its pods."
    )


class Code(Model):
    """Where the agent's code runs. Exactly one of the fields is set; ``image`` is not supported by this version."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "[has(self.url), has(self.service), has(self.image)].filter(x, x).size() == 1",
                    "exactly one of url, service and image must be set",
                ),
                rule(
                    "!has(self.image)",
                    "image is not supported by this version: deploy it and use service",
                    fieldPath=".image",
                ),
            ]
        }
    )

    url: Url | None = Field(default=None, description="Base URL of the running agent: http(s)://host[:port].")
    service: ServiceReference | None = Field(
        default=None,
        description="The Service in front of the agent's pods. The router sends requests to its ready endpoints itself.",
    )
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

    code: Code = Field(
        description="Where the agent's code runs. Exactly one of url, service and image is set."
    )
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
                    "self.map(k, bytes(self[k]).size()).sum() <= 131072",
                    "prompts together must not exceed 131072 bytes (128 KiB)",
                ),
            ]
        },
    )
    model: LanguageModel | None = Field(default=None, description="The model and its settings.")
    dependencies: dict[str, Text] = Field(
        default_factory=dict,
        max_length=256,
        description="Versions or digests of everything else that changes behaviour: tools, lock files, indexes.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.all(k, k.size() > 0 && k.size() <= 256)",
                    "names of dependencies must have 1 to 256 characters",
                )
            ]
        },
    )
