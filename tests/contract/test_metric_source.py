"""What every MetricSource owes its caller, told to a real Prometheus and to one that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from controller.adapters.ports import MetricSourceError
from controller.adapters.prometheus import PrometheusSource, range_selector
from controller.core.counts import Series
from devkit.prometheus import Prometheus, ScrapeJob

NAMES = ("prometheus_build_info", "prometheus_http_requests_total")


async def read(source: PrometheusSource, *values: str, window_seconds: float = 60) -> tuple[Series, ...]:
    return await source.read(
        NAMES, label="handler", values=values, window_seconds=window_seconds, at=datetime.now(UTC)
    )


@pytest.fixture
def prometheus(prometheus_factory: Callable[..., Prometheus]) -> Prometheus:
    server = prometheus_factory([ScrapeJob("self")], scrape_interval=0.25)
    server.set_targets("self", [server.url.removeprefix("http://")])
    return server


async def test_raw_samples_of_the_named_series_come_back_with_those_that_lack_the_label(
    prometheus: Prometheus,
) -> None:
    source = PrometheusSource(prometheus.url)
    series = await read(source, "/metrics")
    async with asyncio.timeout(20):
        while len(series) < 2 or len(series[0].samples) < 3:
            await asyncio.sleep(0.1)
            series = await read(source, "/metrics")
    await source.close()
    names = {(one.labels["__name__"], one.labels.get("handler")) for one in series}
    assert names == {("prometheus_build_info", None), ("prometheus_http_requests_total", "/metrics")}
    times = [time for time, _ in series[0].samples]
    assert times == sorted(times)


async def test_nothing_is_an_empty_answer_and_no_error(prometheus: Prometheus) -> None:
    source = PrometheusSource(prometheus.url)
    assert await read(source, window_seconds=0.001) == ()
    await source.close()


async def test_a_server_that_is_gone_or_paused_is_told_in_a_sentence(prometheus: Prometheus) -> None:
    source = PrometheusSource(prometheus.url, deadline_seconds=0.5)
    prometheus.process.pause()
    with pytest.raises(MetricSourceError, match=r"did not answer within 0.5 s"):
        await read(source)
    prometheus.process.resume()
    prometheus.stop()
    with pytest.raises(MetricSourceError, match="cannot be reached"):
        await read(source)
    await source.close()


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
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        source = PrometheusSource(
            f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", deadline_seconds=2
        )
        with pytest.raises(MetricSourceError, match=says):
            await read(source)
        await source.close()


async def test_a_server_that_drips_its_answer_costs_no_more_than_the_deadline() -> None:
    stop, stopped = asyncio.Event(), asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not stop.is_set():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        stopped.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        source = PrometheusSource(
            f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", deadline_seconds=0.5
        )
        with pytest.raises(MetricSourceError, match=r"did not answer within 0.5 s"):
            await read(source)
        stop.set()
        await stopped.wait()
        await source.close()


def test_names_and_values_are_taken_literally() -> None:
    selector = range_selector(
        ["a_total"], label="cluster", values=["shop/agent.v1~audience"], window_seconds=1.5
    )
    assert selector == '{__name__=~"a_total",cluster=~"|shop/agent\\\\.v1\\\\~audience"}[1500ms]'
