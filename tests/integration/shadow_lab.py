"""Shadow mode with a real Envoy: agents that answer chats, users with bodies, and a recorder that pairs what is captured."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Self

import aiohttp
from aiohttp import web

from controller.adapters.envoy.capture import Capture, CaptureLimits
from controller.core.shadow.exchange import Exchange, Pair, Side, Subject
from controller.core.shadow.pairing import Ended, Pairing
from controller.core.traffic import Backend, ShadowSplit, TrafficTable
from devkit.process import LOOPBACK
from tests.integration.envoy_lab import HOST, Lab, backend, eventually, table

KEY = "shop/agent"
SUBJECT = Subject(
    KEY, "candidate", "sha256:candidate", "stable", "sha256:stable", ("openai/gpt-x",), "default"
)

MEBIBYTE = 1 << 20


class ChatAgent:
    """Answers ``/chat``, ``/echo``, ``/length``, ``/gzip``, ``/events/N``, ``/ticks/N``, ``/bytes/N``, ``/status/N`` and ``/break``.

    It remembers what it was asked, if it is told to.

    Attributes:
        asked: Headers of all requests, in their order.
        chat: What it says to the messages of a chat completion, a message or a status.
    """

    def __init__(self, name: str, *, port: int = 0, remember: bool = True) -> None:
        self.name = name
        self.port = port
        self._remember = remember
        self.asked: list[dict[str, str]] = []
        self.chat: Callable[[list[Any]], dict[str, Any] | int] = lambda _messages: 404
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * MEBIBYTE)
        app.router.add_route("*", "/{kind}", self._answer)
        app.router.add_route("*", "/{kind}/{argument}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def backend(self) -> Backend:
        return backend(self.name, self.port)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self._remember:
            self.asked.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.read()
        kind, argument = request.match_info["kind"], request.match_info.get("argument", "")
        if kind in ("events", "ticks"):
            return await self._events(request, int(argument), ticks=kind == "ticks")
        if kind == "break":
            return await self._break(request)
        if kind == "gzip":
            packed = gzip.compress(self.name.encode() + b" says " + body)
            return web.Response(body=packed, headers={"content-encoding": "gzip"}, content_type="text/plain")
        if kind == "chat":
            return self._chat(json.loads(body)["messages"])
        if kind in ("length", "bytes"):
            sized = str(len(body)) if kind == "length" else self.name[:1] * int(argument)
            return web.Response(text=sized)
        return web.Response(
            status=int(argument) if kind == "status" else 200,
            body=self.name.encode() + b" says " + body,
            content_type="text/plain",
        )

    def _chat(self, messages: list[Any]) -> web.Response:
        said = self.chat(messages)
        if isinstance(said, int):
            return web.Response(status=said)
        return web.json_response({"choices": [{"index": 0, "message": {"role": "assistant", **said}}]})

    async def _events(self, request: web.Request, count: int, *, ticks: bool) -> web.StreamResponse:
        """Ticks say when they were sent, twenty in a second."""
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(count):
            said = f"{time.monotonic():.6f}" if ticks else f"{self.name} {number}"
            await response.write(f"data: {said}\n\n".encode())
            await asyncio.sleep(0.05 if ticks else 0.005)
        await response.write_eof()
        return response

    async def _break(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/plain"})
        await response.prepare(request)
        await response.write(b"half of")
        assert request.transport is not None
        request.transport.abort()
        return response


@dataclass
class Recorder:
    """Captures and pairs in this process; what came of it."""

    limits: CaptureLimits = field(default_factory=CaptureLimits)
    exchanges: list[Exchange] = field(default_factory=list)
    ends: list[Pair | Ended] = field(default_factory=list)
    pairing: Pairing = field(default_factory=Pairing)
    port: int = 0

    def __post_init__(self) -> None:
        self.capture = Capture(self._took, limits=self.limits)
        self._changed = asyncio.Event()

    def _took(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self.ends += self.pairing.take(exchange, asyncio.get_running_loop().time())
        self._changed.set()

    @property
    def pairs(self) -> list[Pair]:
        return [each for each in self.ends if isinstance(each, Pair)]

    @property
    def bins(self) -> Counter[tuple[Side, str]]:
        return Counter(
            (each.side, each.bin.value if isinstance(each, Ended) else "pair") for each in self.ends
        )

    async def until(self, holds: Callable[[Recorder], bool], timeout: float = 20) -> None:
        async with asyncio.timeout(timeout):
            while not holds(self):
                self._changed.clear()
                await self._changed.wait()

    async def pair(self) -> Pair:
        """The next one, which is then no longer there."""
        await self.until(lambda each: bool(each.pairs))
        found = self.pairs[0]
        self.ends.remove(found)
        return found


@dataclass
class ShadowLab:
    """A router that samples, its agents, its recorder, and a user."""

    lab: Lab
    stable: ChatAgent
    candidate: ChatAgent
    recorder: Recorder
    user: aiohttp.ClientSession

    def table(self, **split: Any) -> TrafficTable:
        """All that can be sampled is, and nothing of it twice, unless told otherwise."""
        settings: dict[str, Any] = {"sampled_ppm": 500_000, "timeout": timedelta(seconds=5)} | split
        shadow = ShadowSplit(SUBJECT, **settings)
        return replace(table(self.stable.backend, self.candidate.backend), shadow=shadow)

    def url(self, path: str) -> str:
        return f"http://{LOOPBACK}:{self.lab.user_port}{path}"

    async def ask(self, path: str = "/echo", data: Any = b"", **headers: str) -> tuple[int, bytes]:
        """One request of a user whose conversations are sampled."""
        sent = {"host": HOST, "x-session-id": SAMPLED, **{k.replace("_", "-"): v for k, v in headers.items()}}
        async with self.user.post(self.url(path), data=data, headers=sent) as response:
            return response.status, await response.read()


SAMPLED = "conversation-1"
"""One of those in the sampled half of the ring for the artifact of this lab's candidate (see the test of that)."""


@contextlib.asynccontextmanager
async def shadow_lab(
    *, limits: CaptureLimits | None = None, port: int | None = None, ca_file: str = "", **split: Any
) -> AsyncIterator[ShadowLab]:
    """All of it, programmed.

    Args:
        limits: Of the recorder.
        port: Where the router believes the recorder to be; left out, where it is.
        ca_file: Who signed the agents' certificates.
        split: Of the ShadowSplit.
    """
    recorder = Recorder(limits or CaptureLimits())
    recorder.port = await recorder.capture.start(LOOPBACK)
    timeout = aiohttp.ClientTimeout(total=30)
    try:
        async with (
            ChatAgent("stable") as stable,
            ChatAgent("candidate") as candidate,
            Lab({"shadow_address": (LOOPBACK, port or recorder.port), "ca_file": ca_file}) as lab,
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as user,
        ):
            found = ShadowLab(lab, stable, candidate, recorder, user)
            await lab.start(found.table(**split))
            if port is None:
                await eventually_true(lambda: _healthy(lab))
            yield found
    finally:
        await recorder.capture.stop(0)


async def _healthy(lab: Lab) -> bool:
    """Whether the router has found the recorder."""
    found = await asyncio.to_thread(lab.envoys[0].admin_get, "/clusters", format="json")
    hosts = {each["name"]: each.get("host_statuses", []) for each in found.json()["cluster_statuses"]}
    return all(
        "failed_active_health_check" not in each["health_status"] for each in hosts["agentrollout-shadow"]
    )


async def eventually_true(look: Callable[[], Awaitable[bool]]) -> None:
    assert await eventually(look, bool, 60)
