"""Objects with one history of versions for all of them, as etcd keeps it."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Raw = dict[str, Any]
Path = tuple[str, str, str, str]
"""Group, plural, namespace, name."""


class Refusal(Exception):  # noqa: N818 - what it is
    """An answer with an error code, as a Status object tells it."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        causes: tuple[dict[str, str], ...] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        details: Raw = {"causes": list(causes)} if causes else {}
        if retry_after is not None:
            details["retryAfterSeconds"] = retry_after
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": details,
            "code": code,
        }


@dataclass(frozen=True)
class Change:
    """One step of the history; ``before`` is what was there, ``object`` what is there now or was deleted."""

    version: int
    type: str
    path: Path
    object: Raw
    before: Raw | None


class Storage:
    """Objects, their history, and somebody to wake when it grows.

    Stored objects are never changed, only replaced, so that snapshots of the past cost nothing.
    """

    def __init__(self) -> None:
        self.version = 1
        self.objects: dict[Path, Raw] = {}
        self.history: list[Change] = []
        self.compacted = 0
        self._grown = asyncio.Event()

    def get(self, path: Path) -> Raw:
        found = self.objects.get(path)
        if found is None:
            _, plural, _, name = path
            raise Refusal(404, "NotFound", f'{plural} "{name}" not found')
        return found

    def put(self, path: Path, obj: Raw) -> Raw:
        """Store a new version, unless nothing changed."""
        before = self.objects.get(path)
        if before is not None and _same(before, obj):
            return before
        obj = copy.deepcopy(obj)
        metadata = obj["metadata"]
        if before is None:
            metadata["uid"] = str(uuid.uuid4())
            metadata["creationTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            return self._removed(path, obj)
        obj = self._stamped(obj)
        self.objects[path] = obj
        self._happened(Change(self.version, "ADDED" if before is None else "MODIFIED", path, obj, before))
        return obj

    def delete(self, path: Path) -> Raw | None:
        """Delete; the terminating object if finalizers hold it, None if it is gone."""
        found = self.get(path)
        if not found["metadata"].get("finalizers"):
            self._removed(path, found)
            return None
        if found["metadata"].get("deletionTimestamp"):
            return found
        doomed = copy.deepcopy(found)
        doomed["metadata"]["deletionTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self.put(path, doomed)

    def compact(self) -> None:
        """Forget the history: whoever asks for what came before is told that it is gone."""
        self.compacted = self.version
        self.history.clear()

    def restore(self, objects: dict[Path, Raw], version: int) -> None:
        """Go back to an earlier state, as after a restore from a backup; watches must be ended by the caller."""
        self.objects, self.version, self.compacted = dict(objects), version, 0
        self.history.clear()

    def since(self, version: int) -> list[Change]:
        """What happened after a version."""
        return [change for change in self.history if change.version > version]

    async def grown(self) -> None:
        """Return when something has happened."""
        await self._grown.wait()

    def _removed(self, path: Path, last: Raw) -> Raw:
        before = self.objects.pop(path)
        last = self._stamped(last)
        self._happened(Change(self.version, "DELETED", path, last, before))
        return last

    def _stamped(self, obj: Raw) -> Raw:
        self.version += 1
        return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}

    def _happened(self, change: Change) -> None:
        self.history.append(change)
        self._grown.set()
        self._grown = asyncio.Event()


def _same(before: Raw, after: Raw) -> bool:
    return _without_bookkeeping(before) == _without_bookkeeping(after)


def _without_bookkeeping(obj: Raw) -> Raw:
    metadata = {k: v for k, v in obj["metadata"].items() if k not in {"resourceVersion", "managedFields"}}
    return {**obj, "metadata": metadata}


Validate = Callable[[Raw], tuple[tuple[str, str], ...]]
"""``(field, message)`` of everything that is wrong with an object."""
