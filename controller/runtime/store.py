"""An indexed store of slim projections of the objects of one resource.

It is fed by a watch and by the answers of our own writes, in whatever order these arrive, and always keeps the newer
version of an object. This rests on two guarantees of the API: the resourceVersions of one resource are comparable as
integers (since Kubernetes 1.35), and the uid of an object that was deleted never comes back. An event that comes late
or twice is therefore recognised, also that of an object which is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import structlog

from controller.runtime.resource import RawObject, key_of, resource_version_of, uid_of

_log = structlog.get_logger(__name__)

T = TypeVar("T")

_REMEMBERED_DELETIONS = 1000
"""Late events come within moments of the deletion; so many objects are not deleted in the meantime."""


class InvalidObjectError(Exception):
    """What a projection raises about an object that it understands to be wrong; the message is for people."""


ChangeHandler = Callable[[str, T | None, T | None], None]
"""``handler(key, old, new)``: old is None for something new, new is None for something gone or no longer understood."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    """The newest known version of an object; ``value`` is None when the projection refused it, for ``problem``."""

    resource_version: int
    uid: str
    value: T | None
    problem: str = ""


class Store(Generic[T]):
    """Projections by key and by index; for use on one event loop.

    An object that the projection refuses is kept out, and out of the others' way: `get` does not find it, `invalid`
    says why. A caller who must know "gone" from "there, but not understood" asks `invalid`.

    Args:
        project: Makes the projection of an object; may raise anything.
        indexers: For each index the values under which a projection is found.
        on_invalid: Told ``(key, reason)`` of each object that becomes invalid; it is logged in any case.
    """

    def __init__(
        self,
        project: Callable[[RawObject], T],
        *,
        indexers: Mapping[str, Callable[[T], Iterable[str]]] | None = None,
        on_invalid: Callable[[str, str], None] | None = None,
    ) -> None:
        self._project = project
        self._indexers = dict(indexers or {})
        self._indices: dict[str, dict[str, set[str]]] = {name: {} for name in self._indexers}
        self._on_invalid = on_invalid
        self._entries: dict[str, _Entry[T]] = {}
        self._handlers: list[ChangeHandler[T]] = []
        self._observed = 0
        self._invalid: set[str] = set()
        self._gone: dict[str, None] = {}

    def __len__(self) -> int:
        """Number of valid objects."""
        return len(self._entries) - len(self._invalid)

    def get(self, key: str) -> T | None:
        """The projection of one object."""
        entry = self._entries.get(key)
        return entry.value if entry else None

    def list(self) -> tuple[T, ...]:
        """All projections, in the order of their keys."""
        found = (self.get(key) for key in sorted(self._entries))
        return tuple(projection for projection in found if projection is not None)

    def keys(self) -> tuple[str, ...]:
        """The keys of all valid objects, sorted."""
        return tuple(sorted(self._entries.keys() - self._invalid))

    def by_index(self, name: str, value: str) -> tuple[T, ...]:
        """The projections that the indexer ``name`` files under ``value``, in the order of their keys.

        Raises:
            KeyError: There is no such index.
        """
        found = (self.get(key) for key in sorted(self._indices[name].get(value, ())))
        return tuple(projection for projection in found if projection is not None)

    def resource_version(self, key: str) -> int | None:
        """The newest known resourceVersion of an object, valid or not."""
        entry = self._entries.get(key)
        return entry.resource_version if entry else None

    def uid(self, key: str) -> str:
        """The uid of an object, valid or not; ``""`` if there is none."""
        entry = self._entries.get(key)
        return entry.uid if entry else ""

    def invalid(self, key: str) -> str | None:
        """Why an object that exists is kept out; None if it is not."""
        entry = self._entries.get(key)
        return entry.problem if entry and entry.value is None else None

    def invalid_keys(self) -> tuple[str, ...]:
        """The keys of all objects that are kept out, sorted."""
        return tuple(sorted(self._invalid))

    @property
    def invalid_count(self) -> int:
        """How many objects are kept out."""
        return len(self._invalid)

    def on_change(self, handler: ChangeHandler[T]) -> None:
        """Call ``handler(key, old, new)`` after each change; what it raises is logged and goes no further."""
        self._handlers.append(handler)

    def put_if_newer(self, obj: RawObject) -> bool:
        """Take in the answer of a write at once, so that the next look at the store sees it.

        Returns:
            Whether it was news. Answers older than what the store has, or of an object whose deletion the watch has
            already told, are ignored.
        """
        key = key_of(obj)
        # The watch is past this version and the object is not there: it was deleted after the write.
        if key not in self._entries and resource_version_of(obj) <= self._observed:
            return False
        return self._put(key, obj)

    def applied(self, key: str, obj: RawObject) -> bool:
        """Take in an object from a list or watch; whether it was news."""
        return self._put(key, obj)

    def deleted(self, key: str, obj: RawObject) -> bool:
        """Take in a deletion from a watch; ignored if the object has been made anew since."""
        version = resource_version_of(obj)
        self._remember_gone(uid_of(obj))
        entry = self._entries.get(key)
        if entry is None or entry.resource_version > version:
            return False
        self._remove(key)
        return True

    def forget(self, key: str, uid: str) -> bool:
        """Take in that the object of this uid is gone, as the answer of a deletion tells; whether it was news."""
        self._remember_gone(uid)
        entry = self._entries.get(key)
        if entry is None or entry.uid != uid:
            return False
        self._remove(key)
        return True

    def observed(self, resource_version: int) -> None:
        """The watch has delivered everything up to this version."""
        self._observed = max(self._observed, resource_version)

    def list_started(self, resource_version: int) -> None:
        """A new list is about to come in, taken at this version."""
        if resource_version >= self._observed:
            return
        # The server's history has been rewound (restored from a backup). Versions from before say nothing any more;
        # comparing with them would keep the store in the lost future.
        self._observed = 0
        self._gone.clear()
        for key, entry in self._entries.items():
            self._entries[key] = replace(entry, resource_version=0)

    def list_finished(self, keys: AbstractSet[str], resource_version: int) -> None:
        """A list is complete: what is not among ``keys`` and not newer than the list has vanished."""
        self.observed(resource_version)
        gone = [
            key
            for key, entry in self._entries.items()
            if key not in keys and entry.resource_version <= resource_version
        ]
        for key in gone:
            self._remove(key)

    def _put(self, key: str, obj: RawObject) -> bool:
        version, uid = resource_version_of(obj), uid_of(obj)
        old = self._entries.get(key)
        if old is not None and old.resource_version >= version:
            return False
        if uid in self._gone:
            return False
        new = self._projected(key, obj, version)
        self._entries[key] = new
        (self._invalid.add if new.value is None else self._invalid.discard)(key)
        self._reindex(key, old.value if old else None, new.value)
        self._notify(key, old.value if old else None, new.value)
        return True

    def _projected(self, key: str, obj: RawObject, version: int) -> _Entry[T]:
        try:
            value = self._project(obj)
            # An indexer that raises on a value is as much a broken object as a projection that does.
            for indexer in self._indexers.values():
                tuple(indexer(value))
        except Exception as error:  # noqa: BLE001 - whatever one object breaks, the others are to be served
            problem = (
                str(error) if isinstance(error, InvalidObjectError) else f"{type(error).__name__}: {error}"
            )
            _log.warning("object_invalid", key=key, resource_version=version, problem=problem)
            if self._on_invalid is not None:
                self._on_invalid(key, problem)
            return _Entry(version, uid_of(obj), None, problem)
        return _Entry(version, uid_of(obj), value)

    def _remember_gone(self, uid: str) -> None:
        if not uid:
            return
        self._gone.pop(uid, None)
        self._gone[uid] = None
        if len(self._gone) > _REMEMBERED_DELETIONS:
            del self._gone[next(iter(self._gone))]

    def _remove(self, key: str) -> None:
        old = self._entries.pop(key)
        self._invalid.discard(key)
        self._reindex(key, old.value, None)
        self._notify(key, old.value, None)

    def _reindex(self, key: str, old: T | None, new: T | None) -> None:
        for name, indexer in self._indexers.items():
            index = self._indices[name]
            for value in indexer(old) if old is not None else ():
                keys = index.get(value, set())
                keys.discard(key)
                if not keys:
                    index.pop(value, None)
            for value in indexer(new) if new is not None else ():
                index.setdefault(value, set()).add(key)

    def _notify(self, key: str, old: T | None, new: T | None) -> None:
        for handler in self._handlers:
            try:
                handler(key, old, new)
            except Exception:  # noqa: BLE001 - one consumer's mistake must not stop the informer
                _log.exception(
                    "change_handler_failed", key=key, handler=getattr(handler, "__qualname__", "?")
                )
