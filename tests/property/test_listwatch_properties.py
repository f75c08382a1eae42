"""List+watch and store against a model of an API server, with everything that may go wrong between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.runtime.client import ListerWatcher, Page, WatchEvent
from controller.runtime.clock import SystemClock
from controller.runtime.errors import ApiError, Gone, Invalid, Unavailable, VersionNotReached
from controller.runtime.informer import Informer
from controller.runtime.listwatch import INITIAL_EVENTS_END, ListRequest, WatchRequest
from controller.runtime.metrics import private_metrics
from controller.runtime.resource import RawObject, Resource
from controller.runtime.watcher import WatcherSettings
from tests.faulty_api.storage import Path, Storage

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
NAMES = st.sampled_from("abcd")
METRICS = private_metrics()
Known = tuple[str, int]
"""What a projection keeps: uid and version."""


def _path(name: str) -> Path:
    return ("example.com", "widgets", "ns", name)


def _bookmark(version: int, annotations: dict[str, str] | None = None) -> WatchEvent:
    return WatchEvent(
        "BOOKMARK", {"metadata": {"resourceVersion": str(version), "annotations": annotations or {}}}
    )


@dataclass
class Stream:
    """An open watch: lines that are still to be sent, and the version up to which the history was turned into lines."""

    lines: list[WatchEvent]
    version: int
    sent: list[WatchEvent] = field(default_factory=list)


@dataclass
class Listing:
    """A list that is read page by page."""

    version: int
    rest: list[RawObject]


class ListWatchMachine(RuleBasedStateMachine):
    """The server keeps a history; its lines arrive in order, but may be repeated, or swapped with a neighbour.

    Requests fail and break off at any point. Answers of our own writes and deletions come early, late or never.
    """

    @initialize(page_size=st.integers(1, 3), watch_lists=st.booleans())
    def start(self, page_size: int, watch_lists: bool) -> None:
        self.storage = Storage()
        self.knows_watch_lists = watch_lists
        client = cast("ListerWatcher", type("Client", (), {"resource": WIDGETS}))
        self.informer: Informer[Known] = Informer(
            client,
            lambda raw: (raw["metadata"]["uid"], int(raw["metadata"]["resourceVersion"])),
            SystemClock(),
            settings=WatcherSettings(page_size=page_size),
            metrics=METRICS,
        )
        self.machine = self.informer._watcher._machine
        self.stream: Stream | None = None
        self.listing: Listing | None = None
        self.answers: list[RawObject] = []
        self.deletions: list[tuple[str, str]] = []
        self.told: dict[str, Known] = {}
        self.backup: tuple[dict[Path, RawObject], int] = ({}, 1)
        self.informer.on_change(self.follow)

    def follow(self, key: str, old: Known | None, new: Known | None) -> None:
        """Someone who only hears of changes; versions of one object never go back."""
        assert self.told.get(key) == old
        assert old != new
        if old is not None and new is not None and not self.rewinding:
            assert new[1] > old[1]
        self.told.pop(key, None)
        if new is not None:
            self.told[key] = new

    rewinding = restored = False
    compactions = 0  # few, so that there is a story between them

    # What happens in the server.

    @rule(names=st.lists(NAMES, min_size=1, max_size=4))
    def write(self, names: list[str]) -> None:
        for name in names:
            self.write_one(name)

    def write_one(self, name: str) -> None:
        body: RawObject = {"metadata": {"namespace": "ns", "name": name}, "n": self.storage.version}
        current = self.storage.objects.get(_path(name))
        self.answers.append(
            self.storage.put(_path(name), body if current is None else {**current, "n": self.storage.version})
        )

    @precondition(lambda self: self.storage.objects)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.storage.objects)))
        self.deletions.append((f"ns/{path[3]}", self.storage.objects[path]["metadata"]["uid"]))
        self.storage.delete(path)

    @precondition(lambda self: self.compactions < 2)
    @rule()
    def compact(self) -> None:
        self.compactions += 1
        self.storage.compact()

    @rule()
    def make_a_backup(self) -> None:
        self.backup = (dict(self.storage.objects), self.storage.version)

    @precondition(lambda self: self.backup[1] < self.storage.version and not self.restored)
    @rule()
    def restore_from_a_backup(self) -> None:
        """All connections end, and no version from before is valid.

        The client was at rest, and no answers are under way: a write of the lost future that only its answer told could
        not be told from one that is newer than the list.
        """
        self.come_to_rest()
        self.restored = self.rewinding = True
        self.answers.clear()
        self.deletions.clear()
        self.end(Unavailable("the server is gone"))
        self.storage.restore(*self.backup)
        self.machine.ended(Gone("etcd marks the versions from before as compacted"))
        self.come_to_rest()
        self.rewinding = False

    # What the client hears of it.

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def answer_of_a_write(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.answers) - 1))
        self.informer.store.put_if_newer(self.answers.pop(index))

    @precondition(lambda self: self.deletions)
    @rule(data=st.data())
    def answer_of_a_deletion(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.deletions) - 1))
        self.informer.store.forget(*self.deletions.pop(index))

    @precondition(lambda self: self.stream is None)
    @rule()
    def ask(self) -> None:
        """Make the request that the machine wants."""
        match self.machine.request:
            case ListRequest():
                self.page()
            case WatchRequest(version, initial):
                self.watch(int(version or 0), initial=initial)

    @precondition(lambda self: self.stream is None)
    @rule()
    def ask_in_vain(self) -> None:
        self.end(Unavailable("connection refused"))

    @precondition(lambda self: self.stream is not None)
    @rule(error=st.sampled_from([None, Unavailable("connection reset")]))
    def break_off(self, error: ApiError | None) -> None:
        self.end(error)

    @precondition(lambda self: self.stream is not None)
    @rule(bookmark=st.booleans())
    def hear(self, bookmark: bool) -> None:
        assert self.stream is not None
        if not self.fill():
            return
        if self.stream.lines:
            self.send(self.stream.lines.pop(0))
        elif bookmark:
            self.send(_bookmark(self.stream.version))

    @precondition(lambda self: self.stream is not None)
    @rule()
    def hear_everything(self) -> None:
        while self.stream is not None and self.fill() and self.stream.lines:
            self.send(self.stream.lines.pop(0))

    @precondition(lambda self: self.stream is not None and self.stream.sent)
    @rule(data=st.data())
    def hear_again(self, data: st.DataObject) -> None:
        assert self.stream is not None
        self.tell(data.draw(st.sampled_from(self.stream.sent)))

    @precondition(lambda self: self.stream is not None and not self.machine.is_initial)
    @rule()
    def hear_in_the_wrong_order(self) -> None:
        assert self.stream is not None
        if self.fill() and len(self.stream.lines) > 1:
            first, second = self.stream.lines.pop(0), self.stream.lines.pop(0)
            self.send(second)
            self.send(first)

    # How it is done.

    def page(self) -> None:
        request = self.machine.request
        assert isinstance(request, ListRequest)
        if self.listing is None:
            objects = [raw for _, raw in sorted(self.storage.objects.items())]
            self.listing = Listing(self.storage.version, objects)
        elif self.listing.version < self.storage.compacted:
            self.end(Gone("the continue token is too old"))
            return
        listing, limit = self.listing, request.limit or len(self.listing.rest) + 1
        items, listing.rest = listing.rest[:limit], listing.rest[limit:]
        if not listing.rest:
            self.listing = None
        page = Page(tuple(items), str(listing.version), "more" if listing.rest else "")
        for event in self.machine.page(page):
            self.informer._take(event)

    def watch(self, version: int, *, initial: bool) -> None:
        if initial and not self.knows_watch_lists:
            self.end(Invalid("sendInitialEvents is forbidden"))
        elif initial and version > self.storage.version:
            self.end(VersionNotReached("too large resource version"))
        elif initial:
            added = [WatchEvent("ADDED", raw) for _, raw in sorted(self.storage.objects.items())]
            end = _bookmark(self.storage.version, {INITIAL_EVENTS_END: "true"})
            self.stream = Stream([*added, end], self.storage.version)
        elif version < self.storage.compacted:
            self.end(Gone("too old resource version"))
        else:
            self.stream = Stream([], version)

    def fill(self) -> bool:
        """Turn what happened into lines; a stream that is too slow for the history is ended, as by the server."""
        assert self.stream is not None
        if self.stream.version < self.storage.compacted:
            self.end(Gone("too old resource version"))
            return False
        for change in self.storage.since(self.stream.version):
            self.stream.version = change.version
            self.stream.lines.append(WatchEvent(change.type, change.object))
        return True

    def send(self, line: WatchEvent) -> None:
        assert self.stream is not None
        self.stream.sent.append(line)
        self.tell(line)

    def tell(self, line: WatchEvent) -> None:
        for event in self.machine.change(line):
            self.informer._take(event)

    def end(self, error: ApiError | None) -> None:
        self.stream = self.listing = None
        self.machine.ended(error)

    def come_to_rest(self) -> None:
        """Nothing goes wrong any more: after a few requests everything has been told."""
        for _ in range(100):
            if self.stream is None:
                self.ask()
                continue
            self.hear_everything()
            if self.stream is not None:
                return
        raise AssertionError(f"never comes to rest: {self.machine}")

    @invariant()
    def who_follows_the_changes_knows_what_the_store_knows(self) -> None:
        store = self.informer.store
        assert self.told == {key: store.get(key) for key in store.keys()}  # noqa: SIM118 - no mapping

    def teardown(self) -> None:
        if not hasattr(self, "storage"):
            return
        self.come_to_rest()
        store = self.informer.store
        there: dict[str, Any] = {
            f"ns/{path[3]}": (raw["metadata"]["uid"], int(raw["metadata"]["resourceVersion"]))
            for path, raw in self.storage.objects.items()
        }
        assert {key: store.get(key) for key in store.keys()} == there  # noqa: SIM118 - no mapping
        assert self.informer.has_synced


TestListWatch = ListWatchMachine.TestCase
