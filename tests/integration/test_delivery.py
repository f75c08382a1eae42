from pathlib import Path

from controller.api.reasons import ConditionType, Reason, State
from devkit.controlplane import ControlPlane
from tests.integration.delivery_lab import DeliveryLab, manifest


async def test_a_good_version_goes_through_every_stage_and_is_promoted(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        old, new = lab.agent("old"), lab.agent("new")
        await lab.apply(manifest(namespace, old.url))
        first = await lab.until(lambda r: r.status.state is State.STABLE)
        async with lab.users() as met:
            await lab.apply(manifest(namespace, new.url))
            weights = []
            async for rollout in lab.history():
                weights.append(rollout.status.weight)
                if rollout.status.state is State.STABLE and rollout.status.stable != first.status.stable:
                    break
        assert [weight for weight in dict.fromkeys(weights) if weight] == [100_000, 500_000, 1_000_000]
        healthy = rollout.status.condition(ConditionType.HEALTHY)
        assert healthy is not None
        assert (healthy.status, healthy.reason) == ("True", Reason.PROMOTED)
        assert met.failed == 0
        assert met.versions["new"] > 100


async def test_a_failing_version_is_taken_back_and_not_tried_again(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        old, new = lab.agent("old"), lab.agent("new")
        new.set_failures(0.2)
        await lab.apply(manifest(namespace, old.url))
        first = await lab.until(lambda r: r.status.state is State.STABLE)
        async with lab.users() as met:
            await lab.apply(manifest(namespace, new.url))
            ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
            await lab.until(lambda r: r.status.programmed == 0)
            served = met.versions["new"]
            await lab.apply(manifest(namespace, new.url, revisionHistoryLimit=7))
            again = await lab.until(lambda r: r.status.observed_generation == 3)
        assert ended.status.stable == first.status.stable
        assert ended.status.last_rollback is not None
        assert ended.status.last_rollback.metric == "errors"
        assert "worse than stable" in ended.status.last_rollback.message
        assert again.status.candidate is None
        assert met.versions["new"] <= served + 5  # answers that were under way
