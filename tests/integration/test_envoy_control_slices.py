"""Stable's control slices through a real Envoy: exact, beside the candidate, and counted as stable and apart."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace

from controller.adapters.envoy.metrics import CLUSTER_LABEL, SLICE_LABEL
from controller.core.traffic import CONTROL_SLICES, AudienceSplit
from tests.integration.envoy_lab import Lab, arms, backend, eventually, fetch, table
from tests.integration.test_envoy_cohorts import CONVERSATIONS, cohort, served_by, split
from tests.integration.test_envoy_endpoints import Endpoints, behind

STABLE, CANDIDATE = "shop/agent/stable", "shop/agent/candidate"


async def completed(lab: Lab) -> Counter[tuple[str, str]]:
    """Requests by version and control slice, as Prometheus sees them."""
    page = await lab.metrics()
    found: Counter[tuple[str, str]] = Counter()
    for inside, number in re.findall(
        r"^envoy_cluster_upstream_rq_completed\{(.*)\} (\S+)$", page, re.MULTILINE
    ):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', inside))
        if int(number):
            found[labels[CLUSTER_LABEL], labels.get(SLICE_LABEL, "")] += int(number)
    return found


async def cohorts(lab: Lab) -> tuple[set[str], Counter[tuple[str, str]]]:
    """The candidate's conversations, and what each cluster of both versions completed meanwhile."""
    before = await completed(lab)
    versions = await served_by(lab.user_port, CONVERSATIONS)
    counted = await completed(lab) - before
    assert sum(counted.values()) == len(CONVERSATIONS)
    return cohort(CONVERSATIONS, versions), counted


async def test_beside_slices_the_candidates_cohorts_nest_and_each_slice_has_its_share() -> None:
    found: list[set[str]] = []
    async with split() as (lab, stable, candidate):
        for weight in (10_000, 100_000, 500_000, 600_000):
            wanted = table(stable, candidate, weight)
            await lab.publish(wanted)
            chosen, counted = await cohorts(lab)
            found.append(chosen)

            assert counted[CANDIDATE, ""] == len(chosen)
            slices = {name: n for name, n in counted.items() if name[1]}
            assert set(slices) == (
                {(STABLE, str(number + 1)) for number in range(CONTROL_SLICES)}
                if weight <= 500_000
                else set()
            )
            share = wanted.control_slice_ppm / 1_000_000
            sigma = math.sqrt(len(CONVERSATIONS) * share * (1 - share))
            assert all(abs(n - len(CONVERSATIONS) * share) <= 3 * sigma for n in slices.values())
            whole = sum(n for (name, _), n in counted.items() if name == STABLE)
            assert whole == len(CONVERSATIONS) - len(chosen)

    assert found[0] < found[1] < found[2] < found[3]


async def test_a_conversation_keeps_its_slice_and_another_artifact_has_other_slices() -> None:
    async with split() as (lab, stable, candidate):
        await lab.publish(table(stable, candidate, 50_000))
        first, again = [(await cohorts(lab))[1] for _ in range(2)]
        await lab.publish(table(stable, replace(candidate, artifact_id="sha256:other"), 50_000))
        _, others = await cohorts(lab)

    assert first == again
    assert others != first


async def test_slices_come_and_go_with_the_weight_and_with_pods_and_break_no_answer() -> None:
    endpoints = Endpoints()
    async with arms() as (old, new), Lab(endpoints=endpoints) as lab:
        endpoints.set("shop/v1", old)
        stable, candidate = behind("shop/v1", "stable"), backend("candidate", new.port)

        async def statuses() -> set[int]:
            sessions = [[("x-session-id", f"conversation-{number}")] for number in range(40)]
            return {(await fetch(lab.user_port, headers=each)).status for each in sessions}

        await lab.start(table(stable))
        for weight in (10_000, 500_000, 1_000_000, 100_000):
            await lab.publish(table(stable, candidate, weight))
            assert await statuses() == {200}
        endpoints.set("shop/v1", new)
        await eventually(statuses, lambda seen: seen == {200})
        served = old.requests
        assert await statuses() == {200}
        assert old.requests == served
        await lab.publish(table(stable))
        assert await statuses() == {200}


async def test_an_audience_has_no_slices() -> None:
    audience = AudienceSplit("x-user-group", ("internal",), 100_000)
    async with split() as (lab, stable, candidate):
        await lab.publish(table(stable, candidate, 0, audiences=(audience,)))
        await served_by(lab.user_port, CONVERSATIONS[:200], "x-user-group: internal\r\nx-session-id: {}")
        counted = await completed(lab)

    assert {slice_ for _, slice_ in counted} == {""}
