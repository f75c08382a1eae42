"""Deliveries to real pods: what a kubelet, a Deployment and the endpoint controllers do to a rollout."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.api.reasons import ConditionType, Reason, State
from controller.api.rollout import AgentRollout
from controller.api.status import RollbackRecord
from devkit.cluster import Cluster
from tests.e2e.pod_lab import OTHER_IMAGE, PodLab
from tests.integration.delivery_lab import stage

HOLD = [stage("10%", seconds=600), stage("100%")]
"""The candidate stays in its first stage until something takes it back."""


@pytest.fixture
def lab(cluster: Cluster, e2e_namespace: str, tmp_path: Path) -> PodLab:
    return PodLab(cluster, e2e_namespace, tmp_path)


async def serving(lab: PodLab) -> None:
    """v1 is stable, and v2 serves its first stage."""
    await lab.deploy("v1", replicas=2)
    await lab.want("v1", stages=HOLD)
    await lab.until(lambda r: r.status.stable is not None and r.status.stable.images)
    await lab.deploy("v2")
    await lab.want("v2", stages=HOLD)
    await lab.until(lambda r: r.status.programmed == 100_000)


async def taken_back(lab: PodLab) -> RollbackRecord:
    ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK and r.status.programmed == 0)
    assert ended.status.last_rollback is not None
    return ended.status.last_rollback


def drifted(rollout: AgentRollout) -> Reason | None:
    condition = rollout.status.condition(ConditionType.DRIFTED)
    return condition.reason if condition else None


async def test_a_version_is_delivered_while_stables_pods_are_restarted(lab: PodLab) -> None:
    async with lab:
        await lab.deploy("v1", replicas=2)
        await lab.want("v1")
        first = await lab.until(lambda r: r.status.stable is not None and r.status.stable.images)
        await lab.deploy("v2", replicas=2)
        async with lab.users(per_second=40) as met:
            await lab.want("v2")
            await lab.kubectl("rollout", "restart", "deployment/v1")
            await lab.rolled_out("v1")
            ended = await lab.until(
                lambda r: r.status.state is State.STABLE and r.status.stable != first.status.stable,
                timeout=120,
            )
        assert met.failed == 0
        assert sum(met.statuses.values()) > 100
        assert ended.status.last_rollback is None
        assert drifted(ended) is Reason.UNCHANGED


async def test_a_candidate_whose_pod_is_not_ready_any_more_is_taken_back(lab: PodLab) -> None:
    async with lab:
        await serving(lab)
        async with lab.users(per_second=40) as met:
            await lab.kubectl("exec", "deployment/v2", "--", "busybox", "rm", "/tmp/ready")
            record = await taken_back(lab)
        assert record.reason is Reason.NO_ENDPOINTS
        assert record.message == "0 of 1 endpoints of Service v2 are ready"
        assert met.failed == 0


async def test_a_candidate_that_is_scaled_to_0_is_taken_back_while_its_last_pod_still_answers(
    lab: PodLab,
) -> None:
    async with lab:
        await serving(lab)
        async with lab.users(per_second=40) as met:
            await lab.kubectl("scale", "deployment/v2", "--replicas=0")
            record = await taken_back(lab)
        assert record.reason is Reason.NO_ENDPOINTS
        assert met.failed == 0


async def test_another_image_is_an_alert_for_stable_and_takes_a_serving_candidate_back(lab: PodLab) -> None:
    async with lab:
        await serving(lab)
        async with lab.users(per_second=40) as met:
            await lab.kubectl("set", "image", "deployment/v1", f"agent={OTHER_IMAGE}")
            await lab.rolled_out("v1")
            alert = await lab.until(lambda r: drifted(r) is Reason.IMAGE_CHANGED)
            await lab.kubectl("set", "image", "deployment/v2", f"agent={OTHER_IMAGE}")
            record = await taken_back(lab)
        assert alert.status.candidate is not None
        assert record.reason is Reason.IMAGE_CHANGED
        assert "Service v2 has pods of image sha256:" in record.message
        assert met.failed == 0
