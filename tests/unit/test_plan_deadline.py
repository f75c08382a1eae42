"""progressDeadline: time without progress beyond a stage's minDuration, and what follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.rollout import DeadlineAction
from controller.api.status import Counts, Stalled
from controller.core.plan import plan
from controller.core.progress import stalled_for
from controller.core.snapshot import Problem
from tests.unit.test_plan import in_first_stage, message, reason
from tests.virtual import CATALOGUE, START, VirtualRollout, started

DEADLINE = timedelta(minutes=5)
MINUTE = timedelta(minutes=1)


def with_deadline(world: VirtualRollout, action: DeadlineAction = DeadlineAction.HOLD) -> VirtualRollout:
    world.change_spec(progress_deadline=DEADLINE, on_progress_deadline=action)
    return world


def late(world: VirtualRollout) -> timedelta:
    return stalled_for(world.rollout.status.stalled, world.now)


def without_router(world: VirtualRollout) -> None:
    world.instances = 0


def refused(world: VirtualRollout) -> None:
    world.problem = Problem(Reason.CONFLICTED, "the host is taken")


def goes_on(world: VirtualRollout) -> None:
    world.instances, world.problem, world.blind, world.internal = 1, None, "", 0.0
    world.change_spec(paused=False)


def blind(world: VirtualRollout) -> None:
    world.blind = "Prometheus is away"


def paused(world: VirtualRollout) -> None:
    world.change_spec(paused=True)


def quiet(world: VirtualRollout) -> None:
    world.per_second = 0.0


Trouble = Callable[[VirtualRollout], None]


@pytest.mark.parametrize("trouble", [without_router, refused])
def test_trouble_beyond_a_stages_time_counts_and_is_told_once_it_is_too_much(trouble: Trouble) -> None:
    world = with_deadline(in_first_stage())
    trouble(world)
    world.live(60)
    assert late(world) == timedelta(0)
    world.live(240)
    assert late(world) == 4 * MINUTE
    assert reason(world, ConditionType.HEALTHY) is Reason.IN_PROGRESS
    world.live(60)
    condition = world.rollout.status.condition(ConditionType.HEALTHY)
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", Reason.PROGRESS_DEADLINE_EXCEEDED)
    assert "no progress for 5m beyond the stage's minDuration" in condition.message
    assert world.rollout.status.weight == 100_000, "held, and no more than that"
    told = condition.message
    world.live(60)
    assert message(world, ConditionType.HEALTHY) == told
    goes_on(world)
    world.live(15)
    assert reason(world, ConditionType.HEALTHY) is Reason.IN_PROGRESS
    assert (world.rollout.status.weight, world.rollout.status.stalled) == (500_000, None)


@pytest.mark.parametrize("trouble", [blind, paused, quiet])
def test_what_nobody_can_judge_does_not_count(trouble: Trouble) -> None:
    world = with_deadline(in_first_stage())
    trouble(world)
    world.live(900)
    assert late(world) == timedelta(0)
    assert reason(world, ConditionType.HEALTHY) is Reason.IN_PROGRESS


@pytest.mark.parametrize("pause", [blind, paused])
def test_the_clock_stands_still_meanwhile_and_goes_on_where_it_stood(pause: Trouble) -> None:
    world = with_deadline(in_first_stage())
    refused(world)
    world.live(60 + 120)
    pause(world)
    world.live(15)
    stopped = late(world)
    assert timedelta(seconds=120) <= stopped <= timedelta(seconds=135)
    world.live(600)
    assert late(world) == stopped
    goes_on(world)
    refused(world)
    world.live(120)
    assert timedelta(seconds=105) <= late(world) - stopped <= timedelta(seconds=120)
    assert reason(world, ConditionType.HEALTHY) is Reason.IN_PROGRESS
    world.live(60)
    assert reason(world, ConditionType.HEALTHY) is Reason.PROGRESS_DEADLINE_EXCEEDED


def test_by_choice_the_candidate_is_taken_back() -> None:
    world = with_deadline(in_first_stage(), DeadlineAction.ROLLBACK)
    refused(world)
    world.live(60 + 285)
    assert world.rollout.status.candidate is not None
    world.live(30)
    status = world.rollout.status
    assert status.candidate is None
    assert status.last_rollback is not None
    assert status.last_rollback.reason is Reason.PROGRESS_DEADLINE_EXCEEDED
    assert "no progress for 5m" in status.last_rollback.message
    assert "the host is taken" in status.last_rollback.message
    (taken_back,) = [p for p in world.plans if p.rule == "rollback"]
    assert taken_back.cut
    assert status.candidate is None
    goes_on(world)
    world.live(60)
    assert world.rollout.status.state is State.ROLLED_BACK


def test_nobody_is_taken_back_while_the_clock_stands_still() -> None:
    world = with_deadline(in_first_stage())
    refused(world)
    world.live(60 + 240)
    blind(world)
    world.live(30)
    world.change_spec(progress_deadline=MINUTE, on_progress_deadline=DeadlineAction.ROLLBACK)
    world.live(120)
    assert world.rollout.status.candidate is not None
    assert reason(world, ConditionType.HEALTHY) is Reason.PROGRESS_DEADLINE_EXCEEDED


def test_a_candidate_that_never_gets_to_its_first_stage_is_late_too() -> None:
    world = started()
    world.instances = 0
    with_deadline(world, DeadlineAction.ROLLBACK)
    world.want("http://v2")
    decided = world.settle()
    assert decided.requeue_after == DEADLINE, "nothing else would wake it"
    world.live(DEADLINE.total_seconds())
    assert world.rollout.status.last_rollback is not None
    (taken_back,) = [p for p in world.plans if p.rule == "rollback"]
    assert not taken_back.cut, "nobody was served"
    said = taken_back.status.condition(ConditionType.PROGRESSING)
    assert said is not None
    assert "was taken back before its first stage: no progress for 5m" in said.message


def test_waiting_for_stables_requests_is_a_lack_of_requests() -> None:
    analysis = {"interval": "15s", "clustering": 1, "metrics": [{"name": "latency"}]}
    world = with_deadline(started(spec={"analysis": analysis}, per_second=0.0))
    world.want("http://v2")
    world.live(600)
    assert world.rollout.status.stage is None
    assert late(world) == timedelta(0)


def test_a_split_that_is_never_acknowledged_is_looked_at_when_its_stage_should_be_over() -> None:
    world = with_deadline(started())
    world.want("http://v2")
    while world.rollout.status.stage is None:
        world.step()
        if world.rollout.status.stage is None:
            world.program()
    decided = world.step()
    assert decided.requeue_after == MINUTE
    world.now += MINUTE
    assert world.step().requeue_after == DEADLINE
    world.now += DEADLINE + MINUTE
    assert world.step().requeue_after is None
    assert reason(world, ConditionType.HEALTHY) is Reason.PROGRESS_DEADLINE_EXCEEDED


ENOUGH, FEW, NONE = Counts(bad=3, total=900), Counts(bad=3, total=9), Counts()


@pytest.mark.parametrize(
    ("verdict", "candidate", "baseline", "counts"),
    [
        (Verdict.INSUFFICIENT, ENOUGH, ENOUGH, True),
        (Verdict.INSUFFICIENT, FEW, ENOUGH, False),
        (Verdict.INSUFFICIENT, ENOUGH, NONE, False),
        (Verdict.PASS, ENOUGH, ENOUGH, False),
    ],
    ids=["harm is suspected", "few requests", "nobody to compare with", "the next evaluation is awaited"],
)
def test_of_what_evidence_may_lack_only_a_lasting_suspicion_counts(
    verdict: Verdict, candidate: Counts, baseline: Counts, counts: bool
) -> None:
    world = with_deadline(in_first_stage())
    world.live(45)
    status = world.rollout.status
    lacking = {"verdict": verdict, "candidate": candidate, "baseline": baseline}
    metrics = [metric.model_copy(update=lacking) for metric in status.analysis]
    world.rollout = world.rollout.model_copy(
        update={"status": status.model_copy(update={"analysis": metrics})}
    )
    world.now += timedelta(seconds=30)
    decided = plan(replace(world.snapshot(), samples=None), CATALOGUE, world.now)
    assert decided.rule == "hold"
    assert decided.status.stalled == (Stalled(since=world.now) if counts else None)


def test_time_is_only_ever_added_and_a_clock_that_was_set_back_adds_none() -> None:
    assert stalled_for(None, START) == timedelta(0)
    assert stalled_for(Stalled(before=MINUTE), START) == MINUTE
    assert stalled_for(Stalled(before=MINUTE, since=START), START + MINUTE) == 2 * MINUTE
    assert stalled_for(Stalled(before=MINUTE, since=START + MINUTE), START) == MINUTE


def test_the_clock_is_written_when_it_starts_or_stops_and_not_while_it_runs() -> None:
    world = with_deadline(in_first_stage())
    refused(world)
    world.live(90)
    before = world.rollout.status.stalled
    assert before is not None
    world.live(120)
    assert world.rollout.status.stalled == before
