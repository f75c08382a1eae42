"""People with different rights act on a delivery, on real parts: what is allowed is done once, and everything is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controller.api.action import ActionName, ActionPhase, RolloutAction
from controller.api.reasons import ConditionType, Reason, State
from controller.api.rollout import AgentRollout
from controller.core.artifact import revision_name
from devkit.controlplane import ControlPlane
from devkit.errors import DevkitError
from tests.crds.actions import action, ask, grant
from tests.integration.delivery_lab import DeliveryLab, manifest, stage
from tests.waiting import eventually

STAGES = [
    stage("50%", seconds=1) | {"name": "half"},
    stage("100%", seconds=1) | {"approval": {"required": 2}},
]


class People:
    """Alice may do everything, bob approve and pause."""

    def __init__(self, lab: DeliveryLab, control_plane: ControlPlane) -> None:
        self.lab = lab
        self._api = control_plane

    async def arrive(self) -> None:
        verbs = [name.verb for name in ActionName]
        await asyncio.to_thread(grant, self._api, self.lab.namespace, "alice", *verbs)
        await asyncio.to_thread(grant, self._api, self.lab.namespace, "bob", "approve", "pause")

    async def ask(self, name: ActionName, artifact: str, by: str = "alice", *, caller: str = "") -> str:
        """The name of the action that somebody creates in a name, their own unless said."""
        wanted = action(name, by, artifact=artifact)
        return await asyncio.to_thread(ask, self._api, self.lab.namespace, caller or by, wanted)

    async def decided(self, name: str) -> RolloutAction:
        """The action once it shows what became of it."""

        async def look() -> RolloutAction | None:
            found = await asyncio.to_thread(
                self._api.kubectl, "get", "ract", name, "-n", self.lab.namespace, "-o", "json"
            )
            read = RolloutAction.model_validate_json(found)
            return read if read.status.phase.is_final else None

        async with asyncio.timeout(30):
            while (found := await look()) is None:  # noqa: ASYNC110 - what is waited for happens in another process
                await asyncio.sleep(0.1)
        return found

    async def did(self, name: ActionName, artifact: str, by: str = "alice") -> RolloutAction:
        return await self.decided(await self.ask(name, artifact, by))


def candidate_of(rollout: AgentRollout) -> str:
    assert rollout.status.candidate is not None
    return rollout.status.candidate.artifact_id


def waits_for_approval(rollout: AgentRollout) -> bool:
    said = rollout.status.condition(ConditionType.PROGRESSING)
    return said is not None and said.reason is Reason.AWAITING_APPROVAL


async def test_people_do_what_they_may_once_and_about_the_artifact_that_they_meant(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        people, first, second = People(lab, control_plane), lab.agent("first"), lab.agent("second")
        await people.arrive()
        await lab.apply(manifest(namespace, first.url, stages=STAGES))
        stable = (await lab.until(lambda r: r.status.state is State.STABLE)).status.stable
        assert stable is not None
        await lab.apply(manifest(namespace, second.url, stages=STAGES))
        artifact = candidate_of(await lab.until(lambda r: r.status.weight == 500_000))

        with pytest.raises(
            DevkitError, match=r"spec\.requestedBy is alice, but the API server knows you as bob"
        ):
            await people.ask(ActionName.ABORT, artifact, "alice", caller="bob")
        with pytest.raises(DevkitError, match="bob may not abort AgentRollout agent"):
            await people.ask(ActionName.ABORT, artifact, "bob")

        stale = await people.did(ActionName.ABORT, stable.artifact_id)
        assert stale.status.phase is ActionPhase.EXPIRED
        assert f"{stable.artifact_id} is not the candidate" in stale.status.message
        assert (await lab.get()).status.weight == 500_000

        async with lab.users():  # the stage asks for 20 requests before it asks for people
            await lab.until(waits_for_approval)
        assert (await people.did(ActionName.APPROVE, artifact)).status.phase is ActionPhase.APPLIED
        again = await people.did(ActionName.APPROVE, artifact)
        assert again.status.phase is ActionPhase.REFUSED
        assert "alice has approved of stage 100% before, which counts once" in again.status.message
        told = (await lab.until(waits_for_approval)).status.condition(ConditionType.PROGRESSING)
        assert told is not None
        assert told.message == "stage 100% has 1 of 2 approvals (of alice), 1 missing"
        assert (await people.did(ActionName.APPROVE, artifact, "bob")).status.phase is ActionPhase.APPLIED
        async with lab.users():  # an evaluation has to find the evidence fresh
            await lab.until(lambda r: r.status.weight == 1_000_000)

        described = await asyncio.to_thread(
            control_plane.kubectl, "describe", "aro", "agent", "-n", namespace
        )
        assert "Approve asked for by bob (the numbers are odd): stage 100% has 2 of 2 approvals" in described


async def test_an_abort_under_load_ends_the_candidates_requests_and_a_retry_begins_anew(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    stages = [stage("50%", seconds=300), stage("100%")]
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        people, first, second = People(lab, control_plane), lab.agent("first"), lab.agent("second")
        await people.arrive()
        await lab.apply(manifest(namespace, first.url, stages=stages))
        await lab.until(lambda r: r.status.state is State.STABLE)
        await lab.apply(manifest(namespace, second.url, stages=stages))
        async with lab.users(per_second=300) as met:
            artifact = candidate_of(await lab.until(lambda r: r.status.weight == 500_000))
            await eventually(lambda: met.versions["second"] > 20)
            done = await people.did(ActionName.ABORT, artifact)
            assert done.status.message == "the candidate is taken back"
            rollout = await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
            record = rollout.status.last_rollback
            assert record is not None
            assert (record.reason, record.artifact_id) == (Reason.ABORTED, artifact)
            assert "aborted by alice (the numbers are odd)" in record.message
            revision = revision_name("agent", artifact)
            served, seen = lab.served(revision), met.versions["first"]
            await eventually(lambda: met.versions["first"] > seen + 200)
            assert lab.served(revision) == served, "nobody reaches it any more"

            assert (await people.did(ActionName.RETRY, artifact)).status.message == "attempt 2 begins"
            rollout = await lab.until(lambda r: r.status.weight == 500_000)
            assert rollout.status.candidate is not None
            assert rollout.status.candidate.attempt == 2
        assert met.failed == 0
    log = [line for line in lab.log() if line["event"] == "action_decided"]
    assert [(line["action"], line["by"], line["phase"]) for line in log] == [
        ("Abort", "alice", "Applied"),
        ("Retry", "alice", "Applied"),
    ]
