"""An HTTP/2 agent that misbehaves on request, in ways that no gRPC server can be told to."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from devkit.process import LOOPBACK

GRPC = [(":status", "200"), ("content-type", "application/grpc")]
MESSAGE = b"\0\0\0\0\5hello"
GARBAGE = b"this is not HTTP/2, not even by chance. "

_INTERNAL_ERROR, _REFUSED_STREAM = 2, 7

Script = tuple[str | float, ...]

SCRIPTS: dict[str, Script] = {
    "reset-before-headers": ("reset",),
    "reset-in-body": ("headers", "message", 0.05, "reset"),
    "refuse": ("refuse",),
    "send-away": ("away", 0.1, "cut"),
    "cut-before-headers": ("cut",),
    "cut-in-body": ("headers", "message", 0.05, "cut"),
    "garbage": ("garbage",),
    "garbage-in-body": ("headers", "message", 0.05, "garbage"),
    "silent-before-headers": (),
    "silent-in-body": ("headers", "message"),
    "hints": ("hints", "headers", "message", "status 0"),
    "answer": ("headers", "message", "status 0"),
}
"""What the agent does for ``/shop.Agent/<name>``; for ``status-N`` it ends a call with that gRPC status, for
``only-N`` without a message, and for ``http-N`` it answers like a proxy that knows no gRPC; ``early-`` before any of them does so before the request has ended."""


class Http2Agent:
    """Serves HTTP/2 in clear, and speaks it only as far as it is told to."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        asked: dict[int, str] = {}
        with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError, asyncio.CancelledError):
            while data := await reader.read(65_536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        headers: Any = event.headers
                        asked[event.stream_id] = dict(headers)[":path"].rpartition("/")[2]
                        if not asked[event.stream_id].startswith("early-"):
                            continue
                    if isinstance(event, h2.events.RequestReceived | h2.events.StreamEnded):
                        stream = event.stream_id
                        name = asked.pop(stream, "").removeprefix("early-")
                        if not name:
                            continue
                        task = asyncio.create_task(self._play(connection, writer, stream, _script(name)))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
                writer.write(connection.data_to_send())
        writer.close()

    async def _play(
        self, connection: h2.connection.H2Connection, writer: asyncio.StreamWriter, stream: int, steps: Script
    ) -> None:
        for step in steps:
            if isinstance(step, float):
                await asyncio.sleep(step)
                continue
            what, _, argument = step.partition(" ")
            with contextlib.suppress(h2.exceptions.ProtocolError):
                _send(connection, stream, what, argument)
                writer.write(connection.data_to_send())
            if what == "garbage":
                writer.write(GARBAGE)
            elif what == "cut":
                writer.transport.abort()


def _script(name: str) -> Script:
    kind, _, number = name.partition("-")
    known: dict[str, Script] = {
        "status": ("headers", "message", f"status {number}"),
        "only": (f"only {number}",),
        "http": (f"http {number}",),
    }
    return SCRIPTS[name] if name in SCRIPTS else known[kind]


def _send(connection: h2.connection.H2Connection, stream: int, what: str, argument: str) -> None:
    match what:
        case "headers":
            connection.send_headers(stream, GRPC)
        case "message":
            connection.send_data(stream, MESSAGE)
        case "status":
            connection.send_headers(stream, [("grpc-status", argument)], end_stream=True)
        case "only":
            connection.send_headers(stream, [*GRPC, ("grpc-status", argument)], end_stream=True)
        case "http":
            connection.send_headers(stream, [(":status", argument)], end_stream=True)
        case "hints":
            connection.send_headers(stream, [(":status", "103")])
        case "reset":
            connection.reset_stream(stream, _INTERNAL_ERROR)
        case "refuse":
            connection.reset_stream(stream, _REFUSED_STREAM)
        case "away":
            connection.close_connection(_INTERNAL_ERROR, last_stream_id=0)
