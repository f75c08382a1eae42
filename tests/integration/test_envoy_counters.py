"""Which counters of a real Envoy move for what: the table in controller/adapters/envoy/metrics.py."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
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
from tests.integration.envoy_lab import HOST, Agent, Lab, backend, fetch, table

CLUSTER = "shop/agent/only"
TIMES = 3
IDLE = timedelta(milliseconds=400)

Ask = Callable[[int], Awaitable[object]]


def value(page: str, term: CounterTerm) -> float:
    """The sum of the series that ``term`` selects for the one version."""
    total = 0.0
    for name, inside, number in re.findall(r"^(\w+)\{(.*)\} (\S+)$", page, re.MULTILINE):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', inside))
        if name == term.metric and {**dict(term.labels), CLUSTER_LABEL: CLUSTER}.items() <= labels.items():
            total += float(number)
    return total


async def counts(lab: Lab) -> dict[str, float]:
    page = await lab.metrics()

    def added(terms: tuple[CounterTerm, ...]) -> float:
        return sum(term.coefficient * value(page, term) for term in terms)

    lost = added(LATENCY.lost)
    count = value(page, LATENCY.count)
    return {
        "total": added(ERRORS.total),
        "bad": added(ERRORS.bad),
        "latency total": count + lost,
        "lost": lost,
        "broken": added(ERRORS.bad[1:]),
    }


async def each(lab: Lab, ask: Ask, times: int = TIMES) -> dict[str, float]:
    """What one request adds to each sum."""
    before = await counts(lab)
    for _ in range(times):
        await ask(lab.user_port)
    # Histograms are as old as the last flush.
    await asyncio.sleep(0.3)
    after = await counts(lab)
    return {name: (after[name] - before[name]) / times for name in after}


@contextlib.asynccontextmanager
async def running(**options: object) -> AsyncIterator[Lab]:
    async with Agent("only") as agent, Lab(options) as lab:
        await lab.start(table(backend("only", agent.port)))
        yield lab


def path(name: str, **more: float) -> Ask:
    return lambda port: fetch(port, f"/{name}", **more)  # type: ignore[arg-type]


WEBSOCKET = (("upgrade", "websocket"), ("connection", "upgrade"))

GOOD = {"total": 1, "bad": 0, "latency total": 1, "lost": 0}
FAILED = {"total": 1, "bad": 1, "latency total": 1, "lost": 0}
LOST = {"total": 1, "bad": 1, "latency total": 1, "lost": 1}
BROKE_LATER = {"total": 2, "bad": 1, "latency total": 1, "lost": 1}
NOT_COUNTED = {"total": 0, "bad": 0, "latency total": 0, "lost": 0}
USER_LEFT = {"total": 1, "bad": 0, "latency total": 0, "lost": 0}


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


async def test_each_outcome_is_counted_as_the_table_says() -> None:
    cases: list[tuple[str, Ask, dict[str, int]]] = [
        ("200", path(""), GOOD),
        ("404", path("status/404"), GOOD),
        ("429", path("status/429"), GOOD),
        ("503 of the agent", path("status/503"), FAILED),
        ("504 of the agent", path("status/504"), FAILED),
        ("reset before the headers", path("cut-before-headers/reset"), LOST),
        ("closed before the headers", path("cut-before-headers/close"), LOST),
        ("reset in the body", path("cut-in-body/reset"), BROKE_LATER),
        ("closed in the body", path("cut-in-body/close"), BROKE_LATER),
        ("reset in a stream", path("cut-in-chunks/reset"), BROKE_LATER),
        ("closed in a stream", path("cut-in-chunks/close"), BROKE_LATER),
        ("a body without length is over when cut", path("cut-without-length/reset"), GOOD),
        ("not HTTP", path("garbage"), {"total": 2, "bad": 2, "latency total": 0, "lost": 0}),
        ("user left before the headers", path("silent-before-headers", give_up=0.1), NOT_COUNTED),
        ("user left in the body", path("trickle", give_up=0.1), USER_LEFT),
        ("WebSocket closed", lambda port: fetch(port, "/upgrade/close", headers=WEBSOCKET), USER_LEFT),
        ("WebSocket reset", lambda port: fetch(port, "/upgrade/reset", headers=WEBSOCKET), USER_LEFT),
    ]
    async with running() as lab:
        for what, ask, expected in cases:
            moved = await each(lab, ask)
            assert {name: moved[name] for name in expected} == expected, what


async def test_silence_is_bad_when_it_is_the_agents_and_not_when_it_is_the_users() -> None:
    before_headers = {"total": 2, "bad": 2, "latency total": 1, "lost": 1}
    cases: list[tuple[str, Ask, dict[str, int]]] = [
        ("agent silent before the headers", path("silent-before-headers"), before_headers),
        ("agent silent in the body", path("silent-in-body"), BROKE_LATER),
        ("agent slow but not silent", path("trickle", give_up=1.0), USER_LEFT),
        ("user stopped uploading", stop_uploading, NOT_COUNTED),
        ("user stopped reading, which silences the agent", stop_reading, BROKE_LATER),
        ("WebSocket silent", lambda port: fetch(port, "/silent-upgrade", headers=WEBSOCKET), USER_LEFT),
    ]
    async with running(idle_timeout=IDLE) as lab:
        for what, ask, expected in cases:
            moved = await each(lab, ask, times=1)
            assert {name: moved[name] for name in expected} == expected, what


async def test_an_agent_that_cannot_be_reached_is_bad_and_slow() -> None:
    async with running() as lab:
        await lab.publish(table(backend("only", free_port())))
        assert await each(lab, path("")) == {**LOST, "broken": 0}


async def test_an_agent_that_does_not_take_connections_is_bad_and_slow() -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((LOOPBACK, 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        async with running(connect_timeout=timedelta(milliseconds=200)) as lab:
            await lab.publish(table(backend("only", full.getsockname()[1])))
            assert await each(lab, path("")) == {**LOST, "broken": 0}


async def test_a_name_without_an_address_is_bad() -> None:
    async with running() as lab:
        await lab.publish(table(backend("only", 80, "no-such-agent.invalid")))
        moved = await each(lab, path(""))
    assert (moved["total"], moved["bad"]) == (1, 1)


async def test_what_the_circuit_breaker_refuses_is_bad() -> None:
    async with running(max_requests=1) as lab:
        busy = asyncio.create_task(fetch(lab.user_port, "/slow/1"))
        await asyncio.sleep(0.2)
        moved = await each(lab, path(""))
        await busy
    assert (moved["total"], moved["bad"]) == (1, 1)


async def test_every_histogram_edge_splits_where_it_says() -> None:
    async with running() as lab:
        await fetch(lab.user_port, "/slow/0.2")
        await asyncio.sleep(0.3)
        page = await lab.metrics()

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
