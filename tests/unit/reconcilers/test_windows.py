"""Windows from the spec to the decision."""

from __future__ import annotations

from controller.api.reasons import ConditionType, Reason
from tests.unit.reconcilers.test_rollouts import World


async def test_a_window_that_cannot_be_understood_is_told_with_its_field_and_keeps_what_serves() -> None:
    world = World()
    world.want("http://v1")
    await world.reconcile()
    world.want("http://v2", windows=[{"cron": "0 25 * * *", "duration": "1h"}])
    await world.reconcile()
    accepted = world.rollout.status.condition(ConditionType.ACCEPTED)
    assert accepted is not None
    assert (accepted.status, accepted.reason) == ("False", Reason.INVALID)
    assert accepted.message.startswith("spec.windows[0].cron: '0 25 * * *' is not minute, hour")
    assert world.rollout.status.candidate is None


async def test_a_candidate_outside_of_the_windows_gets_no_traffic() -> None:
    world = World()
    world.want("http://v1")
    await world.reconcile()
    never = [{"cron": "0 0 30 2 *", "duration": "1h"}]
    world.want("http://v2", windows=never)
    await world.live(60)
    progressing = world.rollout.status.condition(ConditionType.PROGRESSING)
    assert progressing is not None
    assert progressing.reason is Reason.OUTSIDE_WINDOW
    assert world.rollout.status.weight == 0
    world.want("http://v2", windows=[{"cron": "* * * * *", "duration": "1m"}])
    await world.reconcile()
    assert world.rollout.status.weight == 100_000
