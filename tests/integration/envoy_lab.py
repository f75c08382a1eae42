"""Helpers for tests with real Envoys: a router with its Envoys, agents that misbehave on request, a raw client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from controller.adapters.envoy.access_log import AccessLog
from controller.adapters.envoy.bootstrap import bootstrap
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.router import EnvoyRouter
from controller.adapters.ports import EndpointSource
from controller.core.traffic import AudienceSplit, Backend, TrafficTable
from devkit.envoy import Envoy
from devkit.process import LOOPBACK, free_port

HOST = "agent.example"

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], wanted: Callable[[T], bool], timeout: float = 10) -> T:
    """What ``look`` sees as soon as it is ``wanted``, or at last when it never is."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while True:
        seen = await look()
        if wanted(seen) or loop.time() > end:
            return seen
        await asyncio.sleep(0.02)


def backend(name: str, port: int, host: str = LOOPBACK, *, tls: bool = False) -> Backend:
    return Backend(name, f"sha256:{name}", host, port, tls)


Script = tuple[bytes | float | str, ...]
"""Bytes are sent, numbers are seconds of silence, ``close`` and ``reset`` end the connection."""

_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"

SCRIPTS: dict[str, Script] = {
    "cut-before-headers": (),
    "cut-in-body": (b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf of it", 0.05),
    "cut-in-chunks": (_CHUNKED, 0.05),
    "cut-without-length": (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 0.05),
    "silent-before-headers": (30.0,),
    "silent-in-body": (_CHUNKED, 30.0),
    "trickle": (_CHUNKED, *((0.05, b"5\r\nhello\r\n") * 200)),
    "flood": (b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n", *((b"x" * 100_000,) * 1000)),
    "garbage": (b"this is not HTTP\r\n\r\n",),
    "garbage-in-chunks": (_CHUNKED, b"not a length\r\n", 30.0),
    "too-much": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi and more",),
    "hints": (b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    "silent-after-503": (b"HTTP/1.1 503 As Told\r\ncontent-length: 5\r\n\r\n", 30.0),
    "upgrade": (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhi",
        0.1,
    ),
    "silent-upgrade": (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhi",
        30.0,
    ),
}
"""What an agent does for ``/<name>/<close|reset>``."""


class Lab:
    """An EnvoyRouter on a free port, and the Envoys that it programs."""

    def __init__(
        self,
        options: Mapping[str, object] | None = None,
        endpoints: EndpointSource | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        self.user_port = free_port()
        self._options = RouterOptions(listen_address=LOOPBACK, listen_port=self.user_port, **(options or {}))  # type: ignore[arg-type]
        self._endpoints = endpoints
        self._access_log = access_log
        self.envoys: list[Envoy] = []
        self.xds_port = 0
        self.drain_seconds = 600
        self.changes: list[str] = []
        self._changed = asyncio.Event()
        self.router = self.new_router()

    def new_router(self, **options: Any) -> EnvoyRouter:
        """A router without any memory, as after a restart of the operator, perhaps with other options."""
        self._options = replace(self._options, **options)
        self.router = EnvoyRouter(
            now=lambda: datetime.now(UTC),
            options=self._options,
            endpoints=self._endpoints,
            access_log=self._access_log,
        )
        self.router.on_change(self._note)
        return self.router

    def _note(self, key: str) -> None:
        self.changes.append(key)
        self._changed.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for envoy in self.envoys:
            await asyncio.to_thread(envoy.close)
        await self.router.stop(0)

    async def start(
        self, *tables: TrafficTable, envoys: int = 1, access: Mapping[str, Any] | None = None
    ) -> None:
        for table in tables:
            self.router.publish(table)
        self.xds_port = await self.router.start(LOOPBACK, self.xds_port)
        for index in range(len(self.envoys), envoys):
            await self.add_envoy(f"router-{index}", **(access or {}))
        for table in tables:
            await self.programmed(table)

    async def add_envoy(self, name: str, *, others: Sequence[int] = (), **access: Any) -> Envoy:
        """Start an Envoy that knows this operator and those on the other ports; ``access`` goes into its bootstrap."""
        operators = [(LOOPBACK, port) for port in (self.xds_port, *others)]
        config = bootstrap(name, operators=operators, stats_flush_seconds=0.1, **access)
        envoy = Envoy(config, wait_live=False, drain_seconds=self.drain_seconds)
        self.envoys.append(envoy)
        await asyncio.to_thread(envoy.start)
        await asyncio.to_thread(envoy.wait_live)
        return envoy

    async def restart_envoy(self, index: int = 0) -> None:
        await asyncio.to_thread(self.envoys[index].restart)
        await asyncio.to_thread(self.envoys[index].wait_live)

    async def publish(self, table: TrafficTable) -> None:
        self.router.publish(table)
        await self.programmed(table)

    async def programmed(self, table: TrafficTable, timeout: float = 15) -> None:
        await self.until(lambda: self.router.programmed(table.key).table == table, timeout)

    async def until(self, condition: Callable[[], bool], timeout: float = 15) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def counters(self, prefix: str, envoy: int = 0) -> dict[str, int]:
        return await asyncio.to_thread(self.envoys[envoy].counters, prefix)

    async def metrics(self, envoy: int = 0) -> str:
        """The Prometheus page."""
        return (await asyncio.to_thread(self.envoys[envoy].admin_get, "/stats/prometheus")).text


class Agent:
    """An HTTP/1.1 agent that does what the path says, and answers with its name and the request head otherwise.

    One that is told ``always`` does what that path says, whatever it is asked.
    """

    def __init__(
        self, name: str, certificate: tuple[Path, Path] | None = None, *, always: str | None = None
    ) -> None:
        self.name = name
        self._always = always
        self.port = 0
        self.requests = 0
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(*certificate)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._answer(await reader.readuntil(b"\r\n\r\n"), writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> bool:
        self.requests += 1
        asked = self._always or head.split(b" ", 2)[1].decode()
        kind, _, argument = asked.lstrip("/").partition("/")
        if kind == "status":
            steps: Script = (f"HTTP/1.1 {argument} As Told\r\ncontent-length: 0\r\n\r\n".encode(),)
        elif kind == "slow":
            steps = (float(argument), b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        elif kind in SCRIPTS:
            steps = (*SCRIPTS[kind], *((argument,) if argument else ()))
        else:
            body = self.name.encode() + b"\n" + head
            steps = (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body),)
        return await _play(steps, writer)


async def _play(steps: Script, writer: asyncio.StreamWriter) -> bool:
    for step in steps:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif isinstance(step, float):
            await asyncio.sleep(step)
        else:
            if step == "reset":
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            return False
    return True


class Answer:
    """What came back: status 0 means nothing did; ``complete`` that the body was not cut short."""

    def __init__(
        self, status: int, headers: Sequence[tuple[str, str]], body: bytes, *, complete: bool
    ) -> None:
        self.status = status
        self.headers = tuple(headers)
        self.body = body
        self.complete = complete

    @property
    def served_by(self) -> str:
        return self.body.split(b"\n", 1)[0].decode()

    @property
    def seen_headers(self) -> dict[str, str]:
        """The request's headers as the agent got them."""
        lines = self.body.decode().split("\r\n")[1:]
        return dict(line.split(": ", 1) for line in lines if ": " in line)

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


async def fetch(
    port: int,
    path: str = "/",
    *,
    host: str = HOST,
    headers: Sequence[tuple[str, str]] = (),
    give_up: float = 0,
) -> Answer:
    """One request on its own connection; after ``give_up`` seconds the client goes away in the middle."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    lines = [f"GET {path} HTTP/1.1", f"host: {host}", *(f"{key}: {value}" for key, value in headers), "", ""]
    writer.write("\r\n".join(lines).encode())
    try:
        async with asyncio.timeout(give_up or 20):
            return await _read(reader)
    except TimeoutError:
        if not give_up:
            raise
        return Answer(0, (), b"", complete=False)
    finally:
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> Answer:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer(0, (), b"", complete=False)
    first, *lines = head.strip().split("\r\n")
    headers = [(key.lower(), value) for key, value in (line.split(": ", 1) for line in lines)]
    status, fields = int(first.split(" ")[1]), dict(headers)
    body, complete = b"", True
    try:
        if "content-length" in fields:
            body = await reader.readexactly(int(fields["content-length"]))
        elif fields.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
    except (asyncio.IncompleteReadError, ConnectionError):
        complete = False
    return Answer(status, headers, body, complete=complete)


@contextlib.asynccontextmanager
async def arms() -> AsyncIterator[tuple[Agent, Agent]]:
    async with Agent("stable") as stable, Agent("candidate") as candidate:
        yield stable, candidate


def table(
    stable: Backend,
    candidate: Backend | None = None,
    weight: int = 0,
    *,
    key: str = "shop/agent",
    hosts: tuple[str, ...] = (HOST,),
    audiences: tuple[AudienceSplit, ...] = (),
) -> TrafficTable:
    return TrafficTable(key, hosts, "x-session-id", stable, candidate, weight, audiences)
