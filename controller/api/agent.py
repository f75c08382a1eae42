"""The agent: everything that makes one version differ from another. Its hash is the artifact ID."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, WithJsonSchema, model_validator

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


class Protocol(StrEnum):
    """What the router speaks to an agent."""

    HTTP1 = "HTTP1"
    """HTTP/1.1, also behind TLS."""
    HTTP2 = "HTTP2"
    """HTTP/2, in clear with prior knowledge; what gRPC needs."""


class Code(Model):
    """Where the agent's code runs. Exactly one of ``url``, ``service`` and ``image`` is set; ``image`` is not supported by this version."""

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
    protocol: Protocol | None = Field(
        default=None,
        description="What the agent speaks: HTTP1 or, as gRPC needs, HTTP2 (behind https by ALPN, else with prior "
        "knowledge). Users may come with either. Of gRPC calls the statuses UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, "
        "INTERNAL, UNAVAILABLE and DATA_LOSS are errors, of agents with HTTP2 only. Default: HTTP1.",
    )
    image: Text | None = Field(default=None, description="Not supported by this version.")


class LanguageModel(Model):
    """The model and its settings."""

    provider: Text = Field(description="Who serves the model, such as openai.")
    name: Text = Field(description="The model's name at its provider.")
    parameters: FreeForm = Field(
        default_factory=dict, description="Settings such as temperature; any JSON values."
    )


class SourceKind(StrEnum):
    """What a prompt can be read from."""

    CONFIG_MAP = "ConfigMap"
    """Its text becomes part of the artifact."""
    SECRET = "Secret"  # noqa: S105  the name of a kind
    """A digest of its content becomes part of the artifact, the content never."""


_OBJECT_NAME = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
_OBJECT_KEY = "^[-._a-zA-Z0-9]+$"


def _checked(pattern: str, words: str) -> WithJsonSchema:
    rules = [rule(f"self.matches('{pattern}')", words)]
    return WithJsonSchema({"type": "string", "maxLength": 253, "x-kubernetes-validations": rules})


class KeyRef(Model):
    """A key of an object in the AgentRollout's own namespace."""

    name: Annotated[
        str,
        Field(max_length=253, pattern=_OBJECT_NAME),
        _checked(_OBJECT_NAME, "must be the name of an object, without namespace"),
    ] = Field(description="Name of the object.")
    key: Annotated[
        str,
        Field(max_length=253, pattern=_OBJECT_KEY),
        _checked(_OBJECT_KEY, "must be a key: letters, digits, -, _ and ."),
    ] = Field(description="Key within its data.")


class PromptSource(Model):
    """Where a prompt is read, once, when the version is made. Exactly one of the fields is set."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.configMapKeyRef) != has(self.secretKeyRef)",
                    "exactly one of configMapKeyRef and secretKeyRef must be set",
                )
            ]
        }
    )

    config_map_key_ref: KeyRef | None = Field(
        default=None, description="A key of a ConfigMap; its text becomes part of the version."
    )
    secret_key_ref: KeyRef | None = Field(
        default=None,
        description="A key of a Secret; the reference and an HMAC digest of the content become part of the version, "
        "the content never. Needs an operator with --secret-hmac-key-file.",
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.config_map_key_ref is None) == (self.secret_key_ref is None):
            raise ValueError("exactly one of configMapKeyRef and secretKeyRef must be set")
        return self

    @property
    def kind(self) -> SourceKind:
        """What the prompt is read from."""
        return SourceKind.CONFIG_MAP if self.config_map_key_ref else SourceKind.SECRET

    @property
    def ref(self) -> KeyRef:
        """The object and its key."""
        found = self.config_map_key_ref or self.secret_key_ref
        assert found is not None  # noqa: S101  validated above
        return found

    @property
    def field(self) -> str:
        """The field that is set, as people write it."""
        return "configMapKeyRef" if self.config_map_key_ref else "secretKeyRef"


class FrozenSecret(Model):
    """A prompt that only the agent itself may read."""

    secret_key_ref: KeyRef = Field(description="Where the agent finds it.")
    digest: Annotated[str, Field(max_length=128)] = Field(
        description="HMAC-SHA256 of the content, under the operator's key, when the version was made."
    )


MAX_PROMPTS = 32
MAX_PROMPT_BYTES = 131_072
"""Of all prompts of one version together."""

_NAMES = rule(
    "self.all(k, k.size() > 0 && k.size() <= 128)", "names of prompts must have 1 to 128 characters"
)


class AgentParts(Model):
    """Code, prompts, model settings and dependencies of one version."""

    code: Code = Field(
        description="Where the agent's code runs. Exactly one of url, service and image is set."
    )
    prompts: dict[str, PromptText] = Field(
        default_factory=dict,
        max_length=MAX_PROMPTS,
        description="Prompt texts by name; together at most 128 KiB.",
        json_schema_extra={
            "x-kubernetes-validations": [
                _NAMES,
                rule(
                    f"self.map(k, bytes(self[k]).size()).sum() <= {MAX_PROMPT_BYTES}",
                    f"prompts together must not exceed {MAX_PROMPT_BYTES} bytes (128 KiB)",
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


class Agent(AgentParts):
    """The agent as people write it, with prompts that may lie in other objects."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.prompts) || !has(self.promptsFrom) || self.prompts.all(k, !(k in self.promptsFrom))",
                    "a prompt stands in prompts or in promptsFrom, not in both: remove it from one of them",
                    fieldPath=".promptsFrom",
                ),
                rule(
                    "!has(self.prompts) || !has(self.promptsFrom) || "
                    f"self.prompts.size() + self.promptsFrom.size() <= {MAX_PROMPTS}",
                    f"prompts and promptsFrom together must not have more than {MAX_PROMPTS} names",
                    fieldPath=".promptsFrom",
                ),
            ]
        }
    )

    prompts_from: dict[str, PromptSource] = Field(
        default_factory=dict,
        max_length=MAX_PROMPTS,
        description="Prompts by name that are read from ConfigMaps and Secrets of the same namespace when the version "
        "is made, and frozen with it. A later change over there is reported as Drifted, never delivered.",
        json_schema_extra={"x-kubernetes-validations": [_NAMES]},
    )


class FrozenAgent(AgentParts):
    """The agent as it was when it became a version: nothing in it can change from outside."""

    prompts_from: dict[str, FrozenSecret] = Field(
        default_factory=dict, max_length=MAX_PROMPTS, description="Prompts by name that lie in Secrets."
    )
