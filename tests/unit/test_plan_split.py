"""Routers that do not split as they were told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from controller.api.reasons import ConditionType, Reason, State, Verdict
from tests.virtual import Behaviour, VirtualRollout, rollout_of, started

STAGES = [
    {"weight": "10%", "minDuration": "2m", "minRequests": 10},
    {"weight": "50%", "minDuration": "2m", "minRequests": 10},
    {"weight": "100%", "minDuration": "1m", "minRequests": 10},
]
INTERNAL: dict[str, Any] = {
    "audience": {"header": "x-user-group", "values": ["internal"]},
    "weight": "50%",
    "minDuration": "2m",
    "minRequests": 10,
}


def in_first_stage(stages: list[dict[str, Any]] = STAGES, **kwargs: Any) -> VirtualRollout:
    world = started(spec={"stages": stages}, **kwargs)
    world.want("http://v2")
    world.settle()
    return world


def progressing(world: VirtualRollout) -> tuple[Reason, str]:
    condition = world.rollout.status.condition(ConditionType.PROGRESSING)
    assert condition is not None
    return condition.reason, condition.message


def test_a_candidate_with_nine_times_its_share_is_held_and_both_shares_are_named() -> None:
    world = in_first_stage(split=0.9)
    world.live(150)
    status = world.rollout.status
    assert status.stage is not None
    assert status.stage.index == 0
    assert (status.verdict, status.state) == (Verdict.ERROR, State.BLIND)
    assert status.analysis[0].reason is Reason.SPLIT_MISMATCH
    reason, message = progressing(world)
    assert reason is Reason.SPLIT_MISMATCH
    assert "of 4500 requests (89." in message
    assert "instead of 10%" in message


def test_a_split_that_is_put_right_lets_the_candidate_go_on() -> None:
    world = in_first_stage(split=0.9)
    world.live(150)
    world.split = None
    world.live(360)
    assert world.rollout.status.state is State.STABLE


def test_a_bad_version_is_taken_back_under_a_wrong_split_too() -> None:
    world = in_first_stage(split=0.9)
    world.live(60)
    assert progressing(world)[0] is Reason.SPLIT_MISMATCH
    world.behaviour["v2"] = Behaviour(errors=0.5)
    world.live(60)
    assert world.rollout.status.state is State.ROLLED_BACK


def test_the_time_of_a_wrong_split_is_no_lack_of_progress() -> None:
    world = in_first_stage(split=0.9)
    world.change_spec(progress_deadline=timedelta(minutes=1))
    world.live(300)
    assert world.rollout.status.stalled is None
    healthy = world.rollout.status.condition(ConditionType.HEALTHY)
    assert healthy is not None
    assert healthy.reason is Reason.IN_PROGRESS


def test_while_a_person_overrides_the_splits_they_are_not_checked() -> None:
    world = in_first_stage(split=0.0, overridden=True)
    world.live(150)
    assert world.rollout.status.analysis[0].reason is None


def test_an_audiences_split_is_checked_for_itself() -> None:
    world = in_first_stage([INTERNAL, *STAGES], internal=0.3, split=0.02)
    world.live(150)
    assert [(m.name, m.reason) for m in world.rollout.status.analysis] == [
        ("errors (audience)", Reason.SPLIT_MISMATCH)
    ]
    assert "instead of 50%" in progressing(world)[1]


def test_without_a_metric_that_counts_requests_there_is_nothing_to_check() -> None:
    analysis = {"metrics": [{"name": "toolErrors"}]}
    world = started(spec={"stages": STAGES, "analysis": analysis}, split=0.9)
    world.want("http://v2")
    world.settle()
    world.live(100)
    assert world.rollout.status.evidence is not None
    assert world.rollout.status.evidence.splits == []
    assert world.rollout.status.verdict is not Verdict.ERROR


class FewUsers(VirtualRollout):
    """One user of stable sends as much as all the others, and is in a control slice."""

    def _parts(self, revision: str, requests: int, *, audience: bool) -> list[int]:
        parts = super()._parts(revision, requests, audience=audience)
        if len(parts) == 1:
            return parts
        rest, first, *others = parts
        return [rest - rest // 2, first + rest // 2, *others]


def test_a_split_that_few_users_make_uneven_is_not_taken_for_wrong() -> None:
    stages = [{"weight": "10%", "minDuration": "10m", "minRequests": 10}, {"weight": "100%"}]
    for kind, reason in ((VirtualRollout, Reason.SPLIT_MISMATCH), (FewUsers, None)):
        world = kind(rollout_of(stages=stages), split=0.35)
        world.settle()
        world.live(60)
        world.want("http://v2")
        world.settle()
        world.live(300)
        assert world.rollout.status.analysis[0].reason is reason
