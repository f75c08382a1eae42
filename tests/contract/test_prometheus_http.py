"""Who may ask a Prometheus, and what of its answer is believed."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controller.adapters.failover import FailoverSource
from controller.adapters.ports import MetricSourceError
from controller.adapters.prometheus import PrometheusSource
from controller.adapters.prometheus_http import HttpConfig, read_http_config
from controller.core.counts import Series
from devkit.process import LOOPBACK, free_port, wait_until
from devkit.prometheus import Prometheus, ScrapeJob
from tests.contract.test_metric_source import METRICS, question
from tests.integration.certificates import Authority

PASSWORD = "s3cret pass"
HASH = "$2b$04$abcdefghijklmnopqrstuuoBpIrM0OnplXjsOI8DWYJTHUhJDuUv."


@asynccontextmanager
async def source_of(url: str, http: HttpConfig | None = None) -> AsyncIterator[PrometheusSource]:
    source = PrometheusSource(url, http=http, deadline_seconds=2)
    yield source
    await source.close()


async def problem(source: PrometheusSource) -> str:
    with pytest.raises(MetricSourceError) as caught:
        await source.read(question(METRICS))
    return str(caught.value)


def written(directory: Path, text: str) -> HttpConfig:
    path = directory / "http.yaml"
    path.write_text(text)
    return read_http_config(path)


async def test_tls_and_basic_authentication_by_files_that_may_change(
    prometheus_factory: Callable[..., Prometheus], tmp_path: Path
) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "stranger")
    server, client = authority.issue(LOOPBACK), authority.issue("operator")
    prometheus = prometheus_factory(
        web={
            "tls_server_config": {
                "cert_file": str(server[0]),
                "key_file": str(server[1]),
                "client_ca_file": str(authority.file),
                "client_auth_type": "RequireAndVerifyClientCert",
            },
            "basic_auth_users": {"operator": HASH},
        }
    )
    password, tls = tmp_path / "password", f"cert_file: {client[0]}, key_file: {client[1]}"
    password.write_text(f"{PASSWORD}\n")
    basic = "basic_auth: {username: operator, password_file: password}"

    async with source_of(
        prometheus.url, written(tmp_path, f"{basic}\ntls_config: {{ca_file: {authority.file}, {tls}}}")
    ) as source:
        assert await source.read(question(METRICS)) == ()
        password.write_text("another")
        refused = await problem(source)
        assert "HTTP Status Code 401" in refused
        password.write_text(PASSWORD)
        assert await source.read(question(METRICS)) == ()
        password.unlink()
        assert "was not asked" in await problem(source)
        password.write_text(PASSWORD)
    async with source_of(
        prometheus.url, written(tmp_path, f"{basic}\ntls_config: {{ca_file: {stranger.file}, {tls}}}")
    ) as source:
        assert "cannot be reached by TLS" in (said := await problem(source))
        assert "certificate verify failed" in said
    async with source_of(
        prometheus.url, written(tmp_path, f"{basic}\ntls_config: {{ca_file: {authority.file}}}")
    ) as source:
        assert "cannot be reached" in (said := await problem(source))
    assert PASSWORD not in refused + said


class Answering:
    """A server that answers every query alike, and remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.body: dict[str, Any] = {"status": "success", "data": {"resultType": "matrix", "result": []}}
        self.headers: dict[str, str] = {}
        self.status = 200
        self.result: Callable[[str], list[Any]] = lambda query: []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        result = self.result(str((await request.post())["query"]))
        body = {**self.body, "data": {"resultType": "matrix", "result": result}}
        return web.json_response(body, status=self.status, headers=self.headers, dumps=_compact)


def _compact(body: Any) -> str:
    """As servers in Go write it."""
    return json.dumps(body, separators=(",", ":"))


@pytest.fixture
async def server() -> AsyncIterator[tuple[Answering, str]]:
    answering, port = Answering(), free_port()
    app = web.Application()
    app.router.add_post("/{path:.*}", answering.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    yield answering, f"http://{LOOPBACK}:{port}"
    await runner.cleanup()


async def test_tokens_and_headers_are_read_anew_for_every_query(
    server: tuple[Answering, str], tmp_path: Path
) -> None:
    answering, url = server
    for name in ("token", "key"):
        (tmp_path / name).write_text(f"old-{name}\n")
    http = written(
        tmp_path,
        "authorization: {credentials_file: token}\n"
        "http_headers: {X-Scope-OrgID: {values: [shop]}, X-Key: {files: [key]}}",
    )
    async with source_of(url.replace("//", "//me:mine@"), http) as source:
        await source.read(question(METRICS))
        for name in ("token", "key"):
            (tmp_path / name).write_text(f"new-{name}\n")
        await source.read(question(METRICS))
    seen = [[r.headers[n] for n in ("Authorization", "X-Scope-OrgID", "X-Key")] for r in answering.asked]
    assert seen[0] == seen[1] == ["Bearer old-token", "shop", "old-key"]
    assert seen[2] == seen[3] == ["Bearer new-token", "shop", "new-key"]


async def test_credentials_are_not_taken_to_another_server(
    server: tuple[Answering, str], tmp_path: Path
) -> None:
    answering, url = server
    answering.status, answering.headers = 307, {"Location": f"{url}/elsewhere"}
    async with source_of(url.replace("//", "//me:mine@")) as source:
        assert "answered HTTP Status Code 307" in (said := await problem(source))
    assert "mine" not in said
    assert len(answering.asked) == 1


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"warnings": ["No StoreAPIs matched", "slow"]}, "no complete answer: No StoreAPIs matched; slow"),
        ({"isPartial": True}, "no complete answer: isPartial"),
    ],
)
async def test_a_part_of_an_answer_is_none(
    server: tuple[Answering, str], more: dict[str, Any], says: str
) -> None:
    answering, url = server
    answering.body |= more
    async with source_of(url) as source:
        assert says in await problem(source)


async def test_remarks_and_labels_are_no_warnings(server: tuple[Answering, str]) -> None:
    answering, url = server
    answering.body |= {"infos": ["PromQL info: slow"], "warnings": [], "isPartial": False}
    answering.result = lambda query: [{"metric": {"__name__": "warnings"}, "values": [[1, "1"]]}]
    async with source_of(url) as source:
        assert len(await source.read(question(METRICS))) == 2


@pytest.mark.parametrize(("seconds", "says"), [(30, "s ahead of"), (-30, "s behind"), (0, "")])
async def test_a_clock_that_is_elsewhere_is_told(
    server: tuple[Answering, str], seconds: float, says: str
) -> None:
    answering, url = server
    answering.headers = {"Date": formatdate(time.time() + seconds, usegmt=True)}
    async with source_of(url) as source:
        if says:
            assert says in await problem(source)
        else:
            assert await source.read(question(METRICS)) == ()


async def test_two_servers_behind_one_url_are_told_from_one(server: tuple[Answering, str]) -> None:
    answering, url = server

    def result(query: str) -> list[Any]:
        at = 10.0 if "build_info" in query else counters
        name = "prometheus_build_info" if "build_info" in query else "total"
        values = [[at + n, "1"] for n in range(0, 20, 5)]
        return [{"metric": {"__name__": name, "instance": "router-0"}, "values": values}]

    answering.result = result
    async with source_of(url) as source:
        counters = 10.0
        assert len(await source.read(question(METRICS))) == 2
        counters = 12.5
        assert "is two servers that scrape at instants of their own" in await problem(source)


async def test_of_several_servers_the_next_answers_for_one_that_is_gone(
    prometheus_factory: Callable[..., Prometheus],
) -> None:
    pair = [prometheus_factory([ScrapeJob("self")], scrape_interval=0.25, replica=name) for name in "ab"]
    for each in pair:
        each.set_targets("self", [pair[1].url.removeprefix("http://")])
    for each in pair:
        wait_until(
            lambda: bool(each.query("count_over_time(prometheus_build_info[1m]) >= 3")),  # noqa: B023
            timeout=20,
            what="scrapes",
        )
    async with source_of(pair[0].url) as first, source_of(pair[1].url) as second:
        source = FailoverSource([first, second])

        def instants(answer: tuple[Series, ...]) -> set[float]:
            return {time for one in answer for time, _ in one.samples}

        before = instants(await source.read(question(METRICS)))
        pair[0].stop()
        during = instants(await source.read(question(METRICS)))
        pair[0].start()
        after = instants(await source.read(question(METRICS)))
    assert before
    assert during
    assert before.isdisjoint(during)
    assert during <= after
