"""The transport against a loopback server that does what a healthy API server cannot be told to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller.runtime import errors
from controller.runtime.backoff import Backoff
from controller.runtime.client import ResourceClient, WatchEvent
from controller.runtime.clock import SystemClock
from controller.runtime.informer import Informer
from controller.runtime.metrics import RuntimeMetrics
from controller.runtime.resource import RawObject, Resource
from controller.runtime.transport import ConfigurationError, KubernetesTransport
from controller.runtime.watcher import WatcherSettings
from tests.faulty_api import FaultyApi, Kind
from tests.faulty_api.faults import Answers, Hangs, Refuses

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
QUICK = WatcherSettings(backoff=Backoff(base=0.02, cap=0.1))


def _obj(name: str, version: int, **more: Any) -> RawObject:
    return {"metadata": {"namespace": "ns", "name": name, "resourceVersion": str(version)}, **more}


def _status(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return web.json_response(status, status=code)


def _list(version: int, *items: RawObject) -> web.Response:
    return web.json_response({"metadata": {"resourceVersion": str(version)}, "items": items})


def _line(kind: str, obj: RawObject) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


async def _stream(request: web.Request, *chunks: bytes, hold: float = 0.0) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
    await asyncio.sleep(hold)
    return response


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[FaultyApi]:
    async with FaultyApi(
        tmp_path, Kind(WIDGETS.group, WIDGETS.version, WIDGETS.plural, WIDGETS.kind)
    ) as server:
        yield server


@pytest.fixture
async def client(server: FaultyApi) -> AsyncIterator[ResourceClient]:
    transport = await KubernetesTransport.connect(kubeconfig=str(server.kubeconfig))
    yield ResourceClient(transport, WIDGETS, field_manager="test", timeout=0.5)
    await transport.close()


async def _watch(client: ResourceClient, inactivity: float = 5.0) -> list[WatchEvent]:
    events = []
    async with aclosing(client.watch("1", server_timeout=30, inactivity_timeout=inactivity)) as stream:
        async for event in stream:
            events.append(event)  # noqa: PERF401 - what came before an error counts too
    return events


async def test_a_line_of_many_megabytes_arrives_whole(server: FaultyApi, client: ResourceClient) -> None:
    large = _obj("large", 2, blob="x" * 12_000_000)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await _stream(request, _line("ADDED", large) + _line("DELETED", _obj("small", 3)))

    server.faults = [Answers(with_=answer)]
    events = await _watch(client)
    assert [(event.type, len(event.object.get("blob", ""))) for event in events] == [
        ("ADDED", 12_000_000),
        ("DELETED", 0),
    ]


@pytest.mark.parametrize(
    ("code", "headers", "body", "error", "message"),
    [
        (
            429,
            {"Retry-After": "7"},
            "busy",
            errors.TooManyRequests,
            "GET /apis/example.com/v1/widgets: 429: busy",
        ),
        (502, {}, "<html>bad gateway</html>", errors.Unavailable, "bad gateway"),
        (503, {}, "", errors.Unavailable, "503: no explanation given"),
        (500, {}, "[1]", errors.Unavailable, "500: no explanation given"),
        (200, {}, "<html>log in</html>", errors.Unavailable, "the answer is not JSON"),
        (200, {}, "[]", errors.Unavailable, "the answer is not a JSON object"),
    ],
)
async def test_strange_answers_have_a_type_and_a_sentence(
    server: FaultyApi,
    client: ResourceClient,
    code: int,
    headers: dict[str, str],
    body: str,
    error: type[errors.ApiError],
    message: str,
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers, text=body)

    server.faults = [Answers(with_=answer)]
    with pytest.raises(error) as raised:
        await client.list_page()
    assert type(raised.value) is error
    assert message in str(raised.value)
    assert raised.value.retry_after == (7.0 if code == 429 else None)
    assert server.calls["list"] == 1, "the transport must not retry behind the caller's back"


async def test_requests_share_a_connection(server: FaultyApi, client: ResourceClient) -> None:
    ports = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        return _list(1)

    server.faults = [Answers(with_=answer)]
    for _ in range(5):
        await client.list_page()
    assert len(ports) == 1


async def test_requests_are_counted_and_timed_with_and_without_an_answer(server: FaultyApi) -> None:
    registry = CollectorRegistry()
    transport = await KubernetesTransport.connect(
        kubeconfig=str(server.kubeconfig), metrics=RuntimeMetrics(registry)
    )
    patient, hasty = (
        ResourceClient(transport, WIDGETS, field_manager="test", timeout=seconds) for seconds in (10.0, 0.2)
    )
    await patient.list_page()
    server.faults = [Hangs()]
    with pytest.raises(errors.Unavailable):
        await hasty.list_page()
    await transport.close()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"host": transport.host, **labels})

    assert value("rest_client_requests_total", method="GET", code="200") == 1
    assert value("rest_client_requests_total", method="GET", code="<error>") == 1
    assert value("rest_client_request_duration_seconds_count", verb="GET") == 2


async def test_a_hanging_request_ends_at_its_deadline(server: FaultyApi, client: ResourceClient) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError("the client should have given up")

    server.faults = [Answers(with_=answer)]
    with pytest.raises(errors.Unavailable, match="no answer within the deadline"):
        await client.get("ns/a")


async def test_a_refused_connection_is_told_with_the_address(tmp_path: Path) -> None:
    async with FaultyApi(tmp_path) as server:
        pass
    transport = await KubernetesTransport.connect(kubeconfig=str(server.kubeconfig))
    try:
        with pytest.raises(errors.Unavailable, match=r"Cannot connect to host 127\.0\.0\.1"):
            await ResourceClient(transport, WIDGETS, field_manager="test").get("ns/a")
    finally:
        await transport.close()


async def test_a_connection_broken_in_the_middle_of_an_answer(
    server: FaultyApi, client: ResourceClient
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = await _stream(request, b'{"items": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    server.faults = [Answers(with_=answer)]
    with pytest.raises(errors.Unavailable):
        await client.list_page()
    with pytest.raises(errors.Unavailable):
        await _watch(client)


async def test_a_silent_watch_is_given_up_even_if_bytes_still_drip(
    server: FaultyApi, client: ResourceClient
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = await _stream(request, _line("ADDED", _obj("a", 2)))
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    server.faults = [Answers(with_=answer)]
    with pytest.raises(errors.Unavailable, match=r"nothing received for 0\.2 s"):
        async with asyncio.timeout(5):
            await _watch(client, inactivity=0.2)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (_line("ERROR", {"code": 410, "reason": "Expired", "message": "too old"}), errors.Gone),
        (_line("ERROR", {"code": 500, "message": "etcd is away"}), errors.Unavailable),
        (_line("ERROR", {}), errors.Unavailable),
        (b"not json\n", errors.Unavailable),
        (b'["neither"]\n', errors.Unavailable),
        (b"null\n", errors.Unavailable),
        (b'{"type": "ERROR", "object": null}\n', errors.Unavailable),
        (b'{"type": "ADDED"}\n', errors.Unavailable),
    ],
)
async def test_an_error_in_a_watch_is_raised_with_its_type(
    server: FaultyApi, client: ResourceClient, line: bytes, error: type[errors.ApiError]
) -> None:
    server.faults = [Answers(with_=lambda request: _stream(request, line))]
    with pytest.raises(errors.ApiError) as raised:
        await _watch(client)
    assert type(raised.value) is error


async def test_a_renewed_token_is_taken_over_without_an_error(
    server: FaultyApi, client: ResourceClient
) -> None:
    accepted = "Bearer first"

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != accepted:
            return _status(401, "Unauthorized", "token expired")
        return _list(1)

    server.faults = [Answers(with_=answer)]
    await client.list_page()
    server.token.write_text("second")
    accepted = "Bearer second"
    await client.list_page()
    accepted = "Bearer third"
    with pytest.raises(errors.Unauthorized, match="token expired"):
        await client.list_page()


async def test_credentials_that_cannot_be_renewed_leave_the_servers_refusal(
    server: FaultyApi, client: ResourceClient
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return _status(401, "Unauthorized", "token expired")

    server.faults = [Answers(with_=answer)]
    server.kubeconfig.unlink()
    with capture_logs() as logs, pytest.raises(errors.Unauthorized, match="token expired"):
        await client.list_page()
    assert [log["event"] for log in logs] == ["credentials_not_renewed"]


async def test_in_a_pod_the_service_account_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    # There is none here; that it was looked for shows in the message.
    with pytest.raises(
        ConfigurationError, match="the pod's service account: Service token file does not exist"
    ):
        await KubernetesTransport.connect()


async def test_an_outage_of_the_server_is_told_until_it_is_over(
    server: FaultyApi, client: ResourceClient
) -> None:
    server.faults = [Refuses(code=503, message="starting")]
    server.storage.put((WIDGETS.group, WIDGETS.plural, "ns", "a"), _obj("a", 1))
    informer: Informer[str] = Informer(client, lambda _: "", SystemClock(), settings=QUICK)
    task = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(20):
            while server.calls["list"] < 3:  # noqa: ASYNC110 - what is waited for happens in another task
                await asyncio.sleep(0.01)
            assert not informer.has_synced
            assert "503 InternalError: starting" in informer.problem
            server.faults = []
            await informer.wait_for_sync()
        assert informer.store.keys() == ("ns/a",)
        assert informer.problem == ""
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
