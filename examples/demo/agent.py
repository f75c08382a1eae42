"""The demo agent: a small customer-support agent behind a chat-completions style endpoint, one process a version.

Run with ``python -m examples.demo.agent --version-file v2.json --port 9000``.
"""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from fastapi import FastAPI, Header, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import BaseModel, Field

from examples.demo.model import Completion, ScriptedModel
from examples.demo.tools import ToolCallError, call
from examples.demo.versions import AgentVersion

_TOKEN_EDGES = tuple(round(20 * 1.5**step) for step in range(15))


class Message(BaseModel):
    """One message of a conversation."""

    role: str
    content: str


class ChatRequest(BaseModel):
    """The part of a chat-completions request that the agent reads."""

    messages: list[Message] = Field(min_length=1)


@dataclass(frozen=True)
class AgentMetrics:
    """The series that the product documents for agents, each with the artifact as label."""

    registry: CollectorRegistry
    tool_calls: Counter
    tokens: Histogram
    cost: Counter

    @classmethod
    def create(cls) -> AgentMetrics:
        """Metrics in a registry of their own."""
        registry = CollectorRegistry()
        return cls(
            registry=registry,
            tool_calls=Counter(
                "agent_tool_calls", "Tool calls by outcome.", ["artifact", "outcome"], registry=registry
            ),
            tokens=Histogram(
                "agent_task_tokens", "Tokens a task.", ["artifact"], buckets=_TOKEN_EDGES, registry=registry
            ),
            cost=Counter("agent_task_cost_usd", "Price of all tasks.", ["artifact"], registry=registry),
        )

    def record(self, artifact: str, completion: Completion, outcome: str) -> None:
        """Count one answered task; ``outcome`` of its tool call is empty if it made none."""
        self.tokens.labels(artifact).observe(completion.tokens)
        self.cost.labels(artifact).inc(completion.cost_usd)
        if outcome:
            self.tool_calls.labels(artifact, outcome).inc()


def create_app(version: AgentVersion, seed: int | None = None) -> FastAPI:
    """The agent as an ASGI application.

    Args:
        version: Prompts and faults.
        seed: Makes thinking times and failures repeatable; by default derived from the version's name.
    """
    app = FastAPI(title=f"Demo agent {version.name}", openapi_url=None)
    seed = zlib.crc32(version.name.encode()) if seed is None else seed
    model = ScriptedModel(list(version.prompts.values()), version.faults, seed)
    identity = {"x-agent-version": version.name}
    metrics = AgentMetrics.create()

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"version": version.name}

    @app.get("/metrics")
    async def exposition() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/v1/chat/completions")
    async def chat(
        body: ChatRequest, x_agentrollout_artifact: Annotated[str, Header()] = "unknown"
    ) -> JSONResponse:
        completion = model.complete([message.content for message in body.messages])
        await asyncio.sleep(completion.seconds)
        answer, outcome = completion.text, ""
        try:
            if completion.tool_call:
                answer, outcome = call(completion.tool_call), "ok"
        except ToolCallError as error:
            metrics.record(x_agentrollout_artifact, completion, "error")
            return JSONResponse(_failure(version.name, str(error)), 500, headers=identity)
        metrics.record(x_agentrollout_artifact, completion, outcome)
        return JSONResponse(_answer(version.name, answer, completion), headers=identity)

    return app


def _answer(version: str, text: str, completion: Completion) -> dict[str, Any]:
    return {
        "object": "chat.completion",
        "model": "scripted",
        "version": version,
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}},
        ],
        "usage": {
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "total_tokens": completion.tokens,
        },
    }


def _failure(version: str, message: str) -> dict[str, Any]:
    return {"version": version, "error": {"type": "unparsable_tool_call", "message": message}}


def main(
    version_file: Annotated[Path, typer.Option(help="JSON file that describes the version.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")],
) -> None:
    """Serve one version of the demo agent."""
    app = create_app(AgentVersion.load(version_file))
    # One log line a request would cost more than the request.
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    typer.run(main)
