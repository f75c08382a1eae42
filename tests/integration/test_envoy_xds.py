"""The protocol with real Envoys: acknowledgements, refusals, restarts on either side, several instances."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from controller.adapters.envoy.router import EnvoyRouter
from controller.core.traffic import TrafficTable
from devkit.process import LOOPBACK
from tests.integration.envoy_lab import Answer, Lab, arms, backend, eventually, fetch, table

KEY = "shop/agent"


@contextlib.asynccontextmanager
async def traffic(port: int) -> AsyncIterator[list[Answer]]:
    """Users without a pause; what they got is in the list."""
    answers: list[Answer] = []
    stop = asyncio.Event()

    async def user(number: int) -> None:
        for turn in itertools.count():
            if stop.is_set():
                return
            answers.append(await fetch(port, headers=[("x-session-id", f"{number}-{turn}")]))

    users = [asyncio.create_task(user(number)) for number in range(4)]
    try:
        yield answers
    finally:
        stop.set()
        await asyncio.gather(*users)


def failed(answers: list[Answer]) -> list[int]:
    return [each.status for each in answers if each.status != 200 or not each.complete]


async def updates(lab: Lab, envoy: int = 0) -> dict[str, int]:
    counted = await lab.counters("", envoy)
    return {name: value for name, value in counted.items() if ".update_" in name}


async def versions(lab: Lab) -> set[str]:
    """The rollouts' versions that Envoy has, as ``rollout/version``."""
    return {name.split(".")[1] for name in await lab.counters("cluster.shop")}


async def test_a_change_is_programmed_when_envoy_has_taken_it() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        first = table(backend("stable", stable.port))
        await lab.start(first)
        split = table(first.stable, backend("candidate", candidate.port), 1_000_000)
        lab.router.publish(split)
        assert lab.router.programmed(KEY).table == first
        await lab.programmed(split)

        programmed = lab.router.programmed(KEY)
        assert (programmed.instances, programmed.error) == (1, "")
        assert programmed.acknowledged_at is not None
        assert (await fetch(lab.user_port)).served_by == "candidate"


async def test_a_removed_rollout_is_served_no_more_and_leaves_nothing_behind() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        other = table(backend("stable", stable.port), key="shop/other", hosts=("other.example",))
        await lab.start(table(backend("stable", stable.port), backend("candidate", candidate.port), 1), other)
        lab.router.remove(KEY)
        await lab.until(lambda: lab.router.programmed(KEY).table is None)
        assert (await fetch(lab.user_port)).status == 404
        assert (await fetch(lab.user_port, host="other.example")).status == 200
        left = {"shop/other/stable"}
        assert await eventually(lambda: versions(lab), left.__eq__) == left


async def test_versions_come_and_go_without_a_failed_request() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        one, two = backend("stable", stable.port), backend("candidate", candidate.port)
        await lab.start(table(one))
        async with traffic(lab.user_port) as answers:
            for index in range(15):
                attempt = replace(two, revision=f"candidate-{index}")
                await lab.publish(table(one, attempt, 500_000))
                await asyncio.sleep(0.02)
                await lab.publish(table(attempt))
                await asyncio.sleep(0.02)
                await lab.publish(table(one))

    assert len(answers) > 100
    assert failed(answers) == []


async def test_a_refusal_says_why_and_keeps_what_was_in_force() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        good = table(backend("stable", stable.port))
        other = table(backend("stable", stable.port), key="shop/other", hosts=("other.example",))
        await lab.start(good, other)
        lab.router.publish(table(good.stable, backend("candidate", 99_999), 500_000))
        await lab.until(lambda: bool(lab.router.programmed(KEY).error))

        refused = lab.router.programmed(KEY)
        assert refused.table == good
        assert refused.error.startswith("router-0: SocketAddressValidationError.PortValue: ")
        assert len(refused.error) < 200
        assert (await fetch(lab.user_port)).served_by == "stable"

        await lab.publish(
            replace(other, candidate=backend("candidate", candidate.port), weight_ppm=1_000_000)
        )
        assert (await fetch(lab.user_port, host="other.example")).served_by == "candidate"
        await lab.publish(good)
        assert lab.router.programmed(KEY).error == ""


async def test_a_refused_route_keeps_the_split_that_was_in_force() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        split = table(backend("stable", stable.port), backend("candidate", candidate.port), 1_000_000)
        await lab.start(split)
        lab.router.publish(replace(split, weight_ppm=0, affinity_header="two\nlines"))
        await lab.until(lambda: bool(lab.router.programmed(KEY).error))

        assert lab.router.programmed(KEY).table == split
        assert (await fetch(lab.user_port)).served_by == "candidate"


async def test_a_host_that_is_taken_is_refused_until_it_is_free() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        older = table(backend("stable", stable.port))
        younger = table(backend("candidate", candidate.port), key="shop/younger")
        await lab.start(older)
        lab.router.publish(younger)
        await lab.until(lambda: "conflict" in lab.router.programmed("shop/younger").error)
        assert (await fetch(lab.user_port)).served_by == "stable"

        lab.router.remove(KEY)
        await lab.programmed(younger)
        assert (await fetch(lab.user_port)).served_by == "candidate"


async def test_one_refused_rollout_does_not_keep_the_others_from_a_starting_envoy() -> None:
    async with arms() as (stable, _), Lab() as lab:
        good = table(backend("stable", stable.port))
        bad = table(backend("stable", stable.port, ""), key="shop/bad", hosts=("bad.example",))
        lab.router.publish(bad)
        await lab.start(good)
        await lab.until(lambda: bool(lab.router.programmed("shop/bad").error))

        assert (await fetch(lab.user_port)).served_by == "stable"
        assert lab.router.programmed("shop/bad").table is None
        assert lab.router.programmed(KEY).table == good


async def restart_operator(lab: Lab, *tables: TrafficTable) -> None:
    await lab.router.stop(0)
    await asyncio.sleep(0.3)
    lab.new_router()
    for each in tables:
        lab.router.publish(each)
    await lab.start()
    for each in tables:
        await lab.programmed(each)


async def test_a_restart_of_the_operator_is_not_noticed() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        split = table(backend("stable", stable.port), backend("candidate", candidate.port), 500_000)
        await lab.start(split)
        before = await updates(lab)
        async with traffic(lab.user_port) as answers:
            await restart_operator(lab, split)
            await asyncio.sleep(0.2)

        assert failed(answers) == []
        assert await updates(lab) == before
        assert lab.router.programmed(KEY).acknowledged_at is not None


async def test_what_changed_while_the_operator_was_away_is_brought_up_to_date() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        split = table(backend("stable", stable.port), backend("candidate", candidate.port), 500_000)
        gone = table(backend("stable", stable.port), key="shop/gone", hosts=("gone.example",))
        await lab.start(split, gone)
        promoted = table(backend("candidate", candidate.port))
        async with traffic(lab.user_port) as answers:
            await restart_operator(lab, promoted)
        assert failed(answers) == []
        assert (await fetch(lab.user_port)).served_by == "candidate"

        async def gone_status() -> int:
            return (await fetch(lab.user_port, host="gone.example")).status

        assert await eventually(gone_status, (404).__eq__) == 404
        left = {"shop/agent/candidate"}
        assert await eventually(lambda: versions(lab), left.__eq__) == left


async def test_an_operator_that_has_not_started_is_not_asked() -> None:
    async with arms() as (stable, _), Lab() as lab:
        good = table(backend("stable", stable.port))
        await lab.start(good)
        await lab.router.stop(0)
        lab.new_router()
        await asyncio.sleep(0.5)
        assert (await fetch(lab.user_port)).status == 200
        lab.router.publish(good)
        await lab.start(good)


async def test_a_restarted_envoy_gets_everything() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        split = table(backend("stable", stable.port), backend("candidate", candidate.port), 1_000_000)
        await lab.start(split)
        await lab.restart_envoy()
        assert (await fetch(lab.user_port)).served_by == "candidate"
        assert lab.router.programmed(KEY).table == split


async def test_programmed_means_every_instance() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        first = table(backend("stable", stable.port))
        await lab.start(first, envoys=2)
        await lab.until(lambda: lab.router.programmed(KEY).instances == 2)
        split = table(first.stable, backend("candidate", candidate.port), 1_000_000)
        lab.envoys[1].process.pause()
        lab.router.publish(split)
        await asyncio.sleep(0.5)
        assert lab.router.programmed(KEY).table == first

        lab.envoys[1].process.resume()
        await lab.programmed(split)
        assert lab.router.programmed(KEY).instances == 2

        await asyncio.to_thread(lab.envoys[1].close)
        await lab.until(lambda: lab.router.programmed(KEY).instances == 1)
        assert lab.router.programmed(KEY).table == split


async def test_a_taken_port_is_an_error_of_the_system() -> None:
    async with Lab() as lab:
        await lab.start()
        second = EnvoyRouter(now=lambda: datetime.now(UTC))
        with pytest.raises(OSError, match="cannot listen for xDS"):
            await second.start(LOOPBACK, lab.xds_port)


async def test_an_envoy_without_any_rollout_serves_404_and_then_the_first() -> None:
    async with arms() as (stable, _), Lab() as lab:
        await lab.start()
        assert (await fetch(lab.user_port)).status == 404
        await lab.publish(table(backend("stable", stable.port)))
        assert (await fetch(lab.user_port)).status == 200
