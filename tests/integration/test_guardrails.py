"""Guardrails on a real Prometheus: a delivery in virtual time is recorded, stored there, and read back to decide."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from controller.adapters.ports import Question
from controller.adapters.prometheus import PrometheusSource
from controller.api.reasons import Reason, Verdict
from controller.api.rollout import AgentRollout
from controller.core.counts import Series
from controller.core.plan import Plan, plan
from controller.core.queries import queries
from controller.core.snapshot import Answer, Samples
from controller.core.stages import comparisons
from controller.reconcilers.questions import report_questions
from devkit.process import LOOPBACK, wait_until
from devkit.prometheus import Prometheus, ScrapeJob
from tests.talking import Reported, TalkingRollout, talking
from tests.virtual import CATALOGUE, Behaviour

STAGES = [{"weight": "20%", "minDuration": "10m"}, {"weight": "100%"}]
LIMITS: list[dict[str, Any]] = [
    {"name": "toolErrors", "window": "1m"},
    {"name": "latency"},
    {"name": "tokensPerTask", "factor": 1.2},
]
BAD = Reported(tool_errors=0.5, heavy=1.0)

Recorded = dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]


CALLS = 'agent_tool_calls_total{artifact="$artifact"'
QUERY = {
    "name": "failed-calls",
    "query": f'sum({CALLS}, outcome="error"}}) / sum({CALLS}}})',
    "max": 0.2,
    "for": "30s",
    "samples": f"sum({CALLS}}})",
    "minSamples": 11,
}


def delivered(*limits: dict[str, Any]) -> TalkingRollout:
    """A stable version some minutes ago; a candidate would break every limit."""
    return talking(
        "errors",
        stages=STAGES,
        guardrails=list(limits) or [limit | {"action": "Hold"} for limit in LIMITS],
        reported={"v2": BAD},
        behaviour={"v1": Behaviour(slow=0, fast=0.99), "v2": Behaviour(slow=0.5)},
        now=datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5),
    )


def exposed(recorded: Recorded) -> str:
    """All samples with their instants. Who was scraped is what scrapes this."""
    lines = []
    for labels, samples in recorded.items():
        told = dict(labels)
        name = told.pop("__name__")
        inside = ",".join(f'{key}="{value}"' for key, value in told.items() if key not in {"job", "instance"})
        lines += [f"{name}{{{inside}}} {value} {round(time * 1000)}" for time, value in samples]
    return "\n".join(lines) + "\n"


def stored(recorded: Recorded, stack: ExitStack, factory: Callable[..., Prometheus]) -> Prometheus:
    """A Prometheus that has these samples."""
    text = exposed(recorded).encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Page)
    thread = Thread(target=server.serve_forever)
    thread.start()
    for close in (thread.join, server.server_close, server.shutdown):
        stack.callback(close)
    prometheus = factory([ScrapeJob("replay", (f"{LOOPBACK}:{server.server_port}",))], scrape_interval=1)
    wait_until(
        lambda: bool(prometheus.query('up{job="replay"} == 1')), timeout=20, what="the recording to be stored"
    )
    return prometheus


async def decided(world: TalkingRollout, before: AgentRollout, prometheus: Prometheus) -> Plan:
    """What the plan makes of what Prometheus answers, at the end of the recording."""
    snapshot = replace(world.snapshot(), rollout=before)
    sides = {
        side
        for each in comparisons(before.status, snapshot.stages)
        for side in (each.candidate, each.baseline)
        if side
    }
    question = Question.about(
        CATALOGUE,
        ["errors", "latency"],
        [CATALOGUE.value(before.metadata.key, side.revision, side.audience) for side in sides],
        edges=None,
        window=timedelta(minutes=4),
        at=world.now,
    )
    source = PrometheusSource(prometheus.url)
    try:
        series = await source.read(question)
        reports = [await source.read(each) for each in report_questions(snapshot, world.now)]
    finally:
        await source.close()
    samples = Samples(world.now, series, reports=tuple(one for each in reports for one in each))
    return plan(replace(snapshot, samples=samples), CATALOGUE, world.now)


async def test_each_guardrail_fires(prometheus_factory: Callable[..., Prometheus], stack: ExitStack) -> None:
    world = delivered()
    world.want("http://v2")
    world.live(5)
    before = world.rollout
    for _ in range(12):
        world.live(5)
    prometheus = await asyncio.to_thread(
        stored, {**world.samples, **world.pod_samples}, stack, prometheus_factory
    )
    found = (await decided(world, before, prometheus)).status.guardrails
    assert [(each.name, each.verdict, each.reason) for each in found] == [
        (limit["name"], Verdict.FAIL, Reason.GUARDRAIL_BROKEN) for limit in LIMITS
    ], found


async def test_no_guardrail_fires_at_ten_samples(
    prometheus_factory: Callable[..., Prometheus], stack: ExitStack
) -> None:
    world = delivered()
    world.per_second = 0
    world.want("http://v2")
    world.live(5)
    before = world.rollout
    assert world.served is not None
    assert world.served.candidate is not None
    for _ in range(10):
        world.count(world.served.candidate.revision, 1)
        world.count(world.served.stable.revision, 5)
        world.live(5)
    prometheus = await asyncio.to_thread(
        stored, {**world.samples, **world.pod_samples}, stack, prometheus_factory
    )
    found = (await decided(world, before, prometheus)).status.guardrails
    assert [each.verdict for each in found] == [Verdict.INSUFFICIENT] * 3, found
    assert all(0 < each.candidate.total <= 10 for each in found)


async def evaluated(world: TalkingRollout, before: AgentRollout, prometheus: Prometheus) -> list[Plan]:
    """What the plan makes of what Prometheus gives to the queries, in the last minute of the recording."""
    source, plans = PrometheusSource(prometheus.url), []
    try:
        for at in (world.now - timedelta(seconds=ago) for ago in (45, 30, 15, 0)):
            snapshot = replace(world.snapshot(), rollout=before)
            asked = queries(snapshot, at)
            answers = {query: Answer(await source.values(query, at)) for query in asked}
            series = tuple(
                Series(dict(labels), tuple(sample for sample in samples if sample[0] <= at.timestamp()))
                for labels, samples in world.samples.items()
            )
            plans.append(plan(replace(snapshot, samples=Samples(at, series, answers=answers)), CATALOGUE, at))
            before = before.model_copy(update={"status": plans[-1].status})
    finally:
        await source.close()
    return plans


async def test_a_query_fires_when_its_value_lasted(
    prometheus_factory: Callable[..., Prometheus], stack: ExitStack
) -> None:
    world = delivered(QUERY)
    world.want("http://v2")
    world.live(5)
    before = world.rollout
    for _ in range(15):
        world.live(5)
    prometheus = await asyncio.to_thread(
        stored, {**world.samples, **world.pod_samples}, stack, prometheus_factory
    )
    plans = await evaluated(world, before, prometheus)
    found = [each.status.guardrails[0] for each in plans]
    assert [each.verdict for each in found[:3]] == [
        Verdict.INSUFFICIENT,
        Verdict.INSUFFICIENT,
        Verdict.FAIL,
    ], found
    record = plans[2].status.last_rollback
    assert record is not None
    assert (record.reason, record.metric) == (Reason.GUARDRAIL_BROKEN, "failed-calls")


async def test_a_query_does_not_fire_at_ten_samples(
    prometheus_factory: Callable[..., Prometheus], stack: ExitStack
) -> None:
    world = delivered(QUERY)
    world.per_second = 0
    world.want("http://v2")
    world.live(5)
    before = world.rollout
    assert world.served is not None
    assert world.served.candidate is not None
    world.count(world.served.candidate.revision, 10)
    world.count(world.served.stable.revision, 50)
    for _ in range(15):
        world.live(5)
    prometheus = await asyncio.to_thread(
        stored, {**world.samples, **world.pod_samples}, stack, prometheus_factory
    )
    plans = await evaluated(world, before, prometheus)
    found = [each.status.guardrails[0] for each in plans]
    assert [(each.verdict, each.candidate.total) for each in found] == [(Verdict.INSUFFICIENT, 10)] * 4, found
