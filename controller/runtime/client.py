"""A typed, small surface over one resource of the Kubernetes API: read, list, watch, create, apply, status, delete."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from controller.runtime.errors import Unavailable, error_from_status
from controller.runtime.resource import RawObject, Resource, key_of, split_key
from controller.runtime.transport import Transport

_STREAM_GRACE_SECONDS = 15.0

_JSON = "application/json"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list.

    Attributes:
        items: The objects, complete with apiVersion and kind.
        resource_version: Of the whole list, the same on all its pages; a watch goes on from there.
        continue_token: For the next page; ``""`` on the last one.
    """

    items: tuple[RawObject, ...]
    resource_version: str
    continue_token: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch.

    Attributes:
        type: ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``. An ``ERROR`` is raised, not returned.
        object: The object; of a bookmark only the resourceVersion counts.
    """

    type: str
    object: RawObject


class ListerWatcher(Protocol):
    """The reading half of `ResourceClient`: what a watcher needs."""

    resource: Resource

    async def list_page(self, *, limit: int = 500, continue_token: str = "") -> Page:
        """One page of all objects."""

    def watch(
        self,
        resource_version: str,
        *,
        server_timeout: float,
        inactivity_timeout: float,
        send_initial_events: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after ``resource_version``, until the server ends the stream."""


class ResourceClient:
    """Requests for one resource; lists and watches see all namespaces, or what they are limited to.

    All methods raise `controller.runtime.errors.ApiError` in its typed forms; none of them retries.

    Args:
        transport: The connection.
        resource: What is asked for.
        field_manager: The name under which the server notes who owns which field.
        timeout: Deadline of one request but a watch, seconds.
        namespace: Limits lists and watches to one namespace.
        label_selector: Limits lists and watches to objects with these labels, such as ``app=shop``.
        field_selector: Limits them to objects with these fields, such as ``metadata.name=agent``.
        metadata_only: Have lists and watches give nothing but the metadata of each object.
    """

    def __init__(  # noqa: PLR0913  each selector is one of the API's own
        self,
        transport: Transport,
        resource: Resource,
        *,
        field_manager: str,
        timeout: float = 10.0,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
    ) -> None:
        self.resource = resource
        self._transport = transport
        self._field_manager = field_manager
        self._timeout = timeout
        self._collection = resource.path(namespace)
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._selection = {name: text for name, text in selectors.items() if text}
        self._list_type = _METADATA_LIST if metadata_only else _JSON
        self._watch_type = _METADATA if metadata_only else _JSON

    async def get(self, key: str) -> RawObject:
        """The object as the server has it now.

        Raises:
            NotFound: There is none.
        """
        return await self._transport.request("GET", self._path(key), timeout=self._timeout)

    async def list_page(self, *, limit: int = 500, continue_token: str = "") -> Page:
        """One page of all objects.

        Args:
            limit: Objects per page; 0 for all in one.
            continue_token: From the page before; ``""`` for the first.

        Raises:
            Gone: The continue token is too old; start again.
        """
        query = {
            key: value for key, value in (("limit", str(limit or "")), ("continue", continue_token)) if value
        }
        answer = await self._transport.request(
            "GET",
            self._collection,
            query=self._selection | query,
            accept=self._list_type,
            timeout=self._timeout,
        )
        metadata = answer.get("metadata") or {}
        # The server leaves kind and apiVersion out of the items of built-in lists.
        named = {"apiVersion": self.resource.api_version, "kind": self.resource.kind}
        return Page(
            items=tuple({**named, **item} for item in answer.get("items") or ()),
            resource_version=metadata.get("resourceVersion", ""),
            continue_token=metadata.get("continue", ""),
        )

    async def watch(
        self,
        resource_version: str,
        *,
        server_timeout: float,
        inactivity_timeout: float,
        send_initial_events: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after ``resource_version``, bookmarks included, until the server ends the stream.

        Args:
            resource_version: From a list or a previous event.
            server_timeout: After how many seconds the server is asked to end the stream.
            inactivity_timeout: Give the stream up after so many seconds without a complete event: the connection may
                be half open. The server sends a bookmark about every minute once the resource has changed.
            send_initial_events: Ask for a WatchList: first comes each object as ``ADDED``, at ``resource_version`` or
                later (``""``: the newest), then a bookmark that marks their end.

        Raises:
            Gone: ``resource_version`` is too old; list again.
            BadRequest, Invalid: The server does not know WatchLists.
            VersionNotReached: The server does not have ``resource_version`` yet, for the initial events.
            Unavailable: The stream broke or fell silent.
        """
        query = self._selection | {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, int(server_timeout))),
        }
        if send_initial_events:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        path = self._collection
        lines = self._transport.stream(
            path, query=query, accept=self._watch_type, timeout=server_timeout + _STREAM_GRACE_SECONDS
        )
        async with aclosing(lines):
            while True:
                try:
                    async with asyncio.timeout(inactivity_timeout):
                        line = await anext(lines, None)
                except TimeoutError as error:
                    silence = f"WATCH {path}: nothing received for {inactivity_timeout:g} s"
                    raise Unavailable(silence, reason="Inactive") from error
                if line is None:
                    return
                yield _decode_event(line, path)

    async def create(self, obj: RawObject) -> RawObject:
        """Create an object and return it as stored.

        Raises:
            AlreadyExists: The name is taken.
            Invalid: The object breaks its schema; ``causes`` name the fields.
        """
        namespace = (obj.get("metadata") or {}).get("namespace") or ""
        return await self._transport.request(
            "POST",
            self.resource.path(namespace),
            query={"fieldManager": self._field_manager},
            body=self._named(obj),
            timeout=self._timeout,
        )

    async def update(self, obj: RawObject) -> RawObject:
        """Replace a whole object, provided that it still has the given ``metadata.resourceVersion``.

        Raises:
            Conflict: The object has changed; decide anew on the new one.
            NotFound: There is none.
        """
        return await self._transport.request(
            "PUT",
            self._path(key_of(obj)),
            query={"fieldManager": self._field_manager},
            body=self._named(obj),
            timeout=self._timeout,
        )

    async def apply(self, obj: RawObject, *, force: bool = False) -> RawObject:
        """Server-side apply: make the given fields, and no others, ours and as given; creates the object if need be.

        Args:
            obj: The fields that we decide on, with the object's name.
            force: Take over fields that others own.

        Raises:
            Conflict: Others own some of the fields with other values; ``causes`` name them.
        """
        return await self._transport.request(
            "PATCH",
            self._path(key_of(obj)),
            query={"fieldManager": self._field_manager, "force": "true" if force else "false"},
            body=self._named(obj),
            content_type="application/apply-patch+yaml",
            timeout=self._timeout,
        )

    async def merge(
        self, key: str, changes: Mapping[str, Any], *, resource_version: int | str, uid: str = ""
    ) -> RawObject:
        """JSON merge patch, provided that nothing of the object changed since it was read; lists are replaced whole.

        Raises:
            Conflict: The object has changed; decide anew on the new one.
            NotFound: There is none.
        """
        condition = {"resourceVersion": str(resource_version), **({"uid": uid} if uid else {})}
        return await self._transport.request(
            "PATCH",
            self._path(key),
            query={"fieldManager": self._field_manager},
            body={**changes, "metadata": {**(changes.get("metadata") or {}), **condition}},
            content_type="application/merge-patch+json",
            timeout=self._timeout,
        )

    async def update_status(
        self, key: str, status: Mapping[str, Any], *, resource_version: int | str, uid: str = ""
    ) -> RawObject:
        """Replace the whole status, provided that nothing of the object changed since it was read.

        Args:
            key: ``namespace/name``.
            status: The new status; what it leaves out is removed.
            resource_version: Of the object on which the decision was made.
            uid: Of that object; guards against one of the same name that was made since.

        Raises:
            Conflict: The object has changed; decide anew on the new one.
        """
        namespace, name = split_key(key)
        metadata = {"name": name, "resourceVersion": str(resource_version)}
        metadata |= {field: value for field, value in (("namespace", namespace), ("uid", uid)) if value}
        return await self._transport.request(
            "PUT",
            self._path(key, "status"),
            query={"fieldManager": self._field_manager},
            body=self._named({"metadata": metadata, "status": dict(status)}),
            timeout=self._timeout,
        )

    async def delete(self, key: str, *, uid: str = "", resource_version: int | str = "") -> RawObject:
        """Delete an object, only this very one if ``uid`` or ``resource_version`` is given.

        Returns:
            The object as long as finalizers hold it; a Status, whose ``details`` name the uid, when it is gone.

        Raises:
            NotFound: There is none.
            Conflict: The precondition does not hold.
        """
        preconditions = {
            field: value
            for field, value in (("uid", uid), ("resourceVersion", str(resource_version)))
            if value
        }
        return await self._transport.request(
            "DELETE",
            self._path(key),
            body={"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions},
            timeout=self._timeout,
        )

    def _path(self, key: str, subresource: str = "") -> str:
        namespace, name = split_key(key)
        return self.resource.path(namespace, name, subresource)

    def _named(self, obj: RawObject) -> RawObject:
        return {"apiVersion": self.resource.api_version, "kind": self.resource.kind, **obj}


def _decode_event(line: bytes, path: str) -> WatchEvent:
    try:
        decoded = json.loads(line)
        kind, obj = decoded["type"], decoded["object"]
    except (ValueError, LookupError, TypeError):
        kind, obj = "", None
    if not isinstance(obj, dict):
        raise Unavailable(f"WATCH {path}: not a watch event: {line[:100]!r}", reason="NotJSON")
    if kind == "ERROR":
        raise error_from_status(int(obj.get("code") or 500), obj, request=f"WATCH {path}")
    return WatchEvent(kind, obj)
