"""List and watch of one resource as a state machine without I/O.

The machine knows what to ask next and what an answer means; it can be tested with tables and models.

Everything is asked for in one of two ways. A *WatchList* is a watch that first tells of all objects, marks their end
with a bookmark and goes on as any watch; it costs the server no list, and nobody a copy of it. Servers that refuse it,
or do not bring it to its end, are asked for a list in pages, followed by a watch. Both end with `ListFinished`, so what
vanished unseen is noticed in both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.runtime.client import Page, WatchEvent
from controller.runtime.errors import ApiError, BadRequest, Gone, Invalid, VersionNotReached
from controller.runtime.resource import RawObject, key_of

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the first part of a WatchList."""

WATCH_LIST_ATTEMPTS = 2
"""After so many WatchLists in a row that did not come to their end a list in pages is asked for."""


@dataclass(frozen=True, slots=True)
class ListStarted:
    """The first page of a list has come; the list shows the resource at this version."""

    resource_version: int


@dataclass(frozen=True, slots=True)
class Applied:
    """An object exists in this version."""

    key: str
    object: RawObject


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object is gone; ``object`` is its last version, with the resourceVersion of the deletion."""

    key: str
    object: RawObject


@dataclass(frozen=True, slots=True)
class ListFinished:
    """All objects have been told: at this version there was nothing but ``keys``. What else was known has vanished."""

    keys: frozenset[str]
    resource_version: int


@dataclass(frozen=True, slots=True)
class Progressed:
    """Everything up to this version has been delivered."""

    resource_version: int


Event = ListStarted | Applied | Deleted | ListFinished | Progressed


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Ask for one page; a limit of 0 asks for everything in one."""

    limit: int
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """Ask for the changes after a version.

    Attributes:
        resource_version: That version.
        initial: Ask for a WatchList: first all objects as they were at that version or later (``""``: now).
    """

    resource_version: str
    initial: bool = False


@dataclass
class ListWatch:
    """The state machine: `request` says what to ask, the other methods take the answers and give the events.

    Attributes:
        page_size: Objects per page of a list.
        watch_list: Whether to ask for WatchLists; turned off when the server does not know them.
        request: What to ask next.
    """

    page_size: int = 500
    watch_list: bool = True
    request: ListRequest | WatchRequest = field(init=False)
    _seen: set[str] = field(init=False, default_factory=set)
    _newest: int = field(init=False, default=0)
    _unfinished: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.request = self._everything()

    @property
    def is_initial(self) -> bool:
        """Whether a WatchList is under way whose end is still to come."""
        return isinstance(self.request, WatchRequest) and self.request.initial

    def page(self, page: Page) -> list[Event]:
        """A page of the list has come."""
        events: list[Event] = []
        version = int(page.resource_version)
        if isinstance(self.request, ListRequest) and not self.request.continue_token:
            self._seen.clear()
            events.append(ListStarted(version))
        applied = [Applied(key_of(item), item) for item in page.items]
        self._seen.update(event.key for event in applied)
        events += applied
        if page.continue_token:
            self.request = ListRequest(self.page_size, page.continue_token)
            return events
        self._newest = version
        return [*events, self._finished(version)]

    def change(self, event: WatchEvent) -> list[Event]:
        """A line of the watch has come."""
        metadata = event.object.get("metadata") or {}
        version = metadata.get("resourceVersion", "")
        if not version.isdecimal():
            raise ValueError(f"a {event.type} event without a usable resourceVersion: {version!r}")
        self._newest = max(self._newest, int(version))
        if not self.is_initial:
            # A line that comes late must not take the watch back.
            self.request = WatchRequest(str(self._newest))
            return [*_changes(event), Progressed(int(version))]
        changes = _changes(event)
        for change in changes:
            (self._seen.add if isinstance(change, Applied) else self._seen.discard)(change.key)
        if event.type == "BOOKMARK" and (metadata.get("annotations") or {}).get(INITIAL_EVENTS_END) == "true":
            return [self._finished(int(version))]
        return list(changes)

    def ended(self, error: ApiError | None = None) -> None:
        """The request failed, or the watch broke off, or (without an error) the server closed it."""
        match self.request:
            case WatchRequest(initial=True):
                self._give_up_watch_list(error)
            case WatchRequest() if isinstance(error, Gone):
                self.request = self._everything()
            case ListRequest(limit, continue_token):
                # A list whose tokens run out while it is read would do so again; in one piece it cannot.
                in_pages = isinstance(error, Gone) and continue_token
                self.request = ListRequest(0 if in_pages else limit)

    def _give_up_watch_list(self, error: ApiError | None) -> None:
        self._seen.clear()
        self._unfinished += 1
        if isinstance(error, BadRequest | Invalid):
            self.watch_list = False
        elif isinstance(error, VersionNotReached):
            # The server's history may have been rewound, which a list finds out and a WatchList cannot.
            self._unfinished = WATCH_LIST_ATTEMPTS
        self.request = self._everything()

    def _everything(self) -> ListRequest | WatchRequest:
        """Ask for all objects, but never for a past that lies before what was told already."""
        if not self.watch_list or self._unfinished >= WATCH_LIST_ATTEMPTS:
            return ListRequest(self.page_size)
        return WatchRequest(str(self._newest or ""), initial=True)

    def _finished(self, version: int) -> ListFinished:
        finished = ListFinished(frozenset(self._seen), version)
        self._seen.clear()
        self._unfinished = 0
        self.request = WatchRequest(str(version))
        return finished


def _changes(event: WatchEvent) -> list[Applied | Deleted]:
    match event.type:
        case "ADDED" | "MODIFIED":
            return [Applied(key_of(event.object), event.object)]
        case "DELETED":
            return [Deleted(key_of(event.object), event.object)]
        case _:
            return []
