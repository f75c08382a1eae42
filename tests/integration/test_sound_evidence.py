"""Evidence that is not fit to decide on, through a real Envoy and Prometheus: the weight is held, and nothing taken back."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

from controller.adapters.envoy.naming import CONTROL_SUFFIX
from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.rollout import AgentRollout
from devkit.controlplane import ControlPlane
from devkit.process import free_port
from tests.bench.vegeta import Vegeta, target
from tests.integration.delivery_lab import DeliveryLab, manifest, stage
from tests.integration.envoy_lab import Agent, fetch
from tests.integration.wrong_router import Balancer, Meddler

HELD_FOR = 4
"""Seconds; several evaluations."""

LONGEST_WAIT = 150
"""Seconds; how many requests the slices get in a minute depends on the machine."""

SLICES_THAT_FAIL = 4
CONVERSATIONS_PER_ARM = 5
FAILING_PER_ARM = 3
OTHERS = 40


async def is_held(lab: DeliveryLab, reason: Reason, weight: int) -> AgentRollout:
    """Wait until the weight is held for the reason, and see that it stays so."""

    def held(rollout: AgentRollout) -> bool:
        return bool(rollout.status.analysis) and rollout.status.analysis[0].reason is reason

    begun = await lab.until(held, timeout=LONGEST_WAIT)
    await asyncio.sleep(HELD_FOR)
    rollout = await lab.get()
    status = rollout.status
    assert begun.status.candidate is not None
    assert status.candidate == begun.status.candidate
    assert (status.weight, status.verdict, status.state) == (weight, Verdict.ERROR, State.BLIND)
    assert status.last_rollback is None
    progressing = status.condition(ConditionType.PROGRESSING)
    assert progressing is not None
    assert (progressing.status, progressing.reason) == ("True", reason)
    return rollout


async def test_a_pod_of_stable_that_breaks_is_noise(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    stages = [stage("5%", seconds=2 * LONGEST_WAIT, requests=40), stage("100%")]
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        pods, new = [lab.agent(f"old-{number}") for number in range(3)], lab.agent("new")
        pods[2].set_failures(1)
        async with Balancer(pods[0].port, pods[1].port) as balancer:
            await lab.apply(manifest(namespace, balancer.url, stages=stages))
            await lab.until(lambda r: r.status.state is State.STABLE)
            async with lab.users():
                balancer.pods.append(pods[2].port)
                await lab.apply(manifest(namespace, new.url, stages=stages))
                rollout = await is_held(lab, Reason.NOISY_EVIDENCE, 50_000)
    assert "stable differs from itself" in rollout.status.analysis[0].message


async def test_conversations_that_fail_as_a_whole_are_noise(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """The candidate looks as bad as half of the control slices, and much worse than stable as a whole."""
    stages = [stage("5%", seconds=5, requests=10_000), stage("100%")]
    async with (
        DeliveryLab(control_plane, namespace, tmp_path) as lab,
        Agent("old") as old,
        Agent("new") as new,
    ):
        await lab.apply(manifest(namespace, f"http://127.0.0.1:{old.port}", stages=stages))
        await lab.until(lambda r: r.status.state is State.STABLE)
        await lab.apply(manifest(namespace, f"http://127.0.0.1:{new.port}", stages=stages))
        rollout = await lab.until(lambda r: r.status.programmed == 50_000)
        assert rollout.status.candidate is not None
        arms, others = await _arms(lab, rollout.status.candidate.revision)
        failing = [each for arm in arms for each in arm[:FAILING_PER_ARM]]
        fine = [each for arm in arms for each in arm[FAILING_PER_ARM:]] + others
        load = Vegeta(
            tmp_path / "load",
            [
                *(
                    target(f"{lab.users_url}status/500", host="agent.example", conversation=each)
                    for each in failing
                ),
                *(target(lab.users_url, host="agent.example", conversation=each) for each in fine),
            ],
            per_second=200,
        )
        load.start()
        try:
            held = await is_held(lab, Reason.NOISY_EVIDENCE, 50_000)
        finally:
            await asyncio.to_thread(load.stop)
    errors = held.status.analysis[0]
    assert errors.reason is Reason.NOISY_EVIDENCE
    assert errors.candidate.bad / errors.candidate.total > 1.5 * errors.baseline.bad / errors.baseline.total


async def _arms(lab: DeliveryLab, candidate: str) -> tuple[list[list[str]], list[str]]:
    """Conversations of the candidate and of four control slices, as many of each, and some of everyone else.

    Drawn at random they would differ by chance: a candidate without one that goes well is worse than every slice.
    """
    found: dict[str, list[str]] = defaultdict(list)
    others: list[str] = []
    for number in range(2000):
        before = _completed(lab)
        await fetch(lab.user_port, headers=[("x-session-id", f"probe-{number}")])
        (arm,) = (name for name, count in _completed(lab).items() if count > before.get(name, 0))
        of_slices = [each for each in found if CONTROL_SUFFIX in each]
        is_slice = CONTROL_SUFFIX in arm
        if arm.endswith(f"/{candidate}") or (
            is_slice and (arm in found or len(of_slices) < SLICES_THAT_FAIL)
        ):
            found[arm].append(f"probe-{number}")
        elif len(others) < OTHERS:
            others.append(f"probe-{number}")
        enough = all(len(each) >= CONVERSATIONS_PER_ARM for each in found.values())
        if len(found) == 1 + SLICES_THAT_FAIL and enough and len(others) == OTHERS:
            return [each[:CONVERSATIONS_PER_ARM] for each in found.values()], others
    raise AssertionError(f"too few conversations in {dict(found)}")


def _completed(lab: DeliveryLab) -> dict[str, int]:
    counters = lab.envoy.counters(f"cluster.{lab.namespace}/agent/")
    return {
        name.split(".")[1]: value
        for name, value in counters.items()
        if name.endswith(".upstream_rq_completed")
    }


async def test_a_router_that_splits_otherwise_than_told_is_found_out(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    stages = [stage("10%", seconds=20), stage("100%")]
    port = free_port()
    lab = DeliveryLab(control_plane, namespace, tmp_path, xds_port=port)
    async with Meddler(port, lab.replicas[0].xds_port), lab:
        old, new = lab.agent("old"), lab.agent("new")
        await lab.apply(manifest(namespace, old.url, stages=stages))
        await lab.until(lambda r: r.status.state is State.STABLE)
        async with lab.users(per_second=200) as met:
            await lab.apply(manifest(namespace, new.url, stages=stages))
            rollout = await is_held(lab, Reason.SPLIT_MISMATCH, 100_000)
    assert met.versions["new"] > met.versions["old"] / 10
    assert "instead of 10%" in rollout.status.analysis[0].message
