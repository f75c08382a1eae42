"""Health, metrics and artifacts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from controller.runtime.manager import Health

ReadArtifact = Callable[[str], Awaitable[dict[str, Any] | None]]
"""The agent of an artifact ID as JSON; None if no AgentRevision keeps it."""


def create_app(
    *,
    live: Callable[[], Health],
    ready: Callable[[], Health],
    registry: CollectorRegistry,
    read_artifact: ReadArtifact | None = None,
) -> FastAPI:
    """The application; it holds no state of its own. Without ``read_artifact`` it serves no artifacts."""
    app = FastAPI(title="agentrollout", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/livez", response_class=PlainTextResponse)
    async def livez() -> Response:
        return _probe(live())

    @app.get("/readyz", response_class=PlainTextResponse)
    async def readyz() -> Response:
        return _probe(ready())

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    if read_artifact is not None:
        _add_artifacts(app, read_artifact)
    return app


def _add_artifacts(app: FastAPI, read_artifact: ReadArtifact) -> None:
    @app.get("/artifacts/{artifact_id}")
    async def artifact(artifact_id: str) -> dict[str, Any]:
        found = await read_artifact(artifact_id)
        if found is None:
            raise HTTPException(404, f"no AgentRevision keeps the artifact {artifact_id}")
        return found


def _probe(health: Health) -> Response:
    if health.ok:
        return PlainTextResponse("ok\n")
    return PlainTextResponse("".join(f"{reason}\n" for reason in health.reasons), status_code=503)
