"""Conversations as trials through a real Envoy: what it tells, what is counted, and that no user waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from controller.adapters.envoy.access_log import AccessLog
from controller.core.traffic import AudienceSplit, TrafficTable
from controller.core.trials import LOOKBACK_EXPOSURES, Request
from tests.integration.envoy_lab import Lab, arms, backend, eventually, fetch, table
from tests.integration.test_envoy_grpc import Answers, channel, http2, serving

EXPOSURE = timedelta(seconds=60)
WATCHED = LOOKBACK_EXPOSURES * EXPOSURE.total_seconds()


class Clock:
    """Time passes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Logging(AccessLog):
    """Remembers which requests arrive: for each conversation whether its last one was bad."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.arrived = 0
        self.met: dict[int, bool] = {}
        self.hash = self._hash
        take = self._trials.take

        def remembered(key: str, request: Request, now: float) -> None:
            self.arrived += 1
            self.met[request.conversation] = request.bad
            take(key, request, now)

        self._trials.take = remembered  # type: ignore[method-assign]

    async def have(self, requests: int) -> None:
        async def look() -> int:
            return self.arrived

        assert await eventually(look, lambda arrived: arrived >= requests) == requests


class Watched:
    """A router that leads, with one Envoy and a split in halves, after the time in which nobody counts."""

    def __init__(self, lab: Lab, log: Logging, clock: Clock, split: TrafficTable) -> None:
        self.lab, self.log, self.clock, self.split = lab, log, clock, split

    async def ask(self, conversation: str, path: str = "/", give_up: float = 0) -> None:
        """One request, whose entry is there afterwards."""
        arrived = self.log.arrived
        await fetch(self.lab.user_port, path, headers=[("x-session-id", conversation)], give_up=give_up)
        await self.log.have(arrived + 1)

    def judged(self) -> tuple[int, int]:
        """Bad and good trials of both versions once all exposures are over."""
        self.clock.now += EXPOSURE.total_seconds()
        found = list(self.log.counts())
        return sum(each.bad for each in found), sum(each.good for each in found)


@asynccontextmanager
async def watched(**options: Any) -> AsyncIterator[Watched]:
    clock = Clock()
    log = Logging(clock)
    log.lead(True)
    async with arms() as (stable, candidate), Lab(options, access_log=log) as lab:
        split = replace(
            table(backend("stable", stable.port), backend("candidate", candidate.port), 500_000),
            exposure=EXPOSURE,
        )
        await lab.start(split)
        found = Watched(lab, log, clock, split)
        await found.ask("from-before")
        clock.now += WATCHED
        yield found


async def test_a_conversation_counts_once_and_is_bad_if_one_of_its_requests_was() -> None:
    async with watched() as found:
        for turn in (1, 2, 3):
            for bad_turn in (0, 1, 2, 3):
                path = "/status/503" if turn == bad_turn else "/"
                await fetch(found.lab.user_port, path, headers=[("x-session-id", f"fails-at-{bad_turn}")])
        await found.log.have(1 + 12)
        assert found.judged() == (3, 1)


async def test_who_was_met_before_is_no_trial_and_a_bad_request_after_the_exposure_is_no_matter() -> None:
    async with watched() as found:
        await found.ask("from-before", "/status/503")
        await found.ask("fails-late")
        found.clock.now += EXPOSURE.total_seconds()
        await found.ask("fails-late", "/status/503")
        assert found.judged() == (0, 1)


async def test_what_is_bad_is_what_errors_count() -> None:
    """The rows of the table in adapters/envoy/metrics.py that a conversation may be made of."""
    expected = {
        "/status/404": 0,
        "/status/500": 1,
        "/cut-before-headers/close": 1,
        "/cut-in-body/reset": 1,
        "/cut-in-chunks/close": 1,
        "/garbage-in-chunks/close": 1,
        "/silent-before-headers/close": 1,
        "/silent-in-body/close": 1,
        "/slow/5": 0,
        "/trickle/close": 0,
        "/upgrade/close": 0,
    }
    async with watched(idle_timeout=timedelta(seconds=1)) as lab:

        async def ask(path: str) -> None:
            leaves = 0.2 if path in {"/slow/5", "/trickle/close"} else 0
            await fetch(lab.lab.user_port, path, headers=[("x-session-id", path)], give_up=leaves)

        await asyncio.gather(*map(ask, expected))
        await lab.log.have(1 + len(expected))
        assert {path: lab.log.met[lab.log.hash(path)] for path in expected} == expected
        assert lab.judged() == (sum(expected.values()), len(expected) - sum(expected.values()))


@pytest.mark.parametrize(("status", "bad"), [(grpc.StatusCode.INTERNAL, 1), (grpc.StatusCode.NOT_FOUND, 0)])
async def test_a_grpc_status_of_the_server_is_bad_and_one_of_the_user_is_not(
    status: grpc.StatusCode, bad: int
) -> None:
    clock = Clock()
    log = Logging(clock)
    log.lead(True)
    async with serving(Answers(status)) as port, Lab(access_log=log) as lab:
        split = replace(table(http2("stable", port), http2("candidate", port), 500_000), exposure=EXPOSURE)
        await lab.start(split)
        found = Watched(lab, log, clock, split)
        async with channel(lab) as users:
            for number, conversation in enumerate(("from-before", "one"), start=1):
                call = users.unary_unary("/shop.Agent/Ask")(b"", metadata=(("x-session-id", conversation),))
                assert await call.code() is status
                await log.have(number)
                clock.now += WATCHED
        assert found.judged() == (bad, 1 - bad)


async def test_only_what_asks_for_it_is_told_and_of_that_no_audience_and_nobody_without_the_header() -> None:
    audience = AudienceSplit("x-group", ("internal",), 500_000)
    async with watched() as found:
        other = replace(found.split, key="shop/other", hosts=("other.example",), exposure=None)
        await found.lab.publish(other)
        await found.lab.publish(replace(found.split, audiences=(audience,)))
        arrived, port = found.log.arrived, found.lab.user_port
        session = ("x-session-id", "c")
        await fetch(port, host="other.example", headers=[session])
        await fetch(port, headers=[session, ("x-group", "internal")])
        await fetch(port, headers=[("cookie", "agentrollout-conversation=c")])
        await fetch(port)
        await found.ask("last")
        assert found.log.arrived == arrived + 1
        assert (await found.lab.counters("access_logs"))["access_logs.grpc_access_log.logs_written"] == 2


async def test_another_split_leaves_out_who_is_being_watched() -> None:
    async with watched() as found:
        await found.ask("one")
        await found.lab.publish(replace(found.split, weight_ppm=600_000))
        await found.ask("one", "/status/503")
        await found.ask("two")
        assert found.judged() == (0, 1)


async def test_a_replica_that_does_not_lead_sends_envoys_away_and_takes_them_when_it_does() -> None:
    async with watched() as found:
        found.log.lead(False)
        arrived = found.log.arrived
        for number in range(5):
            answer = await fetch(found.lab.user_port, headers=[("x-session-id", f"c{number}")])
            assert answer.status == 200
        found.log.lead(True)

        async def reaches() -> int:
            await fetch(found.lab.user_port, headers=[("x-session-id", "again")])
            return found.log.arrived

        assert await eventually(reaches, lambda seen: seen > arrived) > arrived
        assert found.judged() == (0, 0)


async def test_whichever_replica_configures_an_envoy_the_one_that_leads_is_told() -> None:
    following, leading = Logging(Clock()), Logging(Clock())
    leading.lead(True)
    async with (
        arms() as (stable, candidate),
        Lab(access_log=following) as one,
        Lab(access_log=leading) as other,
    ):
        agents = backend("stable", stable.port), backend("candidate", candidate.port)
        split = replace(table(*agents, 500_000), exposure=EXPOSURE)
        other.new_router(listen_port=one.user_port)
        for lab in (one, other):
            lab.router.publish(split)
            await lab.start(envoys=0)
        await one.add_envoy("router", others=[other.xds_port])

        async def reaches() -> int:
            answer = await fetch(one.user_port, headers=[("x-session-id", "c")])
            assert answer.status == 200
            return leading.arrived

        assert await eventually(reaches, lambda arrived: arrived > 0)
        assert following.arrived == 0


class Hung(AccessLog):
    """A replica that takes the stream and reads nothing."""

    async def _read(self, messages: Any) -> None:
        await asyncio.Event().wait()


async def test_users_are_served_while_the_receiver_hangs_and_after_it_is_gone() -> None:
    log = Hung()
    log.lead(True)
    async with arms() as (stable, candidate), Lab(access_log=log) as lab:
        agents = backend("stable", stable.port), backend("candidate", candidate.port)
        await lab.start(replace(table(*agents, 500_000), exposure=EXPOSURE))

        async def crowd() -> int:
            """The log takes a user's path as well, so that few requests fill every buffer on the way."""
            path = f"/{'x' * 16_000}"
            for number in range(200):
                answer = await fetch(lab.user_port, path, headers=[("x-session-id", f"c{number}")])
                assert answer.status == 200
            return (await lab.counters("access_logs")).get("access_logs.grpc_access_log.logs_dropped", 0)

        assert await eventually(crowd, lambda dropped: dropped > 0, timeout=30)
        await lab.router.stop(0)
        await crowd()
