"""RolloutActions: what people ask for is done once, about the artifact they meant, and told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.api.action import ActionName, ActionPhase
from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.status import ActionRecord, Attempt, RolloutStatus
from controller.core import actions, attempts
from controller.core.plan import Plan
from controller.core.snapshot import Action, Latch, Problem
from tests.unit.test_plan import in_first_stage, message, reason
from tests.virtual import Behaviour, VirtualRollout, started

ABORT, PAUSE, RESUME = ActionName.ABORT, ActionName.PAUSE, ActionName.RESUME
PROMOTE, RETRY, APPROVE = ActionName.PROMOTE, ActionName.RETRY, ActionName.APPROVE
ELSEWHERE = "sha256:" + "0" * 64
EXPECTED = {"name": "tokensPerTask", "expected": 1000}


def phase(world: VirtualRollout, asked: Action) -> ActionPhase:
    return world.became(asked)[0]


def asked_and_settled(world: VirtualRollout, name: ActionName, **how: Any) -> tuple[ActionPhase, str]:
    """Ask, and plan once: what became of it."""
    asked = world.ask(name, **how)
    world.step()
    became = world.became(asked)
    world.settle()
    return became


def status_of(world: VirtualRollout) -> RolloutStatus:
    return world.rollout.status


# Abort


def test_an_abort_takes_the_candidate_back_in_the_very_next_plan() -> None:
    world = in_first_stage()
    artifact = world.snapshot().artifact_id
    world.ask(ABORT)
    decided = world.step()
    assert (decided.rule, decided.cut, decided.status.weight) == ("rollback", True, 0)
    record = decided.status.last_rollback
    assert record is not None
    assert (record.reason, record.artifact_id) == (Reason.ABORTED, artifact)
    assert "was taken back at 10%: aborted by alice (reason 1)" in message(world)
    assert decided.status.rolled_back == [artifact]
    assert phase(world, world.actions[0]) is ActionPhase.APPLIED
    world.live(300)
    assert status_of(world).candidate is None


def test_an_abort_before_the_first_stage_is_done_too() -> None:
    world = started()
    world.want("http://v2")
    world.step()
    world.ask(ABORT)
    decided = world.step()
    assert (decided.rule, decided.cut) == ("rollback", False)


def test_an_abort_does_not_wait_for_what_was_asked_before() -> None:
    world = in_first_stage()
    pause, abort = world.ask(PAUSE), world.ask(ABORT)
    assert world.step().rule == "rollback"
    assert phase(world, pause) is ActionPhase.PENDING
    world.settle()
    assert phase(world, abort) is ActionPhase.APPLIED
    assert phase(world, pause) is ActionPhase.EXPIRED


def test_an_abort_works_while_the_spec_is_refused_and_the_candidate_paused() -> None:
    world = in_first_stage()
    world.change_spec(paused=True)
    world.problem = Problem(Reason.CONFLICTED, "the host is taken")
    world.ask(ABORT)
    assert world.step().rule == "rollback"


def test_the_second_of_two_aborts_comes_too_late() -> None:
    world = in_first_stage()
    first, second = world.ask(ABORT), world.ask(ABORT, by="bob")
    world.settle()
    assert (phase(world, first), phase(world, second)) == (ActionPhase.APPLIED, ActionPhase.EXPIRED)


def test_a_cut_that_was_pushed_for_an_abort_is_stored_with_it() -> None:
    world = in_first_stage()
    candidate = status_of(world).candidate
    assert candidate is not None
    abort = world.ask(ABORT)
    before = world.rollout
    world.step()
    world.rollout = before  # the write was lost
    world.actions = [abort]
    world.latch = Latch(candidate.artifact_id, 1, Reason.ABORTED, "", "aborted by alice (reason 1)")
    decided = world.step()
    assert [(r.uid, r.phase) for r in decided.status.actions] == [(abort.uid, ActionPhase.APPLIED)]
    assert decided.status.last_rollback is not None
    assert decided.status.last_rollback.reason is Reason.ABORTED


# Bound to an artifact


@pytest.mark.parametrize("name", [ABORT, PAUSE, RESUME, PROMOTE, APPROVE])
def test_an_action_for_another_artifact_does_nothing_and_says_so(name: ActionName) -> None:
    world = in_first_stage()
    before = world.settle().status
    became, said = asked_and_settled(world, name, artifact=ELSEWHERE)
    assert became is ActionPhase.EXPIRED
    assert ELSEWHERE in said
    assert "is not the candidate" in said
    assert "nothing was done" in said
    assert status_of(world) == before


@pytest.mark.parametrize("name", [ABORT, PAUSE, PROMOTE])
def test_without_a_candidate_there_is_nothing_to_do(name: ActionName) -> None:
    world = started()
    became, said = asked_and_settled(world, name)
    assert became is ActionPhase.EXPIRED
    assert "there is none" in said


def test_what_the_api_server_did_not_check_is_refused() -> None:
    world = in_first_stage()
    became, said = asked_and_settled(world, ABORT, problem="PolicyMissing: no policy")
    assert (became, said) == (ActionPhase.REFUSED, "PolicyMissing: no policy")
    assert status_of(world).weight == 100_000


# Pause and resume


def test_a_pause_holds_until_someone_resumes() -> None:
    world = in_first_stage()
    assert asked_and_settled(world, PAUSE)[0] is ActionPhase.APPLIED
    world.live(300)
    status = status_of(world)
    assert (status.weight, status.state, reason(world)) == (100_000, State.PAUSED, Reason.PAUSED)
    assert "until someone resumes what was paused by alice (reason 1)" in message(world)
    assert asked_and_settled(world, RESUME, by="bob")[0] is ActionPhase.APPLIED
    world.live(300)
    assert status_of(world).state is State.STABLE


def test_both_the_spec_and_the_person_have_to_let_go() -> None:
    world = in_first_stage()
    world.ask(PAUSE)
    world.change_spec(paused=True)
    world.settle()
    assert "until spec.paused is taken away and someone resumes" in message(world)
    became, said = asked_and_settled(world, RESUME)
    assert became is ActionPhase.APPLIED
    assert "spec.paused still holds it" in said
    world.live(200)
    assert status_of(world).weight == 100_000
    world.change_spec(paused=False)
    world.live(300)
    assert status_of(world).state is State.STABLE


def test_a_paused_candidate_that_fails_is_taken_back() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.4)})
    world.ask(PAUSE)
    world.live(60)
    assert status_of(world).state is State.ROLLED_BACK
    assert status_of(world).pause is None


def test_a_pause_is_about_one_artifact() -> None:
    world = in_first_stage()
    world.ask(PAUSE)
    world.settle()
    world.want("http://v3")
    world.live(60)
    assert status_of(world).pause is None
    assert status_of(world).state is not State.PAUSED


def test_pausing_twice_and_resuming_what_is_not_paused_are_refused() -> None:
    world = in_first_stage()
    became, said = asked_and_settled(world, RESUME)
    assert (became, said) == (ActionPhase.REFUSED, "nobody has paused it by a RolloutAction")
    asked_and_settled(world, PAUSE)
    became, said = asked_and_settled(world, PAUSE, by="bob")
    assert (became, said) == (ActionPhase.REFUSED, "it is paused already, by alice (reason 2)")


# Promote


def test_promote_ends_a_stage_without_more_time_or_evidence() -> None:
    world = in_first_stage()
    world.blind = "Prometheus is away"
    world.live(20)
    became, said = asked_and_settled(world, PROMOTE)
    assert (became, said) == (ActionPhase.APPLIED, "stage 10% does not wait for more time or evidence")
    assert status_of(world).weight == 500_000
    assert status_of(world).stage is not None
    world.live(300)
    assert status_of(world).weight == 500_000, "the next stage waits for its own evidence"


def test_promote_at_the_last_stage_ends_the_bake() -> None:
    world = in_first_stage()
    world.live(150)
    assert status_of(world).state is State.BAKING
    asked_and_settled(world, PROMOTE)
    assert status_of(world).state is State.STABLE


def test_nobody_promotes_a_version_that_fails() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.5)})
    for _ in range(12):
        world.now += timedelta(seconds=5)
        world.serve(400)
        world.take_samples()
    asked = world.ask(PROMOTE)
    decided = world.step()
    assert decided.rule == "rollback"
    assert phase(world, asked) is ActionPhase.PENDING
    world.settle()
    assert phase(world, asked) is ActionPhase.EXPIRED


def test_promote_waits_for_a_pause_to_end() -> None:
    world = in_first_stage()
    world.ask(PAUSE)
    world.ask(PROMOTE)
    world.live(30)
    assert status_of(world).weight == 100_000
    asked_and_settled(world, RESUME)
    assert status_of(world).weight == 500_000


def test_promote_needs_a_stage_that_waits() -> None:
    world = started()
    world.want("http://v2")
    world.step()
    assert (
        asked_and_settled(world, PROMOTE)[1] == "its first stage has not begun, so there is nothing to skip"
    )
    world.change_spec(paused=True)
    asked_and_settled(world, PROMOTE)
    became, said = asked_and_settled(world, PROMOTE, by="bob")
    assert became is ActionPhase.REFUSED
    assert said == "stage 10% was ended already, by alice (reason 2)"


def with_broken_limit(world: VirtualRollout, action: str = "Hold") -> VirtualRollout:
    """A guardrail that holds is broken."""
    said = {"name": "own", "verdict": "Fail", "action": action, "message": "3 is above 2"}
    status = RolloutStatus.model_validate({**world.rollout.status.to_json(), "guardrails": [said]})
    world.rollout = world.rollout.model_copy(update={"status": status})
    return world


def test_nobody_promotes_against_a_broken_limit() -> None:
    world = with_broken_limit(in_first_stage())
    asked = world.ask(PROMOTE)
    world.step()
    became, said = world.became(asked)
    assert (became, said) == (
        ActionPhase.REFUSED,
        "nobody promotes against a failure: own limit: 3 is above 2",
    )


def test_a_limit_that_breaks_after_the_promotion_holds_it() -> None:
    world = in_first_stage()
    world.ask(PAUSE)
    world.ask(PROMOTE)
    world.settle()
    with_broken_limit(world)
    world.ask(RESUME)
    world.step()
    assert reason(world) is Reason.GUARDRAIL_BROKEN
    assert status_of(world).weight == 100_000


def test_promote_does_not_go_past_splits_that_are_overridden_by_hand() -> None:
    world = in_first_stage()
    world.overridden = True
    world.live(100)
    assert reason(world) is Reason.BREAK_GLASS
    asked_and_settled(world, PROMOTE)
    world.live(30)
    assert status_of(world).weight == 100_000
    world.overridden = False
    world.live(600)
    assert status_of(world).state is State.STABLE


# Retry


def aborted() -> VirtualRollout:
    world = in_first_stage()
    asked_and_settled(world, ABORT)
    return world


def test_a_retry_starts_the_artifact_anew_with_the_next_attempt() -> None:
    world = aborted()
    artifact = world.snapshot().artifact_id
    for attempt in (2, 3):
        became, said = asked_and_settled(world, RETRY, artifact=artifact)
        assert (became, said) == (ActionPhase.APPLIED, f"attempt {attempt} begins")
        candidate = status_of(world).candidate
        assert candidate is not None
        assert (candidate.artifact_id, candidate.attempt) == (artifact, attempt)
        assert status_of(world).rolled_back == []
        asked_and_settled(world, ABORT)
    asked_and_settled(world, RETRY, artifact=artifact)
    world.live(300)
    assert status_of(world).state is State.STABLE


def test_the_latch_of_an_earlier_attempt_does_not_stop_a_retry() -> None:
    world = aborted()
    artifact = world.snapshot().artifact_id
    world.latch = Latch(artifact, 1, Reason.ABORTED, "", "aborted")
    asked_and_settled(world, RETRY, artifact=artifact)
    world.live(300)
    assert status_of(world).state is State.STABLE


def test_only_what_was_taken_back_and_is_wanted_can_be_retried() -> None:
    world = aborted()
    taken_back = world.snapshot().artifact_id
    assert asked_and_settled(world, RETRY, artifact=ELSEWHERE)[0] is ActionPhase.EXPIRED
    world.want("http://v3")
    world.settle()
    became, said = asked_and_settled(world, RETRY, artifact=taken_back)
    assert became is ActionPhase.EXPIRED
    assert f"the spec does not want {taken_back}" in said
    became, said = asked_and_settled(world, RETRY)
    assert became is ActionPhase.REFUSED
    assert "was not taken back, so there is nothing to retry" in said


def test_a_retry_waits_while_it_is_not_known_what_the_spec_wants() -> None:
    world = aborted()
    asked = world.ask(RETRY, artifact=world.snapshot().artifact_id)
    snapshot = replace(world.snapshot(), artifact_id="", problem=Problem(Reason.INVALID, "unreadable"))
    assert actions.take_up(snapshot, world.now).rollout.status.actions == []
    world.settle()
    assert phase(world, asked) is ActionPhase.APPLIED


def test_a_retry_of_what_is_wanted_again_survives_that_the_other_candidate_goes() -> None:
    world = aborted()
    taken_back = world.snapshot().artifact_id
    world.want("http://v3")
    world.settle()
    world.want("http://v2")
    asked = world.ask(RETRY, artifact=taken_back)
    assert world.step().rule == "supersede"
    world.settle()
    assert phase(world, asked) is ActionPhase.APPLIED
    assert status_of(world).candidate is not None


def test_the_remembered_attempts_are_bounded() -> None:
    world = aborted()
    many = [Attempt(artifact_id=f"sha256:{n:064}", attempt=2) for n in range(attempts.KEPT_ATTEMPTS)]
    world.rollout = world.rollout.model_copy(
        update={"status": status_of(world).model_copy(update={"attempts": many})}
    )
    asked_and_settled(world, RETRY, artifact=world.snapshot().artifact_id)
    assert len(status_of(world).attempts) == attempts.KEPT_ATTEMPTS


# Once, and kept


def test_what_was_taken_up_is_not_taken_up_again_although_the_action_does_not_show_it() -> None:
    world = in_first_stage()
    pause, resume = world.ask(PAUSE), world.ask(RESUME)
    world.step()
    assert status_of(world).pause is None
    world.actions = [pause, resume]  # what became of them could not be written
    world.step()
    assert [record.uid for record in status_of(world).actions] == [pause.uid, resume.uid]
    world.settle()
    assert status_of(world).actions == []
    assert status_of(world).pause is None


def test_the_record_of_an_action_that_is_not_seen_is_kept_for_a_while() -> None:
    world = in_first_stage()
    world.ask(PAUSE)
    world.step()
    seen, world.actions = world.actions, []
    world.settle()
    assert [record.name for record in status_of(world).actions] == ["action-1"]
    world.now += timedelta(minutes=11)
    world.settle()
    assert status_of(world).actions == []
    assert seen


def test_more_than_can_be_remembered_waits() -> None:
    world = in_first_stage()
    asked = [world.ask(PAUSE, artifact=ELSEWHERE) for _ in range(actions.KEPT_RECORDS + 5)]
    world.step()
    assert [phase(world, each) for each in asked[-5:]] == [ActionPhase.PENDING] * 5
    world.settle()
    assert {phase(world, each) for each in asked} == {ActionPhase.EXPIRED}


def test_an_abort_beyond_what_can_be_remembered_lets_nothing_else_past_it() -> None:
    world = in_first_stage()
    record = ActionRecord(
        uid="", name="", action=PAUSE, by="", reason="", at=world.now, phase=ActionPhase.EXPIRED, message=""
    )
    full = [record.model_copy(update={"uid": f"told-{n}"}) for n in range(actions.KEPT_RECORDS + 1)]
    status = status_of(world).model_copy(update={"actions": full})
    world.rollout = world.rollout.model_copy(update={"status": status})
    asked = [world.ask(PAUSE, artifact=ELSEWHERE) for _ in range(5)]
    world.step()
    assert [phase(world, each) for each in asked] == [ActionPhase.PENDING] * 5


def test_the_oldest_decided_actions_go_beyond_the_limit() -> None:
    world = in_first_stage()
    world.change_spec(action_history_limit=2)
    for _ in range(4):
        world.now += timedelta(seconds=1)
        asked_and_settled(world, PAUSE, artifact=ELSEWHERE)
    assert world.step().delete_actions == ("action-2", "action-1")


def test_an_action_that_status_still_has_to_tell_is_not_deleted() -> None:
    world = in_first_stage()
    world.change_spec(action_history_limit=0)
    world.ask(PAUSE)
    decided: Plan = world.step()
    assert decided.delete_actions == ()
    assert isinstance(decided.status.actions[0], ActionRecord)


def test_resuming_a_candidate_that_is_lost_by_that_is_done_all_the_same() -> None:
    world = in_first_stage(spec={"progress_deadline": "1s"})
    world.blind = ""
    asked_and_settled(world, PAUSE)
    resume = world.ask(RESUME)
    world.step()
    assert phase(world, resume) is ActionPhase.APPLIED


# Approvals


GATED = {
    "stages": [
        {"weight": "10%", "minDuration": "1m", "minRequests": 10},
        {"weight": "50%", "minDuration": "1m", "minRequests": 10, "approval": {"required": 2}},
        {"weight": "100%", "minDuration": "1m", "minRequests": 10},
    ]
}


def test_a_stage_waits_for_as_many_different_people_as_it_asks_for() -> None:
    world = in_first_stage(spec=GATED)
    world.live(200)
    assert (status_of(world).weight, reason(world)) == (100_000, Reason.AWAITING_APPROVAL)
    assert message(world) == "stage 50% has 0 of 2 approvals, 2 missing"
    became, said = asked_and_settled(world, APPROVE)
    assert (became, said) == (ActionPhase.APPLIED, "stage 50% has 1 of 2 approvals (of alice), 1 missing")
    became, said = asked_and_settled(world, APPROVE)
    assert (became, said) == (
        ActionPhase.REFUSED,
        "alice has approved of stage 50% before, which counts once",
    )
    world.live(120)
    assert message(world) == "stage 50% has 1 of 2 approvals (of alice), 1 missing"
    became, said = asked_and_settled(world, APPROVE, by="bob")
    assert said == "stage 50% has 2 of 2 approvals (of alice, bob)"
    world.live(20)
    assert status_of(world).weight == 500_000
    world.live(200)
    assert status_of(world).state is State.STABLE
    assert status_of(world).approvals == []


def test_approvals_may_come_before_they_are_waited_for() -> None:
    world = in_first_stage(spec=GATED)
    world.ask(APPROVE)
    world.ask(APPROVE, by="bob")
    world.live(300)
    assert status_of(world).state is State.STABLE


def test_while_people_are_waited_for_the_reason_stays_and_the_deadline_stops() -> None:
    world = in_first_stage(spec={**GATED, "progressDeadline": "1m"})
    world.live(100)
    world.plans.clear()
    world.live(600)
    told = {c.reason for p in world.plans for c in p.status.conditions if c.type is ConditionType.PROGRESSING}
    assert told == {Reason.AWAITING_APPROVAL}
    assert reason(world, ConditionType.HEALTHY) is Reason.IN_PROGRESS


def test_a_candidate_that_waits_for_people_is_watched_and_taken_back() -> None:
    world = in_first_stage(spec=GATED)
    world.live(150)
    world.behaviour["v2"] = Behaviour(errors=0.5)
    world.live(90)
    assert status_of(world).state is State.ROLLED_BACK


def test_approvals_are_those_of_one_attempt() -> None:
    world = in_first_stage(spec=GATED)
    world.ask(APPROVE)
    world.settle()
    asked_and_settled(world, ABORT)
    asked_and_settled(world, RETRY, artifact=world.snapshot().artifact_id)
    assert status_of(world).approvals == []


def test_promote_does_not_stand_in_for_approvals() -> None:
    world = in_first_stage(spec=GATED)
    asked_and_settled(world, PROMOTE)
    assert (status_of(world).weight, reason(world)) == (100_000, Reason.AWAITING_APPROVAL)


def test_nobody_is_asked_where_no_stage_ahead_wants_it() -> None:
    world = in_first_stage()
    assert asked_and_settled(world, APPROVE) == (ActionPhase.REFUSED, "no stage ahead asks for approval")


def test_before_its_first_stage_a_candidate_that_waits_for_people_reads_nothing() -> None:
    stages = [{"weight": "100%", "minDuration": "1m", "minRequests": 10, "approval": {}}]
    world = started(spec={"stages": stages})
    world.want("http://v2")
    world.settle()
    read = status_of(world).evidence
    world.live(100)
    assert (status_of(world).stage, reason(world)) == (None, Reason.AWAITING_APPROVAL)
    assert status_of(world).evidence == read
    asked_and_settled(world, APPROVE)
    world.live(200)
    assert status_of(world).state is State.STABLE
    assert status_of(world).verdict is not Verdict.FAIL
