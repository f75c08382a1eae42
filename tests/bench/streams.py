"""A candidate in this process whose answers go on until they are cut, and users who note when the last of it came."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from devkit.process import LOOPBACK, free_port
from tests.integration.delivery_lab import DeliveryLab

STREAMS = 4
"""So many answers of the candidate are under way."""

CHUNK_SECONDS = 0.02
"""They bring a byte so often: what the last byte is measured to."""

CANDIDATE = "new"
"""The candidate's header ``x-upstream``."""


@dataclass
class Streams:
    """Answers of the candidate that go on until they are cut."""

    begun: int = 0
    last_chunk: float = 0.0

    async def follow(self, session: aiohttp.ClientSession, url: str) -> None:
        headers = {"x-stream": "yes", "x-session-id": f"s{random.getrandbits(64):x}"}
        with suppress(aiohttp.ClientError):
            async with session.get(url, headers=headers) as answer:
                if answer.headers.get("x-upstream") == CANDIDATE:
                    self.begun += 1
                    async for _ in answer.content.iter_any():
                        self.last_chunk = time.time()


@asynccontextmanager
async def streams(lab: DeliveryLab) -> AsyncIterator[Streams]:
    """Some that the candidate has begun."""
    met, tasks = Streams(), []
    async with aiohttp.ClientSession(headers={"host": "agent.example"}) as session:
        try:
            async with asyncio.timeout(30):
                while met.begun < STREAMS:
                    tasks.append(asyncio.create_task(met.follow(session, lab.users_url)))
                    await asyncio.sleep(CHUNK_SECONDS)
            yield met
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(request: web.Request) -> web.StreamResponse:
    headers = {"x-upstream": CANDIDATE}
    if "x-stream" not in request.headers:
        return web.Response(headers=headers)
    response = web.StreamResponse(headers=headers)
    with suppress(ConnectionError):
        await response.prepare(request)
        while True:
            await response.write(b".")
            await asyncio.sleep(CHUNK_SECONDS)
    return response


@asynccontextmanager
async def candidate() -> AsyncIterator[str]:
    """An agent that answers at once, or with ``x-stream`` for ever; gives its URL."""
    app, port = web.Application(), free_port()
    app.router.add_get("/", _answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    try:
        yield f"http://{LOOPBACK}:{port}"
    finally:
        await runner.cleanup()
