"""A server with the API of OpenAI over real HTTP, which answers as it is told."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Behaviour = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
Preference = Callable[[str, str], str]
"""Of the first and the second answer; gives first, second or neither."""

_DATA = re.compile(
    r"=== BEGIN (?P<what>[A-Z ]+) (?P<code>\w+) ===\n(?P<text>.*?)\n=== END (?P=what) (?P=code) ===",
    re.DOTALL,
)

_JOINER = "\u200d"
"""Stands in control tokens of chat templates, so that they are none."""

TOKENS_IN, TOKENS_OUT = 700, 30


@dataclass
class LlmServer:
    """What it was asked, and how it goes on."""

    url: str
    default: Behaviour
    script: deque[Behaviour] = field(default_factory=deque)
    """What the next requests get, one after the other, before the default."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers["Authorization"].removeprefix("Bearer "))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            return await (self.script.popleft() if self.script else self.default)(request, body)
        finally:
            self.at_once -= 1


@asynccontextmanager
async def llm_server(default: Behaviour) -> AsyncIterator[LlmServer]:
    server = LlmServer("", default)
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}/v1"
        yield server
    finally:
        await runner.cleanup()


def said(
    text: str | None,
    *,
    model: str = "",
    refusal: str | None = None,
    finish_reason: str = "stop",
    usage: tuple[int, int] | None = (TOKENS_IN, TOKENS_OUT),
) -> Behaviour:
    """One reply, whatever was asked."""

    async def answer(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion(body, text, model, refusal, finish_reason, usage))

    return answer


def completion(
    body: dict[str, Any],
    text: str | None,
    model: str = "",
    refusal: str | None = None,
    finish_reason: str = "stop",
    usage: tuple[int, int] | None = (TOKENS_IN, TOKENS_OUT),
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_780_000_000,
        "model": model or body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": refusal},
                "finish_reason": finish_reason,
            }
        ],
    }
    if usage:
        found["usage"] = {
            "prompt_tokens": usage[0],
            "completion_tokens": usage[1],
            "total_tokens": sum(usage),
        }
    return found


def prefers(preference: Preference, model: str = "") -> Behaviour:
    """Looks at the answers as a model would see them."""

    async def answer(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        content = body["messages"][-1]["content"].replace(_JOINER, "")
        parts = {found["what"]: found["text"] for found in _DATA.finditer(content)}
        better = preference(parts["FIRST ANSWER"], parts["SECOND ANSWER"])
        return web.json_response(
            completion(body, json.dumps({"reason": "so it is", "better": better}), model)
        )

    return answer


def longer(first: str, second: str) -> str:
    """A preference that does not depend on the order."""
    if len(first) == len(second):
        return "neither"
    return "first" if len(first) > len(second) else "second"


def status(code: int, **headers: str) -> Behaviour:
    async def answer(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({"error": {"message": "no", "type": "no"}}, status=code, headers=named)

    return answer


def raw(body: bytes) -> Behaviour:
    """A body that need not be JSON."""

    async def answer(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return answer


async def cut(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """An answer that breaks off in its middle."""
    whole = json.dumps(completion(body, '{"reason": "so it is", "better": "first"}')).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(whole)
    await response.prepare(request)
    await response.write(whole[: len(whole) // 2])
    assert request.transport is not None
    request.transport.abort()
    return response


async def hang(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    """No answer, until whoever asked goes away."""
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 - of another side
        await asyncio.sleep(0.01)
    return web.Response()
