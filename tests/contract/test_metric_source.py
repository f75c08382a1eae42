"""What every MetricSource owes its caller, told to a real Prometheus and to one that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from controller.adapters.batching import VALUES_PER_QUERY, BatchingSource
from controller.adapters.ports import MetricSource, MetricSourceError, Question
from controller.adapters.prometheus import PrometheusSource
from controller.core.counts import Series
from devkit.prometheus import Prometheus, ScrapeJob

REQUESTS, SECONDS = "prometheus_http_requests_total", "prometheus_http_request_duration_seconds_bucket"
METRICS, QUERIES = "/metrics", "/api/v1/query"


def question(*values: str, seconds: float = 60, edges: Iterable[float] | None = None) -> Question:
    return Question(
        processes=frozenset({"prometheus_build_info"}),
        names=frozenset({REQUESTS, SECONDS}),
        label="handler",
        values=frozenset(values),
        only=(("code", ("200",)),),
        edges=None if edges is None else frozenset(edges),
        window=timedelta(seconds=seconds),
        at=datetime.now(UTC),
    )


async def read(source: MetricSource, *values: str) -> tuple[Series, ...]:
    return await source.read(question(*values))


class Counted:
    """Passes questions on."""

    def __init__(self, source: MetricSource) -> None:
        self.source = source
        self.asked = 0

    async def read(self, question: Question) -> tuple[Series, ...]:
        self.asked += 1
        return await self.source.read(question)

    async def values(self, query: str, at: datetime) -> tuple[float, ...]:
        return await self.source.values(query, at)


@asynccontextmanager
async def source_of(kind: str, url: str, deadline_seconds: float = 5) -> AsyncIterator[MetricSource]:
    prometheus = PrometheusSource(url, deadline_seconds=deadline_seconds)
    batching = BatchingSource(prometheus)
    yield prometheus if kind == "alone" else batching
    await batching.close()
    await prometheus.close()


@pytest.fixture(params=["alone", "batched"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def prometheus(prometheus_factory: Callable[..., Prometheus]) -> Prometheus:
    server = prometheus_factory([ScrapeJob("self")], scrape_interval=0.25)
    server.set_targets("self", [server.url.removeprefix("http://")])
    return server


async def test_raw_samples_of_the_named_series_come_back_with_those_of_every_process(
    prometheus: Prometheus, kind: str
) -> None:
    async with source_of(kind, prometheus.url) as source, asyncio.timeout(20):
        series = await read(source, METRICS)
        while len(series) < 3 or len(series[0].samples) < 3:
            await asyncio.sleep(0.1)
            series = await read(source, METRICS)
    found = {(one.labels["__name__"], one.labels.get("handler"), one.labels.get("code")) for one in series}
    assert found == {
        ("prometheus_build_info", None, None),
        (REQUESTS, METRICS, "200"),
        (SECONDS, METRICS, None),
    }
    assert len([one for one in series if one.labels["__name__"] == SECONDS]) > 5
    times = [time for time, _ in series[0].samples]
    assert times == sorted(times)


async def test_of_a_histogram_only_the_wanted_edges_are_read(prometheus: Prometheus, kind: str) -> None:
    async with source_of(kind, prometheus.url) as source, asyncio.timeout(20):
        edges: set[str] = set()
        while not edges:
            await asyncio.sleep(0.1)
            series = await source.read(question(METRICS, edges=[0.1, 1.0, 20.0]))
            edges = {one.labels["le"] for one in series if one.labels["__name__"] == SECONDS}
        assert {float(edge) for edge in edges} == {0.1, 1, 20}
        none = await source.read(question(METRICS, edges=[]))
    assert {one.labels["__name__"] for one in none} == {"prometheus_build_info", REQUESTS}


async def test_those_who_ask_together_share_a_query_and_each_gets_its_own(prometheus: Prometheus) -> None:
    async with source_of("alone", prometheus.url) as source:
        counted = Counted(source)
        batching = BatchingSource(counted)
        answers: list[tuple[Series, ...]] = [()]
        async with asyncio.timeout(20):
            while not all(len(answer) > 1 for answer in answers):
                await asyncio.sleep(0.1)
                counted.asked = 0
                answers = await asyncio.gather(
                    *(
                        batching.read(question(handler, f"none-{n}", edges=[]))
                        for n in range(VALUES_PER_QUERY // 4)
                        for handler in (METRICS, QUERIES)
                    )
                )
        await batching.close()
    assert counted.asked == 1
    for number, answer in enumerate(answers):
        handlers = {one.labels["handler"] for one in answer if "handler" in one.labels}
        assert handlers == {(METRICS, QUERIES)[number % 2]}
        assert any(one.labels["__name__"] == "prometheus_build_info" for one in answer)


async def test_nothing_is_an_empty_answer_and_no_error(prometheus: Prometheus, kind: str) -> None:
    async with source_of(kind, prometheus.url) as source:
        assert await source.read(question(seconds=0.001)) == ()


async def test_more_versions_than_a_url_could_name_are_asked_for(prometheus: Prometheus) -> None:
    async with source_of("alone", prometheus.url) as source:
        assert await source.read(question(*(f"{n:0250}" for n in range(8000)), seconds=0.001)) == ()


async def test_a_server_that_is_gone_or_paused_is_told_in_a_sentence(
    prometheus: Prometheus, kind: str
) -> None:
    async with source_of(kind, prometheus.url, deadline_seconds=0.5) as source:
        prometheus.process.pause()
        with pytest.raises(MetricSourceError, match=r"did not answer within 0.5 s"):
            await read(source)
        prometheus.process.resume()
        prometheus.stop()
        with pytest.raises(MetricSourceError, match="cannot be reached"):
            await read(source)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "answered HTTP Status Code 503"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnot JSON!", "no usable answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "no usable answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", "cannot be reached|no usable answer"),
        (b"garbage\r\n\r\n", "cannot be reached|no usable answer"),
    ],
)
async def test_a_broken_answer_is_told_in_a_sentence(answer: bytes, says: str) -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        await _closed(writer)
        closed.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with source_of("alone", url, deadline_seconds=2) as source:
            with pytest.raises(MetricSourceError, match=says):
                await read(source)
        await closed.wait()


async def test_a_server_that_drips_its_answer_costs_no_more_than_the_deadline() -> None:
    stop, stopped = asyncio.Event(), asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not stop.is_set():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)
        await _closed(writer)
        stopped.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with source_of("alone", url, deadline_seconds=0.5) as source:
            with pytest.raises(MetricSourceError, match=r"did not answer within 0.5 s"):
                await read(source)
            stop.set()
            await stopped.wait()


async def test_values_are_taken_literally(prometheus: Prometheus) -> None:
    async with source_of("alone", prometheus.url) as source:
        async with asyncio.timeout(20):
            while len(await read(source, METRICS)) < 2:  # noqa: ASYNC110 - happens in another process
                await asyncio.sleep(0.1)
        for value in ("/metric.", ".*", "/metrics|x", 'with "quotes" and \\', "~", "ä"):
            names = {one.labels["__name__"] for one in await read(source, value)}
            assert names == {"prometheus_build_info"}, value


async def test_what_is_no_number_spoils_its_own_series_alone() -> None:
    body = json.dumps(
        {
            "status": "success",
            "data": {
                "result": [
                    {"metric": {"__name__": "native"}, "histograms": [[1.0, {}]]},
                    {"metric": {"__name__": "plain"}, "values": [[1.0, "2"]]},
                ]
            },
        }
    ).encode()

    serving = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        writer.write(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()
        await _closed(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with source_of("alone", url) as source:
            series = await read(source)
        await asyncio.wait([task for task in serving if task])
    values = {one.labels["__name__"]: one.samples[0][1] for one in series}
    assert math.isnan(values["native"])
    assert values["plain"] == 2


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Close, and wait for it: what is open when the event loop ends is a warning, and that an error, of a later test."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("2.5", (2.5,)),
        ("vector(3)", (3.0,)),
        ("vector(1) or on(a) label_replace(vector(2), 'a', 'b', '', '')", (1.0, 2.0)),
        ("vector(1) > 2", ()),
        ("time() - time() - 1", (-1.0,)),
    ],
)
async def test_a_query_gives_the_values_of_all_its_elements(
    prometheus: Prometheus, kind: str, query: str, values: tuple[float, ...]
) -> None:
    async with source_of(kind, prometheus.url) as source:
        assert tuple(sorted(await source.values(query, datetime.now(UTC)))) == values


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("sum(", "parse error"),
        ("vector(1)[1m:10s]", "gave ranges of values"),
        ("'a'", "no usable answer"),
    ],
)
async def test_a_query_without_values_is_told_in_a_sentence(
    prometheus: Prometheus, kind: str, query: str, says: str
) -> None:
    async with source_of(kind, prometheus.url) as source:
        with pytest.raises(MetricSourceError, match=says):
            await source.values(query, datetime.now(UTC))
