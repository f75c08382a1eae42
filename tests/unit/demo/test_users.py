from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from aiohttp import web
from aiohttp.test_utils import TestServer

from examples.demo.observations import WINDOW, Answer, Observations
from examples.demo.users import Habits, Users
from tests.waiting import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def answer(version: str = "v1", status: int = 200, seconds: float = 0.02, **changes: object) -> Answer:
    values = {"at": NOW, "conversation": "c", "internal": False} | changes
    return Answer(status=status, seconds=seconds, version=version, **values)  # type: ignore[arg-type]


def test_totals_of_a_version_tell_failed_from_slow() -> None:
    seen = Observations()
    later, last = NOW + timedelta(seconds=1), NOW + timedelta(seconds=2)
    seen.add(answer("v1", seconds=9.0))
    seen.slow_seconds = 0.3
    for each in (
        answer("v2", seconds=0.3),
        answer("v2", seconds=0.4, at=later),
        answer("v2", 500, 0.9, at=last),
    ):
        seen.add(each)

    totals = seen.of("v2")
    assert (totals.requests, totals.failed, totals.slow) == (3, 1, 1)
    assert (totals.first_slow_at, totals.first_failed_at, totals.last_at) == (later, last, last)
    assert (seen.requests, seen.failed) == (4, 1)
    assert seen.of("v1").slow == 0, "nothing was called slow then"
    assert seen.of("v9").requests == 0


def test_shares_are_those_of_the_last_seconds_and_of_each_group() -> None:
    seen = Observations()
    seen.add(answer("v1", at=NOW - WINDOW - timedelta(seconds=1)))
    for version in ("v1", "v1", "v1", "v2"):
        seen.add(answer(version))
    seen.add(answer("v2", internal=True))
    seen.add(answer("", 0))

    recent = seen.recent(NOW)
    assert recent.shares == {"v1": 0.75, "v2": 0.25}
    assert recent.internal_shares == {"v2": 1.0}
    assert (recent.requests_per_second, recent.failed) == (1.2, 1)
    assert seen.recent(NOW + 2 * WINDOW).shares == {}


def test_nobody_there_is_a_failed_request() -> None:
    assert answer("", 0).failed
    assert answer(status=503).failed
    assert not answer().failed


async def serve(seen: list[web.Request], status: int = 200) -> TestServer:
    async def chat(request: web.Request) -> web.Response:
        seen.append(request)
        body = {"choices": [{"message": {"content": "Hello"}}]}
        return web.json_response(body, status=status, headers={"x-agent-version": "v1"})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    server = TestServer(app)
    await server.start_server()
    return server


async def observe(url: str, habits: Habits, enough: Callable[[Observations], bool]) -> Observations:
    """What users met until it is enough."""
    observations = Observations()
    users = asyncio.create_task(Users(url, "support.example.com", habits, observations).run())
    try:
        await eventually(lambda: enough(observations))
    finally:
        users.cancel()
        await asyncio.gather(users, return_exceptions=True)
    return observations


async def test_users_talk_in_conversations_with_host_and_affinity_header() -> None:
    requests: list[web.Request] = []
    server = await serve(requests)
    url = str(server.make_url("")).rstrip("/")

    def internal() -> set[str]:
        return {request.headers["x-session-id"] for request in requests if "x-user-group" in request.headers}

    def talked(observations: Observations) -> bool:
        return observations.of("v1").requests >= 20 and bool(internal())

    observations = await observe(url, Habits(requests_per_second=100, turns=2, pause_seconds=0.05), talked)
    await server.close()

    conversations = [request.headers["x-session-id"] for request in requests]
    assert {request.headers["host"] for request in requests} == {"support.example.com"}
    assert max(conversations.count(each) for each in conversations) == 2
    assert len(internal()) < len(set(conversations))
    assert observations.failed == 0


async def test_users_who_get_no_answer_or_an_error_go_on_and_count_it() -> None:
    server = await serve([], status=500)
    url = str(server.make_url("")).rstrip("/")
    habits = Habits(requests_per_second=100, turns=2, pause_seconds=0.01)
    observations = await observe(url, habits, lambda o: o.requests > 5)
    assert observations.of("v1").failed == observations.requests

    await server.close()
    unreachable = await observe(url, habits, lambda o: o.requests > 5)
    assert unreachable.of("").failed == unreachable.requests
