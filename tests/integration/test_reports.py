"""What agents report, from prometheus_client through a real Prometheus to counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.adapters.batching import BatchingSource
from controller.adapters.ports import Question
from controller.adapters.prometheus import PrometheusSource
from controller.api.delivery import Metric
from controller.api.reasons import ConditionType, State
from controller.api.rollout import AgentRollout
from controller.api.status import VersionRef
from controller.core.agents import definition_of
from controller.core.counts import Series, Span, Tallied
from controller.core.reports import Reports
from devkit.controlplane import ControlPlane
from devkit.prometheus import Prometheus, ScrapeJob
from tests.integration.agent_lab import ReportingAgent, wait_for
from tests.integration.delivery_lab import DeliveryLab, manifest

STABLE = VersionRef(revision="agent-a", artifact_id="sha256:aa")
CANDIDATE = VersionRef(revision="agent-b", artifact_id="sha256:bb")
ALWAYS = Span(0.0, datetime.max.replace(tzinfo=UTC).timestamp(), 0.0)
TOOLS, TOKENS = (definition_of(Metric(name=name)) for name in ("toolErrors", "tokensPerTask"))


@pytest.fixture
def agents(stack: ExitStack) -> list[ReportingAgent]:
    found = [ReportingAgent(), ReportingAgent()]
    for agent in found:
        stack.enter_context(agent.serving())
    return found


async def read(prometheus: Prometheus) -> tuple[Series, ...]:
    source = PrometheusSource(prometheus.url)
    batching = BatchingSource(source)
    try:
        return await batching.read(
            Question(
                processes=frozenset(),
                names=TOOLS.names | TOKENS.names,
                label="artifact",
                values=frozenset({STABLE.artifact_id, CANDIDATE.artifact_id}),
                only=(),
                edges=frozenset({150.0, 506.0}),
                window=timedelta(minutes=2),
                at=datetime.now(UTC),
            )
        )
    finally:
        await batching.close()
        await source.close()


async def test_every_event_between_two_scrapes_counts_for_its_version(
    prometheus_factory: Callable[..., Prometheus], agents: list[ReportingAgent]
) -> None:
    one, two = agents
    for agent in (one, two):
        agent.work(STABLE.artifact_id, ok=1000, failed=100, tokens=(120,) * 50)
        agent.work(CANDIDATE.artifact_id, ok=7, tokens=(120,))
    prometheus = prometheus_factory([ScrapeJob("agents", (one.address, two.address))], scrape_interval=0.5)
    total = 'sum(agent_tool_calls_total{artifact="%s"})'
    await asyncio.to_thread(wait_for, prometheus, total % STABLE.artifact_id, 2200)
    one.work(STABLE.artifact_id, ok=30, failed=2)
    one.work(CANDIDATE.artifact_id, ok=5, failed=3, tokens=(120, 400, 999))
    two.work(CANDIDATE.artifact_id, ok=4, tokens=(90,))
    await asyncio.to_thread(wait_for, prometheus, total % CANDIDATE.artifact_id, 26)
    series = await read(prometheus)
    tools, tokens = Reports.of(TOOLS, series, "shop"), Reports.of(TOKENS, series, "shop")
    assert tools.counts(CANDIDATE, [], ALWAYS) == [Tallied(bad=3, total=12)]
    assert tools.counts(STABLE, [], ALWAYS) == [Tallied(bad=2, total=32)]
    assert tokens.counts(CANDIDATE, [150, 506], ALWAYS) == [Tallied(bad=2, total=4), Tallied(bad=1, total=4)]
    assert tools.until(datetime.now(UTC).timestamp(), [CANDIDATE, STABLE]) <= datetime.now(UTC).timestamp()


async def test_a_version_is_held_until_its_agent_reports_and_taken_back_for_what_it_reports(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, stack: ExitStack
) -> None:
    pod = ReportingAgent()
    stack.enter_context(pod.serving())
    analysis = {
        "interval": "1s",
        "clustering": 1,
        "metrics": [{"name": "errors"}, {"name": "toolErrors"}],
        "guardrails": [{"name": "toolErrors", "window": "5s", "action": "Alert"}],
    }
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        lab.prometheus.set_targets("envoy", [lab.envoy.admin_address, pod.address])
        old, new = lab.agent("old"), lab.agent("new")
        await lab.apply(manifest(namespace, old.url, analysis=analysis))
        stable = (await lab.until(lambda r: r.status.state is State.STABLE)).status.stable
        assert stable is not None
        async with lab.users():
            await lab.apply(manifest(namespace, new.url, analysis=analysis))
            held = await lab.until(lambda r: "Prometheus has no agent_tool_calls_total" in _said(r))
            candidate = held.status.candidate
            assert candidate is not None
            assert held.status.weight == 100_000
            async with asyncio.timeout(60):
                while not (record := (await lab.get()).status.last_rollback):
                    pod.work(stable.artifact_id, ok=98, failed=2)
                    pod.work(candidate.artifact_id, ok=6, failed=4)
                    await asyncio.sleep(0.1)
        assert (record.metric, record.stage) == ("toolErrors", "10%")
        assert "worse than stable: candidate " in record.message
        ended = await lab.get()
        assert [each.name for each in ended.status.guardrails] == ["toolErrors"]


def _said(rollout: AgentRollout) -> str:
    condition = rollout.status.condition(ConditionType.PROGRESSING)
    return condition.message if condition else ""
