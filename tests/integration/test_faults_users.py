"""What people do wrong, or do in the middle: one backend twice, one host twice, deletion; and audiences end to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp

from controller.api.reasons import ConditionType, Reason, State
from controller.api.rollout import AgentRollout
from devkit.controlplane import ControlPlane
from tests.integration.delivery_lab import DeliveryLab, Users, manifest, stage


async def test_another_artifact_on_the_backend_of_stable_is_refused_and_users_stay_where_they_are(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        only = lab.agent("only")
        first = manifest(namespace, only.url)
        await lab.apply(first)
        stable = (await lab.until(lambda r: r.status.state is State.STABLE)).status.stable
        second = manifest(namespace, only.url)
        second["spec"]["agent"]["prompts"]["system"] = "You are another version."
        await lab.apply(second)
        refused = await lab.until(_is_rejected(Reason.SAME_BACKEND))
        assert refused.status.stable == stable
        assert refused.status.candidate is None
        assert await _asked(lab, "agent.example") == (200, "only")
        await lab.apply(first)
        await lab.until(lambda r: r.status.state is State.STABLE)


async def test_a_taken_host_stays_with_the_older_rollout_until_that_is_deleted(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        host = "shared.example"
        await lab.apply(manifest(namespace, lab.agent("a").url, name="a-older", host=host))
        await lab.until(lambda r: r.status.programmed == 0, name="a-older")
        await lab.apply(manifest(namespace, lab.agent("b").url, name="b-younger", host=host))
        refused = await lab.until(_is_rejected(Reason.CONFLICTED), name="b-younger")
        accepted = refused.status.condition(ConditionType.ACCEPTED)
        assert accepted is not None
        assert f"{namespace}/a-older" in accepted.message
        assert await _asked(lab, host) == (200, "a")
        async with lab.users(host=host) as met:
            await _delete(lab, "a-older")
            await lab.until(lambda r: r.status.state is State.STABLE, name="b-younger")
            await _answered_by(lab, host, (200, "b"))
        assert met.versions["b"] > 0


async def test_a_deleted_rollout_is_served_no_more_and_its_neighbour_does_not_notice(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        await lab.apply(manifest(namespace, lab.agent("a").url, name="goes", host="goes.example"))
        await lab.apply(manifest(namespace, lab.agent("b").url, name="stays", host="stays.example"))
        for name in ("goes", "stays"):
            await lab.until(lambda r: r.status.programmed == 0, name=name)
        async with lab.users(host="stays.example") as neighbours:
            await _delete(lab, "goes")
            await _answered_by(lab, "goes.example", (404, ""))
            await _more(neighbours, 100)
        assert (neighbours.failed, set(neighbours.statuses)) == (0, {200})


async def test_a_rollout_deleted_while_its_candidate_serves_takes_both_versions_off(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        await lab.apply(manifest(namespace, lab.agent("old").url))
        await lab.until(lambda r: r.status.programmed == 0)
        stages = [stage("50%", seconds=600), stage("100%")]
        await lab.apply(manifest(namespace, lab.agent("new").url, stages=stages))
        await lab.until(lambda r: r.status.programmed == 500_000)
        await _delete(lab, "agent")
        await _answered_by(lab, "agent.example", (404, ""))
        assert not lab.envoy.counters(f"cluster.{namespace}/agent/")


async def test_an_audience_goes_first_and_nobody_else_meets_the_candidate_before_it_has_passed(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        await lab.apply(manifest(namespace, lab.agent("old").url))
        first = await lab.until(lambda r: r.status.state is State.STABLE)
        audience = {"header": "x-user-group", "values": ["internal", "staff"]}
        internal = {"name": "internal", "audience": audience, "minDuration": "3s", "minRequests": 20}
        stages = [internal, stage("50%"), stage("100%", seconds=1)]
        async with (
            lab.users(per_second=75) as public,
            lab.users(per_second=25, headers={"x-user-group": "staff"}) as staff,
            lab.users(per_second=25, headers={"x-user-group": "staffing"}) as strangers,
        ):
            await lab.apply(manifest(namespace, lab.agent("new").url, stages=stages))
            async with asyncio.timeout(60):
                while True:
                    outside = public.versions["new"] + strangers.versions["new"]
                    rollout = await lab.get()
                    if rollout.status.stage is None or rollout.status.stage.index == 0:
                        assert outside == 0
                    else:
                        break
                    await asyncio.sleep(0.02)
            inside = staff.versions["new"]
            ended = await lab.until(lambda r: r.status.state is State.STABLE)
        assert inside >= 20
        assert ended.status.stable != first.status.stable
        assert public.failed + staff.failed + strangers.failed == 0


def _is_rejected(reason: Reason) -> Callable[[AgentRollout], bool]:
    def holds(rollout: AgentRollout) -> bool:
        accepted = rollout.status.condition(ConditionType.ACCEPTED)
        return (
            rollout.status.state is State.REJECTED
            and accepted is not None
            and (accepted.status, accepted.reason) == ("False", reason)
        )

    return holds


async def _delete(lab: DeliveryLab, name: str) -> None:
    await asyncio.to_thread(
        lab.control_plane.kubectl, "delete", "agentrollout", name, f"--namespace={lab.namespace}"
    )


async def _asked(lab: DeliveryLab, host: str) -> tuple[int, str]:
    """Status and version of one answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(lab.users_url, headers={"host": host}) as answer,
    ):
        return answer.status, answer.headers.get("x-upstream", "")


async def _answered_by(lab: DeliveryLab, host: str, wanted: tuple[int, str]) -> None:
    async with asyncio.timeout(30):
        while await _asked(lab, host) != wanted:  # noqa: ASYNC110 - happens in another process
            await asyncio.sleep(0.1)


async def _more(met: Users, answers: int) -> None:
    before = met.statuses.total()
    async with asyncio.timeout(30):
        while met.statuses.total() < before + answers:  # noqa: ASYNC110 - users are tasks of their own
            await asyncio.sleep(0.05)
