"""A crash before or after any effect leads, after a restart, to the same end: every point of every story is tried."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from controller.api.reasons import State
from controller.api.rollout import AgentRollout
from controller.runtime.transport import KubernetesTransport
from devkit.controlplane import ControlPlane
from tests.integration.crash_lab import CrashLab

Story = Callable[[CrashLab], Awaitable[None]]


def in_state(state: State, url: str) -> Callable[[AgentRollout | None], bool]:
    def holds(rollout: AgentRollout | None) -> bool:
        return (
            rollout is not None
            and rollout.status.state is state
            and rollout.status.observed_generation == rollout.metadata.generation
            and (rollout.spec.agent.code.url or "").endswith(url)
        )

    return holds


def serving(rollout: AgentRollout | None) -> bool:
    return rollout is not None and rollout.status.stage is not None and rollout.status.programmed == 100_000


async def promoted(lab: CrashLab) -> None:
    await lab.want("v2")
    await lab.live_until(in_state(State.STABLE, "v2"))


async def rolled_back(lab: CrashLab) -> None:
    await lab.want("v2", errors=0.6)
    await lab.live_until(in_state(State.ROLLED_BACK, "v2"))


async def superseded(lab: CrashLab) -> None:
    await lab.want("v2")
    await lab.live_until(serving)
    await lab.want("v3")
    await lab.live_until(in_state(State.STABLE, "v3"))


async def cancelled(lab: CrashLab) -> None:
    await lab.want("v2")
    await lab.live_until(serving)
    await lab.want("v1")
    await lab.live_until(in_state(State.STABLE, "v1"))


async def deleted(lab: CrashLab) -> None:
    await lab.want("v2")
    await lab.live_until(serving)
    await lab.delete()
    await lab.live_until(lambda rollout: rollout is None)


@dataclass(frozen=True)
class End:
    """What must be the same, wherever the crash was."""

    status: object
    revisions: frozenset[str]
    served: object

    @classmethod
    async def of(cls, lab: CrashLab) -> End:
        rollout = await lab.rollout()
        status = None
        if rollout is not None:
            now = rollout.status
            record = now.last_rollback
            status = (
                now.state,
                now.stable,
                now.candidate,
                now.stage,
                now.weight,
                tuple(now.rolled_back),
                record and (record.artifact_id, record.reason, record.metric, record.stage),
                tuple((c.type, c.status, c.reason) for c in now.conditions),
            )
        table = lab.data_plane.table
        served = table and (table.stable.revision, table.candidate, table.weight_ppm, table.hosts)
        revisions = frozenset(await lab.revisions()) if rollout else frozenset()
        return cls(status, revisions, served)


@pytest.fixture
async def transport(control_plane: ControlPlane) -> AsyncIterator[KubernetesTransport]:
    transport = await KubernetesTransport.connect(kubeconfig=str(control_plane.kubeconfig))
    yield transport
    await transport.close()


async def play(
    control_plane: ControlPlane, transport: KubernetesTransport, story: Story, crash_at: int | None
) -> tuple[End, CrashLab]:
    namespace = f"crash-{secrets.token_hex(4)}"
    await transport.request("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}}, timeout=10)
    try:
        lab = CrashLab(transport, namespace)
        await lab.start()
        await lab.want("v1")
        await lab.live_until(in_state(State.STABLE, "v1"))
        # From here on: what is before has fewer effects than any of the stories.
        lab.failpoints.passed, lab.failpoints.crash_at = 0, crash_at
        lab.failpoints.effects.clear()
        await story(lab)
        await lab.live()  # what is left to say once everything is done
        await lab.live()
        return await End.of(lab), lab
    finally:
        await transport.request("DELETE", f"/api/v1/namespaces/{namespace}", timeout=10)


@pytest.mark.parametrize("story", [promoted, rolled_back, superseded, cancelled, deleted])
async def test_wherever_it_crashes_the_end_is_the_same(
    control_plane: ControlPlane, transport: KubernetesTransport, story: Story
) -> None:
    wanted, undisturbed = await play(control_plane, transport, story, None)
    points = undisturbed.failpoints.passed
    assert points >= 2 * len(undisturbed.failpoints.effects)
    assert points >= 8
    for point in range(1, points + 1):
        end, lab = await play(control_plane, transport, story, point)
        assert lab.crashes == 1, f"point {point} of {points} was never reached"
        assert end == wanted, f"crash at point {point}, after {lab.failpoints.effects}"
