"""Deliveries to agents behind Services: pods come, go and are not ready."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controller.api.reasons import ConditionType, Reason, State
from controller.api.rollout import AgentRollout
from controller.core.traffic import CONTROL_SLICES
from devkit.controlplane import ControlPlane
from tests.integration.delivery_lab import stage
from tests.integration.service_lab import ServiceLab

HOLD = [stage("10%", seconds=600), stage("100%")]
"""The candidate stays in its first stage until something takes it back."""


@pytest.fixture
def lab(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> ServiceLab:
    return ServiceLab(control_plane, namespace, tmp_path)


def reason(rollout: AgentRollout, kind: ConditionType = ConditionType.PROGRESSING) -> Reason | None:
    condition = rollout.status.condition(kind)
    return condition.reason if condition else None


async def test_a_version_is_delivered_while_pods_come_and_go(lab: ServiceLab) -> None:
    async with lab:
        old, new = [await lab.pod("old") for _ in range(2)], [await lab.pod("new") for _ in range(2)]
        await lab.service("v1")
        await lab.service("v2")
        await lab.endpoints("v1", *old)
        await lab.want("v1")
        first = await lab.until(lambda r: r.status.programmed == 0 and r.status.state is State.STABLE)
        await lab.endpoints("v2", new[0])
        async with lab.users() as met:
            await lab.want("v2")
            async for rollout in lab.history():
                weight = rollout.status.weight
                await lab.endpoints("v1", old[weight % 2])
                await lab.endpoints("v2", *(new if weight >= 500_000 else new[:1]))
                if rollout.status.state is State.STABLE and rollout.status.stable != first.status.stable:
                    break
        assert met.failed == 0
        assert all(pod.requests for pod in (*old, *new))


async def test_a_candidate_waits_for_its_first_ready_endpoint_and_is_taken_back_with_its_last(
    lab: ServiceLab,
) -> None:
    async with lab:
        old, new = await lab.pod("old"), await lab.pod("new")
        await lab.service("v1")
        await lab.endpoints("v1", old)
        await lab.want("v1", stages=HOLD)
        await lab.until(lambda r: r.status.state is State.STABLE)
        async with lab.users() as met:
            await lab.want("v2", stages=HOLD)
            missing = await lab.until(lambda r: r.status.state is State.REJECTED)
            await lab.service("v2")
            await lab.endpoints("v2", unready=(new,))
            waits = await lab.until(lambda r: reason(r) is Reason.AWAITING_ENDPOINTS and "0 of 1" in _said(r))
            unreached = new.requests
            await lab.endpoints("v2", new)
            await lab.until(lambda r: r.status.programmed == 100_000)
            await lab.endpoints("v2", unready=(new,))
            ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
            await lab.until(lambda r: r.status.programmed == 0)
        assert reason(missing, ConditionType.ACCEPTED) is Reason.REF_NOT_FOUND
        assert waits.status.stage is None
        assert unreached == 0
        assert ended.status.last_rollback is not None
        assert ended.status.last_rollback.reason is Reason.NO_ENDPOINTS
        assert ended.status.last_rollback.message == "0 of 1 endpoints of Service v2 are ready"
        assert met.broken == 0


def _said(rollout: AgentRollout) -> str:
    condition = rollout.status.condition(ConditionType.PROGRESSING)
    return condition.message if condition else ""


async def test_a_failing_version_is_taken_back_with_half_of_stables_endpoints_unready(
    lab: ServiceLab,
) -> None:
    async with lab:
        old, new = [await lab.pod("old") for _ in range(2)], await lab.pod("new")
        await lab.service("v1")
        await lab.service("v2")
        await lab.endpoints("v1", *old)
        await lab.endpoints("v2", new)
        await lab.want("v1", stages=HOLD)
        await lab.until(lambda r: r.status.state is State.STABLE)
        async with lab.users() as met:
            await lab.want("v2", stages=HOLD)
            await lab.until(lambda r: r.status.programmed == 100_000)
            await lab.endpoints("v1", old[0], unready=(old[1],))
            new.failures = 0.3
            ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
            await lab.until(lambda r: r.status.programmed == 0)
            left = await lab.quiet(old[1])
            await lab.answers(met, "old", 50)
        record = ended.status.last_rollback
        assert record is not None
        assert record.metric == "errors"
        assert (
            "of stable, which serves everyone again, only 1 of 2 endpoints of Service v1 are ready"
            in record.message
        )
        assert old[1].requests == left
        assert met.broken == 0
        assert met.statuses[503] == 0


async def test_a_restart_of_the_operator_and_changes_of_pods_leave_clusters_and_routes_alone(
    lab: ServiceLab,
) -> None:
    async with lab:
        old, new = [await lab.pod("old") for _ in range(2)], await lab.pod("new")
        await lab.service("v1")
        await lab.service("v2")
        await lab.endpoints("v1", *old)
        await lab.endpoints("v2", new)
        await lab.want("v1", stages=HOLD)
        await lab.until(lambda r: r.status.state is State.STABLE)
        await lab.want("v2", stages=HOLD)
        async with lab.users() as met:
            await lab.until(lambda r: r.status.programmed == 100_000)
            before = await lab.configured()
            await lab.endpoints("v1", old[0])
            await asyncio.to_thread(lab.operator.kill)
            await lab.endpoints("v1", old[1])
            await lab.answers(met, "new", 20)
            await asyncio.to_thread(lab.start_operator)
            left = await lab.quiet(old[0])
            await lab.answers(met, "old", 50)
            assert old[0].requests == left
            assert await lab.configured() == before
        assert met.failed == 0
        assert len(before) == 2 + CONTROL_SLICES + 1  # clusters, and the routes


async def test_another_image_is_an_alert_for_stable_and_takes_a_serving_candidate_back(
    lab: ServiceLab,
) -> None:
    async with lab:
        old, new = await lab.pod("old"), [await lab.pod("new") for _ in range(2)]
        for service, pod, image in (("v1", old, "sha256:1"), ("v2", new[0], "sha256:2")):
            await lab.service(service, selects=True)
            await lab.runs(service, pod, image)
            await lab.endpoints(service, pod)
        await lab.want("v1", stages=HOLD)
        await lab.until(lambda r: r.status.stable and r.status.stable.images == ["sha256:1"])
        async with lab.users() as met:
            await lab.want("v2", stages=HOLD)
            begun = await lab.until(lambda r: r.status.programmed == 100_000)
            await lab.runs("v1", old, "sha256:9")
            await lab.endpoints("v1", unready=(old,))
            await lab.endpoints("v1", old)
            alert = await lab.until(lambda r: reason(r, ConditionType.DRIFTED) is Reason.IMAGE_CHANGED)
            await lab.runs("v2", new[1], "sha256:3")
            await lab.endpoints("v2", new[0], unready=(new[1],))
            ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
        assert begun.status.candidate is not None
        assert begun.status.candidate.images == ["sha256:2"]
        assert alert.status.candidate is not None
        record = ended.status.last_rollback
        assert record is not None
        assert record.reason is Reason.IMAGE_CHANGED
        assert "Service v2 has pods of image sha256:3" in record.message
        assert met.versions["new"] > 0
