"""Writes that the store shows before anybody decides again: read-your-writes.

The answer of a write goes into the store at once, that of a deletion too. A write without an answer (a deadline, a
broken connection, a 5xx, a cancellation) may have been done or not. Until the object has been read again it is *in
doubt*, and whoever decides on it has to `settle` it first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Generic

from controller.runtime.client import ResourceClient
from controller.runtime.errors import ApiError, NotFound, Unavailable
from controller.runtime.resource import RawObject, key_of, uid_of
from controller.runtime.store import Store, T

SETTLE_SECONDS = 0.5
"""How long a decision may wait for the truth; then it has to be taken in doubt."""


class WriteThrough(Generic[T]):
    """A `ResourceClient` whose reads and writes keep a store in step.

    Its methods are those of the client. ``owner`` is the key on whose behalf something is written, if that is not the
    object's own: the key whose next decision rests on it.

    Args:
        client: Reads and writes.
        store: Of the same resource.
    """

    def __init__(self, client: ResourceClient, store: Store[T]) -> None:
        self._client = client
        self._store = store
        self._doubts: dict[str, set[str]] = {}
        self._readings: dict[str, asyncio.Task[None]] = {}

    def in_doubt(self, owner: str) -> bool:
        """Whether the outcome of a write on behalf of ``owner`` is not known."""
        return owner in self._doubts

    async def settle(self, owner: str) -> None:
        """Read again whatever is in doubt; does nothing if nothing is.

        What is still under way in the API server at that moment may be done later all the same. Against that helps the
        resourceVersion of the decision in every write that matters.

        Raises:
            ApiError: It cannot be read; `Unavailable` after half a second, while the reading goes on.
        """
        if owner not in self._doubts:
            return
        reading = self._readings.get(owner)
        if reading is None or reading.done():
            reading = self._readings[owner] = asyncio.create_task(self._read_again(owner))
            reading.add_done_callback(partial(self._reading_ended, owner))
        await asyncio.wait([reading], timeout=SETTLE_SECONDS)
        if not reading.done():
            doubt = f"the last write for {owner} had no answer, and its object cannot be read within {SETTLE_SECONDS:g} s"
            raise Unavailable(doubt, reason="Timeout")
        error = reading.exception()
        if error is not None:
            raise error

    async def get(self, key: str) -> RawObject:
        """See `ResourceClient.get`."""
        known = self._store.uid(key)
        try:
            found = await self._client.get(key)
        except NotFound:
            self._store.forget(key, known)
            raise
        self._store.put_if_newer(found)
        return found

    async def create(self, obj: RawObject, *, owner: str = "") -> RawObject:
        """See `ResourceClient.create`."""
        return await self._write(key_of(obj), owner, self._client.create(obj))

    async def apply(self, obj: RawObject, *, force: bool = False, owner: str = "") -> RawObject:
        """See `ResourceClient.apply`."""
        return await self._write(key_of(obj), owner, self._client.apply(obj, force=force))

    async def merge(
        self, key: str, changes: Mapping[str, Any], *, resource_version: int | str, uid: str = ""
    ) -> RawObject:
        """See `ResourceClient.merge`."""
        patch = self._client.merge(key, changes, resource_version=resource_version, uid=uid)
        return await self._write(key, "", patch)

    async def update_status(
        self, key: str, status: Mapping[str, Any], *, resource_version: int | str, uid: str = ""
    ) -> RawObject:
        """See `ResourceClient.update_status`."""
        update = self._client.update_status(key, status, resource_version=resource_version, uid=uid)
        return await self._write(key, "", update)

    async def delete(self, key: str, *, owner: str = "") -> None:
        """See `ResourceClient.delete`."""
        known = self._store.uid(key)
        try:
            with self._doubted(owner or key, key):
                answer = await self._client.delete(key)
        except NotFound:
            self._store.forget(key, known)
            raise
        if uid_of(answer):
            self._store.put_if_newer(answer)  # finalizers hold it
        else:
            self._store.forget(key, (answer.get("details") or {}).get("uid") or known)

    async def _read_again(self, owner: str) -> None:
        for key in sorted(self._doubts.get(owner, ())):
            with suppress(NotFound):
                await self.get(key)
            self._settled(owner, key)

    def _reading_ended(self, owner: str, reading: asyncio.Task[None]) -> None:
        """Let go of it, whether or not somebody still waits for it; asyncio complains about errors nobody looked at."""
        if self._readings.get(owner) is reading:
            del self._readings[owner]
        if not reading.cancelled():
            reading.exception()

    async def _write(self, key: str, owner: str, request: Awaitable[RawObject]) -> RawObject:
        with self._doubted(owner or key, key):
            stored = await request
        self._store.put_if_newer(stored)
        return stored

    @contextmanager
    def _doubted(self, owner: str, key: str) -> Iterator[None]:
        """In doubt from the request on, until there is an answer of any kind."""
        self._doubts.setdefault(owner, set()).add(key)
        try:
            yield
        except ApiError as error:
            if not isinstance(error, Unavailable):
                self._settled(owner, key)
            raise
        self._settled(owner, key)

    def _settled(self, owner: str, key: str) -> None:
        doubts = self._doubts.get(owner, set())
        doubts.discard(key)
        if not doubts:
            self._doubts.pop(owner, None)
