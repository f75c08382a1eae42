"""The transport and the informer against a loopback server that does what a healthy API server cannot be told to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from controller.runtime import errors
from controller.runtime.backoff import Backoff
from controller.runtime.client import ResourceClient, WatchEvent
from controller.runtime.clock import SystemClock
from controller.runtime.informer import Informer
from controller.runtime.resource import RawObject, Resource
from controller.runtime.transport import ConfigurationError, KubernetesTransport
from controller.runtime.watcher import WatcherSettings

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
QUICK = WatcherSettings(backoff=Backoff(base=0.02, cap=0.1), inactivity_timeout=0.3, watch_list=False)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FaultyServer:
    """Gives every request to ``answer``; counts them by kind."""

    def __init__(self, directory: Path) -> None:
        self.answer: Answer = _not_found
        self.lists = 0
        self.watches = 0
        self.kubeconfig = directory / "faulty.kubeconfig"
        self.token = directory / "token"
        self._app = web.Application()
        self._app.router.add_route("*", "/{path:.*}", self._handle)

    async def start(self) -> web.AppRunner:
        runner = web.AppRunner(self._app, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.token.write_text("first")
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": f"http://{host}:{port}"}}],
                    "users": [{"name": "u", "user": {"tokenFile": str(self.token)}}],
                }
            )
        )
        return runner

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and request.query.get("watch"):
            self.watches += 1
        elif request.method == "GET":
            self.lists += 1
        return await self.answer(request)


async def _not_found(_: web.Request) -> web.StreamResponse:
    return _status(404, "NotFound", "no such thing")


def _status(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    status = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return web.json_response(status, status=code, headers=headers)


def _obj(name: str, version: int, **more: Any) -> RawObject:
    return {"metadata": {"namespace": "ns", "name": name, "resourceVersion": str(version)}, **more}


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
async def server(tmp_path: Path) -> AsyncIterator[FaultyServer]:
    server = FaultyServer(tmp_path)
    runner = await server.start()
    yield server
    await runner.cleanup()


@pytest.fixture
async def client(server: FaultyServer) -> AsyncIterator[ResourceClient]:
    transport = await KubernetesTransport.connect(kubeconfig=str(server.kubeconfig))
    yield ResourceClient(transport, WIDGETS, field_manager="test", timeout=0.5)
    await transport.close()


async def _watch(client: ResourceClient, inactivity: float = 5.0) -> list[WatchEvent]:
    events = []
    async with aclosing(client.watch("1", server_timeout=30, inactivity_timeout=inactivity)) as stream:
        async for event in stream:
            events.append(event)  # noqa: PERF401 - what came before an error counts too
    return events


async def _informed(client: ResourceClient, test: Callable[[Informer[str]], Awaitable[None]]) -> None:
    informer: Informer[str] = Informer(
        client, lambda raw: str(raw["metadata"]["resourceVersion"]), SystemClock(), settings=QUICK
    )
    task = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(20):
            await test(informer)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _eventually(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - bounded by the timeout of the test
        await asyncio.sleep(0.01)


async def test_a_line_of_many_megabytes_arrives_whole(server: FaultyServer, client: ResourceClient) -> None:
    large = _obj("large", 2, blob="x" * 12_000_000)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await _stream(request, _line("ADDED", large) + _line("DELETED", _obj("small", 3)))

    server.answer = answer
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
    server: FaultyServer,
    client: ResourceClient,
    code: int,
    headers: dict[str, str],
    body: str,
    error: type[errors.ApiError],
    message: str,
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers, text=body)

    server.answer = answer
    with pytest.raises(error) as raised:
        await client.list_page()
    assert type(raised.value) is error
    assert message in str(raised.value)
    assert raised.value.retry_after == (7.0 if code == 429 else None)
    assert server.lists == 1, "the transport must not retry behind the caller's back"


async def test_requests_share_a_connection(server: FaultyServer, client: ResourceClient) -> None:
    ports = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        return _list(1)

    server.answer = answer
    for _ in range(5):
        await client.list_page()
    assert len(ports) == 1


async def test_a_hanging_request_ends_at_its_deadline(server: FaultyServer, client: ResourceClient) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError("the client should have given up")

    server.answer = answer
    with pytest.raises(errors.Unavailable, match="no answer within the deadline"):
        await client.get("ns/a")


async def test_a_refused_connection_is_told_with_the_address(tmp_path: Path) -> None:
    server = FaultyServer(tmp_path)
    await (await server.start()).cleanup()
    transport = await KubernetesTransport.connect(kubeconfig=str(server.kubeconfig))
    try:
        with pytest.raises(errors.Unavailable, match=r"Cannot connect to host 127\.0\.0\.1"):
            await ResourceClient(transport, WIDGETS, field_manager="test").get("ns/a")
    finally:
        await transport.close()


async def test_a_connection_broken_in_the_middle_of_an_answer(
    server: FaultyServer, client: ResourceClient
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = await _stream(request, b'{"items": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    server.answer = answer
    with pytest.raises(errors.Unavailable):
        await client.list_page()
    with pytest.raises(errors.Unavailable):
        await _watch(client)


async def test_a_silent_watch_is_given_up_even_if_bytes_still_drip(
    server: FaultyServer, client: ResourceClient
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = await _stream(request, _line("ADDED", _obj("a", 2)))
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    server.answer = answer
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
    server: FaultyServer, client: ResourceClient, line: bytes, error: type[errors.ApiError]
) -> None:
    server.answer = lambda request: _stream(request, line)
    with pytest.raises(errors.ApiError) as raised:
        await _watch(client)
    assert type(raised.value) is error


async def test_a_renewed_token_is_taken_over_without_an_error(
    server: FaultyServer, client: ResourceClient
) -> None:
    accepted = "Bearer first"

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != accepted:
            return _status(401, "Unauthorized", "token expired")
        return _list(1)

    server.answer = answer
    await client.list_page()
    server.token.write_text("second")
    accepted = "Bearer second"
    await client.list_page()
    accepted = "Bearer third"
    with pytest.raises(errors.Unauthorized, match="token expired"):
        await client.list_page()


async def test_credentials_that_cannot_be_renewed_leave_the_servers_refusal(
    server: FaultyServer, client: ResourceClient
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return _status(401, "Unauthorized", "token expired")

    server.answer = answer
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


async def test_a_compacted_version_is_followed_by_a_new_list_that_tells_deletions(
    server: FaultyServer, client: ResourceClient
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.query.get("watch"):
            return (
                _list(10, _obj("stays", 1), _obj("goes", 2))
                if server.lists == 1
                else _list(20, _obj("stays", 1))
            )
        if server.watches == 1:
            return await _stream(request, _line("ERROR", {"code": 410, "reason": "Expired"}))
        return await _stream(request, hold=5)

    server.answer = answer

    async def test(informer: Informer[str]) -> None:
        gone: list[str] = []
        informer.on_change(lambda key, _, new: gone.append(key) if new is None else None)
        await _eventually(lambda: server.lists == 2 and bool(gone))
        assert gone == ["ns/goes"]
        assert informer.store.keys() == ("ns/stays",)

    await _informed(client, test)


async def test_a_half_open_watch_is_replaced(server: FaultyServer, client: ResourceClient) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.query.get("watch"):
            return _list(10)
        if server.watches == 1:
            return await _stream(request, hold=30)
        return await _stream(request, _line("ADDED", _obj("a", 11)), hold=30)

    server.answer = answer

    async def test(informer: Informer[str]) -> None:
        await _eventually(lambda: informer.store.get("ns/a") == "11")
        assert server.lists == 1

    await _informed(client, test)


async def test_watches_closed_at_once_cause_few_requests(
    server: FaultyServer, client: ResourceClient
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await _stream(request) if request.query.get("watch") else _list(10)

    server.answer = answer

    async def test(_: Informer[str]) -> None:
        await asyncio.sleep(2)
        # Waits are drawn from 0 to 0.1 s here, so about 40; without backoff there are thousands.
        assert server.watches < 120
        assert server.lists == 1

    await _informed(client, test)


async def test_an_outage_of_the_server_is_outlived(server: FaultyServer, client: ResourceClient) -> None:
    down = True

    async def answer(request: web.Request) -> web.StreamResponse:
        if down:
            return web.Response(status=503, text="starting")
        if request.query.get("watch"):
            return await _stream(request, hold=5)
        return _list(10, _obj("a", 1))

    server.answer = answer

    async def test(informer: Informer[str]) -> None:
        nonlocal down
        await _eventually(lambda: server.lists > 3)
        assert not informer.has_synced
        assert "503: starting" in informer.problem
        down = False
        await informer.wait_for_sync()
        assert informer.store.keys() == ("ns/a",)
        assert informer.problem == ""

    await _informed(client, test)
