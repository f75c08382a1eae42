"""The structural half: types, bounds, fields that must be there and fields that do not exist."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from controller.manifests import Place

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        place: The field.
        message: What is wrong with it, and the way out.
    """

    place: Place
    message: str

    @property
    def field(self) -> str:
        """The field as people write it: ``spec.stages[0].weight``."""
        text = ""
        for part in self.place:
            if isinstance(part, int):
                text += f"[{part}]"
            else:
                text += f".{part}" if part.replace("-", "").replace("_", "").isalnum() else f"[{part}]"
        return text.removeprefix(".")


def structural_problems(schema: Schema, found: Any) -> Iterator[Problem]:
    """Where an object does not have the shape of its schema.

    Args:
        schema: An ``openAPIV3Schema``.
        found: The object, as JSON.
    """
    closed = _closed(schema)
    for error in jsonschema_rs.validator_for(closed).iter_errors(found):
        place = tuple(error.instance_path)
        yield from _problems(place, error, _at(closed, place))
    yield from _duplicates(schema, found, ())


def _closed(schema: Schema) -> Schema:
    """The schema in which a field that is not named is an error, as with kubectl's strict validation."""
    result = dict(schema)
    if "properties" in schema:
        result["properties"] = {name: _closed(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = _closed(schema["additionalProperties"])
    if "items" in schema:
        result["items"] = _closed(schema["items"])
    return result


def _at(schema: Schema, place: Place) -> Schema:
    for part in place:
        if isinstance(part, int):
            schema = schema.get("items") or {}
        else:
            more = schema.get("additionalProperties")
            schema = (schema.get("properties") or {}).get(part) or (more if isinstance(more, dict) else {})
    return schema


def _problems(place: Place, error: jsonschema_rs.ValidationError, schema: Schema) -> Iterator[Problem]:
    details = error.kind.as_dict()
    match error.kind.name:
        case "additionalProperties":
            known = schema.get("properties") or {}
            yield from (Problem((*place, name), _unknown(name, known)) for name in details["unexpected"])
        case "required":
            yield Problem((*place, details["property"]), "is missing: it must be given")
        case "type":
            yield Problem(place, _type(schema, error.instance))
        case name:
            yield Problem(place, _bound(name, details, error.message))


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"there is no such field: {f'did you mean {near[0]}?' if near else 'remove it'}"


_TYPES = {"object": "a map of fields", "array": "a list", "string": "text", "boolean": "true or false"}


def _type(schema: Schema, found: Any) -> str:
    wanted = str(schema.get("type"))
    if wanted == "string" and isinstance(found, int | float):
        return f'must be text: write it in quotes, "{json.dumps(found)}"'
    if found is None:
        return f"is empty: give {_TYPES.get(wanted, f'a {wanted}')}, or remove it"
    return f"must be {_TYPES.get(wanted, f'a {wanted}' if wanted == 'number' else f'an {wanted}')}"


def _bound(keyword: str, details: Mapping[str, Any], message: str) -> str:
    if keyword == "enum":
        return f"must be one of {', '.join(map(str, details['options']))}"
    limit = details.get("limit")
    if limit == 1 and keyword.startswith("min") and keyword != "minimum":
        return "must not be empty: write something, or remove it"
    bound = "at most" if keyword.startswith("max") else "at least"
    if keyword in {"maximum", "minimum"}:
        return f"must be {bound} {limit:g}"
    what = {"Length": "characters", "Items": "entries", "Properties": "entries"}.get(keyword[3:])
    return f"must have {bound} {limit} {what}" if what else message


def _duplicates(schema: Schema, found: Any, place: Place) -> Iterator[Problem]:
    """What stands twice in a list in which it may stand once."""
    if isinstance(found, list):
        yield from _repeated(schema, found, place)
        inner: Sequence[tuple[str | int, Any]] = list(enumerate(found))
    else:
        inner = list(found.items()) if isinstance(found, dict) else []
    for part, each in inner:
        yield from _duplicates(_at(schema, (part,)), each, (*place, part))


def _repeated(schema: Schema, found: list[Any], place: Place) -> Iterator[Problem]:
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    seen: list[Any] = []
    if schema.get("x-kubernetes-list-type") not in {"set", "map"}:
        return
    for number, each in enumerate(found):
        known_by = [each.get(key) for key in keys] if keys and isinstance(each, dict) else each
        if known_by in seen:
            yield Problem((*place, number), "stands in the list already: remove one of them")
        seen.append(known_by)
