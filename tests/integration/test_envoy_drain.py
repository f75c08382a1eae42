"""A router that is to be stopped finishes what it has begun."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from controller.adapters.envoy.draining import DrainError, drain
from controller.cli import app
from devkit.process import LOOPBACK, free_port
from tests.integration.envoy_lab import HOST, Agent, Lab, backend, eventually, fetch, table


def access(metrics: int, admin: int) -> dict[str, Any]:
    return {"admin": (LOOPBACK, admin), "metrics": (LOOPBACK, metrics)}


@contextlib.asynccontextmanager
async def unread_answer(port: int, path: str) -> Any:
    """A request whose answer is under way until the block ends."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
    await reader.readuntil(b"hello")
    try:
        yield
    finally:
        writer.transport.abort()


async def test_draining_waits_for_the_answers_under_way_and_sends_users_elsewhere() -> None:
    metrics, admin = free_port(), free_port()
    async with Agent("stable") as agent, Lab() as lab, httpx.AsyncClient() as client:
        await lab.start(table(backend("stable", agent.port)), access=access(metrics, admin))
        ready = f"http://{LOOPBACK}:{metrics}/ready"
        before = await client.get(ready)
        async with unread_answer(lab.user_port, "/trickle"):
            draining = asyncio.create_task(drain(f"{LOOPBACK}:{admin}", 30, settle=0))

            async def readiness() -> int:
                return (await client.get(ready)).status_code

            after = await eventually(readiness, lambda status: status != 200)
            late = await fetch(lab.user_port)
            waits = not draining.done()
        under_way = await draining

    assert (before.status_code, after) == (200, 503)
    assert waits
    assert late.status == 200
    assert ("connection", "close") in late.headers
    assert under_way == 0


async def test_draining_says_how_many_answers_its_time_was_too_short_for() -> None:
    admin = free_port()
    async with Agent("stable") as agent, Lab() as lab:
        await lab.start(table(backend("stable", agent.port)), access={"admin": (LOOPBACK, admin)})
        async with unread_answer(lab.user_port, "/silent-in-body"):
            arguments = ["router", "drain", f"--admin-address={LOOPBACK}:{admin}", "--timeout=100ms"]
            result = await asyncio.to_thread(CliRunner().invoke, app, arguments)

    assert result.exit_code != 0
    assert "1 requests are still under way after 0.1 s" in result.output


async def test_draining_without_an_envoy_is_an_error() -> None:
    with pytest.raises(DrainError, match="does not answer"):
        await drain(f"{LOOPBACK}:{free_port()}", 1)
