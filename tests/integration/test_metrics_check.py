"""``agentrollout metrics check`` against a real Prometheus that scrapes agents and a router."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter, Gauge
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.core.artifact import artifact_id
from controller.manifests import read_rollout
from devkit.prometheus import Prometheus, ScrapeJob
from tests.crds.refusals import rollout
from tests.integration.agent_lab import ReportingAgent, wait_for

CALLS = {"metric": "agent_tool_calls_total"}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Checks a rollout with these metrics."""

    def checked(url: str, *metrics: Any, guardrails: Any = (), **metadata: str) -> Result:
        manifest = rollout("agent")
        manifest["metadata"] |= {"namespace": "shop", **metadata}
        manifest["spec"]["analysis"] = {"metrics": list(metrics), "guardrails": list(guardrails)}
        path = tmp_path / "rollout.yaml"
        path.write_text(yaml.safe_dump(manifest))
        command = ["metrics", "check", "-f", str(path), "--prometheus-url", url]
        return CliRunner().invoke(app, command, env={"COLUMNS": "100"})

    return checked


def this_version(tmp_path: Path) -> str:
    path = tmp_path / "this.yaml"
    path.write_text(yaml.safe_dump(rollout("agent")))
    return artifact_id(read_rollout(path).spec.agent)


def own(bad: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"name": "own", "total": CALLS, "bad": bad, **changes}


def test_it_says_what_is_there_and_what_is_not(
    prometheus_factory: Callable[..., Prometheus],
    stack: ExitStack,
    run: Callable[..., Result],
    tmp_path: Path,
) -> None:
    version, other = this_version(tmp_path), "sha256:" + "0" * 64
    agent, elsewhere, router = ReportingAgent(), ReportingAgent(), ReportingAgent()
    agent.work(version, ok=40, failed=2, tokens=(120, 400))
    agent.work(other, ok=900)
    Counter("plain", "Without a label.", registry=agent.registry).inc()
    Counter("wrong", "With another label.", ["artifact"], registry=agent.registry).labels("v7").inc()
    elsewhere.registry = CollectorRegistry()
    Counter("far", "In another namespace.", ["artifact"], registry=elsewhere.registry).labels(version).inc()
    Gauge("envoy_server_live", "As a router has it.", registry=router.registry).set(1)
    # prometheus_client would end a counter's name in _total, as Envoy does not.
    served = Gauge(
        "envoy_cluster_upstream_rq_completed", "Likewise.", ["envoy_cluster_name"], registry=router.registry
    )
    served.labels("shop/agent/agent-0123456789").set(77)
    for each in (agent, elsewhere, router):
        stack.enter_context(each.serving())
    prometheus = prometheus_factory(
        [
            ScrapeJob("agents", (agent.address,), labels={"namespace": "shop"}),
            ScrapeJob("others", (elsewhere.address,), labels={"namespace": "test"}),
            ScrapeJob("routers", (router.address,)),
        ],
        scrape_interval=0.5,
    )
    for query in ("sum(up)", "count(agent_tool_calls_total) > bool 2"):
        wait_for(prometheus, query, 3 if query == "sum(up)" else 1)

    good = run(prometheus.url, {"name": "toolErrors"}, guardrails=[{"name": "tokensPerTask"}])
    assert good.exit_code == 0, good.output
    assert max(map(len, good.output.splitlines())) <= 100
    assert 'agent_tool_calls_total{outcome="error"}' in good.output
    assert "All 4 series can be read." in good.output
    assert "has only 5 edges" in good.output

    spent = {"max": 1000, "action": "Alert"}
    limits = [
        {"name": "spent", "query": 'sum(agent_task_tokens_sum{artifact="$artifact"})', **spent},
        {"name": "quiet", "query": 'agent_task_tokens_sum{artifact="$revision"}', **spent},
        {"name": "empty", "query": "0 / vector(0)", **spent},
    ]
    asked = run(prometheus.url, {"name": "toolErrors"}, guardrails=limits)
    assert asked.exit_code == 0, asked.output
    said = " ".join(asked.output.split())
    for words in (
        'sum(agent_task_tokens_sum{artifact="$artifact"}) 520 ok',
        "nothing for this version yet",
        "no number yet",
    ):
        assert words in said, asked.output
    limits = [
        {"name": "many", "query": "agent_tool_calls_total", **spent},
        {"name": "endless", "query": "1 / vector(0)", **spent},
    ]
    asked = run(prometheus.url, {"name": "toolErrors"}, guardrails=limits)
    assert asked.exit_code == 1
    said = " ".join(asked.output.split())
    for words in ("gives 3 values, and must give one", "gives inf, which is no number"):
        assert words in said, asked.output
    asked = run(
        prometheus.url, {"name": "toolErrors"}, guardrails=[{"name": "typo", "query": "sum(", **spent}]
    )
    assert asked.exit_code != 0
    assert "spec.analysis.guardrails, query of typo:" in " ".join(asked.output.split())

    metrics = [
        {"name": "errors"},
        {"name": "cost"},
        own({**CALLS, "labels": {"outcome": "refused"}}),
        own({"metric": "plain_total"}, name="plain"),
        own({"metric": "wrong_total"}, name="wrong"),
        own({"metric": "far_total"}, name="far"),
        own({"metric": "agent_task_tokens_bucket", "labels": {"le": "200"}}, name="edge"),
    ]
    bad = run(prometheus.url, *metrics)
    assert bad.exit_code == 1
    assert max(map(len, bad.output.splitlines())) <= 100
    said = " ".join(bad.output.split())
    for words in (
        "routers envoy_server_live 1 ok",
        "errors all envoy_cluster_upstream_rq_completed 77 ok",
        "agent_task_cost_usd_count missing does the agent report it, and is it scraped?",
        'outcome has been "error", "ok" so far',
        "lacks the label artifact, which names the version",
        'has a label artifact that is not an artifact ID: "v7"',
        'is there with namespace "test", and none with shop',
        "has no such edge, but 100.0, 150.0, 225.0, 338.0, 506.0",
        "6 of 15 series cannot be read: while that is so, the weight is held.",
    ):
        assert words in said, bad.output

    late = run(prometheus.url, {"name": "toolErrors", "version": {"label": "artifact", "form": "Revision"}})
    assert late.exit_code == 1
    assert "that is not an AgentRevision" in " ".join(late.output.split())


def test_conversations_need_the_operators_to_be_scraped_and_are_there_with_a_candidate(
    prometheus_factory: Callable[..., Prometheus], stack: ExitStack, run: Callable[..., Result]
) -> None:
    operator = ReportingAgent()
    stack.enter_context(operator.serving())
    prometheus = prometheus_factory([ScrapeJob("operators", (operator.address,))], scrape_interval=0.5)
    wait_for(prometheus, "sum(up)", 1)

    def said() -> str:
        found = run(prometheus.url, {"name": "errors"}, {"name": "conversations"})
        return " ".join(found.output.split())

    assert "agentrollout_conversations_total missing is Prometheus scraping /metrics of every" in said()

    Gauge("agentrollout_asyncio_tasks", "As operators have it.", registry=operator.registry)
    wait_for(prometheus, "count(agentrollout_asyncio_tasks)", 1)
    assert "empty operators are scraped; they show it while a candidate is on its way" in said()

    counted = Counter(
        "agentrollout_conversations",
        "Likewise.",
        ["rollout", "revision", "outcome"],
        registry=operator.registry,
    )
    for key, number in (("shop/agent", 7), ("other/agent", 1000)):
        counted.labels(key, "agent-0123456789", "good").inc(number)
        counted.labels(key, "agent-0123456789", "bad").inc(0)
    wait_for(prometheus, "count(agentrollout_conversations_total)", 4)
    assert "conversations all agentrollout_conversations_total 7 ok" in said()


def test_a_prometheus_that_does_not_answer_is_told(run: Callable[..., Result]) -> None:
    found = run("http://127.0.0.1:1", {"name": "toolErrors"})
    assert (found.exit_code, found.stderr) == (
        1,
        "agentrollout: Prometheus at http://127.0.0.1:1 cannot be reached\n",
    )


def test_a_file_without_a_rollout_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    path.write_text("kind: Other\n")
    found = CliRunner().invoke(app, ["metrics", "check", "-f", str(path)])
    assert found.exit_code == 2
    assert "has no AgentRollouts" in found.stderr
