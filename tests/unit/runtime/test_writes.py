import asyncio
import gc
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from controller.runtime import writes
from controller.runtime.client import ResourceClient
from controller.runtime.errors import Conflict, NotFound, Unavailable
from controller.runtime.resource import RawObject
from controller.runtime.store import Store
from controller.runtime.testing import settle
from controller.runtime.writes import WriteThrough

KEY = "ns/a"


class Server:
    """One object, whose answers can be lost, refused or late."""

    def __init__(self) -> None:
        self.object: RawObject | None = None
        self.version = 10
        self.uids = 0
        self.reads = 0
        self.before: Callable[[], None] = lambda: None
        self.lost = False
        self.reading = asyncio.Event()
        self.reading.set()

    def store(self, value: str) -> RawObject:
        self.version += 1
        if self.object is None:
            self.uids += 1
        metadata = {
            "namespace": "ns",
            "name": "a",
            "resourceVersion": str(self.version),
            "uid": str(self.uids),
        }
        self.object = {"metadata": metadata, "value": value}
        return self.object

    async def get(self, key: str) -> RawObject:
        self.reads += 1
        await self.reading.wait()
        self.before()
        if self.object is None:
            raise NotFound(key)
        return self.object

    async def apply(self, obj: RawObject, *, force: bool) -> RawObject:
        return self._answer(self._stored(obj["value"]))

    async def create(self, obj: RawObject) -> RawObject:
        return self._answer(self._stored(obj["value"]))

    async def update_status(
        self, key: str, status: Mapping[str, Any], *, resource_version: int | str, uid: str
    ) -> RawObject:
        return self._answer(self._stored(status["value"]))

    async def delete(self, key: str) -> RawObject:
        self.before()
        if self.object is None:
            raise NotFound(key)
        gone, self.object = self.object, None
        if "finalizers" in gone["metadata"]:
            metadata = {
                **gone["metadata"],
                "resourceVersion": str(self.version + 1),
                "deletionTimestamp": "now",
            }
            return {**gone, "metadata": metadata, "value": "going"}
        return self._answer({"kind": "Status", "details": {"uid": gone["metadata"]["uid"]}})

    def _stored(self, value: str) -> RawObject:
        self.before()
        return self.store(value)

    def _answer(self, answer: RawObject) -> RawObject:
        if self.lost:
            raise Unavailable("no answer within the deadline")
        return answer


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
def store() -> Store[str]:
    return Store(lambda raw: str(raw["value"]))


@pytest.fixture
def through(server: Server, store: Store[str]) -> WriteThrough[str]:
    return WriteThrough(cast("ResourceClient", server), store)


def _obj(value: str) -> RawObject:
    return {"metadata": {"namespace": "ns", "name": "a"}, "value": value}


async def test_the_store_has_every_answer_at_once(through: WriteThrough[str], store: Store[str]) -> None:
    await through.create(_obj("created"))
    assert store.get(KEY) == "created"
    await through.apply(_obj("applied"))
    assert store.get(KEY) == "applied"
    await through.update_status(KEY, {"value": "status"}, resource_version=1)
    assert store.get(KEY) == "status"
    await through.delete(KEY)
    assert store.get(KEY) is None
    assert not through.in_doubt(KEY)


async def test_nothing_is_read_where_nothing_is_in_doubt(through: WriteThrough[str], server: Server) -> None:
    await through.apply(_obj("1"))
    await through.settle(KEY)
    assert server.reads == 0


async def test_a_write_without_an_answer_is_read_again_before_the_next_decision(
    through: WriteThrough[str], server: Server, store: Store[str]
) -> None:
    await through.apply(_obj("before"))
    server.lost = True
    with pytest.raises(Unavailable):
        await through.apply(_obj("after"))
    assert store.get(KEY) == "before"
    assert through.in_doubt(KEY)
    await through.settle(KEY)
    assert store.get(KEY) == "after"
    assert not through.in_doubt(KEY)


async def test_a_deletion_without_an_answer_is_read_again_too(
    through: WriteThrough[str], server: Server, store: Store[str]
) -> None:
    await through.apply(_obj("before"))
    server.lost = True
    with pytest.raises(Unavailable):
        await through.delete(KEY)
    await through.settle(KEY)
    assert store.get(KEY) is None


async def test_a_refused_write_leaves_no_doubt(through: WriteThrough[str], server: Server) -> None:
    def refuse() -> None:
        raise Conflict("the object has been modified")

    server.before = refuse
    with pytest.raises(Conflict):
        await through.apply(_obj("1"))
    assert not through.in_doubt(KEY)


async def test_a_cancelled_write_is_in_doubt(through: WriteThrough[str], server: Server) -> None:
    def cancel() -> None:
        raise asyncio.CancelledError

    server.before = cancel
    with pytest.raises(asyncio.CancelledError):
        await through.apply(_obj("1"))
    assert through.in_doubt(KEY)


async def test_the_doubt_is_the_owners(through: WriteThrough[str], server: Server) -> None:
    server.lost = True
    with pytest.raises(Unavailable):
        await through.apply(_obj("1"), owner="ns/rollout")
    assert through.in_doubt("ns/rollout")
    assert not through.in_doubt(KEY)
    await through.settle("ns/rollout")
    assert not through.in_doubt("ns/rollout")


async def test_a_doubt_stays_while_the_object_cannot_be_read(
    through: WriteThrough[str], server: Server
) -> None:
    server.lost = True
    with pytest.raises(Unavailable):
        await through.apply(_obj("1"))

    def away() -> None:
        raise Unavailable("connection refused")

    server.before = away
    for _ in range(2):
        with pytest.raises(Unavailable, match="connection refused"):
            await through.settle(KEY)
    assert through.in_doubt(KEY)
    assert server.reads == 2


async def test_a_slow_reading_holds_up_nobody_and_goes_on(
    through: WriteThrough[str], server: Server, store: Store[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "SETTLE_SECONDS", 0.01)
    server.lost = True
    with pytest.raises(Unavailable):
        await through.apply(_obj("1"))
    server.reading.clear()
    for _ in range(3):
        with pytest.raises(Unavailable, match="cannot be read within"):
            await through.settle(KEY)
    server.reading.set()
    await through.settle(KEY)
    assert server.reads == 1
    assert store.get(KEY) == "1"


async def test_a_reading_that_fails_after_nobody_waits_for_it_leaves_nothing_behind(
    through: WriteThrough[str],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(writes, "SETTLE_SECONDS", 0.01)
    server.lost = True
    with pytest.raises(Unavailable):
        await through.apply(_obj("1"))
    server.reading.clear()
    with pytest.raises(Unavailable, match="cannot be read within"):
        await through.settle(KEY)

    def away() -> None:
        raise Unavailable("connection refused")

    server.before = away
    server.reading.set()
    await settle()
    assert not through._readings
    gc.collect()  # a task whose exception nobody asked for complains when it goes
    assert not caplog.records
    assert through.in_doubt(KEY)


async def test_what_is_not_found_is_gone_from_the_store_but_not_a_namesake_made_meanwhile(
    through: WriteThrough[str], server: Server, store: Store[str]
) -> None:
    await through.apply(_obj("old"))
    server.object = None
    with pytest.raises(NotFound):
        await through.get(KEY)
    assert store.get(KEY) is None

    await through.apply(_obj("again"))
    server.object = None
    new = server.store("a namesake, told by the watch before our answer came")
    server.object = None
    server.before = lambda: cast("None", store.applied(KEY, new))
    with pytest.raises(NotFound):
        await through.delete(KEY)
    assert store.get(KEY) == new["value"]


async def test_an_object_that_finalizers_hold_is_shown_as_it_is_now(
    through: WriteThrough[str], server: Server, store: Store[str]
) -> None:
    await through.apply(_obj("1"))
    assert server.object is not None
    server.object["metadata"]["finalizers"] = ["example.com/hold"]
    await through.delete(KEY)
    assert store.get(KEY) == "going"
