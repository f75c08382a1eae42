from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter

from controller.runtime.manager import Health
from controller.web import HttpServer, create_app


async def read_artifact(artifact: str) -> dict[str, Any] | None:
    return {"code": {"url": "http://a"}} if artifact == "sha256:1" else None


def application(health: Health | None = None) -> FastAPI:
    registry = CollectorRegistry()
    Counter("demo", "A counter.", registry=registry).inc()
    state = health or Health()
    return create_app(live=lambda: state, ready=lambda: state, registry=registry, read_artifact=read_artifact)


async def get(app: FastAPI, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://operator") as client:
        return await client.get(path)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_a_healthy_process_answers_ok(path: str) -> None:
    answer = await get(application(), path)
    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_an_unhealthy_process_answers_why(path: str) -> None:
    answer = await get(application(Health(("agentrollouts is not synced",))), path)
    assert (answer.status_code, answer.text) == (503, "agentrollouts is not synced\n")


async def test_metrics_are_in_prometheus_text() -> None:
    assert "demo_total 1.0" in (await get(application(), "/metrics")).text


async def test_an_artifact_is_found_by_its_id() -> None:
    assert (await get(application(), "/artifacts/sha256:1")).json() == {"code": {"url": "http://a"}}


async def test_an_unknown_artifact_is_a_sentence() -> None:
    answer = await get(application(), "/artifacts/sha256:2")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "no AgentRevision keeps the artifact sha256:2"}


async def test_the_server_serves_on_the_port_it_bound_until_cancelled() -> None:
    server = HttpServer(application(), "127.0.0.1", 0)
    running = asyncio.create_task(server.run())
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://127.0.0.1:{server.port}/livez")).text == "ok\n"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    # Binding the port again would show it too, unless somebody else has taken it by then.
    assert server._socket.fileno() == -1


async def test_a_taken_port_is_an_error_at_start() -> None:
    first = HttpServer(application(), "127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        HttpServer(application(), "127.0.0.1", first.port)
    first._socket.close()
