"""Who gets the candidate, through a real Envoy: exact, nested, sticky and different from rollout to rollout."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from controller.adapters.envoy.naming import cluster_name
from controller.core.traffic import AudienceSplit, Backend
from devkit.process import LOOPBACK
from devkit.upstream import StaticUpstream
from tests.integration.envoy_lab import HOST, Lab, backend, table

CONNECTIONS = 32
BATCH = 4
CONVERSATIONS = [f"conversation-{index}" for index in range(4000)]


@contextlib.asynccontextmanager
async def split(**options: object) -> AsyncIterator[tuple[Lab, Backend, Backend]]:
    """A lab and two agents that answer without any Python."""
    with StaticUpstream("stable") as stable, StaticUpstream("candidate") as candidate:
        backends = [backend("stable", stable.port), backend("candidate", candidate.port)]
        async with Lab(options) as lab:
            await lab.start(table(backends[0]))
            yield lab, backends[0], backends[1]


async def served_by(port: int, conversations: Sequence[str], header: str = "x-session-id: {}") -> list[str]:
    """The version that answered each conversation."""
    share = math.ceil(len(conversations) / CONNECTIONS)
    parts = [conversations[start : start + share] for start in range(0, len(conversations), share)]
    answers = await asyncio.gather(*(_pipeline(port, part, header) for part in parts))
    return [each for answer in answers for each in answer]


async def _pipeline(port: int, conversations: Sequence[str], header: str) -> list[str]:
    loop = asyncio.get_running_loop()
    transport, answers = await loop.create_connection(_Answers, LOOPBACK, port)
    try:
        for start in range(0, len(conversations), BATCH):
            batch = conversations[start : start + BATCH]
            requests = [f"HEAD / HTTP/1.1\r\nhost: {HOST}\r\n{header.format(each)}\r\n\r\n" for each in batch]
            transport.write("".join(requests).encode())
            await answers.until(start + len(batch))
    finally:
        transport.abort()
    return answers.found


class _Answers(asyncio.Protocol):
    """Takes apart answers to HEAD, which end where their headers do."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._rest = b""
        self._arrived = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for head in heads:
            assert b"\r\nx-upstream: " in head
            self.found.append("candidate" if b"\r\nx-upstream: candidate" in head else "stable")
        self._arrived.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.found) < count:
                self._arrived.clear()
                await self._arrived.wait()


def cohort(conversations: Sequence[str], versions: Sequence[str]) -> set[str]:
    assert len(conversations) == len(versions)
    return {each for each, version in zip(conversations, versions, strict=True) if version == "candidate"}


async def test_cohorts_nest_and_every_conversation_keeps_its_version() -> None:
    cohorts: list[set[str]] = []
    async with split() as (lab, stable, candidate):
        for weight in (10_000, 100_000, 500_000):
            await lab.publish(table(stable, candidate, weight))
            first, again = [await served_by(lab.user_port, CONVERSATIONS) for _ in range(2)]
            assert first == again
            cohorts.append(cohort(CONVERSATIONS, first))

    assert cohorts[0] < cohorts[1] < cohorts[2]
    for found, share in zip(cohorts, (0.01, 0.1, 0.5), strict=True):
        sigma = math.sqrt(len(CONVERSATIONS) * share * (1 - share))
        assert abs(len(found) - len(CONVERSATIONS) * share) <= 3 * sigma


async def test_a_tenth_of_a_percent_is_exact() -> None:
    conversations = [f"conversation-{index}" for index in range(200_000)]
    async with split() as (lab, stable, candidate):
        await lab.publish(table(stable, candidate, 1_000))
        found = cohort(conversations, await served_by(lab.user_port, conversations))
        counted = await lab.counters(
            f"cluster.{cluster_name('shop/agent', 'candidate')}.upstream_rq_completed"
        )

    assert abs(len(found) - 200) <= 43
    assert list(counted.values()) == [len(found)]


async def test_another_artifact_begins_with_other_users() -> None:
    conversations = CONVERSATIONS
    async with split() as (lab, stable, candidate):
        cohorts = []
        for artifact in ("sha256:one", "sha256:two"):
            await lab.publish(table(stable, replace(candidate, artifact_id=artifact), 100_000))
            cohorts.append(cohort(conversations, await served_by(lab.user_port, conversations)))

    # Independent tenths share a tenth: 40 of 400, with a standard deviation of 6.
    assert len(cohorts[0] & cohorts[1]) < 70


async def test_cookies_and_addresses_are_drawn_in_the_same_way_and_salted_too() -> None:
    addresses = [f"10.1.{index // 250}.{index % 250 + 1}" for index in range(4000)]
    ways = {"cookie: a=b; agentrollout-conversation={}; c=d": CONVERSATIONS, "x-forwarded-for: {}": addresses}
    async with split(trusted_hops=1) as (lab, stable, candidate):
        cohorts: dict[tuple[str, str], set[str]] = {}
        for artifact in ("sha256:one", "sha256:two"):
            await lab.publish(table(stable, replace(candidate, artifact_id=artifact), 100_000))
            for header, values in ways.items():
                cohorts[artifact, header] = cohort(values, await served_by(lab.user_port, values, header))

    assert all(abs(len(each) - 400) <= 3 * 19 for each in cohorts.values())
    for header in ways:
        assert len(cohorts["sha256:one", header] & cohorts["sha256:two", header]) < 70


async def test_a_conversation_is_in_the_same_place_of_the_ring_in_every_audience() -> None:
    audience = AudienceSplit("x-user-group", ("internal",), 100_000)
    async with split() as (lab, stable, candidate):
        await lab.publish(table(stable, candidate, 100_000, audiences=(audience,)))
        general = await served_by(lab.user_port, CONVERSATIONS)
        internal = await served_by(lab.user_port, CONVERSATIONS, "x-user-group: internal\r\nx-session-id: {}")

    assert general == internal
