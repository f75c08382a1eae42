"""Creations, updates, patches, server-side applies and deletions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.faulty_api import ownership
from tests.faulty_api.kinds import Target
from tests.faulty_api.storage import Raw, Refusal, Storage


class Writes:
    """Changes the storage as a request asks for."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def create(self, target: Target, wanted: Raw, query: Mapping[str, str]) -> Raw:
        name = (wanted.get("metadata") or {}).get("name", "")
        target = Target(target.kind, target.namespace, name, "")
        if target.path in self._storage.objects:
            raise Refusal(409, "AlreadyExists", f'{target.kind.plural} "{name}" already exists')
        return self._put(target, None, self._completed(target, wanted), query, "Update")

    def update(self, target: Target, wanted: Raw, query: Mapping[str, str]) -> Raw:
        current = self._storage.get(target.path)
        self._check_preconditions(target, wanted.get("metadata") or {}, current)
        wanted["metadata"] = {**current["metadata"], **(wanted.get("metadata") or {})}
        return self._put(target, current, wanted, query, "Update")

    def patch(self, target: Target, patch: Raw, query: Mapping[str, str], *, is_apply: bool) -> Raw:
        current = self._storage.objects.get(target.path)
        if is_apply:
            manager, force = query["fieldManager"], query.get("force") == "true"
            patch = self._completed(target, patch)
            self._check_preconditions(target, patch["metadata"], current or {"metadata": {}})
            wanted = ownership.apply(current, patch, manager, force=force)
            return self._put(target, current, wanted, query, "Apply")
        current = self._storage.get(target.path)
        self._check_preconditions(target, patch.get("metadata") or {}, current)
        return self._put(target, current, _merged(current, patch), query, "Update")

    def delete(self, target: Target, preconditions: Raw) -> Raw:
        found = self._storage.get(target.path)
        self._check_preconditions(target, preconditions, found)
        doomed = self._storage.delete(target.path)
        if doomed is not None:
            return doomed
        details = {"name": target.name, "kind": target.kind.plural, "uid": found["metadata"]["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details}

    def _completed(self, target: Target, obj: Raw) -> Raw:
        kind = target.kind
        named = {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
        metadata = {**(obj.get("metadata") or {}), "name": target.name}
        if target.namespace:
            metadata["namespace"] = target.namespace
        return {**named, "metadata": metadata}

    @staticmethod
    def _check_preconditions(target: Target, wanted: Mapping[str, Any], current: Raw) -> None:
        for name in ("uid", "resourceVersion"):
            if wanted.get(name) and wanted[name] != current["metadata"].get(name):
                raise Refusal(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on {target.kind.plural} "{target.name}": the object has been modified; '
                    f"please apply your changes to the latest version and try again ({name})",
                )

    def _put(
        self, target: Target, current: Raw | None, wanted: Raw, query: Mapping[str, str], how: str
    ) -> Raw:
        """Store what a write asks for: of a subresource only status, else everything but status."""
        kind = target.kind
        if target.subresource == "status":
            assert current is not None
            wanted = _with_status({**current}, wanted)
        elif kind.has_status:
            wanted = _with_status(dict(wanted), current or {})
        errors = kind.validate(wanted)
        if errors:
            causes = tuple({"reason": "FieldValueInvalid", "field": f, "message": m} for f, m in errors)
            told = ", ".join(f"{field}: {message}" for field, message in errors)
            raise Refusal(422, "Invalid", f'{kind.kind} "{target.name}" is invalid: {told}', causes=causes)
        if how == "Update":
            manager = query.get("fieldManager", "unknown")
            wanted = ownership.written(current, wanted, manager, target.subresource)
        if kind.has_status:
            wanted["metadata"]["generation"] = _generation(current, wanted)
        return self._storage.put(target.path, wanted)


def _generation(current: Raw | None, wanted: Raw) -> int:
    if current is None:
        return 1
    generation = int(current["metadata"]["generation"])
    return generation + (current.get("spec") != wanted.get("spec"))


def _with_status(obj: Raw, source: Raw) -> Raw:
    obj.pop("status", None)
    return {**obj, "status": source["status"]} if "status" in source else obj


def _merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged
