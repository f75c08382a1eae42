"""The receiver of captures over real gRPC: what a stream becomes, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2
from structlog.testing import capture_logs

from controller.adapters.envoy.capture import Capture, CaptureLimits
from controller.adapters.envoy.subjects import encode_subject
from controller.core.shadow.exchange import Exchange
from tests.integration.shadow_lab import SUBJECT, eventually_true

METADATA = (
    ("x-agentrollout-subject", encode_subject(SUBJECT)),
    ("x-agentrollout-side", "candidate"),
    ("x-agentrollout-timeout", "0.3"),
)


def message(**parts: Any) -> Any:
    return external_processor_pb2.ProcessingRequest(**parts)


def headers(end: bool, *pairs: tuple[str, str]) -> dict[str, Any]:
    found = [{"key": key, "raw_value": value.encode()} for key, value in pairs]
    return {"headers": {"headers": found}, "end_of_stream": end}


ASKED = message(request_headers=headers(True, (":method", "GET"), ("x-agentrollout-pair", "7")))
BEGUN = message(response_headers=headers(False, (":status", "200")))
ANSWERED = message(response_headers=headers(True, (":status", "200")))
PIECE = message(response_body={"body": b"piece"})
LAST = message(response_body={"body": b".", "end_of_stream": True})


def process(channel: Any) -> Any:
    return channel.stream_stream(
        "/envoy.service.ext_proc.v3.ExternalProcessor/Process",
        request_serializer=external_processor_pb2.ProcessingRequest.SerializeToString,
        response_deserializer=external_processor_pb2.ProcessingResponse.FromString,
    )


class Receiver:
    """A receiver, and routers that open streams to it."""

    def __init__(self, **limits: int) -> None:
        self.found: list[Exchange] = []
        self.fails = False
        self.capture = Capture(self._took, limits=CaptureLimits(**limits))
        self.channel: Any = None
        self.port = 0

    def _took(self, exchange: Exchange) -> None:
        if self.fails:
            raise RuntimeError("disk full")
        self.found.append(exchange)

    def open(self, metadata: Any = METADATA) -> Any:
        return process(self.channel)(metadata=metadata)

    async def send(self, *messages: Any) -> Any:
        stream = self.open()
        for each in messages:
            await stream.write(each)
        return stream

    async def until(self, count: int) -> None:
        await eventually_true(lambda: self._holds(count))

    async def _holds(self, count: int) -> bool:
        return len(self.found) == count and not self.capture.open_streams


@contextlib.asynccontextmanager
async def receiver(**limits: int) -> AsyncIterator[Receiver]:
    found = Receiver(**limits)
    found.port = await found.capture.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{found.port}") as found.channel:
        yield found
        await found.capture.stop(0)


async def test_a_stream_is_an_exchange_and_ended_with_the_answer() -> None:
    async with receiver() as receiving:
        stream = await receiving.send(ASKED, ANSWERED)
        assert await stream.code() is grpc.StatusCode.OK
        await receiving.until(1)
        assert receiving.found[0].answer.complete
        assert receiving.capture.held_bytes == 0


async def test_an_answer_that_takes_too_long_is_not_complete() -> None:
    async with receiver() as receiving:
        await receiving.send(ASKED, BEGUN)
        await receiving.until(1)
    assert (receiving.found[0].answer.status, receiving.found[0].answer.complete) == (200, False)


@pytest.mark.parametrize("rest", [(), (PIECE, PIECE, LAST)])
async def test_what_this_process_is_late_for_is_no_failure_of_a_version(rest: tuple[Any, ...]) -> None:
    still, over = threading.Event(), threading.Event()

    def messages() -> Iterator[Any]:
        yield ASKED
        still.wait(10)
        yield from (BEGUN, *rest)
        over.wait(10)

    def route(port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, contextlib.suppress(grpc.RpcError):
            list(process(channel)(messages(), metadata=METADATA))

    async with receiver() as receiving:
        router = asyncio.create_task(asyncio.to_thread(route, receiving.port))
        await eventually_true(lambda: _opened(receiving))
        still.set()
        time.sleep(1.6)  # noqa: ASYNC251  the event loop stands still
        await receiving.until(1 if rest else 0)
        over.set()
        await router
        assert [each.answer.complete for each in receiving.found] == [True] * bool(rest)
        assert receiving.capture.lost == (0 if rest else 1)


async def test_a_stream_that_breaks_says_nothing_about_a_version() -> None:
    async with receiver() as receiving:
        stream = await receiving.send(ASKED, BEGUN)
        await eventually_true(lambda: _opened(receiving))
        stream.cancel()
        await receiving.until(0)


async def _opened(receiving: Receiver) -> bool:
    return receiving.capture.open_streams == 1


async def test_more_streams_than_may_be_are_refused() -> None:
    async with receiver(streams=1) as receiving:
        await receiving.send(ASKED)
        await eventually_true(lambda: _opened(receiving))
        assert await receiving.open().code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await receiving.until(1)
        await receiving.send(ASKED, ANSWERED)
        await receiving.until(2)


@pytest.mark.parametrize("metadata", [(), METADATA[1:]])
async def test_who_is_no_router_of_ours_is_told_so(metadata: Any) -> None:
    async with receiver() as receiving:
        stream = receiving.open(metadata)
        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "x-agentrollout-subject" in await stream.details()
        assert receiving.capture.ignored == 1


async def test_an_exchange_that_cannot_be_taken_costs_no_other() -> None:
    async with receiver() as receiving:
        receiving.fails = True
        with capture_logs() as logs:
            stream = await receiving.send(ASKED, ANSWERED)
            assert await stream.code() is grpc.StatusCode.OK
        receiving.fails = False
        await receiving.send(ASKED, ANSWERED)
        await receiving.until(1)
    assert [each["event"] for each in logs] == ["exchange_lost"]
    assert not logs[0].keys() & {"exc_info", "exception"}, "they could quote it"


async def test_a_stream_without_a_key_is_passed_over() -> None:
    async with receiver() as receiving:
        stream = await receiving.send(message(request_headers=headers(True)), ANSWERED)
        await stream.code()
        assert receiving.capture.ignored == 1


async def test_a_taken_port_is_told_in_a_sentence() -> None:
    first, second = Capture(lambda _: None), Capture(lambda _: None)
    port = await first.start()
    with pytest.raises(OSError, match=f"cannot listen for captures on 127.0.0.1:{port}"):
        await second.start(port=port)
    await second.stop()
    await first.stop(0)
    await asyncio.sleep(0)
