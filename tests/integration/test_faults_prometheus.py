"""Evidence that cannot be read: the weight is held, nothing is taken back for it, and afterwards it goes on."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from aiohttp import web

from controller.adapters.envoy.catalogue import CATALOGUE
from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.rollout import AgentRollout
from devkit.controlplane import ControlPlane
from devkit.process import LOOPBACK, free_port
from tests.integration.delivery_lab import DeliveryLab, manifest, stage

OUTAGE = timedelta(seconds=float(os.environ.get("AGENTROLLOUT_TEST_OUTAGE_SECONDS", "15")))
"""Fifteen intervals of these tests; set it to 60 for the length that the acceptance of a release asks for."""


class Fault(StrEnum):
    """What becomes of a query, and a part of the sentence that status says about it."""

    UNAVAILABLE = "503"
    MALFORMED = "gave no usable answer"
    CUT = "cannot be reached"
    EMPTY = "has no envoy_server_live"
    NAN = "is nan"
    INFINITE = "is inf"
    STALE = "s old"
    HANGING = "did not answer within"


class FaultyPrometheus:
    """Stands between the operator and the real Prometheus."""

    def __init__(self, upstream: str) -> None:
        self.fault: Fault | None = None
        self.seconds = 0.0
        self.asked_at: list[float] = []
        self._upstream = upstream
        self._frozen = 0.0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        fault, now = self.fault, float(str(form["time"]))
        if begins := CATALOGUE.liveness in str(form["query"]):
            self.asked_at.append(asyncio.get_running_loop().time())
        if fault is None:
            self._frozen = now
        match fault:
            case Fault.UNAVAILABLE:
                return web.Response(status=503, text="starting up")
            case Fault.MALFORMED:
                return web.Response(text='{"status": "success", "data": {"resu')
            case Fault.CUT:
                assert request.transport
                request.transport.close()
                return web.Response()
            case Fault.HANGING:
                await asyncio.sleep(3600)
        await asyncio.sleep(self.seconds if begins else 0)
        body = await self._ask(request)
        body["data"]["result"] = self._distorted(body["data"]["result"], fault)
        return web.json_response(body)

    @property
    def queries(self) -> int:
        """How often evidence was asked for; each time begins with the liveness of the routers."""
        return len(self.asked_at)

    async def _ask(self, request: web.Request) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self._upstream}{request.path}", data=await request.post()) as answer,
        ):
            return json.loads(await answer.read())

    def _distorted(self, result: list[Any], fault: Fault | None) -> list[Any]:
        if fault is Fault.EMPTY:
            return []
        if fault is Fault.STALE:
            frozen = self._frozen
            older = [{**one, "values": [v for v in one["values"] if v[0] < frozen]} for one in result]
            return [one for one in older if one["values"]]
        if fault in (Fault.NAN, Fault.INFINITE):
            broken = "NaN" if fault is Fault.NAN else "+Inf"
            for one in result:
                if one["metric"]["__name__"] != CATALOGUE.liveness:
                    one["values"][-1][1] = broken
        return result


@asynccontextmanager
async def faulty_lab(
    control_plane: ControlPlane, namespace: str, directory: Path
) -> AsyncIterator[tuple[DeliveryLab, FaultyPrometheus]]:
    lab = DeliveryLab(control_plane, namespace, directory)
    proxy, port = FaultyPrometheus(lab.prometheus.url), free_port()
    app = web.Application()
    app.router.add_post("/{path:.*}", proxy.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    lab.use_prometheus(f"http://{LOOPBACK}:{port}")
    try:
        async with lab:
            yield lab, proxy
    finally:
        await runner.cleanup()


async def _first_version(lab: DeliveryLab) -> AgentRollout:
    await lab.apply(manifest(lab.namespace, lab.agent("old").url))
    return await lab.until(lambda r: r.status.state is State.STABLE)


async def _passing(lab: DeliveryLab) -> AgentRollout:
    """The first stage lacks nothing but its time."""
    return await lab.until(lambda r: r.status.verdict is Verdict.PASS and r.status.weight == 100_000)


async def _held(lab: DeliveryLab, done: Callable[[AgentRollout], object]) -> AgentRollout:
    """The state in which ``done`` holds; until then the candidate keeps exactly what it has."""
    async with asyncio.timeout(60 + OUTAGE.total_seconds()):
        while True:
            rollout = await lab.get()
            assert (rollout.status.weight, rollout.status.last_rollback) == (100_000, None)
            if done(rollout):
                return rollout
            await asyncio.sleep(0.1)


def _blind(words: str) -> Callable[[AgentRollout], bool]:
    """Status says that it is blind, in which words, and what it does about it."""

    def holds(rollout: AgentRollout) -> bool:
        said = rollout.status.condition(ConditionType.PROGRESSING)
        return (
            said is not None
            and said.reason is Reason.ANALYSIS_BLIND
            and words in said.message
            and said.message.startswith("the weight is held: ")
            and rollout.status.state is State.BLIND
        )

    return holds


def _is_over(rollout: AgentRollout) -> bool:
    """By now nothing but blindness keeps the candidate in its stage."""
    began = rollout.status.stage and rollout.status.stage.programmed_at
    assert began
    return datetime.now(UTC) > began + timedelta(seconds=7)


async def test_a_stopped_prometheus_holds_the_weight_and_afterwards_the_version_is_promoted(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        first = await _first_version(lab)
        stages = [stage("10%", seconds=6, requests=5), stage("100%", seconds=1)]
        async with lab.users() as met:
            await lab.apply(manifest(namespace, lab.agent("new").url, stages=stages))
            before = await _passing(lab)
            await asyncio.to_thread(lab.prometheus.stop)
            await _held(lab, _blind("cannot be reached"))
            until = datetime.now(UTC) + OUTAGE
            last = await _held(lab, lambda _: datetime.now(UTC) >= until)
            assert _is_over(last)
            assert _blind("cannot be reached")(last)
            assert last.status.analysis[0].candidate.total >= before.status.analysis[0].candidate.total
            await asyncio.to_thread(lab.prometheus.start)
            ended = await lab.until(lambda r: r.status.state is State.STABLE)
        assert ended.status.stable != first.status.stable
        assert ended.status.last_rollback is None
        assert met.failed == 0


async def test_no_unusable_answer_advances_or_takes_back_a_healthy_version(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with faulty_lab(control_plane, namespace, tmp_path) as (lab, prometheus):
        first = await _first_version(lab)
        stages = [stage("10%", seconds=6, requests=5), stage("100%", seconds=1)]
        async with lab.users() as met:
            await lab.apply(manifest(namespace, lab.agent("new").url, stages=stages))
            await _passing(lab)
            for fault in Fault:
                prometheus.fault = fault
                blind = await _held(lab, _blind(fault))
                asked = prometheus.queries
                await _held(lab, lambda _: prometheus.queries >= asked + 1)  # noqa: B023
            assert _is_over(blind)
            prometheus.fault = None
            ended = await lab.until(lambda r: r.status.state is State.STABLE)
        assert ended.status.stable != first.status.stable
        assert ended.status.last_rollback is None
        assert met.failed == 0


async def test_a_failing_version_is_taken_back_as_soon_as_its_evidence_can_be_read_again(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with faulty_lab(control_plane, namespace, tmp_path) as (lab, prometheus):
        first, new = await _first_version(lab), lab.agent("new")
        stages = [stage("10%", seconds=6, requests=5), stage("100%", seconds=1)]
        async with lab.users() as met:
            await lab.apply(manifest(namespace, new.url, stages=stages))
            await _passing(lab)
            prometheus.fault = Fault.NAN
            await _held(lab, _blind(Fault.NAN))
            new.set_failures(0.5)
            blind = await _held(lab, lambda r: met.failed >= 30 and _is_over(r))
            assert _blind(Fault.NAN)(blind)
            prometheus.fault = None
            ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
            await lab.until(lambda r: r.status.programmed == 0)
        assert ended.status.stable == first.status.stable
        assert ended.status.last_rollback is not None
        assert ended.status.last_rollback.stage == "10%"


async def test_a_slow_prometheus_does_not_stretch_the_time_between_evaluations(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with faulty_lab(control_plane, namespace, tmp_path) as (lab, prometheus):
        await _first_version(lab)
        await lab.apply(manifest(namespace, lab.agent("new").url, stages=[stage("100%", seconds=600)]))
        prometheus.seconds = 0.8
        async with asyncio.timeout(60):
            while prometheus.queries < 10:  # noqa: ASYNC110 - happens in another process
                await asyncio.sleep(0.1)
    gaps = [later - earlier for earlier, later in pairwise(prometheus.asked_at[1:])]
    assert median(gaps) < 1.5  # one interval; it would be 1.8 if the answer's time came on top


async def test_without_any_traffic_nothing_advances(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with faulty_lab(control_plane, namespace, tmp_path) as (lab, prometheus):
        first = await _first_version(lab)
        stages = [stage("10%", seconds=1, requests=1), stage("100%", seconds=1, requests=1)]
        await lab.apply(manifest(namespace, lab.agent("new").url, stages=stages))
        await lab.until(lambda r: r.status.verdict is Verdict.INSUFFICIENT)
        asked = prometheus.queries
        async with asyncio.timeout(60):
            while prometheus.queries < asked + 6:  # noqa: ASYNC110 - happens in another process
                await asyncio.sleep(0.1)
        quiet = await lab.get()
        assert (quiet.status.weight, quiet.status.verdict) == (100_000, Verdict.INSUFFICIENT)
        said = quiet.status.condition(ConditionType.PROGRESSING)
        assert said is not None
        assert "0 of 1 requests counted" in said.message
        async with lab.users():
            ended = await lab.until(lambda r: r.status.state is State.STABLE)
        assert ended.status.stable != first.status.stable
