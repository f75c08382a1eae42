"""Who owns which field: server-side apply, as far as this project uses it.

Lists are owned as a whole. Field sets are rendered as the real server does, so that field managers can be read back.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from tests.faulty_api.storage import Raw, Refusal

Field = tuple[str, ...]
_IDENTITY = frozenset({("apiVersion",), ("kind",)})
_SERVERS = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"}
)


def leaves(obj: Raw) -> dict[Field, Any]:
    """Every field that a client sets, by its path."""
    return {
        field: value
        for field, value in _leaves(obj, ())
        if field not in _IDENTITY and not (field[0] == "metadata" and field[1] in _SERVERS)
    }


def _leaves(value: Any, path: Field) -> Iterator[tuple[Field, Any]]:
    if isinstance(value, dict) and (value or not path):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value


def apply(current: Raw | None, wanted: Raw, manager: str, *, force: bool) -> Raw:
    """The object after ``manager`` applied ``wanted``: its fields as given, its former ones gone."""
    result = copy.deepcopy(current) if current else {**wanted, "metadata": _identity(wanted)}
    owners = owners_of(result)
    mine = (manager, "Apply", "")
    asked = leaves(wanted)
    have = leaves(result)
    taken: list[tuple[Field, str]] = []
    for field, value in asked.items():
        for owner, fields in owners.items():
            if owner != mine and field in fields and have.get(field) != value:
                taken.append((field, owner[0]))
                if force:
                    fields.discard(field)
    if taken and not force:
        raise _conflict(taken)
    for field in owners.get(mine, set()) - asked.keys():
        if not any(field in fields for owner, fields in owners.items() if owner != mine):
            _remove(result, field)
    for field, value in asked.items():
        _set(result, field, value)
    owners[mine] = set(asked)
    return with_owners(result, owners)


def written(before: Raw | None, after: Raw, manager: str, subresource: str = "") -> Raw:
    """The object after a plain write, whose manager owns what it changed."""
    owners = owners_of(before) if before else {}
    had, has = leaves(before) if before else {}, leaves(after)
    changed = {field for field, value in has.items() if field not in had or had[field] != value}
    for fields in owners.values():
        fields.difference_update(changed, had.keys() - has.keys())
    mine = (manager, "Update", subresource)
    owners[mine] = owners.get(mine, set()) | changed
    return with_owners(after, owners)


Owner = tuple[str, str, str]
"""Field manager, operation, subresource."""


def owners_of(obj: Raw) -> dict[Owner, set[Field]]:
    """Read the managed fields."""
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): set(
            _fields(entry["fieldsV1"], ())
        )
        for entry in obj["metadata"].get("managedFields", ())
    }


def with_owners(obj: Raw, owners: dict[Owner, set[Field]]) -> Raw:
    """The object with these managed fields."""
    entries = []
    for (manager, operation, subresource), fields in owners.items():
        if fields:
            entry = {"manager": manager, "operation": operation, "apiVersion": obj["apiVersion"]}
            entry |= {"fieldsType": "FieldsV1", "fieldsV1": _tree(fields)}
            entries.append(entry | ({"subresource": subresource} if subresource else {}))
    return {**obj, "metadata": {**obj["metadata"], "managedFields": entries}}


def _identity(obj: Raw) -> Raw:
    return {key: value for key, value in obj["metadata"].items() if key in {"name", "namespace"}}


def _conflict(taken: list[tuple[Field, str]]) -> Refusal:
    causes = tuple(
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{owner}"',
            "field": "." + ".".join(field),
        }
        for field, owner in taken
    )
    fields = ", ".join(cause["field"] for cause in causes)
    message = f'Apply failed with {len(taken)} conflict: conflict with "{taken[0][1]}": {fields}'
    return Refusal(409, "Conflict", message, causes=causes)


def _tree(fields: set[Field]) -> Raw:
    tree: Raw = {}
    for field in sorted(fields):
        node = tree
        for part in field:
            node = node.setdefault(f"f:{part}", {})
    return tree


def _fields(tree: Raw, path: Field) -> Iterator[Field]:
    for key, inner in tree.items():
        field = (*path, key.removeprefix("f:"))
        if inner:
            yield from _fields(inner, field)
        else:
            yield field


def _set(obj: Raw, field: Field, value: Any) -> None:
    for part in field[:-1]:
        obj = obj.setdefault(part, {})
    obj[field[-1]] = value


def _remove(obj: Raw, field: Field) -> None:
    parents = [obj]
    for part in field[:-1]:
        if part not in parents[-1]:
            return
        parents.append(parents[-1][part])
    parents[-1].pop(field[-1], None)
    for parent, part in zip(reversed(parents[:-1]), reversed(field[:-1]), strict=True):
        if not parent[part]:
            del parent[part]
