"""Lists in pages, watches and WatchLists."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Mapping

from tests.faulty_api.kinds import Kind, Target
from tests.faulty_api.storage import Change, Path, Raw, Refusal, Storage

INITIAL_EVENTS_END = {"k8s.io/initial-events-end": "true"}


class Reads:
    """Answers what is asked about the storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._watches: set[asyncio.Event] = set()

    def close_watches(self) -> None:
        """End all watches."""
        for closed in self._watches:
            closed.set()

    def page(self, target: Target, query: Mapping[str, str]) -> Raw:
        if "continue" in query:
            token = json.loads(base64.b64decode(query["continue"]))
            version, start = int(token["version"]), tuple(token["start"])
            if version < self._storage.compacted:
                raise Refusal(410, "Expired", "The provided continue parameter is too old")
        else:
            version, start = self._storage.version, ()
        found = [
            (path, obj)
            for path, obj in sorted(self._at(version).items())
            if target.holds(path) and path >= start and _selected(obj, query.get("labelSelector", ""))
        ]
        metadata: Raw = {"resourceVersion": str(version)}
        limit = int(query.get("limit", 0))
        if limit and len(found) > limit:
            token = json.dumps({"version": version, "start": found[limit][0]}).encode()
            metadata |= {
                "continue": base64.b64encode(token).decode(),
                "remainingItemCount": len(found) - limit,
            }
            found = found[:limit]
        kind = target.kind
        return {
            "apiVersion": kind.api_version,
            "kind": f"{kind.kind}List",
            "metadata": metadata,
            "items": [obj for _, obj in found],
        }

    def _at(self, version: int) -> dict[Path, Raw]:
        """All objects as they were at a version that is not compacted."""
        objects = dict(self._storage.objects)
        for change in reversed(self._storage.since(version)):
            if change.before is None:
                objects.pop(change.path, None)
            else:
                objects[change.path] = change.before
        return objects

    async def lines(
        self, target: Target, query: Mapping[str, str], *, with_initial: bool, bookmark_seconds: float
    ) -> AsyncIterator[bytes]:
        selector = query.get("labelSelector", "")
        asked = int(query.get("resourceVersion") or 0)
        current = self._storage.version
        if asked > current and with_initial:
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            message = f"Timeout: Too large resource version: {asked}, current: {current}"
            yield _line("ERROR", Refusal(504, "Timeout", message, causes=(cause,), retry_after=1).status)
            return
        if with_initial or not asked:
            for path, obj in sorted(self._storage.objects.items()):
                if target.holds(path) and _selected(obj, selector):
                    yield _line("ADDED", obj)
            if with_initial:
                yield _bookmark(target.kind, current, INITIAL_EVENTS_END)
            asked = current
        async for line in self._changes(target, selector, asked, bookmark_seconds):
            yield line

    async def _changes(
        self, target: Target, selector: str, sent: int, bookmark_seconds: float
    ) -> AsyncIterator[bytes]:
        closed = asyncio.Event()
        self._watches.add(closed)
        next_bookmark = time.monotonic() + bookmark_seconds
        try:
            while not closed.is_set():
                if sent < self._storage.compacted:
                    status = Refusal(410, "Expired", f"too old resource version: {sent}").status
                    yield _line("ERROR", status)
                    return
                for change in self._storage.since(sent):
                    sent = change.version
                    event = _event(change, selector) if target.holds(change.path) else None
                    if event:
                        yield _line(event, change.object)
                if time.monotonic() >= next_bookmark:
                    next_bookmark += bookmark_seconds
                    sent = max(sent, self._storage.version)
                    yield _bookmark(target.kind, sent)
                waits = [asyncio.create_task(self._storage.grown()), asyncio.create_task(closed.wait())]
                try:
                    await asyncio.wait(
                        waits,
                        return_when=asyncio.FIRST_COMPLETED,
                        timeout=max(0.0, next_bookmark - time.monotonic()),
                    )
                finally:
                    for wait in waits:
                        wait.cancel()
        finally:
            self._watches.discard(closed)


def _event(change: Change, selector: str) -> str | None:
    """The type of the event as a watch with this selector sees it; None if it does not."""
    was = change.before is not None and _selected(change.before, selector)
    if change.type == "DELETED":
        return "DELETED" if was else None
    if _selected(change.object, selector):
        return "MODIFIED" if was else "ADDED"
    return "DELETED" if was else None


def _selected(obj: Raw, selector: str) -> bool:
    labels = obj["metadata"].get("labels") or {}
    return all(
        labels.get(key) == value
        for key, _, value in (part.partition("=") for part in selector.split(",") if part)
    )


def _line(kind: str, obj: Raw) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def _bookmark(kind: Kind, version: int, annotations: Mapping[str, str] | None = None) -> bytes:
    metadata: Raw = {"resourceVersion": str(version)}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return _line("BOOKMARK", {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata})
