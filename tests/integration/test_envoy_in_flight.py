"""What becomes of answers that are under way when a candidate is taken back or promoted: drained, or cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.envoy.bootstrap import bootstrap
from controller.adapters.envoy.naming import cluster_name
from controller.core.traffic import TrafficTable
from devkit.process import LOOPBACK
from tests.integration import envoy_lab
from tests.integration.certificates import Authority
from tests.integration.envoy_lab import HOST, Agent, Lab, arms, backend, eventually, fetch, table
from tests.integration.test_envoy_endpoints import Endpoints, behind, until

WHOLE = 1_000_000


@dataclass
class Stream:
    """An answer that a user reads as it comes."""

    chunks: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def stream(
    port: int, path: str = "/trickle", header: str = "x-session-id: someone"
) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{header}\r\n\r\n".encode())
    seen = Stream()

    async def read() -> None:
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1000):
                seen.chunks += part.count(b"hello")
        seen.over.set()

    task = asyncio.create_task(read())
    try:
        await grows(seen)
        yield seen
    finally:
        task.cancel()
        writer.transport.abort()


async def grows(seen: Stream) -> None:
    """Wait for the next part of it."""
    before = seen.chunks

    async def chunks() -> int:
        return seen.chunks

    assert await eventually(chunks, lambda now: now > before) > before
    assert not seen.over.is_set()


async def gone(lab: Lab, revision: str) -> None:
    """Wait until Envoy has let the version's cluster go."""
    name = f"{cluster_name('shop/agent', revision)}::"

    async def there() -> bool:
        return name in (await asyncio.to_thread(lab.envoys[0].admin_get, "/clusters")).text

    assert not await eventually(there, lambda seen: not seen)


def split(stable: Agent, candidate: Agent, weight: int = WHOLE, *, cut: bool = True) -> TrafficTable:
    found = table(backend(stable.name, stable.port), backend(candidate.name, candidate.port), weight)
    return replace(found, cut_on_rollback=cut)


async def test_taken_back_with_cut_a_candidates_answers_end_and_stables_go_on() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        lab.drain_seconds = 0
        await lab.start(split(stable, candidate, 0))
        async with stream(lab.user_port) as of_stable:
            await lab.publish(split(stable, candidate))
            async with (
                stream(lab.user_port) as of_candidate,
                stream(lab.user_port, "/silent-in-body") as silent,
            ):
                await lab.publish(split(stable, candidate).without_candidate())
                async with asyncio.timeout(5):
                    await of_candidate.over.wait()
                    await silent.over.wait()
                await grows(of_stable)
        assert (await fetch(lab.user_port)).served_by == "stable"


@pytest.mark.parametrize("drain_seconds", [0, 600])
async def test_taken_back_with_drain_a_candidates_answers_go_on(drain_seconds: int) -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        lab.drain_seconds = drain_seconds
        table = split(stable, candidate, cut=False)
        await lab.start(table)
        async with stream(lab.user_port) as of_candidate:
            await lab.publish(table.without_candidate())
            await gone(lab, "candidate")
            await grows(of_candidate)


async def test_a_promotion_cuts_nothing_though_its_rollout_cuts() -> None:
    async with arms() as (old, new), Agent("newer") as newer, Lab() as lab:
        lab.drain_seconds = 0
        await lab.start(split(old, new, 0))
        async with stream(lab.user_port) as of_old:
            await lab.publish(split(old, new))
            async with stream(lab.user_port) as of_new:
                await lab.publish(split(new, newer, 0).without_candidate())
                await gone(lab, "stable")
                await gone(lab, "candidate~tunnel")
                assert (await fetch(lab.user_port)).served_by == "candidate"
                await lab.publish(split(new, newer))
                await lab.publish(split(new, newer).without_candidate())
                await gone(lab, "newer")
                await grows(of_old)
                await grows(of_new)


async def test_a_candidate_that_was_cut_can_be_served_again_at_once() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        lab.drain_seconds = 1
        await lab.start(split(stable, candidate))
        for _ in range(3):
            async with stream(lab.user_port) as of_candidate:
                await lab.publish(split(stable, candidate).without_candidate())
                await gone(lab, "candidate")
                await lab.publish(split(stable, candidate))
                assert (await fetch(lab.user_port)).served_by == "candidate"
                async with asyncio.timeout(5):
                    await of_candidate.over.wait()
                assert (await fetch(lab.user_port)).served_by == "candidate"


async def test_what_becomes_of_answers_can_be_changed_while_a_candidate_serves() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        await lab.start(split(stable, candidate, cut=False))
        statuses: set[int] = set()
        done = asyncio.Event()

        async def use() -> None:
            while not done.is_set():
                statuses.add((await fetch(lab.user_port)).status)

        users = [asyncio.create_task(use()) for _ in range(4)]
        for cut in (True, False) * 5:
            await lab.publish(split(stable, candidate, cut=cut))
            await fetch(lab.user_port)
        done.set()
        await asyncio.gather(*users)
        assert statuses == {200}


async def test_a_candidate_behind_a_service_is_cut_and_loses_no_request_to_a_pod_that_left() -> None:
    endpoints = Endpoints()
    async with arms() as (one, two), Lab(endpoints=endpoints) as lab:
        lab.drain_seconds = 0
        endpoints.set("shop/v1", one)
        endpoints.set("shop/v2", one)
        split = replace(
            table(behind("shop/v1", "old"), behind("shop/v2", "new"), WHOLE), cut_on_rollback=True
        )
        await lab.start(split)
        assert (await fetch(lab.user_port)).served_by == "stable"
        endpoints.set("shop/v2", two)
        await until(lab, lambda answer: answer.served_by == "candidate")
        endpoints.set("shop/v2")
        await until(lab, lambda answer: answer.status == 503)
        endpoints.set("shop/v2", two)
        await until(lab, lambda answer: answer.served_by == "candidate")
        async with stream(lab.user_port) as of_candidate:
            await lab.publish(split.without_candidate())
            async with asyncio.timeout(5):
                await of_candidate.over.wait()


async def test_a_candidate_behind_tls_can_be_cut_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        Agent("stable") as stable,
        Agent("secure", authority.issue("localhost")) as secure,
        Lab({"ca_file": str(authority.file)}) as lab,
    ):
        lab.drain_seconds = 0
        candidate = backend("secure", secure.port, "localhost", tls=True)
        split = replace(table(backend("stable", stable.port), candidate, WHOLE), cut_on_rollback=True)
        await lab.start(split)
        assert (await fetch(lab.user_port)).served_by == "secure"
        async with stream(lab.user_port) as of_candidate:
            await lab.publish(split.without_candidate())
            async with asyncio.timeout(5):
                await of_candidate.over.wait()


async def test_an_envoy_without_internal_listeners_says_so_and_stays_under_control(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def older(name: str, **options: Any) -> dict[str, Any]:
        return {**bootstrap(name, **options), "bootstrap_extensions": []}

    monkeypatch.setattr(envoy_lab, "bootstrap", older)
    async with arms() as (stable, candidate), Lab() as lab:
        await lab.start(split(stable, candidate, cut=False))
        lab.router.publish(split(stable, candidate))
        await lab.until(lambda: "InternalListener" in lab.router.programmed("shop/agent").error)
        assert (await fetch(lab.user_port)).served_by == "candidate"
        await lab.publish(split(stable, candidate).without_candidate())
        assert (await fetch(lab.user_port)).served_by == "stable"
