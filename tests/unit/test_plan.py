"""The plan, told as a story: each test is a situation and what is decided in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.api.delivery import MetricName
from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.rollout import Delivery
from controller.api.status import Evidence
from controller.core.plan import plan
from controller.core.rules.rollback import BREAK_GLASS, attempt_name
from controller.core.snapshot import Latch, Problem
from controller.core.stages import evaluation_due
from controller.core.traffic import Programmed
from tests.virtual import CATALOGUE, Behaviour, VirtualRollout, rollout_of, started


def reason(world: VirtualRollout, kind: ConditionType = ConditionType.PROGRESSING) -> Reason:
    condition = world.rollout.status.condition(kind)
    assert condition is not None
    return condition.reason


def message(world: VirtualRollout, kind: ConditionType = ConditionType.PROGRESSING) -> str:
    condition = world.rollout.status.condition(kind)
    assert condition is not None
    return condition.message


def in_first_stage(**kwargs: Any) -> VirtualRollout:
    world = started(**kwargs)
    world.want("http://v2")
    world.settle()
    assert world.rollout.status.stage is not None
    return world


def test_the_first_artifact_is_stable_at_once() -> None:
    world = VirtualRollout(rollout_of())
    world.settle()
    status = world.rollout.status
    assert status.state is State.STABLE
    assert status.stable is not None
    assert status.stable.revision in world.revisions
    assert reason(world, ConditionType.HEALTHY) is Reason.INITIALISED
    assert world.served is not None
    assert not world.served.serves_candidate


def test_a_new_artifact_becomes_the_candidate_at_weight_0_and_enters_the_first_stage_once_acknowledged() -> (
    None
):
    world = started()
    world.want("http://v2")
    accepted = world.step()
    assert accepted.rule == "accept"
    assert (accepted.status.weight, accepted.status.stage) == (0, None)
    assert accepted.status.state is State.PREPARING
    assert accepted.status.frozen is not None
    waits = world.step()
    assert waits.rule == "program"
    world.program()
    begins = world.step()
    assert (begins.rule, begins.status.weight) == ("begin", 100_000)
    assert begins.status.stage is not None
    assert begins.status.stage.programmed_at is None


def test_the_moment_until_a_split_is_acknowledged_is_not_worth_a_write() -> None:
    world = started()
    world.want("http://v2")
    for rule in ("accept", "begin"):
        told = world.step()
        assert told.rule == rule
        waits = world.step()
        assert (waits.rule, waits.status) == ("program", told.status)
        world.program()
    assert message(world).endswith("enters stage 1 of 3: 10%")
    served = world.step()
    assert message(world).startswith("stage 10% goes on until ")
    assert world.step().status == served.status


def test_without_a_router_it_is_told_what_is_waited_for() -> None:
    world = started()
    world.want("http://v2")
    world.step()
    world.instances = 0
    waits = world.step()
    assert waits.rule == "program"
    assert message(world) == "the router has not acknowledged the wanted split yet"


def test_a_good_version_passes_every_stage_and_is_promoted() -> None:
    world = in_first_stage()
    world.live(300)
    assert world.rollout.status.state is State.STABLE
    assert reason(world, ConditionType.HEALTHY) is Reason.PROMOTED
    assert [p.rule for p in world.plans if p.rule in ("begin", "advance", "promote")] == [
        "begin",
        "advance",
        "advance",
        "promote",
    ]
    assert not any(p.cut for p in world.plans)


def test_during_the_bake_the_state_says_so() -> None:
    world = in_first_stage()
    world.live(150)
    assert world.rollout.status.state is State.BAKING


def test_a_failing_version_is_taken_back() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.3)})
    before = world.rollout.status.stable
    world.live(60)
    status = world.rollout.status
    assert status.state is State.ROLLED_BACK
    assert status.stable == before
    assert status.last_rollback is not None
    assert status.last_rollback.metric == "errors"
    assert status.last_rollback.stage == "10%"
    assert "worse than stable" in status.last_rollback.message
    assert [p.cut for p in world.plans if p.rule == "rollback"] == [True]
    assert world.served is not None
    assert not world.served.serves_candidate
    assert reason(world, ConditionType.HEALTHY) is Reason.ROLLED_BACK


def test_a_failing_version_is_taken_back_during_the_bake_by_the_last_comparisons_baseline() -> None:
    world = in_first_stage()
    world.live(150)
    world.behaviour["v2"] = Behaviour(errors=0.3)
    world.live(60)
    status = world.rollout.status
    assert status.state is State.ROLLED_BACK
    assert status.last_rollback is not None
    assert status.last_rollback.stage == "100%"
    assert "the last comparison's baseline" in status.last_rollback.message


ONLY_100 = [{"weight": "100%", "minDuration": "1m", "minRequests": 10}]


def test_a_rollout_without_a_comparing_stage_is_judged_by_stables_past() -> None:
    world = in_first_stage(spec={"stages": ONLY_100})
    world.live(90)
    assert world.rollout.status.state is State.STABLE


def test_without_a_comparing_stage_a_version_that_breaks_is_taken_back_all_the_same() -> None:
    world = in_first_stage(spec={"stages": ONLY_100}, behaviour={"v2": Behaviour(errors=0.5)})
    world.live(90)
    assert world.rollout.status.state is State.ROLLED_BACK


def test_from_an_audience_to_everyone_stables_past_is_the_reference() -> None:
    stages = [INTERNAL_FIRST[0], {"weight": "100%", "minDuration": "1m", "minRequests": 10}]
    world = in_first_stage(spec={"stages": stages}, internal=0.2)
    world.live(140)
    assert world.rollout.status.state is State.STABLE


INTERNAL_FIRST: list[dict[str, Any]] = [
    {
        "name": "internal",
        "audience": {"header": "x-user-group", "values": ["internal"]},
        "minDuration": "1m",
        "minRequests": 10,
    },
    {"weight": "10%", "minDuration": "2m", "minRequests": 10},
    {"weight": "100%", "minDuration": "2m", "minRequests": 10},
]


def test_a_passed_audience_stays_watched() -> None:
    world = in_first_stage(spec={"stages": INTERNAL_FIRST}, internal=0.2)
    world.live(75)
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.index == 1
    assert {m.name for m in world.rollout.status.analysis} == {"errors", "errors (audience)"}
    world.audience_behaviour["v2"] = Behaviour(errors=0.9)
    world.live(45)
    record = world.rollout.status.last_rollback
    assert record is not None
    assert record.metric == "errors (audience)"


def test_everyone_else_stays_watched_during_an_audience_stage() -> None:
    stages = [INTERNAL_FIRST[1], INTERNAL_FIRST[0], INTERNAL_FIRST[2]]
    world = in_first_stage(spec={"stages": stages}, internal=0.2)
    world.live(135)
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.index == 1
    world.behaviour["v2"] = Behaviour(errors=0.9)
    world.audience_behaviour["v2"] = Behaviour()
    world.live(45)
    record = world.rollout.status.last_rollback
    assert record is not None
    assert record.metric == "errors"


def test_during_the_bake_the_audience_is_judged_by_its_last_comparison() -> None:
    world = in_first_stage(spec={"stages": INTERNAL_FIRST}, internal=0.2)
    world.live(200)
    assert world.rollout.status.state is State.BAKING
    world.audience_behaviour["v2"] = Behaviour(errors=0.9)
    world.live(45)
    record = world.rollout.status.last_rollback
    assert record is not None
    assert record.metric == "errors (audience)"


def test_few_requests_that_all_fail_do_not_pass() -> None:
    """With strong clustering so few prove nothing, and the stage waits for more."""
    analysis = {"interval": "15s", "clustering": 10, "metrics": [{"name": "errors"}]}
    stages = [{"weight": "10%", "minDuration": "1m", "minRequests": 20}, {"weight": "100%"}]
    spec = {"analysis": analysis, "stages": stages}
    world = in_first_stage(spec=spec, per_second=3, behaviour={"v2": Behaviour(errors=1.0)})
    world.live(105)
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.index == 0
    assert "harm is suspected" in message(world)


def test_a_candidate_is_watched_although_the_spec_was_refused_before_its_split_was_acknowledged() -> None:
    world = started(behaviour={"v2": Behaviour(errors=0.6)})
    world.want("http://v2")
    world.step()
    world.program()
    assert world.step().rule == "begin"
    world.problem = Problem(Reason.CONFLICTED, "the host is taken")
    world.live(60)
    assert world.rollout.status.last_rollback is not None


def test_a_clock_that_was_set_back_does_not_stop_the_watch() -> None:
    world = in_first_stage()
    world.live(30)
    world.now -= timedelta(hours=1)
    after = world.step().requeue_after
    assert after is not None
    assert after <= timedelta(seconds=15)


def test_an_unknown_evidence_state_is_blindness_and_does_not_keep_from_cancelling() -> None:
    world = in_first_stage()
    world.live(30)
    evidence = world.rollout.status.evidence
    assert evidence is not None
    broken = [m.model_copy(update={"tests": ["v2 of another time"]}) for m in evidence.metrics]
    status = world.rollout.status.model_copy(
        update={"evidence": evidence.model_copy(update={"metrics": broken})}
    )
    world.rollout = world.rollout.model_copy(update={"status": status})
    world.live(20)
    assert world.rollout.status.state is State.BLIND
    world.want("http://v1")
    assert world.step().cut


def test_two_candidates_on_one_backend_are_refused() -> None:
    world = in_first_stage()
    spec = world.rollout.spec
    world.change_spec(agent=spec.agent.model_copy(update={"prompts": {"system": "another"}}))
    world.settle()
    assert reason(world, ConditionType.ACCEPTED) is Reason.SAME_BACKEND
    assert "stays where it is" in message(world)


def test_the_candidates_revision_that_was_deleted_by_hand_is_made_again() -> None:
    world = in_first_stage()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    del world.revisions[candidate.revision]
    assert world.step().create_revision
    assert candidate.revision in world.revisions


def test_a_version_that_was_taken_back_is_never_healthy() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.5)})
    world.live(60)
    world.want("http://v1")
    world.settle()
    assert world.rollout.status.verdict is None
    world.want("http://v2")
    world.settle()
    healthy = world.rollout.status.condition(ConditionType.HEALTHY)
    assert healthy is not None
    assert (healthy.status, healthy.reason) == ("False", Reason.ROLLED_BACK)


def test_a_refused_first_version_is_not_said_to_be_on_its_way() -> None:
    world = VirtualRollout(rollout_of(), problem=Problem(Reason.CONFLICTED, "the host is taken"))
    world.settle()
    assert "no version was accepted yet" in message(world, ConditionType.PROGRAMMED)


def test_a_rolled_back_artifact_is_not_tried_again() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.3)})
    world.live(60)
    world.want("http://v3")
    world.live(10)
    world.want("http://v2")
    world.live(60)
    assert world.rollout.status.state is State.ROLLED_BACK
    assert world.rollout.status.candidate is None
    assert "change spec.agent" in message(world)


def test_back_to_stable_after_a_rollback_is_healthy_again() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.3)})
    world.live(60)
    world.want("http://v1")
    world.settle()
    assert world.rollout.status.state is State.STABLE
    assert reason(world, ConditionType.HEALTHY) is Reason.PROMOTED


def test_no_traffic_is_never_a_pass() -> None:
    world = in_first_stage(per_second=0.0)
    world.live(600)
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.index == 0
    assert world.rollout.status.verdict is Verdict.INSUFFICIENT
    assert "0 of 10 requests" in message(world)


def test_a_candidate_without_a_baseline_to_compare_with_does_not_pass() -> None:
    world = in_first_stage(spec={"stages": INTERNAL_FIRST}, internal=1.0)
    world.live(120)
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.index == 0
    assert "stable had no requests" in message(world)


def test_an_audience_stage_serves_the_audience_alone_and_is_kept_later() -> None:
    internal = {"header": "x-user-group", "values": ["internal"]}
    stages = [
        {"name": "internal", "audience": internal, "minDuration": "1m", "minRequests": 10},
        {"weight": "10%", "minDuration": "1m", "minRequests": 10},
        {"weight": "100%", "minDuration": "1m", "minRequests": 10},
    ]
    world = in_first_stage(spec={"stages": stages}, internal=0.2)
    assert world.served is not None
    assert (world.served.weight_ppm, [a.weight_ppm for a in world.served.audiences]) == (0, [1_000_000])
    world.live(75)
    assert world.served.weight_ppm == 100_000
    assert [a.weight_ppm for a in world.served.audiences] == [1_000_000]
    world.live(200)
    assert world.rollout.status.state is State.STABLE


def test_an_audience_stage_with_a_weight_is_compared_within_the_audience() -> None:
    internal = {"header": "x-user-group", "values": ["internal"]}
    stages = [
        {"audience": internal, "weight": "50%", "minDuration": "1m", "minRequests": 10},
        {"weight": "100%", "minDuration": "1m", "minRequests": 10},
    ]
    world = in_first_stage(spec={"stages": stages}, internal=0.2)
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.title == "audience 50%"
    world.live(30)
    errors = world.rollout.status.analysis[0]
    assert 0 < errors.baseline.total < 150


@pytest.mark.parametrize(
    ("blindness", "says"),
    [
        ("Prometheus at http://p cannot be reached", "cannot be reached"),
        ("stale", "s old"),
        ("empty", "no live of any router"),
    ],
)
def test_blindness_holds_the_weight_and_says_why(blindness: str, says: str) -> None:
    world = in_first_stage()
    world.live(30)
    if blindness == "empty":
        world.samples.clear()
    if blindness.startswith("Prometheus"):
        world.blind = blindness
    for _ in range(20):  # scrapes have ended
        world.now += timedelta(seconds=15)
        world.settle()
    status = world.rollout.status
    assert (status.state, status.verdict) == (State.BLIND, Verdict.ERROR)
    assert status.weight == 100_000
    assert reason(world) is Reason.ANALYSIS_BLIND
    assert says in message(world)


def test_after_blindness_the_rollout_goes_on() -> None:
    world = in_first_stage()
    world.blind = "Prometheus is away"
    world.live(60)
    world.blind = ""
    world.live(300)
    assert world.rollout.status.state is State.STABLE


def test_samples_that_are_no_numbers_are_blindness() -> None:
    world = in_first_stage()
    world.live(20)
    for labels, taken in world.samples.items():
        if dict(labels)["__name__"] == "total":
            taken[-1] = (taken[-1][0], float("nan"))
    world.now += timedelta(seconds=1)
    status = world.rollout.status
    assert status.evidence is not None
    due = status.model_copy(update={"evidence": status.evidence.model_copy(update={"evaluated_at": None})})
    world.rollout = world.rollout.model_copy(update={"status": due})
    world.now += timedelta(seconds=10)
    world.step()
    assert world.rollout.status.verdict is Verdict.ERROR
    assert "total of router-0 is nan" in message(world)


def test_one_scrape_says_nothing_about_the_rhythm() -> None:
    world = in_first_stage()
    for taken in world.samples.values():
        del taken[:-1]
    world.now += timedelta(seconds=16)
    world.settle()
    assert "scraped the routers only once" in message(world)


def test_a_new_artifact_during_a_rollout_takes_the_old_candidate_off_first() -> None:
    world = in_first_stage()
    world.want("http://v3")
    off = world.step()
    assert (off.rule, off.cut, off.status.candidate, off.status.weight) == ("supersede", True, None, 0)
    assert world.step().rule == "accept"
    world.live(300)
    assert world.rollout.status.state is State.STABLE


def test_going_back_to_stable_cancels() -> None:
    world = in_first_stage()
    world.want("http://v1")
    off = world.step()
    assert (off.rule, off.cut, off.status.candidate) == ("cancel", True, None)
    world.settle()
    assert world.rollout.status.state is State.STABLE


def test_taking_off_a_candidate_that_nobody_was_served_is_no_cut() -> None:
    world = started()
    world.want("http://v2")
    world.step()
    world.want("http://v1")
    assert not world.step().cut


def test_a_failed_verdict_comes_before_everything_else() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.5)})
    world.scrape = timedelta(seconds=15)
    world.now += timedelta(seconds=15)
    world.serve(3000)
    world.take_samples()
    world.now += timedelta(seconds=1)
    world.serve(3000)
    world.take_samples()
    world.want("http://v3")
    world.problem = Problem(Reason.CONFLICTED, "the host is taken")
    world.instances = 0
    assert world.step().rule == "rollback"


def test_a_pushed_cut_stays_decided_until_it_is_stored() -> None:
    world = in_first_stage()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    world.latch = Latch(
        candidate.artifact_id, candidate.attempt, Reason.ANALYSIS_FAILED, "errors", "worse than stable"
    )
    decided = world.step()
    assert (decided.rule, decided.cut) == ("rollback", True)
    assert decided.status.last_rollback is not None
    assert decided.status.last_rollback.message == "worse than stable"


@pytest.mark.parametrize(("attempt", "why"), [(2, Reason.ANALYSIS_FAILED), (1, None)])
def test_a_latch_of_another_attempt_or_without_a_reason_is_no_rollback(
    attempt: int, why: Reason | None
) -> None:
    world = in_first_stage()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    world.latch = Latch(candidate.artifact_id, attempt, why)
    assert world.step().rule != "rollback"


def test_who_broke_the_glass_has_the_candidate_taken_back() -> None:
    world = in_first_stage()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    world.annotate(**{BREAK_GLASS: attempt_name(candidate)})
    decided = world.step()
    assert (decided.rule, decided.cut) == ("rollback", True)
    assert decided.status.last_rollback is not None
    assert decided.status.last_rollback.reason is Reason.BREAK_GLASS
    world.program()
    world.live(60)
    assert world.rollout.status.state is State.ROLLED_BACK


def test_what_was_said_about_another_try_is_no_rollback() -> None:
    world = in_first_stage()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    world.annotate(**{BREAK_GLASS: attempt_name(candidate.model_copy(update={"attempt": 2}))})
    assert world.step().rule != "rollback"


def test_nothing_rises_while_the_splits_of_a_router_are_overridden() -> None:
    world = in_first_stage()
    world.overridden = True
    world.live(300)
    assert world.rollout.status.weight == 100_000
    assert reason(world) is Reason.BREAK_GLASS
    said = [each.status.condition(ConditionType.PROGRESSING) for each in world.plans[-20:]]
    assert {condition and condition.reason for condition in said} == {Reason.BREAK_GLASS}
    world.overridden = False
    world.live(600)
    assert world.rollout.status.state is State.STABLE


def test_a_version_that_fails_while_splits_are_overridden_is_taken_back_all_the_same() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.3)})
    world.overridden = True
    world.live(60)
    assert world.rollout.status.state is State.ROLLED_BACK


def test_a_refused_spec_keeps_what_serves() -> None:
    world = in_first_stage()
    world.problem = Problem(Reason.CONFLICTED, "the host is taken")
    world.live(300)
    status = world.rollout.status
    assert (status.state, status.weight) == (State.REJECTED, 100_000)
    assert reason(world, ConditionType.ACCEPTED) is Reason.CONFLICTED


def test_two_artifacts_on_one_backend_are_refused() -> None:
    world = started()
    spec = world.rollout.spec
    world.change_spec(agent=spec.agent.model_copy(update={"prompts": {"system": "another"}}))
    world.settle()
    assert reason(world, ConditionType.ACCEPTED) is Reason.SAME_BACKEND
    assert "spec.agent.code.url" in message(world, ConditionType.ACCEPTED)
    assert world.rollout.status.candidate is None


def test_with_delivery_by_header_two_artifacts_share_a_backend() -> None:
    world = started()
    spec = world.rollout.spec
    world.change_spec(
        agent=spec.agent.model_copy(update={"prompts": {"system": "another"}}), delivery=Delivery.HEADER
    )
    world.settle()
    assert world.rollout.status.stage is not None


def test_without_a_router_nothing_rises() -> None:
    world = started()
    world.instances = 0
    world.want("http://v2")
    world.live(60)
    assert world.rollout.status.stage is None
    assert reason(world, ConditionType.PROGRAMMED) is Reason.ROUTER_UNAVAILABLE


def test_a_split_that_the_router_refuses_is_told_in_its_words() -> None:
    world = started()
    world.want("http://v2")
    world.step()
    snapshot = world.snapshot()
    refused = Programmed(world.served, world.acknowledged_at, 1, "router-0: no such cluster")
    decided = plan(replace(snapshot, programmed=refused), CATALOGUE, world.now)
    programmed = decided.status.condition(ConditionType.PROGRAMMED)
    assert programmed is not None
    assert (programmed.reason, programmed.message) == (Reason.PENDING, "router-0: no such cluster")


def test_a_revision_that_is_not_there_yet_holds_the_first_stage() -> None:
    world = started()
    world.want("http://v2")
    world.step()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    kept = world.revisions.pop(candidate.revision)
    world.program()
    assert world.step().rule == "program"
    world.revisions[kept.name] = kept
    world.settle()
    assert world.rollout.status.stage is not None


def test_stages_and_analysis_are_frozen_for_the_attempt() -> None:
    world = in_first_stage()
    world.change_spec(stages=world.rollout.spec.stages[2:])
    world.live(300)
    assert [p.rule for p in world.plans].count("advance") == 2


def test_old_revisions_are_removed_but_never_those_in_use() -> None:
    world = started(spec={"revisionHistoryLimit": 1})
    world.behaviour["v2"] = Behaviour(errors=0.3)
    for version in ("v2", "v3", "v4", "v5"):
        world.want(f"http://{version}")
        world.live(300)
    hosts = {revision.backend.host for revision in world.revisions.values()}
    assert hosts == {"v2", "v4", "v5"}, "v2 was rolled back last, v4 is history, v5 is stable"


def test_old_revisions_are_removed_after_a_rollback_too() -> None:
    world = started(spec={"revisionHistoryLimit": 0})
    for version in ("v2", "v3"):
        world.behaviour[version] = Behaviour(errors=0.3)
        world.want(f"http://{version}")
        world.live(120)
    assert {revision.backend.host for revision in world.revisions.values()} == {"v1", "v3"}


def test_the_remembered_rollbacks_are_bounded() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.5)})
    full = world.rollout.status.model_copy(update={"rolled_back": [f"sha256:{n}" for n in range(100)]})
    world.rollout = world.rollout.model_copy(update={"status": full})
    world.live(60)
    remembered = world.rollout.status.rolled_back
    assert len(remembered) == 100
    assert remembered[0] == "sha256:1"


def test_a_transition_time_moves_only_when_the_condition_flips() -> None:
    world = in_first_stage()
    world.live(30)
    earlier = world.rollout.status.condition(ConditionType.ACCEPTED)
    world.live(30)
    assert earlier is not None
    later = world.rollout.status.condition(ConditionType.ACCEPTED)
    assert later is not None
    assert later.last_transition_time == earlier.last_transition_time


def test_planning_twice_at_one_instant_changes_nothing() -> None:
    world = in_first_stage()
    world.live(40)
    status = world.rollout.status
    world.step()
    assert world.rollout.status == status


def test_an_evaluation_without_a_new_scrape_counts_nothing_twice() -> None:
    world = in_first_stage(scrape=timedelta(seconds=10))
    world.live(40)
    counted = world.rollout.status.analysis
    world.now += timedelta(seconds=15)
    world.step()
    assert world.rollout.status.analysis[0].candidate == counted[0].candidate
    assert world.rollout.status.evidence is not None
    assert world.rollout.status.evidence.evaluated_at == world.now


def test_the_catalogue_names_the_series_that_metrics_read_and_the_labels_that_matter() -> None:
    assert CATALOGUE.counters([MetricName.ERRORS]) == {"total", "bad"}
    assert CATALOGUE.counters(MetricName) == {"total", "bad", "bucket", "count", "lost"}
    assert CATALOGUE.only == (("class", ("5",)),)


def test_evaluations_keep_their_interval_and_begin_at_whole_seconds() -> None:
    world = in_first_stage(spec={"stages": [{"weight": "10%", "minDuration": "1h"}, {"weight": "100%"}]})
    status, stages, now = world.rollout.status, world.snapshot().stages, world.now
    assert status.stage is not None

    def due(evaluated: float, interval: float) -> float | None:
        evidence = Evidence(evaluated_at=now + timedelta(seconds=evaluated))
        at = evaluation_due(
            status.model_copy(update={"evidence": evidence}),
            stages,
            timedelta(seconds=interval),
            now + timedelta(seconds=600),
        )
        return (at - now).total_seconds() if at else None

    assert due(300, 15) == 315
    assert due(300.004, 15) == 315, "a late one does not put off the next"
    assert due(300.9, 15) == 315
    assert due(300.25, 1) == 301.2, "a short interval has a finer grid"
    assert due(300, 0.1) == 300.1


def test_a_stage_that_could_not_end_when_it_was_due_waits_for_fresh_evidence() -> None:
    world = in_first_stage()
    world.live(55)
    world.instances = 0
    world.live(10)
    world.instances = 1
    world.now += timedelta(seconds=1)
    assert world.step().rule == "hold"
    assert "awaits its next evaluation" in message(world)
    world.live(15)
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.index == 1


def test_a_revision_of_stable_that_was_deleted_by_hand_is_made_again() -> None:
    world = started()
    world.revisions.clear()
    assert world.step().create_revision
    assert len(world.revisions) == 1
    assert not world.step().create_revision


def test_a_failing_candidate_is_cut_although_stables_revision_is_gone() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.5)})
    stable = world.rollout.status.stable
    assert stable is not None
    for _ in range(4):
        world.now += timedelta(seconds=5)
        world.serve(400)
        world.take_samples()
    del world.revisions[stable.revision]
    decided = world.step()
    assert (decided.rule, decided.cut) == ("rollback", True)


def with_services(**pods: tuple[int, int]) -> VirtualRollout:
    """A candidate that is a Service beside a stable that is one, with so many endpoints ready of so many."""
    world = VirtualRollout(rollout_of("service://v1"), pods=pods)
    world.settle()
    world.live(60)
    world.want("service://v2")
    world.settle()
    return world


def test_the_first_stage_waits_until_something_is_ready_behind_the_candidate() -> None:
    world = with_services(v2=(0, 2))
    assert world.rollout.status.stage is None
    assert reason(world) is Reason.AWAITING_ENDPOINTS
    assert "0 of 2 endpoints of Service v2 are ready" in message(world)
    world.pods["v2"] = (1, 2)
    assert world.step().rule == "begin"


def test_a_serving_candidate_whose_last_ready_endpoint_goes_is_taken_back_at_once() -> None:
    world = with_services()
    world.pods["v2"] = (0, 1)
    decided = world.step()
    assert (decided.rule, decided.cut, decided.status.weight) == ("rollback", True, 0)
    record = decided.status.last_rollback
    assert record is not None
    assert (record.reason, record.metric) == (Reason.NO_ENDPOINTS, "")
    assert record.message == "0 of 1 endpoints of Service v2 are ready"
    assert decided.status.verdict is not Verdict.FAIL
    world.pods["v2"] = (1, 1)
    world.live(60)
    assert world.rollout.status.state is State.ROLLED_BACK


def test_some_unready_endpoints_take_nobody_back_and_hold_nothing_up() -> None:
    world = with_services(v1=(1, 2), v2=(1, 2))
    world.live(300)
    assert world.rollout.status.state is State.STABLE
    assert world.rollout.status.last_rollback is None


@pytest.mark.parametrize(
    ("ready", "says"), [(1, "only 1 of 2 endpoints of Service v1 are ready"), (0, "only 0 of 2"), (2, "")]
)
def test_an_unwell_stable_keeps_nothing_from_being_taken_back_and_is_told(ready: int, says: str) -> None:
    world = with_services()
    world.behaviour["v2"] = Behaviour(errors=0.3)
    world.pods["v1"] = (ready, 2)
    world.live(60)
    assert world.rollout.status.state is State.ROLLED_BACK
    record = world.rollout.status.last_rollback
    assert record is not None
    assert says in record.message
    assert ("of stable" in record.message) == bool(says)


def test_a_latched_desertion_is_told_in_the_same_words_when_status_is_stored_late() -> None:
    world = with_services()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    world.latch = Latch(candidate.artifact_id, 1, Reason.NO_ENDPOINTS, message="0 of 1 endpoints are ready")
    decided = world.step()
    assert decided.status.last_rollback is not None
    assert decided.status.last_rollback.reason is Reason.NO_ENDPOINTS
    assert decided.status.last_rollback.message == "0 of 1 endpoints are ready"


def test_two_artifacts_may_not_share_a_service() -> None:
    world = with_services()
    agent = world.rollout.spec.agent
    world.change_spec(agent=agent.model_copy(update={"prompts": {"system": "New."}}))
    world.settle()
    assert reason(world, ConditionType.ACCEPTED) is Reason.SAME_BACKEND
    said = message(world, ConditionType.ACCEPTED)
    assert "spec.agent.code.service: v2:80 was deployed for" in said
    assert "another Service" in said


NEW = frozenset({"sha256:v2", "sha256:other"})


def drifted(world: VirtualRollout) -> tuple[str, Reason, str] | None:
    condition = world.rollout.status.condition(ConditionType.DRIFTED)
    return (condition.status, condition.reason, condition.message) if condition else None


def test_images_are_frozen_with_the_first_stage_and_stay_with_the_version_when_it_is_promoted() -> None:
    world = with_services()
    status = world.rollout.status
    assert status.stable is not None
    assert status.candidate is not None
    assert (status.stable.images, status.candidate.images) == (["sha256:v1"], ["sha256:v2"])
    world.live(300)
    assert world.rollout.status.stable is not None
    assert world.rollout.status.stable.images == ["sha256:v2"]


def test_a_serving_candidate_with_another_image_behind_it_is_taken_back() -> None:
    world = with_services()
    world.images["v2"] = NEW
    decided = world.step()
    assert (decided.rule, decided.cut) == ("rollback", True)
    record = decided.status.last_rollback
    assert record is not None
    assert record.reason is Reason.IMAGE_CHANGED
    assert record.message.startswith("Service v2 has pods of image sha256:other, which agent-")


def test_before_the_first_stage_images_may_change() -> None:
    world = with_services(v2=(0, 1))
    world.images["v2"] = NEW
    world.pods["v2"] = (1, 1)
    world.settle()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    assert candidate.images == ["sha256:other", "sha256:v2"]


def test_the_first_stage_waits_until_the_images_are_known() -> None:
    world = with_services(v2=(0, 1))
    world.images["v2"], world.pods["v2"] = None, (1, 1)
    world.settle()
    assert reason(world) is Reason.AWAITING_ENDPOINTS
    assert "the images behind Service v2 are not known: being read" in message(world)
    world.images["v2"] = frozenset({"sha256:v2"})
    world.settle()
    assert world.rollout.status.stage is not None


def test_pods_that_become_fewer_or_unknown_are_no_drift() -> None:
    world = with_services(v2=(0, 1))
    world.images["v2"], world.pods["v2"] = NEW, (2, 2)
    world.settle()
    for images in (frozenset({"sha256:v2"}), None, frozenset[str](), NEW):
        world.images["v2"] = images
        assert world.step().rule != "rollback"


def test_a_service_without_pods_has_no_images_to_compare() -> None:
    world = with_services(v2=(0, 1))
    world.images["v2"], world.pods["v2"] = frozenset(), (1, 1)
    world.settle()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    assert candidate.images is None
    world.images["v2"] = NEW
    assert world.step().rule != "rollback"


def test_another_image_behind_stable_is_an_alert_until_it_is_gone_and_holds_nothing_up() -> None:
    world = with_services()
    assert drifted(world) == ("False", Reason.UNCHANGED, "everything is what the versions were made of")
    world.images["v1"] = frozenset({"sha256:v1", "sha256:x", "sha256:y"})
    world.step()
    said = drifted(world)
    assert said is not None
    assert said[:2] == ("True", Reason.IMAGE_CHANGED)
    assert said[2].startswith("Service v1 has pods of image sha256:x and 1 more, which agent-")
    world.images["v1"] = None
    world.step()
    assert drifted(world) == said, "nothing new is known"
    world.live(300)
    assert world.rollout.status.state is State.STABLE
    assert world.rollout.status.last_rollback is None
    assert drifted(world) == ("False", Reason.UNCHANGED, "everything is what the versions were made of")


def test_agents_by_url_do_not_drift() -> None:
    world = in_first_stage()
    assert drifted(world) is None
