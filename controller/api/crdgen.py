"""pydantic models -> CustomResourceDefinitions, and the policy beside them: ``python -m controller.api.crdgen [--check]``.

pydantic's JSON Schema is turned into the structural subset that Kubernetes accepts: references inlined, nullable
unions and titles removed. Kubernetes' own keywords (``x-kubernetes-…``) stand in the models beside the fields.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from controller.api import GROUP, VERSION
from controller.api.action import RolloutAction
from controller.api.generated import ROOT, publish
from controller.api.model import Model
from controller.api.policy import BINDING, POLICY
from controller.api.revision import AgentRevision
from controller.api.rollout import AgentRollout

Schema = dict[str, Any]

_NOT_STRUCTURAL = (
    "title",
    "$defs",
    "const",
    "additionalProperties",
    "default",
    "propertyNames",
    "discriminator",
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of ``kubectl get``."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0

    def to_json(self) -> dict[str, object]:
        """The entry of ``additionalPrinterColumns``."""
        entry: dict[str, object] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        return entry | ({"priority": self.priority} if self.priority else {})


@dataclass(frozen=True, slots=True)
class Kind:
    """What a CRD says beside its schema."""

    model: type[Model]
    plural: str
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    has_status: bool

    @property
    def file_name(self) -> str:
        """Name of the generated file."""
        return f"{GROUP}_{self.plural}.yaml"


POLICY_FILE = "policy.yaml"
"""Beside the CRDs, so that one `kubectl apply` brings both."""

AGE = Column("Age", ".metadata.creationTimestamp", "date")

KINDS = (
    Kind(
        AgentRollout,
        "agentrollouts",
        ("aro",),
        (
            Column("Stable", ".status.stable.revision"),
            Column("Candidate", ".status.candidate.revision"),
            Column("Stage", ".status.stage.title"),
            Column("Weight", ".status.weight"),
            Column("State", ".status.state"),
            Column("Verdict", ".status.verdict"),
            AGE,
            Column("Message", '.status.conditions[?(@.type=="Progressing")].message', priority=1),
        ),
        has_status=True,
    ),
    Kind(
        AgentRevision,
        "agentrevisions",
        ("arev",),
        (
            Column("Rollout", ".spec.rollout"),
            Column("Model", ".spec.agent.model.name"),
            Column("Code", ".spec.agent.code.url"),
            AGE,
            Column("Artifact", ".spec.artifactID", priority=1),
        ),
        has_status=False,
    ),
    Kind(
        RolloutAction,
        "rolloutactions",
        ("ract",),
        (
            Column("Rollout", ".spec.rollout"),
            Column("Action", ".spec.action"),
            Column("By", ".spec.requestedBy"),
            Column("Phase", ".status.phase"),
            AGE,
            Column("Reason", ".spec.reason", priority=1),
            Column("Message", ".status.message", priority=1),
            Column("Artifact", ".spec.artifactID", priority=1),
        ),
        has_status=True,
    ),
)


def structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """The Kubernetes form of one pydantic schema."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[1]]
        schema = target | {key: value for key, value in schema.items() if key != "$ref"}
    if "anyOf" in schema:
        (chosen,) = (option for option in schema["anyOf"] if option.get("type") != "null")
        return structural(chosen | {k: v for k, v in schema.items() if k != "anyOf"}, definitions)
    result = {key: value for key, value in schema.items() if key not in _NOT_STRUCTURAL}
    if text := _description(schema):
        result = {"description": text} | {key: value for key, value in result.items() if key != "description"}
    if "properties" in schema:
        result["properties"] = {
            name: structural(value, definitions) for name, value in schema["properties"].items()
        }
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = structural(schema["additionalProperties"], definitions)
    if "items" in schema:
        result["items"] = structural(schema["items"], definitions)
    return result


def _description(schema: Schema) -> str:
    """One paragraph without markup; simple defaults are named, as the CRD itself has none."""
    text = " ".join(schema.get("description", "").replace("``", "").split())
    default = schema.get("default")
    if text and default and isinstance(default, str | int | float):
        text += f" Default: {default:g}." if isinstance(default, float) else f" Default: {default}."
    return text


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out each time: people read the result, and not every tool follows YAML anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  the base class asks for it
        return True


_CHECKS = frozenset({"x-kubernetes-validations", "enum", "pattern"})


def unchecked(schema: Any) -> Any:
    """The schema without what refuses values, for status: only the controller writes it.

    Rules cost the API server time at each write; and where an operator is newer than the CRDs, a reason that they do
    not list yet must not keep a rollback from being stored.
    """
    if not isinstance(schema, dict):
        return schema
    return {key: unchecked(value) for key, value in schema.items() if key not in _CHECKS}


def crd(kind: Kind) -> Schema:
    """The CustomResourceDefinition of one kind."""
    name = kind.model.__name__
    generated = kind.model.model_json_schema(by_alias=True, mode="serialization")
    schema = structural(generated, generated.get("$defs", {}))
    if kind.has_status:
        schema["properties"]["status"] = unchecked(schema["properties"]["status"])
    schema["properties"] |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
    }
    schema["required"] = ["spec"]
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [column.to_json() for column in kind.columns],
        "schema": {"openAPIV3Schema": schema},
    }
    if kind.has_status:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": list(kind.short_names),
                "categories": ["agents"],
            },
            "versions": [version],
        },
    }


def render(kind: Kind) -> str:
    """The text of the generated file."""
    return _text(crd(kind))


def _text(*objects: Schema) -> str:
    header = "# Generated by `make crds` from controller/api; do not edit.\n"
    return header + yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def main(arguments: list[str], folder: Path = ROOT / "crds") -> int:
    """Write ``crds/``; with ``--check`` say which files are not current and return 1."""
    files = {folder / kind.file_name: render(kind) for kind in KINDS}
    files[folder / POLICY_FILE] = _text(POLICY, BINDING)
    return publish(files, arguments, target="crds")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
