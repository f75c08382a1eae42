"""Receives from all routers what sampled requests and their answers were, beside the path of the users.

A router opens a stream for each side of a sampled request, sends what passes as it passes, and never waits: it does not even
read answers of ours. A stream ends with the answer, when its time is over, or when the router has given it up: a request
that ended without a whole answer is a failure of the version. A stream that ends otherwise is none: the connection to the
router is gone, and nobody knows what became of the request. Nor is one whose time was over while this process stood still.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from envoy.service.ext_proc.v3 import external_processor_pb2

from controller.adapters.envoy.assembly import Assembly, Origin, Room
from controller.adapters.envoy.health import add_health, listen
from controller.adapters.envoy.subjects import CLOSES_LATE
from controller.core.shadow.exchange import Exchange

_log = structlog.get_logger(__name__)

_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"

_SERVER_OPTIONS = (
    # A mirror's body comes in one piece.
    ("grpc.max_receive_message_length", 16 << 20),
    # Routers ask every second whether we are there (mirrors.py); by default gRPC takes that for an attack after a few.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    # Two processes must not share a port by accident: the halves of a pair would not meet.
    ("grpc.so_reuseport", 0),
)


_LOST_BEFORE = CLOSES_LATE.total_seconds() / 2
"""A stream that was silent for less before it ended was not ended by the router; what is late may look less silent."""

_BEHIND = 1.0
"""Seconds after the time of an answer, from which on it is this process that was late, and no version."""

_AT_HAND = 0.1
"""Seconds that it takes to read what has arrived already."""


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """What is taken in.

    Attributes:
        body_bytes: Of each body, as it came and unpacked; an exchange with more is oversized.
        total_bytes: Of all that is under way; what does not fit is oversized.
        streams: At once; further ones are refused, and routers go on without.
    """

    body_bytes: int = 1 << 20
    total_bytes: int = 256 << 20
    streams: int = 4096


class Capture:
    """A gRPC server for routers. It hands over each exchange on its event loop.

    Attributes:
        open_streams: Under way.
        ignored: Streams that no router of ours opened, or that did not say which request they belong to.
        lost: Streams whose end was not seen.
    """

    def __init__(
        self,
        on_exchange: Callable[[Exchange], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        limits: CaptureLimits | None = None,
    ) -> None:
        """Not yet listening.

        Args:
            on_exchange: Takes each half; it must not block. What it raises is logged, and the half is lost.
            monotonic: Seconds that never go back.
            limits: What is taken in; the defaults otherwise.
        """
        self._on_exchange = on_exchange
        self._monotonic = monotonic
        self._limits = limits or CaptureLimits()
        self._room = Room(self._limits.total_bytes)
        self._server: Any = None
        self.open_streams = 0
        self.ignored = 0
        self.lost = 0

    @property
    def held_bytes(self) -> int:
        """Of all that is under way."""
        return self._limits.total_bytes - self._room.free

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; the port in use, for when ``port`` was 0.

        Raises:
            OSError: When the address is taken.
        """
        server = grpc.aio.server(options=_SERVER_OPTIONS)
        add_health(server)
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=external_processor_pb2.ProcessingRequest.FromString,
            response_serializer=external_processor_pb2.ProcessingResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"Process": handler}),)
        )
        bound = await listen(server, host, port, "captures")
        self._server = server
        return bound

    async def stop(self, grace: float = 1.0) -> None:
        """Stop listening; what is still under way after ``grace`` seconds is lost."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(grace)

    async def _serve(self, messages: Any, context: Any) -> None:
        if self.open_streams >= self._limits.streams:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "as many streams as may be are open")
        try:
            origin = Origin.of(context.invocation_metadata())
        except ValueError as error:
            self.ignored += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            return
        assembly = Assembly(origin, self._limits.body_bytes, self._room, self._monotonic())
        self.open_streams += 1
        try:
            if await self._read(assembly, messages, origin.timeout):
                self._hand_over(assembly)
            else:
                self.lost += 1
        finally:
            self.open_streams -= 1
            assembly.release()

    async def _read(self, assembly: Assembly, messages: Any, timeout: float) -> bool:
        """Take in a stream; whether what became of the request is known."""
        loop = asyncio.get_running_loop()
        until, late, told = loop.time() + timeout, 0.0, self._monotonic()
        limit = asyncio.timeout(None)

        def over() -> None:
            nonlocal late
            late = loop.time() - until
            limit.reschedule(loop.time() + max(_AT_HAND, late))

        timer = loop.call_at(until, over)
        try:
            async with limit:
                async for message in messages:
                    told = self._monotonic()
                    if assembly.feed(message, told):
                        return True
        except TimeoutError:
            return late < _BEHIND  # an answer that takes longer is not complete, on either side
        finally:
            timer.cancel()
        return self._monotonic() - told >= _LOST_BEFORE

    def _hand_over(self, assembly: Assembly) -> None:
        try:
            exchange = assembly.exchange()
            if exchange is None:
                self.ignored += 1
            else:
                self._on_exchange(exchange)
        except Exception as error:  # noqa: BLE001  whatever it is, it concerns this exchange alone
            # Message and traceback could quote it.
            _log.error("exchange_lost", error=type(error).__name__)
