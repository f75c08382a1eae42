"""Runs that the shadow process drives again: over real HTTP, and behind a real Envoy from the first request to the record."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from controller.adapters.asking import HttpAgents
from controller.adapters.records import SqlRecords
from controller.adapters.shadow_ports import TooLargeError, UnreachableError
from controller.core.shadow.comparison import Bin
from controller.core.shadow.exchange import Question, Target
from devkit.process import LOOPBACK
from tests.integration.shadow_lab import KEY, MEBIBYTE, ShadowLab, eventually_true
from tests.integration.test_shadow_process import Shadow, mirrored, running
from tests.unit.shadow.runs import asked, called

QUESTION = Question(
    "POST",
    "/v1/chat?q=1",
    (
        ("content-type", "application/json"),
        ("accept", "text/event-stream"),
        ("x-tenant", "t"),
        ("authorization", "s"),
    ),
    b"{}",
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def agent(handler: Handler, seconds: float = 5.0) -> AsyncIterator[tuple[HttpAgents, Target]]:
    """An agent, and those who ask it."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    agents = HttpAgents(at_once=2)
    try:
        yield agents, Target(f"http://{LOOPBACK}:{runner.addresses[0][1]}", "agent.example", seconds)
    finally:
        await agents.close()
        await runner.cleanup()


async def test_an_agent_is_asked_without_credentials_and_told_that_nobody_sees_its_answer() -> None:
    seen: list[web.Request] = []

    async def answers(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(text="Hello", headers={"set-cookie": "who=me", "x-kind": "a"})

    async with agent(answers) as (agents, target):
        first = await agents.ask(target, "sha256:b", QUESTION)
        await agents.ask(target, "sha256:b", QUESTION)
    assert (first.status, first.body, first.complete) == (200, b"Hello", True)
    assert ("content-type", "text/plain; charset=utf-8") in first.headers
    for request in seen:
        assert (request.method, request.path_qs) == ("POST", "/v1/chat?q=1")
        assert request.headers["x-agentrollout-shadow"] == "1"
        assert request.headers["x-agentrollout-artifact"] == "sha256:b"
        assert request.headers["host"] == "agent.example"
        assert request.headers["accept"] == "text/event-stream"
        assert not {"authorization", "cookie", "x-tenant"} & {name.lower() for name in request.headers}


async def test_a_redirect_is_an_answer_and_leads_nowhere() -> None:
    paths: list[str] = []

    async def redirects(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=307, headers={"location": "/elsewhere"})

    async with agent(redirects) as (agents, target):
        assert (await agents.ask(target, "sha256:b", QUESTION)).status == 307
    assert paths == ["/v1/chat"]


async def test_an_answer_that_takes_too_long_or_breaks_off_is_not_complete() -> None:
    over = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half of")
        if request.query_string == "q=1":
            await over.wait()
        assert request.transport is not None
        request.transport.abort()
        return response

    breaks = Question("POST", "/", (), b"{}")
    async with agent(slow, 0.3) as (agents, target):
        for question in (QUESTION, breaks):
            found = await agents.ask(target, "sha256:b", question)
            assert (found.status, found.body, found.complete) == (200, b"half of", False)
        over.set()


async def test_what_unpacks_to_more_than_is_kept_is_not_unpacked() -> None:
    async def bombs(request: web.Request) -> web.Response:
        body = b"x" * (MEBIBYTE + (request.query_string == "q=1"))
        return web.Response(body=gzip.compress(body), headers={"content-encoding": "gzip"})

    async def large(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * (MEBIBYTE + 1))

    async with agent(bombs) as (agents, target):
        assert len((await agents.ask(target, "sha256:b", Question("POST", "/", (), b""))).body) == MEBIBYTE
        with pytest.raises(TooLargeError):
            await agents.ask(target, "sha256:b", QUESTION)
    async with agent(large) as (agents, target):
        with pytest.raises(TooLargeError):
            await agents.ask(target, "sha256:b", QUESTION)


@pytest.mark.parametrize(
    "url", [f"http://{LOOPBACK}:1", "http://nobody.invalid:80", "ftp://a:1", "http://[:80"]
)
async def test_an_agent_that_cannot_be_reached_has_not_failed(url: str) -> None:
    agents = HttpAgents(at_once=2)
    with pytest.raises(UnreachableError):
        await agents.ask(Target(url, "a", 5.0), "sha256:b", QUESTION)
    await agents.close()


FIND, TRACK = ("find", '{"id": 7}'), ("track", '{"parcel": "P-1"}')
REFUND = ("refund", '{"to": "jo.doe@example.com"}')
ON_ITS_WAY = {"content": "It is on its way."}


def stable(messages: list[Any]) -> dict[str, Any] | int:
    """Finds, tracks, and answers."""
    steps = sum(message["role"] == "assistant" for message in messages)
    return ON_ITS_WAY if steps == 2 else called(9, [FIND, TRACK][steps])


def candidate(messages: list[Any]) -> dict[str, Any] | int:
    """Does as stable does, until the user wants something else of its second step; the mirrored answers are all alike."""
    wanted = next(message["content"] for message in messages if message["role"] == "user")
    steps = sum(message["role"] == "assistant" for message in messages)
    if steps == 1 and wanted == "diverge":
        return called(9, REFUND)
    return 503 if steps == 1 and wanted == "fail" else stable(messages)


async def replays(shadow: Shadow, session: aiohttp.ClientSession) -> dict[tuple[str, str], float]:
    """By who was asked and how it ended, without those of which there are none."""
    found = await shadow.samples(session, "agentrollout_shadow_replays_total")
    return {(labels["revision"], labels["outcome"]): value for labels, value in found if value}


async def test_finished_runs_are_driven_again_and_end_in_one_bin_each(tmp_path: Path) -> None:
    async with running(tmp_path, sampled_ppm=500_000, noise_ppm=500_000, recorded_tools=True) as (
        shadow,
        lab,
    ):
        lab.stable.chat, lab.candidate.chat = stable, candidate
        asked_so_far: list[str] = []

        async def ended() -> bool:
            both = [await shadow.bins(lab.user, revision) for revision in ("candidate", "stable")]
            return [sum(each.values()) for each in both] == [len(asked_so_far)] * 2

        for wanted in ("match", "diverge", "fail"):
            body = json.dumps({"messages": asked((FIND,), (TRACK,), text=wanted)}).encode()
            headers = {"content_type": "application/json", "authorization": "secret"}
            assert (await lab.ask("/chat", body, **headers))[0] == 200
            asked_so_far.append(wanted)
            await eventually_true(ended)  # more than four runs at once would not be driven again
        bins = await shadow.bins(lab.user, "candidate"), await shadow.bins(lab.user, "stable")
        counted = await replays(shadow, lab.user)
        sent = [await mirrored(lab, "candidate~shadow"), await mirrored(lab, "stable~noise")]
        records = SqlRecords(shadow.url, create=False)
        (lost,), (diverged,) = records.last(KEY, Bin.LOSS, 9), records.last(KEY, Bin.DIVERGED, 9)
        records.close()
        listed = await asyncio.to_thread(shadow.command, "losses", "agent", "-n", "shop", "--diverged")
        shown = await asyncio.to_thread(shadow.command, "show", diverged.case.id)
    assert bins == ({"tie": 1, "diverged": 1, "loss": 1}, {"tie": 3})
    assert sent == [3, 3]
    assert counted == {
        ("candidate", "matched"): 1, ("candidate", "diverged"): 1, ("candidate", "failed"): 1, ("stable", "matched"): 3,
    }  # fmt: skip
    assert "HTTP 503" in lost.reason
    assert diverged.case.id in listed
    assert "diverged at step 2" in " ".join(listed.split())
    assert "diverged at step 2, 1 of 2 tool calls" in " ".join(shown.split())
    assert "refund" in shown
    assert "jo.doe" not in shown
    assert_nobody_else_was_asked(lab)


def assert_nobody_else_was_asked(lab: ShadowLab) -> None:
    """Of the candidate three mirrored requests, and of its runs three, two and two steps; of stable nine steps beside six."""
    assert (len(lab.candidate.asked), len(lab.stable.asked)) == (3 + 7, 3 + 3 + 9)
    for headers in lab.candidate.asked:
        assert headers["x-agentrollout-shadow"] == "1"
        assert headers["x-agentrollout-artifact"] == "sha256:candidate"
        assert headers["host"] == lab.candidate.asked[0]["host"]
        assert "authorization" not in headers
    assert sum("authorization" in headers for headers in lab.stable.asked) == 3


async def test_an_agent_that_is_not_to_be_asked_once_more_is_not(tmp_path: Path) -> None:
    async with running(tmp_path, sampled_ppm=500_000) as (shadow, lab):
        lab.stable.chat, lab.candidate.chat = stable, candidate
        body = json.dumps({"messages": asked((FIND,), (TRACK,), text="diverge")}).encode()
        await lab.ask("/chat", body, content_type="application/json")

        async def ended() -> bool:
            return await shadow.bins(lab.user, "candidate") == {"tie": 1}

        await eventually_true(ended)
        assert await replays(shadow, lab.user) == {}
    assert len(lab.candidate.asked) == 1
