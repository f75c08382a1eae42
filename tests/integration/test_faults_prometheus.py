"""Evidence that cannot be read: the weight is held, nothing is taken back for it, and afterwards it goes on."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from enum import StrEnum
from functools import partial
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
from devkit.process import LOOPBACK, free_port, wait_until
from devkit.prometheus import Prometheus, ScrapeJob
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
    MINUS_INFINITE = "is -inf"
    PARTIAL = "gave no complete answer: No StoreAPIs matched"
    AHEAD = "s ahead of the operator's"
    BEHIND = "s behind the operator's"
    STALE = "s old"
    HANGING = "did not answer within"


_NO_NUMBERS = {Fault.NAN: "NaN", Fault.INFINITE: "+Inf", Fault.MINUS_INFINITE: "-Inf"}
_OF_PROCESSES = (CATALOGUE.liveness, CATALOGUE.override)


class FaultyPrometheus:
    """Stands between the operator and the real Prometheus."""

    def __init__(self, upstream: str) -> None:
        self.fault: Fault | None = None
        self.reset_at = float("inf")
        self.seconds = 0.0
        self.asked_at: list[float] = []
        self._lost: dict[str, float] = {}
        self._upstream = upstream
        self._frozen = 0.0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its URL, while it serves."""
        port, app = free_port(), web.Application()
        app.router.add_post("/{path:.*}", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, port).start()
        yield f"http://{LOOPBACK}:{port}"
        await runner.cleanup()

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
                return _cut(request)
            case Fault.HANGING:
                await asyncio.sleep(3600)
        await asyncio.sleep(self.seconds if begins else 0)
        try:
            body = await self._ask(request)
        except aiohttp.ClientConnectionError:
            return _cut(request)
        body["data"]["result"] = self._distorted(body["data"]["result"], fault)
        if fault is Fault.PARTIAL:
            body["warnings"] = ["No StoreAPIs matched for this query"]
        skew = {Fault.AHEAD: 60, Fault.BEHIND: -60}.get(fault, 0) if fault else 0
        date = formatdate(datetime.now(UTC).timestamp() + skew, usegmt=True)
        return web.json_response(
            body, headers={"Date": date}, dumps=partial(json.dumps, separators=(",", ":"))
        )

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
        for one in result:
            if one["metric"]["__name__"] not in _OF_PROCESSES:
                self._distort(one, fault)
        return result

    def _distort(self, counter: Any, fault: Fault | None) -> None:
        if fault in _NO_NUMBERS:
            counter["values"][-1][1] = _NO_NUMBERS[fault]
        before = [value for time, value in counter["values"] if time < self.reset_at]
        key = json.dumps(counter["metric"], sort_keys=True)
        if before:
            self._lost[key] = float(before[-1])
        for sample in counter["values"][len(before) :]:
            sample[1] = str(float(sample[1]) - self._lost[key]) if key in self._lost else sample[1]


def _cut(request: web.Request) -> web.Response:
    assert request.transport
    request.transport.close()
    return web.Response()


@asynccontextmanager
async def faulty_lab(
    control_plane: ControlPlane, namespace: str, directory: Path, *more: Prometheus, routers: int = 1
) -> AsyncIterator[tuple[DeliveryLab, list[FaultyPrometheus]]]:
    """A lab whose operator asks faulty servers, the first of which stands before the lab's own Prometheus."""
    lab = DeliveryLab(control_plane, namespace, directory, routers=routers)
    proxies = [FaultyPrometheus(each.url) for each in (lab.prometheus, *more)]
    async with AsyncExitStack() as stack:
        lab.use_prometheus(*[await stack.enter_async_context(proxy.serving()) for proxy in proxies])
        async with lab:
            yield lab, proxies


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


async def test_neither_silence_nor_an_unusable_answer_advances_or_takes_back_a_healthy_version(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with faulty_lab(control_plane, namespace, tmp_path) as (lab, [prometheus]):
        first = await _first_version(lab)
        stages = [stage("10%", seconds=6, requests=5), stage("100%", seconds=1)]
        await lab.apply(manifest(namespace, lab.agent("new").url, stages=stages))
        await lab.until(lambda r: r.status.verdict is Verdict.INSUFFICIENT)
        silent = await _held(lab, _is_over)
        said = silent.status.condition(ConditionType.PROGRESSING)
        assert said
        assert "0 of 5 requests counted" in said.message
        prometheus.fault = Fault.UNAVAILABLE
        await _held(lab, _blind(Fault.UNAVAILABLE))
        async with lab.users() as met:
            for fault in Fault:
                prometheus.fault = fault
                await _held(lab, _blind(fault))
                asked = prometheus.queries
                blind = await _held(lab, lambda _: prometheus.queries >= asked + 1)  # noqa: B023
                assert _blind(fault)(blind)
            prometheus.fault = None
            await asyncio.to_thread(lab.prometheus.stop)
            await _held(lab, _blind("cannot be reached"))
            until = datetime.now(UTC) + OUTAGE
            last = await _held(lab, lambda _: datetime.now(UTC) >= until)
            assert _blind("cannot be reached")(last)
            await asyncio.to_thread(lab.prometheus.start)
            ended = await lab.until(lambda r: r.status.state is State.STABLE)
        assert ended.status.stable != first.status.stable
        assert ended.status.last_rollback is None
        assert met.failed == 0


async def test_what_happens_to_scrapes_and_servers_holds_up_nothing_and_counts_no_request_twice(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, prometheus_factory: Callable[..., Prometheus]
) -> None:
    other = prometheus_factory(
        [ScrapeJob("envoy", path="/stats/prometheus")], scrape_interval=0.5, replica="b"
    )
    async with faulty_lab(control_plane, namespace, tmp_path, other, routers=2) as (lab, servers):
        both = [envoy.admin_address for envoy in lab.envoys]
        await asyncio.to_thread(other.set_targets, "envoy", both)
        await _first_version(lab)
        scraped, first = lab.prometheus.set_targets, partial(setattr, servers[0])
        fresh = f"count_over_time({CATALOGUE.liveness}[3s]) >= 3"
        caught_up = partial(
            wait_until, lambda: len(other.query(fresh)) == len(both), timeout=30, what="scrapes of the other"
        )
        disturbances: dict[str, tuple[Callable[[], object], ...]] = {
            "one of two servers is down": (
                caught_up,
                partial(first, "fault", Fault.UNAVAILABLE),
            ),
            "it is back, and the other one down": (partial(first, "fault", None), other.stop),
            "two jobs scrape the same": (partial(scraped, "again", both),),
            "one job less, and a router": (
                partial(scraped, "again", []),
                partial(scraped, "envoy", both[:1]),
            ),
            "a new router": (partial(scraped, "envoy", both, {"pod": "new"}),),
            "counters begin again": (lambda: first("reset_at", datetime.now(UTC).timestamp()),),
            "slow answers": (partial(first, "seconds", 0.8),),
            "one of two servers is down again": (
                other.start,
                caught_up,
                partial(first, "fault", Fault.UNAVAILABLE),
            ),
        }
        stages = [stage("10%", seconds=600, requests=5), stage("100%")]
        wanted = partial(manifest, namespace, lab.agent("new").url, stages=stages)
        async with lab.users() as met:
            await lab.apply(wanted())
            await _passing(lab)
            for what, steps in disturbances.items():
                for step in steps:
                    await asyncio.to_thread(step)
                asked, times = sum(server.queries for server in servers), 8 if what == "slow answers" else 4
                seen = await _held(lab, lambda _: sum(s.queries for s in servers) >= asked + times)  # noqa: B023
                said = what, [metric.message for metric in seen.status.analysis]
                assert (seen.status.state, seen.status.verdict) == (State.PROGRESSING, Verdict.PASS), said
                if what == "slow answers":
                    gaps = [later - earlier for earlier, later in pairwise(servers[0].asked_at[-times:])]
            until = datetime.now(UTC)
            # Whoever writes the spec makes evidence in memory void: counting goes on from what was stored of the first server.
            await lab.apply(wanted(paused=True))
            # Without news status is written once a minute.
            ended = await lab.until(lambda r: _counted_until(r) > until, timeout=100)
            assert ended.status.candidate
            counted = ended.status.analysis[0].candidate.total
            served = lab.served(ended.status.candidate.revision)
        assert 0.7 * served < counted <= served
        assert ended.status.last_rollback is None
        assert ended.status.evidence
        assert ended.status.evidence.continuous_since
        assert met.failed == 0
        assert median(gaps) < 1.5  # one interval; it would be 1.8 if the answer's time came on top


def _counted_until(rollout: AgentRollout) -> datetime:
    evidence = rollout.status.evidence
    assert evidence
    assert evidence.counted_until
    return evidence.counted_until


async def test_a_failing_version_is_taken_back_as_soon_as_its_evidence_can_be_read_again(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with faulty_lab(control_plane, namespace, tmp_path) as (lab, [prometheus]):
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
