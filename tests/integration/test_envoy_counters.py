"""Which counters of a real Envoy move for what: the table in controller/adapters/envoy/metrics.py."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.adapters.envoy.metrics import (
    CLUSTER_LABEL,
    ERRORS,
    LATENCY,
    LATENCY_EDGES_MS,
    LIVENESS_METRIC,
)
from controller.core.catalogue import CounterTerm
from devkit.process import LOOPBACK, free_port
from tests.integration.envoy_lab import HOST, Agent, Lab, backend, eventually, fetch, table

CLUSTER = "shop/agent/only"
TIMES = 3
IDLE = timedelta(milliseconds=400)
FLUSH = 0.1
"""Seconds; the lab's Envoys show histograms as they were at the last flush."""
GIVE_UP = 0.3

Ask = Callable[[int], Awaitable[object]]


def value(page: str, term: CounterTerm, cluster: str = CLUSTER) -> float:
    """The sum of the series that ``term`` selects for one version."""
    total = 0.0
    for name, inside, number in re.findall(r"^(\w+)\{(.*)\} (\S+)$", page, re.MULTILINE):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', inside))
        if name == term.metric and {**dict(term.labels), CLUSTER_LABEL: cluster}.items() <= labels.items():
            total += float(number)
    return total


Counted = dict[str, float]


async def counts(lab: Lab, cluster: str = CLUSTER) -> Counted:
    """Bad and total of both metrics; bad for latency is what was slower than the last edge."""
    page = await lab.metrics()

    def added(terms: tuple[CounterTerm, ...]) -> float:
        return sum(term.coefficient * value(page, term, cluster) for term in terms)

    total = added((LATENCY.count, *LATENCY.lost))
    fast = value(page, CounterTerm(LATENCY.buckets, (("le", str(LATENCY.edges[-1])),)), cluster)
    return {
        "total": added(ERRORS.total),
        "bad": added(ERRORS.bad),
        "latency total": total,
        "latency bad": total - fast,
    }


async def check(lab: Lab, ask: Ask, expected: Counted, what: str = "", times: int = TIMES) -> None:
    """One request adds what is ``expected``, and no more later."""
    before = await counts(lab)
    for _ in range(times):
        await ask(lab.user_port)

    async def moved() -> Counted:
        after = await counts(lab)
        return {name: (after[name] - before[name]) / times for name in after}

    await eventually(moved, expected.__eq__)
    await asyncio.sleep(2 * FLUSH)
    assert await moved() == expected, what


@contextlib.asynccontextmanager
async def running(*, tunnel: bool = False, **options: object) -> AsyncIterator[Lab]:
    """A router to one agent, which is stable, or a candidate that can be cut."""
    async with Agent("only") as agent, Lab(options) as lab:
        only = backend("only", agent.port)
        if tunnel:
            split = table(backend("stable", agent.port), only, 1_000_000)
            await lab.start(replace(split, cut_on_rollback=True))
        else:
            await lab.start(table(only))
        yield lab


def path(name: str, **more: float) -> Ask:
    return lambda port: fetch(port, f"/{name}", **more)  # type: ignore[arg-type]


def websocket(name: str, give_up: float = 0) -> Ask:
    headers = (("upgrade", "websocket"), ("connection", "upgrade"))
    return lambda port: fetch(port, f"/{name}", headers=headers, give_up=give_up)


def outcome(errors: str, latency: str) -> Counted:
    """Bad of total, as the table says it."""
    (bad, total), (slow, answers) = (map(float, each.split("/")) for each in (errors, latency))
    return {"total": total, "bad": bad, "latency total": answers, "latency bad": slow}


GOOD = outcome("0/1", "0/1")
FAILED = outcome("1/1", "0/1")
LOST = outcome("1/1", "1/1")
LOST_TWICE_BAD = outcome("2/2", "1/1")
BROKE_LATER = outcome("1/2", "1/1")
USER_LEFT_EARLY = outcome("0/0", "1/1")
USER_LEFT_LATER = outcome("0/1", "1/1")
REFUSED_BY_ENVOY = outcome("1/1", "0/0")


async def stop_uploading(port: int) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(
        f"POST /silent-before-headers HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 10\r\n\r\nabc".encode()
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.transport.abort()


async def stop_reading(port: int) -> None:
    _, writer = await asyncio.open_connection(LOOPBACK, port, limit=100)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(f"GET /flood HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
    await asyncio.sleep(2)
    writer.transport.abort()


async def answered_while_uploading(port: int) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(f"POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 10\r\n\r\nabc".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await reader.read()
    writer.transport.abort()


@pytest.mark.parametrize("tunnel", [False, True], ids=["direct", "tunnel"])
async def test_each_outcome_is_counted_as_the_table_says(tunnel: bool) -> None:
    cases: list[tuple[str, Ask, Counted]] = [
        ("200", path(""), GOOD),
        ("404", path("status/404"), GOOD),
        ("429", path("status/429"), GOOD),
        ("503 of the agent", path("status/503"), FAILED),
        ("504 of the agent", path("status/504"), FAILED),
        ("103 before the answer", path("hints"), outcome("0/2", "0/1")),
        ("bytes after the answer", path("too-much"), outcome("1/2", "0/1")),
        ("reset before the headers", path("cut-before-headers/reset"), LOST),
        ("closed before the headers", path("cut-before-headers/close"), LOST),
        ("reset in the body", path("cut-in-body/reset"), BROKE_LATER),
        ("closed in the body", path("cut-in-body/close"), BROKE_LATER),
        ("reset in a stream", path("cut-in-chunks/reset"), BROKE_LATER),
        ("closed in a stream", path("cut-in-chunks/close"), BROKE_LATER),
        ("a body without length is over when cut", path("cut-without-length/reset"), GOOD),
        ("not HTTP", path("garbage"), LOST_TWICE_BAD),
        ("not HTTP in a stream", path("garbage-in-chunks"), BROKE_LATER),
        ("answer before the end of the upload", answered_while_uploading, USER_LEFT_LATER),
        ("user left before the headers", path("silent-before-headers", give_up=0.1), USER_LEFT_EARLY),
        ("user left in the body", path("trickle", give_up=0.1), USER_LEFT_LATER),
        ("user left a silent body", path("silent-in-body", give_up=0.1), USER_LEFT_LATER),
        ("user stopped reading and left", stop_reading, USER_LEFT_LATER),
        ("WebSocket closed", websocket("upgrade/close"), USER_LEFT_LATER),
        ("WebSocket reset", websocket("upgrade/reset"), USER_LEFT_LATER),
        ("WebSocket left", websocket("silent-upgrade", give_up=0.1), USER_LEFT_LATER),
        ("WebSocket never accepted", websocket("silent-before-headers", give_up=0.1), USER_LEFT_EARLY),
    ]
    async with running(tunnel=tunnel) as lab:
        for what, ask, expected in cases:
            await check(lab, ask, expected, what, times=1 if tunnel or ask is stop_reading else TIMES)


async def test_silence_is_an_error_when_it_is_the_agents_and_not_when_it_is_the_users() -> None:
    cases: list[tuple[str, Ask, Counted]] = [
        ("agent silent before the headers", path("silent-before-headers"), LOST_TWICE_BAD),
        ("agent silent in the body", path("silent-in-body"), BROKE_LATER),
        ("agent silent in the body of a 503", path("silent-after-503"), LOST_TWICE_BAD),
        ("agent slow but not silent", path("trickle", give_up=1.0), USER_LEFT_LATER),
        ("user stopped uploading", stop_uploading, USER_LEFT_EARLY),
        ("user stopped reading, which silences the agent", stop_reading, BROKE_LATER),
        ("WebSocket silent", websocket("silent-upgrade"), USER_LEFT_LATER),
    ]
    async with running(idle_timeout=IDLE) as lab:
        for what, ask, expected in cases:
            await check(lab, ask, expected, what, times=1)


async def test_a_version_that_never_answers_is_slow_although_all_its_users_leave() -> None:
    users = 60
    async with (
        Agent("stable") as stable,
        Agent("candidate", always="silent-before-headers") as candidate,
        Lab() as lab,
    ):
        await lab.start(table(backend("stable", stable.port), backend("candidate", candidate.port), 500_000))
        sessions = [[("x-session-id", f"user-{number}")] for number in range(users)]
        await asyncio.gather(
            *(fetch(lab.user_port, headers=session, give_up=GIVE_UP) for session in sessions)
        )

        async def arms() -> tuple[Counted, Counted]:
            return await counts(lab, "shop/agent/stable"), await counts(lab, "shop/agent/candidate")

        good, hung = await eventually(
            arms, lambda seen: seen[0]["latency total"] + seen[1]["latency total"] == users
        )

    assert min(stable.requests, candidate.requests) > users / 4
    assert (good["latency bad"], good["latency total"]) == (0, stable.requests)
    assert hung == {
        **outcome("0/0", "1/1"),
        **dict.fromkeys(("latency total", "latency bad"), candidate.requests),
    }


async def test_an_agent_that_cannot_be_reached_is_bad_and_slow() -> None:
    async with running() as lab:
        await lab.publish(table(backend("only", free_port())))
        await check(lab, path(""), LOST)


@contextlib.contextmanager
def full_port() -> Iterator[int]:
    """A port where connections are neither taken nor refused."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((LOOPBACK, 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


async def test_an_agent_that_does_not_take_connections_is_bad_and_slow() -> None:
    async with running(connect_timeout=timedelta(milliseconds=200)) as lab:
        with full_port() as port:
            await lab.publish(table(backend("only", port)))
            await check(lab, path(""), LOST)


async def test_an_agent_that_does_not_take_connections_is_slow_also_when_its_users_leave() -> None:
    async with running(connect_timeout=timedelta(seconds=1)) as lab:
        with full_port() as port:
            await lab.publish(table(backend("only", port)))
            await check(lab, path("", give_up=GIVE_UP), USER_LEFT_EARLY)
            # Nor does the connection that fails later count them once more.
            before = await counts(lab)
            await asyncio.sleep(1)
            assert await counts(lab) == before


async def test_a_user_who_leaves_the_queue_for_a_connection_was_not_answered() -> None:
    async with running(max_connections=1) as lab:
        busy = asyncio.create_task(fetch(lab.user_port, "/trickle", give_up=20))
        await in_flight(lab)
        await check(lab, path("", give_up=GIVE_UP), USER_LEFT_EARLY)
        busy.cancel()


async def in_flight(lab: Lab) -> None:
    """Wait until a request has reached the agent."""
    name = f"cluster.{CLUSTER}.upstream_rq_active"

    async def active() -> int:
        return (await lab.counters(name)).get(name, 0)

    assert await eventually(active, (1).__eq__) == 1


async def test_a_name_without_an_address_is_bad() -> None:
    async with running() as lab:
        await lab.publish(table(backend("only", 80, "no-such-agent.invalid")))
        await check(lab, path(""), REFUSED_BY_ENVOY)


async def test_what_the_circuit_breaker_refuses_is_bad() -> None:
    async with running(max_requests=1) as lab:
        busy = asyncio.create_task(fetch(lab.user_port, "/silent-before-headers"))
        await in_flight(lab)
        await check(lab, path(""), REFUSED_BY_ENVOY)
        busy.cancel()


async def test_every_histogram_edge_splits_where_it_says() -> None:
    async with running() as lab:
        await fetch(lab.user_port, "/slow/0.2")
        page = await eventually(lab.metrics, lambda page: value(page, LATENCY.count) == 1)

    found = re.findall(r'upstream_rq_time_bucket\{.*le="([^"]+)"\} (\d+)', page)
    assert [float(edge) for edge, _ in found[:-1]] == list(LATENCY_EDGES_MS)
    assert [count for edge, count in found if float(edge) <= 180] == ["0"] * 17
    assert {count for edge, count in found if float(edge) >= 350} == {"1"}


async def test_only_what_is_read_is_kept() -> None:
    async with running() as lab:
        await fetch(lab.user_port, "/")
        page = await lab.metrics()

    names = set(re.findall(rf'^(\w+)\{{.*{CLUSTER_LABEL}="{CLUSTER}"', page, re.MULTILINE))
    assert len(names) <= 16
    assert f"{LIVENESS_METRIC}{{}} 1" in page


@pytest.mark.parametrize("key", ["shop/agent", "shop/my.agent"])
async def test_the_cluster_label_is_the_cluster_name(key: str) -> None:
    async with Agent("v1.2") as agent, Lab() as lab:
        await lab.start(table(backend("v1.2", agent.port), key=key))
        await fetch(lab.user_port, "/")
        page = await lab.metrics()

    assert f'envoy_cluster_upstream_rq_completed{{{CLUSTER_LABEL}="{key.replace(".", "_")}/v1_2"}} 1' in page
