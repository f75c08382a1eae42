"""All that can be said about an object in a file before it is applied."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import ValidationError

from controller.api import GROUP, VERSION
from controller.api.crdgen import KINDS, Kind, crd
from controller.api.rollout import AgentRollout
from controller.core.wellformed import broken_rule
from controller.lint.rules import broken_rules
from controller.lint.schema import Problem, Schema, structural_problems
from controller.manifests import Document

API_VERSION = f"{GROUP}/{VERSION}"

_KINDS = {kind.model.__name__: kind for kind in KINDS}


def is_ours(document: Document) -> bool:
    """Whether it is for this product to say something about the object."""
    raw = document.raw
    return isinstance(raw, dict) and (
        str(raw.get("apiVersion", "")).partition("/")[0] == GROUP or raw.get("kind") in _KINDS
    )


def problems(document: Document) -> list[Problem]:
    """What the API server or the operator would refuse the object for; nothing if it can be applied.

    Args:
        document: One for which `is_ours` holds.

    Raises:
        RulesError: The extra ``lint`` is not installed.
    """
    raw = _named(document.raw)
    kind = _KINDS.get(str(raw.get("kind")))
    if kind is None:
        return [Problem(("kind",), f"must be one of {', '.join(_KINDS)}")]
    if raw.get("apiVersion") != API_VERSION:
        return [Problem(("apiVersion",), f"must be {API_VERSION}")]
    twice = [Problem(place, "is given more than once: remove one of them") for place in document.duplicates]
    return _unique([*twice, *_by_schema(kind, raw)]) or _by_model(kind, raw)


def _named(raw: dict[str, Any]) -> dict[str, Any]:
    """The object with a name, if the API server is to make one up."""
    metadata = raw.get("metadata")
    if (
        not isinstance(metadata, dict)
        or "name" in metadata
        or not isinstance(metadata.get("generateName"), str)
    ):
        return raw
    return {**raw, "metadata": {**metadata, "name": f"{metadata['generateName']}x"}}


def _by_schema(kind: Kind, raw: dict[str, Any]) -> Iterable[Problem]:
    schema = _schema(kind)
    # Status is the controller's: the API server takes no notice of what a file says there.
    wanted = {name: value for name, value in raw.items() if name != "status"}
    found = list(structural_problems(schema, wanted))
    return [*found, *broken_rules(schema, wanted, misshapen={each.place for each in found})]


@cache
def _schema(kind: Kind) -> Schema:
    """The CRD's, by which an object has a name, and metadata may have what all objects may have."""
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    metadata = {
        **schema["properties"]["metadata"],
        "required": ["name"],
        "x-kubernetes-preserve-unknown-fields": True,
    }
    return {
        **schema,
        "required": ["metadata", *schema["required"]],
        "properties": {**schema["properties"], "metadata": metadata},
    }


def _by_model(kind: Kind, raw: dict[str, Any]) -> list[Problem]:
    """What the operator reads once more, since an object may have been stored before a rule existed."""
    metadata = {"namespace": "default", **raw["metadata"]}
    try:
        read = kind.model.model_validate({**raw, "metadata": metadata, "status": {}})
    except ValidationError as error:
        return [
            Problem(each["loc"], each["msg"].removeprefix("Value error, "))
            for each in error.errors(include_url=False, include_input=False)
        ]
    broken = broken_rule(read.spec) if isinstance(read, AgentRollout) else ""
    field, _, message = broken.partition(": ")
    return [Problem(tuple(field.split(".")), message)] if broken else []


def _unique(found: Iterable[Problem]) -> list[Problem]:
    return list(dict.fromkeys(found))
