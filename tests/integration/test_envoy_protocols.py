"""What users may speak to a real Envoy: HTTP/1.1 and HTTP/2, with TLS and without, streams and WebSockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
import pytest
from aiohttp import web

from devkit.process import LOOPBACK
from tests.integration.certificates import Authority
from tests.integration.envoy_lab import HOST, Agent, Lab, arms, backend, eventually, table

PROTOCOLS = ["http/1.1", "h2c", "https/1.1", "h2"]


@dataclass(frozen=True)
class Way:
    """How a client comes to the router."""

    protocol: str
    authority: Authority

    @property
    def tls(self) -> bool:
        return self.protocol in ("https/1.1", "h2")

    def options(self) -> dict[str, object]:
        if not self.tls:
            return {}
        cert, key = self.authority.issue(HOST)
        return {"tls_cert_file": str(cert), "tls_key_file": str(key)}

    @asynccontextmanager
    async def client(self, lab: Lab) -> AsyncIterator[httpx.AsyncClient]:
        http2 = self.protocol.startswith("h2")
        async with httpx.AsyncClient(
            base_url=f"{'https' if self.tls else 'http'}://{LOOPBACK}:{lab.user_port}",
            http1=not http2,
            http2=http2,
            verify=self.context() if self.tls else False,
            headers={"host": HOST},
        ) as client:
            yield client

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority.file)


NAMED = {"sni_hostname": HOST}


@pytest.fixture(params=PROTOCOLS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    return Way(request.param, Authority(tmp_path))


async def test_private_headers_are_removed_and_the_artifact_is_named(way: Way) -> None:
    forged = {
        "x-agentrollout-artifact": "sha256:forged",
        "X-AgentRollout-Anything": "forged",
        "x-session-id": "a",
    }
    async with arms() as (stable, _), Lab(way.options()) as lab:
        await lab.start(table(backend("stable", stable.port)))
        async with way.client(lab) as client:
            answer = await client.get("/", headers=forged, extensions=NAMED)

    seen = dict(line.lower().split(": ", 1) for line in answer.text.split("\r\n") if ": " in line)
    assert answer.http_version == ("HTTP/2" if way.protocol.startswith("h2") else "HTTP/1.1")
    assert {name: value for name, value in seen.items() if name.startswith("x-agentrollout-")} == {
        "x-agentrollout-artifact": "sha256:stable"
    }
    assert seen["x-session-id"] == "a"


async def test_a_stream_passes_as_it_comes_and_a_rollback_does_not_cut_it(way: Way) -> None:
    async with arms() as (stable, candidate), Lab(way.options()) as lab:
        split = table(backend("stable", stable.port), backend("candidate", candidate.port), 1_000_000)
        await lab.start(split)
        async with way.client(lab) as client:
            # The agent goes on for ten seconds: whatever arrives earlier was not waited for.
            async with client.stream("GET", "/trickle", extensions=NAMED) as answer:
                chunks = answer.aiter_raw()
                assert await anext(chunks) == b"hello"
                await lab.publish(split.without_candidate())
                await lab.until(lambda: lab.router.programmed(split.key).table == split.without_candidate())
                for _ in range(10):
                    assert (await anext(chunks)).startswith(b"hello")
            later = await client.get("/", extensions=NAMED)

    assert later.text.startswith("stable\n")


async def echo(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("from the agent")
    async for message in socket:
        await socket.send_str(f"{request.headers['x-agentrollout-artifact']}: {message.data}")
    return socket


@pytest.mark.parametrize("way", ["http/1.1", "https/1.1"], indirect=True)
async def test_a_websocket_passes_both_ways(way: Way) -> None:
    app = web.Application()
    app.router.add_get("/talk", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0)
    await site.start()
    (address,) = runner.addresses
    try:
        async with Lab(way.options()) as lab, aiohttp.ClientSession() as session:
            await lab.start(table(backend("only", address[1])))
            url = f"{'wss' if way.tls else 'ws'}://{LOOPBACK}:{lab.user_port}/talk"
            async with session.ws_connect(
                url,
                headers={"host": HOST},
                ssl=way.context() if way.tls else True,
                server_hostname=HOST if way.tls else None,
            ) as socket:
                assert await socket.receive_str() == "from the agent"
                for words in ("one", "two"):
                    await socket.send_str(words)
                    assert await socket.receive_str() == f"sha256:only: {words}"
    finally:
        await runner.cleanup()


async def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    shown = Way("https/1.1", old).options()
    async with Agent("only") as agent, Lab(shown) as lab:
        await lab.start(table(backend("only", agent.port)))

        async def trusted(authority: Authority) -> bool:
            async with Way("https/1.1", authority).client(lab) as client:
                try:
                    return (await client.get("/", extensions=NAMED)).status_code == 200
                except httpx.ConnectError:
                    return False

        assert (await trusted(old), await trusted(new)) == (True, False)
        for made, name in zip(new.issue(HOST), ("tls_cert_file", "tls_key_file"), strict=True):
            made.replace(str(shown[name]))
        assert await eventually(lambda: trusted(new), bool)
        assert not await trusted(old)


async def test_a_certificate_that_is_not_there_is_told_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = {"tls_cert_file": str(tmp_path / "none.crt"), "tls_key_file": str(tmp_path / "none.key")}
    async with Agent("only") as agent, Lab(nowhere) as lab:
        starting = asyncio.create_task(lab.start(table(backend("only", agent.port))))
        said = ""

        async def logged() -> str:
            nonlocal said
            said += capsys.readouterr().out
            return said + caplog.text  # wherever tests before this one have sent it

        assert "none.crt" in await eventually(logged, lambda log: "listener_refused" in log)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
