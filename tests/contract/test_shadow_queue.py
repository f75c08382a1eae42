"""What every queue between capture and judges owes those who put and those who work."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.js import api
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller.adapters.queues import nats as nats_queue
from controller.adapters.queues.memory import MemoryQueue
from controller.adapters.queues.nats import MAX_PAYLOAD_BYTES, NatsQueue
from controller.adapters.records import SqlRecords
from controller.adapters.shadow_ports import Queue, QueueFullError, TooLargeError
from controller.core.shadow.comparison import Bin
from controller.runtime.clock import SystemClock
from controller.shadow.comparisons import Comparison, encode
from controller.shadow.funnel import Funnel
from controller.shadow.health import check_health
from controller.shadow.panel import JudgePanel
from controller.shadow.worker import Workers
from tests.servers import Nats
from tests.unit.shadow.cases import case
from tests.waiting import eventually

KINDS = ["memory", "nats"]
PATIENCE = 1.0


@pytest.fixture(scope="module")
def server() -> Iterator[Nats]:
    with Nats() as nats:
        yield nats


@asynccontextmanager
async def queue_of(
    kind: str, server: Nats, *, max_messages: int = 100, max_bytes: int = 4 << 20
) -> AsyncIterator[Queue]:
    if kind == "memory":
        memory = MemoryQueue(max_messages=max_messages, max_bytes=max_bytes)
        yield memory
        await memory.close()
        return
    queue = await NatsQueue.connect(server.url, patience=PATIENCE)
    stream = queue._client.jetstream()
    info = await stream.stream_info(nats_queue.STREAM)
    info.config.max_msgs, info.config.max_bytes = max_messages, max_bytes
    await stream.update_stream(info.config)
    try:
        yield queue
    finally:
        await stream.delete_stream(nats_queue.STREAM)
        await queue.close()


async def taken(queue: Queue) -> list[tuple[bytes, int]]:
    """All that can be had now, and is then done with."""
    result: list[tuple[bytes, int]] = []
    while True:
        try:
            async with asyncio.timeout(0.5):
                delivery = await queue.get()
        except TimeoutError:
            return result
        result.append((delivery.payload, delivery.attempt))
        await delivery.done()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_put_is_delivered_in_order_until_it_is_done(kind: str, server: Nats) -> None:
    async with queue_of(kind, server) as queue:
        for number in range(5):
            await queue.put(f"key-{number}", b"%d" % number)
        assert await taken(queue) == [(b"%d" % number, 1) for number in range(5)]
        assert await taken(queue) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_that_is_put_twice_is_one_message(kind: str, server: Nats) -> None:
    async with queue_of(kind, server) as queue:
        await queue.put("key", b"1")
        await queue.put("key", b"1")
        assert len(await taken(queue)) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_to_be_tried_again_comes_back_after_the_delay_and_says_so(
    kind: str, server: Nats
) -> None:
    async with queue_of(kind, server) as queue:
        await queue.put("key", b"1")
        began = asyncio.get_running_loop().time()
        await (await queue.get()).again(0.3)
        again = await queue.get()
        assert asyncio.get_running_loop().time() - began >= 0.29
        assert (again.payload, again.attempt) == (b"1", 2)
        await again.again(0)
        assert (await queue.get()).attempt == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_two_workers_never_have_the_same_message(kind: str, server: Nats) -> None:
    async with queue_of(kind, server) as queue:
        await queue.put("a", b"a")
        await queue.put("b", b"b")
        both = await asyncio.gather(queue.get(), queue.get())
        assert {delivery.payload for delivery in both} == {b"a", b"b"}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_full_queue_refuses_until_somebody_is_done(kind: str, server: Nats) -> None:
    async with queue_of(kind, server, max_messages=2) as queue:
        await queue.put("a", b"a")
        await queue.put("b", b"b")
        with pytest.raises(QueueFullError):
            await queue.put("c", b"c")
        delivery = await queue.get()
        with pytest.raises(QueueFullError):
            await queue.put("c", b"c")
        await delivery.done()
        async with asyncio.timeout(5):
            while True:
                try:
                    await queue.put("c", b"c")
                    break
                except QueueFullError:
                    await asyncio.sleep(0.01)
        assert [payload for payload, _ in await taken(queue)] == [b"b", b"c"]


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_are_bounded_too(kind: str, server: Nats) -> None:
    async with queue_of(kind, server, max_bytes=64 << 10) as queue:
        incompressible = random.Random(1).randbytes(40 << 10)
        await queue.put("a", incompressible)
        with pytest.raises(QueueFullError):
            await queue.put("b", incompressible)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_could_never_be_taken_is_told_apart(kind: str, server: Nats) -> None:
    async with queue_of(kind, server, max_bytes=4 << 20) as queue:
        with pytest.raises(TooLargeError):
            await queue.put("a", random.Random(1).randbytes(9 << 20))
        await queue.put("b", b"b")
        assert len(await taken(queue)) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_it_says_how_many_wait(kind: str, server: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_queue, "_COUNT_SECONDS", 0.05)
    async with queue_of(kind, server) as queue:
        await queue.put("a", b"a")
        await eventually(lambda: queue.waiting == 1)
        assert queue.problem == ""


async def test_memory_is_given_back_by_what_is_done(server: Nats) -> None:
    async with queue_of("memory", server) as queue:
        assert isinstance(queue, MemoryQueue)
        await queue.put("a", b"abc")
        assert queue.held_bytes == 3
        await taken(queue)
        assert (queue.held_bytes, queue.waiting) == (0, 0)


async def test_memory_says_what_is_lost_with_it() -> None:
    queue = MemoryQueue()
    await queue.put("a", b"a")
    await queue.put("b", b"b")
    await (await queue.get()).again(60)
    assert await queue.close() == 2
    assert queue.held_bytes == 0


async def test_a_worker_that_falls_silent_loses_its_message_to_another(server: Nats) -> None:
    async with queue_of("nats", server) as queue:
        await queue.put("a", b"a")
        await queue.get()
        async with asyncio.timeout(10):
            assert (await queue.get()).attempt == 2


async def test_a_worker_that_says_it_is_working_keeps_its_message(server: Nats) -> None:
    async with queue_of("nats", server) as queue:
        await queue.put("a", b"a")
        delivery = await queue.get()
        for _ in range(6):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(PATIENCE / 3):
                    await queue.get()
            await delivery.working()
        await delivery.done()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(PATIENCE * 2):
                await queue.get()


async def test_a_server_that_is_started_anew_has_lost_nothing(server: Nats) -> None:
    async with queue_of("nats", server) as queue:
        await queue.put("a", b"a")
        delivery = await queue.get()
        assert delivery.payload == b"a"
        await asyncio.to_thread(server.stop)
        putting = asyncio.create_task(queue.put("b", b"b"))
        await eventually(lambda: queue.problem != "")
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(30):
            await putting
            had = {(await queue.get()).payload for _ in range(2)}
        assert had == {b"a", b"b"}
        assert queue.problem == ""


async def test_a_stream_that_is_there_is_used_as_it_is(server: Nats) -> None:
    async with queue_of("nats", server, max_messages=7):
        other = await NatsQueue.connect(server.url, patience=99)
        info = await other._client.jetstream().stream_info(nats_queue.STREAM)
        assert info.config.max_msgs == 7
        assert info.config.storage == api.StorageType.FILE
        assert other.patience == PATIENCE
        await other.close()


@pytest.mark.parametrize(
    "foreign", [b"hello", b"", zlib.compress(bytes(MAX_PAYLOAD_BYTES + 1)), zlib.compress(b"cut short")[:-4]]
)
async def test_what_strangers_put_kills_no_worker_and_leaves_the_queue(
    server: Nats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: bytes
) -> None:
    monkeypatch.setattr(nats_queue, "_COUNT_SECONDS", 0.05)
    async with queue_of("nats", server) as queue:
        assert isinstance(queue, NatsQueue)
        await queue._stream.publish(nats_queue.SUBJECT, foreign, stream=nats_queue.STREAM)
        await queue.put("1", encode(Comparison(case("a", ""), Bin.LOSS)))
        clock, records = SystemClock(), SqlRecords(f"sqlite:///{tmp_path / 'records.db'}")
        panel = JudgePanel({}, check_health, CollectorRegistry(), clock)
        workers = Workers(
            queue, panel, records, Funnel(CollectorRegistry(), clock.monotonic), clock=clock, count=1
        )
        working = asyncio.create_task(workers.run())
        await eventually(lambda: working.done() or (records.has("1") and queue.waiting == 0))
        workers.stop()
        await working
        records.close()


async def test_what_is_small_and_unpacks_to_much_is_not_unpacked(server: Nats) -> None:
    async with queue_of("nats", server) as queue:
        assert isinstance(queue, NatsQueue)
        much = zlib.compress(bytes(MAX_PAYLOAD_BYTES + 1))
        await queue._stream.publish(nats_queue.SUBJECT, much, stream=nats_queue.STREAM)
        delivery = await queue.get()
        with pytest.raises(ValueError, match="too large"):
            _ = delivery.payload
        await delivery.done()


async def test_nothing_is_put_that_no_worker_would_unpack(server: Nats) -> None:
    async with queue_of("nats", server) as queue:
        with pytest.raises(TooLargeError):
            await queue.put("a", bytes(MAX_PAYLOAD_BYTES))
        await queue.put("b", bytes(MAX_PAYLOAD_BYTES - 1))
        assert (await queue.get()).payload == bytes(MAX_PAYLOAD_BYTES - 1)


async def test_a_server_that_is_not_there_is_an_error_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nats_queue, "_CONNECT_SECONDS", 0.3)
    with capture_logs() as logs, pytest.raises(OSError, match=r"cannot be used at 127\.0\.0\.1:9 ") as told:
        await NatsQueue.connect("nats://me:geheim@127.0.0.1:9")
    assert "geheim" not in str(told.value)
    assert "is it running there, as nats-server -js?" in str(told.value)
    assert logs == [], "one sentence is enough"
