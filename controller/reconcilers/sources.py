"""Reads the ConfigMaps and Secrets that rollouts refer to, and follows their changes.

Their content is asked for object by object, never kept, and of Secrets never passed on. What is kept of an object in
use are digests, for as long as a watch that is limited to metadata does not tell of a change.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from controller.api.agent import KeyRef, PromptSource, SourceKind
from controller.api.reasons import Reason
from controller.core.references import Content, Found, NoContent, SecretKey, secret_content, text_content
from controller.reconcilers.observed import ObservedRollout, references_of, source_key
from controller.runtime.client import ResourceClient
from controller.runtime.errors import ApiError, NotFound
from controller.runtime.listwatch import Applied, Deleted, Event, ListFinished
from controller.runtime.resource import RawObject, Resource, resource_version_of
from controller.runtime.store import Store
from controller.runtime.watcher import Watcher

_log = structlog.get_logger(__name__)

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")

BY_SOURCE = "source"
"""Index of rollouts by what they refer to, see `references_of`."""

SECRETS_OFF = NoContent(
    "references to Secrets are off; the operator turns them on with --secret-hmac-key-file",
    Reason.SECRETS_NOT_ALLOWED,
)

_NAMED_KEYS = 5


@dataclass(frozen=True, slots=True)
class _Known:
    """An object as it was read.

    Attributes:
        version: Its resourceVersion; 0 if it was not there.
        contents: What its asked keys lead to, without texts.
    """

    version: int
    contents: dict[str, Content | NoContent]


class Sources:
    """What references lead to.

    Args:
        clients: For each kind of source a client that gets whole objects.
        rollouts: Says who refers to what; indexed by ``BY_SOURCE``.
        secret_key: Key for digests of Secrets; None refuses references to them.
    """

    def __init__(
        self,
        clients: Mapping[SourceKind, ResourceClient],
        rollouts: Store[ObservedRollout],
        secret_key: SecretKey | None,
    ) -> None:
        self._clients = clients
        self._rollouts = rollouts
        self._secret_key = secret_key
        self._known: dict[str, _Known] = {}
        self._reading: dict[str, object] = {}
        self._listeners: list[Callable[[str], None]] = []
        rollouts.on_change(self._rollout_changed)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call ``listener(key)`` for each rollout that refers to something that has changed."""
        self._listeners.append(listener)

    async def read(self, namespace: str, sources: Mapping[str, PromptSource]) -> Found:
        """What each reference leads to now; each object is asked for once."""
        return await self._look_up(namespace, sources, fresh=True)

    async def compare(self, namespace: str, sources: Mapping[str, PromptSource]) -> Found:
        """The same without texts; nothing is asked for that has not changed since it was read."""
        return await self._look_up(namespace, sources, fresh=False)

    def changed(self, source: str, version: int) -> None:
        """The object ``kind/namespace/name`` is at this version now, or is gone since."""
        self._reading.pop(source, None)
        known = self._known.get(source)
        if known and known.version >= version:
            return
        self._known.pop(source, None)
        for observed in self._rollouts.by_index(BY_SOURCE, source):
            for listener in self._listeners:
                listener(observed.rollout.metadata.key)

    def listed(self, kind: SourceKind, keys: Iterable[str], version: int) -> None:
        """At this version there were no other objects of the kind than ``keys``."""
        there = {f"{kind}/{key}" for key in keys}
        of_kind = {source: k.version for source, k in self._known.items() if source.startswith(f"{kind}/")}
        for source, known in of_kind.items():
            # One that is newer than the list is asked for again: the server's history may have been rewound.
            if known and (source not in there or known > version):
                self.changed(source, known + 1)

    async def _look_up(self, namespace: str, sources: Mapping[str, PromptSource], *, fresh: bool) -> Found:
        objects: dict[str, list[PromptSource]] = {}
        for source in sources.values():
            objects.setdefault(source_key(namespace, source), []).append(source)
        answers = await asyncio.gather(
            *(self._contents(namespace, key, wanted, fresh=fresh) for key, wanted in objects.items())
        )
        contents = dict(zip(objects, answers, strict=True))
        return {
            prompt: contents[source_key(namespace, source)][source.ref.key]
            for prompt, source in sources.items()
        }

    async def _contents(
        self, namespace: str, source: str, wanted: list[PromptSource], *, fresh: bool
    ) -> Mapping[str, Content | NoContent]:
        kind, keys = wanted[0].kind, {each.ref.key for each in wanted}
        if kind is SourceKind.SECRET and self._secret_key is None:
            return dict.fromkeys(keys, SECRETS_OFF)
        known = self._known.get(source)
        if known and not fresh and keys <= known.contents.keys():
            return known.contents
        reading = self._reading.setdefault(source, object())
        try:
            version, contents = await self._ask(namespace, kind, [each.ref for each in wanted])
            # A change that was told while the answer was on its way may be newer than the answer.
            if self._reading.get(source) is reading and self._rollouts.by_index(BY_SOURCE, source):
                old = known.contents if known and known.version == version else {}
                self._known[source] = _Known(version, {**old, **_without_texts(contents)})
        except ApiError as error:
            _log.warning("reference_unreadable", source=source, error=str(error))
            what = f"{kind} {wanted[0].ref.name}"
            unreadable = NoContent(f"the operator cannot read {what}: {error}", Reason.REFERENCE_UNREADABLE)
            return dict.fromkeys(keys, unreadable)
        finally:
            if self._reading.get(source) is reading:
                del self._reading[source]
        return contents

    async def _ask(
        self, namespace: str, kind: SourceKind, refs: list[KeyRef]
    ) -> tuple[int, dict[str, Content | NoContent]]:
        name = refs[0].name
        try:
            raw = await self._clients[kind].get(f"{namespace}/{name}")
        except NotFound:
            absent = NoContent(
                f"there is no {kind} {name} in namespace {namespace}; create it or correct the name"
            )
            return 0, {ref.key: absent for ref in refs}
        return resource_version_of(raw), {ref.key: self._content(namespace, kind, ref, raw) for ref in refs}

    def _content(self, namespace: str, kind: SourceKind, ref: KeyRef, raw: RawObject) -> Content | NoContent:
        data = raw.get("data") or {}
        if ref.key not in data:
            return NoContent(_no_key(kind, ref, raw))
        if kind is SourceKind.CONFIG_MAP:
            return text_content(data[ref.key])
        assert self._secret_key is not None  # noqa: S101  nothing is asked for without it
        try:
            content = base64.b64decode(data[ref.key] or "", validate=True)
        except binascii.Error:
            problem = f"key {ref.key} of Secret {ref.name} is not in base64"
            return NoContent(problem, Reason.REFERENCE_UNREADABLE)
        return secret_content(self._secret_key, namespace, ref, content)

    def _rollout_changed(self, _key: str, old: ObservedRollout | None, new: ObservedRollout | None) -> None:
        """Forget what nobody refers to any more."""
        before = set(references_of(old)) if old else set()
        for source in before - (set(references_of(new)) if new else set()):
            if not self._rollouts.by_index(BY_SOURCE, source):
                self._known.pop(source, None)


def _without_texts(contents: Mapping[str, Content | NoContent]) -> dict[str, Content | NoContent]:
    return {
        key: replace(each, text=None) if isinstance(each, Content) else each for key, each in contents.items()
    }


def _no_key(kind: SourceKind, ref: KeyRef, raw: RawObject) -> str:
    what = f"{kind} {ref.name} has no key {ref.key}"
    if kind is SourceKind.SECRET:
        return f"{what}; add it or correct the key"  # its other keys are nobody's business
    if ref.key in (raw.get("binaryData") or {}):
        return f"key {ref.key} of {kind} {ref.name} is binary; a prompt is text, under data"
    keys = sorted(raw.get("data") or {})
    has = (
        f"it has {', '.join(keys[:_NAMED_KEYS])}{', …' if keys[_NAMED_KEYS:] else ''}"
        if keys
        else "it is empty"
    )
    return f"{what}; {has}"


class SourceWatch:
    """Follows the metadata of all objects of one kind, from the first reference to that kind on.

    Args:
        kind: The kind.
        watcher: Lists and watches it, metadata only: the contents of all others are none of our business.
        sources: Told of changes.
        rollouts: Says whether anyone refers to the kind.
    """

    def __init__(
        self, kind: SourceKind, watcher: Watcher, sources: Sources, rollouts: Store[ObservedRollout]
    ) -> None:
        self.name = f"{kind} metadata"
        self._kind = kind
        self._watcher = watcher
        self._sources = sources
        self._wanted = asyncio.Event()
        rollouts.on_change(lambda _key, _old, new: self._look(new))

    async def run(self) -> None:
        """Follow the API server once there is something to follow; returns only by cancellation."""
        await self._wanted.wait()
        await self._watcher.run(self._take)

    def _look(self, observed: ObservedRollout | None) -> None:
        if observed and any(source.startswith(f"{self._kind}/") for source in references_of(observed)):
            self._wanted.set()

    def _take(self, event: Event) -> None:
        match event:
            case Applied(key, obj) | Deleted(key, obj):
                self._sources.changed(f"{self._kind}/{key}", resource_version_of(obj))
            case ListFinished(keys, resource_version):
                self._sources.listed(self._kind, keys, resource_version)
            case _:
                pass
