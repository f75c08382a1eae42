"""One suite over the kinds of sources: what is said is heard, what is lost is kept, what never was is unknown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controller.adapters.flags.flagd import FlagdSource
from controller.adapters.flags.ofrep import OfrepSource
from controller.adapters.prometheus_http import Authorization, HttpConfig
from controller.core.flags import FlagBook, Said, read_text
from controller.reconcilers.switch_maps import SWITCH_LABEL, SwitchMaps, observe_switches
from controller.runtime.clock import SystemClock
from controller.runtime.store import Store
from devkit.process import LOOPBACK
from tests.flag_servers import FlagdServer, OfrepServer

CLOCK = SystemClock()


class ConfigMapServer:
    """A ConfigMap and the watch that follows it."""

    def __init__(self, **flags: Any) -> None:
        self.flags, self._version = flags, 0
        self._store = Store(observe_switches)
        self.book = SwitchMaps(self._store, "system", CLOCK.now).book

    def set(self, **flags: Any) -> None:
        self.flags = {**self.flags, **flags}
        self._apply()

    async def start(self) -> None:
        self._apply()

    async def stop(self) -> None:
        self._version += 1
        self._store.deleted("shop/flags", self._raw())

    def _apply(self) -> None:
        self._version += 1
        self._store.applied("shop/flags", self._raw())

    def _raw(self) -> dict[str, Any]:
        metadata = {"namespace": "shop", "name": "flags", "resourceVersion": str(self._version)}
        data = {key: json.dumps(value).strip('"') for key, value in self.flags.items()}
        return {"metadata": {**metadata, "labels": {SWITCH_LABEL: "flags"}}, "data": data}


@dataclass
class Source:
    """A server and what is heard of it."""

    server: Any
    book: FlagBook
    prefix: str = ""

    @property
    def said(self) -> Said:
        return self.book.said(f"{self.prefix}ops")

    async def until(self, holds: Callable[[Said], bool], seconds: float = 15) -> Said:
        async with asyncio.timeout(seconds):
            while not holds(self.said):  # noqa: ASYNC110 - told by other threads and servers
                await asyncio.sleep(0.01)
        return self.said


@asynccontextmanager
async def following(source: OfrepSource | FlagdSource) -> AsyncIterator[None]:
    task = asyncio.create_task(source.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=["ConfigMap", "OFREP", "flagd"])
async def source(request: pytest.FixtureRequest) -> AsyncIterator[Source]:
    """A source whose server is not there yet."""
    book = FlagBook()
    if request.param == "ConfigMap":
        server = ConfigMapServer()
        yield Source(server, server.book, "shop/flags/")
        return
    if request.param == "OFREP":
        ofrep = OfrepServer()
        async with following(OfrepSource(ofrep.url, HttpConfig(), book, CLOCK)):
            yield Source(ofrep, book)
        await ofrep.stop()
        return
    flagd = FlagdServer()
    async with following(FlagdSource(LOOPBACK, flagd.port, None, book, CLOCK)):
        yield Source(flagd, book)
    await flagd.stop()


async def test_before_the_first_answer_nothing_is_known(source: Source) -> None:
    assert source.said.on is None
    assert source.said.doubt != ""


async def test_on_and_off_are_heard(source: Source) -> None:
    source.server.flags = {"ops": True}
    await source.server.start()
    await source.until(lambda said: said.on is True)
    for value in (False, True):
        source.server.set(ops=value)
        assert (await source.until(lambda said, value=value: said.on is value)).doubt == ""  # type: ignore[misc]


@pytest.mark.parametrize("value", ["yes", 1, 2.5])
async def test_another_value_is_no_switch(source: Source, value: Any) -> None:
    source.server.flags = {"ops": value}
    await source.server.start()
    said = await source.until(lambda said: said.value is not None)
    assert said.on is None
    assert "is neither true nor false" in said.doubt
    assert said.value == (read_text(str(value)) if source.prefix else value)


@pytest.mark.parametrize("last", [True, False])
async def test_what_is_lost_keeps_its_last_value_and_comes_back(source: Source, last: bool) -> None:
    source.server.flags = {"ops": last}
    await source.server.start()
    await source.until(lambda said: said.on is last)
    await source.server.stop()
    lost = await source.until(lambda said: said.problem != "")
    assert lost.on is last
    assert " since " in lost.doubt
    source.server.flags = {"ops": not last}
    await source.server.start()
    assert (await source.until(lambda said: said.on is not last)).doubt == ""


async def test_a_flag_that_is_not_there_is_unknown(source: Source) -> None:
    source.server.flags = {"other": True}
    await source.server.start()
    await source.until(lambda said: "it has not answered yet" not in said.doubt)
    assert source.said.on is None


# What only one of them can do.


async def test_an_ofrep_server_is_asked_once_for_all_flags_and_with_credentials(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    http = HttpConfig(authorization=Authorization(credentials_file=tmp_path / "token"))
    book = FlagBook()
    async with OfrepServer(a=True, b=False, c={"x": 1}) as server:
        async with following(OfrepSource(f"{server.url}/", http, book, CLOCK)):
            await Source(server, book).until(lambda _: len(server.requests) > 1)
        headers, body = server.requests[0]
        assert headers["authorization"] == "Bearer secret"
        assert body == {"context": {"targetingKey": "agentrollout"}}
        assert [book.said(flag).value for flag in "abc"] == [True, False, '{"x": 1}']


@pytest.mark.parametrize(
    ("respond", "told"),
    [
        (web.Response(status=401), "it answered 401"),
        (web.Response(status=429, headers={"Retry-After": "1"}), "it asks for fewer questions (429)"),
        (web.Response(text="<html>"), "its answer is none of OFREP"),
        (web.Response(text='{"flags": [1]}'), "its answer is none of OFREP"),
        (web.Response(text='{"flags": {"ops": true}}'), "its answer is none of OFREP"),
        (web.Response(text="[" * 100_000), "its answer is none of OFREP"),
    ],
)
async def test_what_keeps_an_ofrep_server_from_being_understood_is_told(
    respond: web.Response, told: str
) -> None:
    book = FlagBook()
    async with (
        OfrepServer(ops=False) as server,
        following(OfrepSource(server.url, HttpConfig(), book, CLOCK)),
    ):
        server.respond = respond
        said = await Source(server, book).until(lambda said: "it has not answered yet:" in said.problem)
        assert said.problem == f"it has not answered yet: {told}"
        server.respond = None
        await Source(server, book).until(lambda said: said.on is False)


async def test_an_ofrep_server_that_hangs_is_asked_again() -> None:
    book = FlagBook()
    async with OfrepServer(ops=False) as server:
        server.hold = asyncio.Event()
        async with following(OfrepSource(server.url, HttpConfig(), book, CLOCK)):
            await Source(server, book).until(lambda said: "Timeout" in said.problem)
            server.hold.set()
            await Source(server, book).until(lambda said: said.on is False)


async def test_an_ofrep_server_that_wants_to_be_left_alone_is_asked_before_it_would_count_as_lost() -> None:
    book = FlagBook()
    async with (
        OfrepServer(ops=False) as server,
        following(OfrepSource(server.url, HttpConfig(), book, CLOCK)),
    ):
        heard = Source(server, book)
        await heard.until(lambda said: said.on is False)
        server.set(ops=True)
        server.respond = web.Response(status=429, headers={"Retry-After": "600"})
        asked = len(server.requests)
        await heard.until(lambda _: len(server.requests) > asked)
        server.respond = None
        await heard.until(lambda said: said.on is True, seconds=8)


async def test_an_ofrep_server_whose_answer_never_ends_has_not_answered() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.2)

    book = FlagBook()
    server = await asyncio.start_server(drip, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    async with server, following(OfrepSource(f"http://{LOOPBACK}:{port}", HttpConfig(), book, CLOCK)):
        await Source(server, book).until(lambda said: "Timeout" in said.problem, seconds=5)


async def test_a_flagd_stream_that_hangs_is_made_up_for_by_questions() -> None:
    book = FlagBook()
    async with (
        FlagdServer(ops=False) as server,
        following(FlagdSource(LOOPBACK, server.port, None, book, CLOCK)),
    ):
        heard = Source(server, book)
        await heard.until(lambda said: said.on is False and server.connected > 0)
        server.streams = False
        server.set(ops=True)
        await heard.until(lambda said: said.on is True, seconds=5)


async def test_a_flagd_that_only_streams_is_followed_by_its_stream() -> None:
    book = FlagBook()
    server = FlagdServer(ops=False)
    server.fetches = False
    async with server, following(FlagdSource(LOOPBACK, server.port, None, book, CLOCK)):
        heard = Source(server, book)
        await heard.until(lambda said: said.on is False)
        server.set(ops=True)
        await heard.until(lambda said: said.on is True and server.asked > 0)
        await server.stop()
        lost = await heard.until(lambda said: said.problem != "")
        assert lost.on is True
        assert "its stream is broken" in lost.problem
        await server.start()
        await heard.until(lambda said: said.problem == "")


async def test_flags_of_flagd_are_evaluated_as_it_would() -> None:
    whole = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
    targeting = {"if": [{"==": [{"var": "targetingKey"}, "agentrollout"]}, "on", "off"]}
    flags = {
        "targeted": {**whole, "targeting": targeting},
        "plain": whole,
        "disabled": {**whole, "state": "DISABLED"},
        "broken": {**whole, "defaultVariant": "nowhere"},
        "raising": {**whole, "targeting": {"if": [{"/": [1, 0]}, "on", "off"]}},
        "gone": True,
    }
    book = FlagBook()
    async with (
        FlagdServer(**flags) as server,
        following(FlagdSource(LOOPBACK, server.port, None, book, CLOCK)),
    ):
        heard = Source(server, book)
        await heard.until(lambda _: book.said("gone").on is True)
        assert {flag: book.said(flag).on for flag in flags} == {
            "targeted": True,
            "plain": False,
            "disabled": None,
            "broken": None,
            "raising": None,
            "gone": True,
        }
        del server.flags["gone"]
        server.set()
        await heard.until(lambda _: book.said("gone").problem != "")
        assert book.said("gone").on is True


@pytest.mark.parametrize(
    ("configuration", "told"), [("[]", "AttributeError"), ('{"flags": {"ops": {}}}', "ParseError")]
)
async def test_a_configuration_that_cannot_be_read_changes_nothing(configuration: str, told: str) -> None:
    book = FlagBook()
    async with (
        FlagdServer(ops=True) as server,
        following(FlagdSource(LOOPBACK, server.port, None, book, CLOCK)),
    ):
        heard = Source(server, book)
        await heard.until(lambda said: said.on is True)
        server.streams = False  # the provider's own thread does not outlive the first
        server.whole = configuration
        said = await heard.until(lambda said: said.problem != "")
        assert said.on is True
        assert f"its configuration cannot be read: {told}" in said.problem
        server.whole = ""
        await heard.until(lambda said: said.problem == "")
