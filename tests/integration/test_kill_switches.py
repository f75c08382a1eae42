"""Kill switches on real parts: a flag is flipped, and the routers' own counters tell that nobody gets the candidate."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from controller.api.reasons import ConditionType, Reason, State
from controller.api.rollout import AgentRollout
from devkit.cluster import Cluster
from devkit.controlplane import ControlPlane
from devkit.process import LOOPBACK
from tests.flag_servers import FlagdServer, OfrepServer
from tests.integration.delivery_lab import DeliveryLab, manifest, stage
from tests.integration.envoy_lab import Agent, eventually, fetch

STAGES = [stage("50%", seconds=600), stage("100%")]


def by_config_map(name: str = "ops", **how: Any) -> dict[str, Any]:
    return {"killSwitches": [{"name": name, "configMap": {"name": "flags", "key": "agent"}, **how}]}


async def put(cluster: Cluster, namespace: str, data: dict[str, str], reach: str = "flags") -> None:
    """Apply a labelled ConfigMap."""
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": reach,
            "namespace": namespace,
            "labels": {"agentrollout.dev/kill-switch": reach},
        },
        "data": data,
    }
    await asyncio.to_thread(cluster.kubectl, "apply", "-f", "-", input=json.dumps(config_map))


async def serving(lab: DeliveryLab, old: str = "", new: str = "", **spec: Any) -> AgentRollout:
    """A candidate with half of the users; ``old`` and ``new`` are agents' URLs where they matter."""
    await lab.apply(manifest(lab.namespace, old or lab.agent("old").url, **spec))
    await lab.until(lambda r: r.status.state in (State.STABLE, State.KILLED) and r.status.programmed == 0)
    await lab.apply(manifest(lab.namespace, new or lab.agent("new").url, stages=STAGES, **spec))
    return await lab.until(lambda r: r.status.programmed == 500_000)


def reason(rollout: AgentRollout) -> Reason:
    condition = rollout.status.condition(ConditionType.KILLED)
    assert condition is not None
    return condition.reason


async def nobody_is_served(lab: DeliveryLab, rollout: AgentRollout) -> None:
    """Return once users come to stable and none to the candidate."""
    stable, candidate = rollout.status.stable, rollout.status.candidate
    assert stable
    assert candidate
    async with asyncio.timeout(20):
        while True:
            before = lab.served(stable.revision), lab.served(candidate.revision)
            await asyncio.sleep(0.5)
            now = lab.served(stable.revision), lab.served(candidate.revision)
            if now[0] - before[0] > 10 and now[1] == before[1]:
                return


async def test_a_config_map_takes_the_version_from_everybody_until_it_is_released(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        await put(control_plane, namespace, {"agent": "false"})
        before = await serving(lab, **by_config_map(autoResume=True))
        async with lab.users():
            await put(control_plane, namespace, {"agent": "true"})
            killed = await lab.until(lambda r: r.status.killed is not None and r.status.programmed == 0)
            await nobody_is_served(lab, before)
            assert (killed.status.state, reason(killed)) == (State.KILLED, Reason.KILL_SWITCH_ON)
            assert killed.status.last_rollback is not None
            assert killed.status.last_rollback.reason is Reason.KILL_SWITCH_ON
            await asyncio.to_thread(lab.operator.kill)
            lab.start_operator()
            await nobody_is_served(lab, before)
            assert (await lab.get()).status.candidate is None
            await put(control_plane, namespace, {"agent": "false"})
            again = await lab.until(lambda r: r.status.programmed == 500_000)
            assert again.status.candidate is not None
            assert again.status.candidate.attempt == 2
            assert reason(again) is Reason.RELEASED
        events = json.loads(
            await asyncio.to_thread(
                control_plane.kubectl, "get", "events.events.k8s.io", "-n", namespace, "-o", "json"
            )
        )
        assert {"KillSwitchOn", "Released"} <= {event["reason"] for event in events["items"]}


async def test_a_switch_without_a_config_map_holds_the_weight(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        old, new = lab.agent("old"), lab.agent("new")
        await lab.apply(manifest(namespace, old.url, **by_config_map()))
        await lab.until(lambda r: r.status.state is State.STABLE and r.status.programmed == 0)
        await lab.apply(manifest(namespace, new.url, **by_config_map()))
        held = await lab.until(lambda r: r.status.candidate is not None and reason_of_progress(r))
        assert (held.status.stage, reason(held)) == (None, Reason.KILL_SWITCH_UNKNOWN)
        await put(control_plane, namespace, {"agent": "false"})
        await lab.until(lambda r: r.status.stage is not None)


def reason_of_progress(rollout: AgentRollout) -> bool:
    condition = rollout.status.condition(ConditionType.PROGRESSING)
    return condition is not None and condition.reason is Reason.KILL_SWITCH_UNKNOWN


async def test_a_flag_of_a_server_kills_by_whichever_replica_hears_of_it_while_the_leader_is_dead(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with OfrepServer(agent=False) as flags:
        option, switch = f"--ofrep-url={flags.url}", {"name": "ops", "ofrep": {"flag": "agent"}}
        async with DeliveryLab(control_plane, namespace, tmp_path, replicas=2, flags=[option]) as lab:
            before = await serving(lab, killSwitches=[switch])
            leader = await lab.leader()
            await asyncio.to_thread(leader.process.kill)
            async with lab.users():
                flags.set(agent=True)
                await nobody_is_served(lab, before)
                flags.set(agent=False)
                await nobody_is_served(lab, before)
            killed = await lab.until(lambda r: r.status.killed is not None, timeout=60)
            assert killed.status.last_rollback is not None
            assert killed.status.last_rollback.reason is Reason.KILL_SWITCH_ON


async def test_a_flag_of_flagd_kills_and_is_not_yet_released_when_it_is_off(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with FlagdServer(agent=False) as flags:
        option, switch = (
            f"--flagd-address={LOOPBACK}:{flags.port}",
            {"name": "ops", "flagd": {"flag": "agent"}},
        )
        async with DeliveryLab(control_plane, namespace, tmp_path, flags=[option]) as lab:
            before = await serving(lab, killSwitches=[switch])
            async with lab.users():
                flags.set(agent=True)
                killed = await lab.until(lambda r: r.status.killed is not None and r.status.programmed == 0)
                assert killed.status.killed is not None
                assert killed.status.killed.message == "kill switch ops (flagd flag agent) was turned on"
                flags.set(agent=False)
                await lab.until(asks_for_a_resume)
                await nobody_is_served(lab, before)


async def test_a_switch_of_the_namespace_stops_a_rollout_that_names_none(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        before = await serving(lab)
        async with lab.users():
            await put(control_plane, namespace, {"killed": "true"}, reach="namespace")
            killed = await lab.until(lambda r: r.status.killed is not None and r.status.programmed == 0)
            assert (killed.status.state, reason(killed)) == (State.KILLED, Reason.KILL_SWITCH_ON)
            await asyncio.to_thread(
                control_plane.kubectl, "delete", "configmap", "namespace", "-n", namespace
            )
            await lab.until(asks_for_a_resume)
            await nobody_is_served(lab, before)


def asks_for_a_resume(rollout: AgentRollout) -> bool:
    condition = rollout.status.condition(ConditionType.KILLED)
    assert condition is not None
    return condition.status == "True" and "resume to let the version start anew" in condition.message


async def test_a_feature_reaches_the_agents_of_both_versions_and_users_cannot_say_it(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    switch = {"name": "refunds", "scope": "Feature", "configMap": {"name": "flags", "key": "refunds"}}
    async with (
        Agent("old") as old,
        Agent("new") as new,
        DeliveryLab(control_plane, namespace, tmp_path) as lab,
    ):
        await put(control_plane, namespace, {"refunds": "up to 100"})
        urls = [f"http://{LOOPBACK}:{agent.port}" for agent in (old, new)]
        await serving(lab, *urls, killSwitches=[switch])

        async def seen() -> dict[str, set[str]]:
            """What the agents of each version saw in forty conversations."""
            headers: dict[str, set[str]] = {}
            for number in range(40):
                forged = [("x-session-id", f"c{number}"), ("x-agentrollout-flag-refunds", "forged")]
                answer = await fetch(lab.user_port, headers=forged)
                told = answer.seen_headers.get("x-agentrollout-flag-refunds", "nothing")
                headers.setdefault(answer.served_by, set()).add(told)
            return headers

        assert await seen() == {"old": {"up to 100"}, "new": {"up to 100"}}
        for value, told in {"none": "none", "x" * 129: "nothing"}.items():
            await put(control_plane, namespace, {"refunds": value})
            wanted = {"old": {told}, "new": {told}}
            assert await eventually(seen, wanted.__eq__) == wanted
