from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from examples.demo import versions
from examples.demo.agent import create_app
from examples.demo.tools import ToolCallError, call
from examples.demo.versions import AgentVersion, Faults


def client(version: AgentVersion) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=create_app(version))
    return httpx.AsyncClient(transport=transport, base_url="http://agent")


async def ask(agent: httpx.AsyncClient, question: str) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": question}]}
    return await agent.post(
        "/v1/chat/completions", json=body, headers={"x-agentrollout-artifact": "sha256:abc"}
    )


async def test_an_answer_names_its_version_and_counts_tokens() -> None:
    async with client(AgentVersion("v7")) as agent:
        response = await ask(agent, "Where is my order 1234?")

    assert response.status_code == 200
    assert response.headers["x-agent-version"] == "v7"
    assert response.json()["choices"][0]["message"]["content"] == "Order 1234 is on its way."
    assert response.json()["usage"]["total_tokens"] > 20


async def test_an_unparsable_tool_call_is_a_500_that_still_names_its_version() -> None:
    async with client(AgentVersion("v7", faults=Faults(unparsable_tool_calls=1))) as agent:
        response = await ask(agent, "Where is my order 1234?")

    assert response.status_code == 500
    assert response.headers["x-agent-version"] == "v7"
    assert response.json()["error"]["type"] == "unparsable_tool_call"


async def test_the_share_of_failures_is_the_injected_one() -> None:
    async with client(AgentVersion("v7", faults=Faults(unparsable_tool_calls=0.2))) as agent:
        answers = await asyncio.gather(*(ask(agent, "Where is my order 1234?") for _ in range(100)))
    statuses = [answer.status_code for answer in answers]

    assert 10 <= statuses.count(500) <= 32


async def test_added_latency_is_waited_for() -> None:
    async with client(AgentVersion("v7", faults=Faults(added_latency_ms=80))) as agent:
        response = await ask(agent, "Hello")

    assert response.elapsed.total_seconds() >= 0.08


async def test_metrics_carry_the_artifact() -> None:
    async with client(AgentVersion("v7")) as agent:
        await ask(agent, "Refund order 1234!")
        text = (await agent.get("/metrics")).text

    assert 'agent_tool_calls_total{artifact="sha256:abc",outcome="ok"} 1.0' in text
    assert 'agent_task_tokens_count{artifact="sha256:abc"} 1.0' in text
    assert 'agent_task_cost_usd_total{artifact="sha256:abc"}' in text


async def test_health() -> None:
    async with client(AgentVersion("v7")) as agent:
        assert (await agent.get("/healthz")).json() == {"version": "v7"}


async def test_an_empty_conversation_is_refused() -> None:
    async with client(AgentVersion("v7")) as agent:
        assert (await agent.post("/v1/chat/completions", json={"messages": []})).status_code == 422


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        (
            '{"tool": "refund", "arguments": {"order": "1234"}}',
            "39 EUR for order 1234 are on their way back to you.",
        ),
        (
            '{"tool": "refund", "arguments": {"order": "1290"}}',
            "A colleague looks at the refund of 95 EUR for order 1290.",
        ),
        ('{"tool": "lookup", "arguments": {"order": "1233"}}', "Order 1233 is being packed."),
    ],
)
def test_tools_give_the_same_answer_every_time(written: str, answer: str) -> None:
    assert call(written) == answer


@pytest.mark.parametrize(
    "written", ["", "orders.lookup(", "[]", '"x"', '{"tool": "sing", "arguments": {"order": 1}}']
)
def test_what_is_no_tool_call_is_refused(written: str) -> None:
    with pytest.raises(ToolCallError, match="cannot be parsed"):
        call(written)


def test_a_version_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "v3.json"
    versions.talkative().save(path)
    assert AgentVersion.load(path) == versions.talkative()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"name": "v1", "colour": "red"}', '{"name": "v1", "faults": 3}']
)
def test_a_broken_version_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "v3.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"v3\.json is not a version file"):
        AgentVersion.load(path)
