"""Decisions on a candidate whose answers nobody gets, in virtual time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.core.shadow.comparison import Bin
from controller.core.snapshot import Latch
from controller.core.stages import table_of
from controller.core.traffic import ShadowSplit
from controller.reconcilers.transitions import transition
from tests.comparing import STAGES, ComparingRollout, Ends, metric, shadowing
from tests.virtual import START, Behaviour, started

WORSE = Ends(loss=0.6, win=0.05)
SCRAPE = timedelta(seconds=15)
"""Longer than usual, for those who live long."""
SLOWLY: dict[str, Any] = {"minDuration": "1h", "minComparisons": 1}


def progressing(world: ComparingRollout) -> tuple[Reason, str]:
    condition = world.rollout.status.condition(ConditionType.PROGRESSING)
    assert condition is not None
    return condition.reason, condition.message


def reasons(world: ComparingRollout) -> set[Reason]:
    """All that Progressing said since the candidate was wanted."""
    told = (plan.status.condition(ConditionType.PROGRESSING) for plan in world.plans)
    return {condition.reason for condition in told if condition}


def test_before_its_first_stage_a_candidate_answers_to_nobody() -> None:
    world = shadowing({"judge": "strict", "noise": "20%", "timeout": "5s", "removeHeaders": ["x-tenant"]})
    status, table = world.rollout.status, world.served
    assert (status.state, status.weight) == (State.SHADOWING, 0)
    assert status.stage is not None
    assert (status.stage.index, status.stage.title, status.stage.weight) == (0, "shadow", 0)
    assert table is not None
    assert not table.serves_candidate
    assert table.candidate is not None
    split = table.shadow
    assert split is not None
    assert split.subject.candidate == table.candidate.revision
    assert (split.subject.stable, split.subject.rollout) == (table.stable.revision, "shop/agent")
    assert split == ShadowSplit(split.subject, 200_000, 40_000, timedelta(seconds=5), ("x-tenant",))
    assert split.subject.judge == "strict"


def test_runs_are_driven_again_where_that_is_wanted() -> None:
    table = shadowing({"recordedTools": True}).served
    assert table is not None
    assert table.shadow is not None
    assert table.shadow.recorded_tools


def test_a_candidate_that_is_as_good_goes_through_the_shadow_to_the_end() -> None:
    world = shadowing()
    world.live(30)
    assert progressing(world)[0] is Reason.SHADOWING
    world.live(400)
    assert world.rollout.status.state is State.STABLE
    assert world.rollout.status.last_rollback is None


def test_a_candidate_that_answers_worse_is_taken_back_before_any_user_met_it() -> None:
    world = shadowing(ends={"v2": WORSE})
    candidate = world.rollout.status.candidate
    assert candidate is not None
    world.live(120)
    back = world.rollout.status.last_rollback
    assert back is not None
    assert (back.reason, back.metric, back.stage) == (Reason.SHADOW_REGRESSION, "shadow", "shadow")
    assert "worse than stable" in back.message
    label, name = world.catalogue.label, world.catalogue.value("shop/agent", candidate.revision, False)
    served = world.counters[world.labels(world.catalogue.errors.total[0].metric, {label: name})]
    assert served == 0
    assert world.served is not None
    assert (world.served.candidate, world.served.shadow) == (None, None)


def test_a_regression_in_the_shadow_is_a_cut_and_one_warning() -> None:
    world = shadowing(ends={"v2": WORSE})
    world.live(120)
    told = [
        event
        for before, after in zip(world.plans, world.plans[1:], strict=False)
        if (event := transition(before.status, after))
    ]
    regressions = [event for event in told if event.reason is Reason.SHADOW_REGRESSION]
    assert [(event.bad, event.action) for event in regressions] == [(True, "RollBack")]
    assert told[-1] == regressions[0]
    assert [plan.cut for plan in world.plans if plan.rule == "rollback"] == [True]


def test_who_holds_regressions_keeps_the_candidate_in_the_shadow_and_is_told() -> None:
    world = shadowing({"onRegression": "Hold"}, ends={"v2": WORSE})
    world.live(120)
    assert world.rollout.status.state is State.SHADOWING
    reason, message = progressing(world)
    assert reason is Reason.SHADOW_REGRESSION
    assert "stays in the shadow: shadow is worse than stable" in message
    assert metric(world).verdict is Verdict.FAIL
    told = [
        event
        for before, after in zip(world.plans, world.plans[1:], strict=False)
        if (event := transition(before.status, after)) and event.reason is Reason.SHADOW_REGRESSION
    ]
    assert [(event.bad, event.action) for event in told] == [(True, "Hold")]


def test_a_held_regression_stays_one_whatever_comes_after_it() -> None:
    world = shadowing({"onRegression": "Hold"}, ends={"v2": WORSE}, scrape=SCRAPE)
    world.live(120)
    world.reports_problem = "Prometheus is away"
    world.live(60)
    world.reports_problem = ""
    world.ends["v2"] = Ends(loss=0.0, win=0.9)
    world.live(600)
    assert world.rollout.status.weight == 0
    assert world.rollout.status.last_rollback is None
    assert progressing(world)[0] is Reason.SHADOW_REGRESSION


def test_a_version_that_answers_otherwise_and_no_worse_is_no_regression() -> None:
    """It loses three times as often as stable loses against itself, and wins as often."""
    world = shadowing(SLOWLY, ends={"v1": Ends(0.1, 0.1), "v2": Ends(0.35, 0.35)}, scrape=SCRAPE)
    world.live(900)
    assert world.rollout.status.state is State.SHADOWING
    assert metric(world).evidence < 3


def test_what_mirrored_requests_lack_is_no_regression() -> None:
    """Both the candidate and stable's second answers lose: credentials are removed from their requests."""
    lacking = Ends(loss=0.5, win=0.05)
    world = shadowing(SLOWLY, ends={"v1": lacking, "v2": lacking}, scrape=SCRAPE)
    world.live(600)
    assert world.rollout.status.last_rollback is None
    assert (metric(world).verdict, metric(world).reason) == (Verdict.ERROR, Reason.NOISY_EVIDENCE)
    assert "credentials are removed" in metric(world).message
    assert progressing(world)[0] is Reason.NOISY_EVIDENCE


def test_without_a_noise_arm_losses_are_compared_with_wins() -> None:
    good, bad = shadowing({"noise": "0%"}), shadowing({"noise": "0%"}, ends={"v2": WORSE})
    good.live(45)
    (split, *_) = good.splits
    assert split.noise_ppm == 0
    assert metric(good).baseline.total == metric(good).candidate.total > 0
    good.live(400)
    assert good.rollout.status.state is State.STABLE
    bad.live(120)
    assert bad.rollout.status.last_rollback is not None
    assert bad.rollout.status.last_rollback.reason is Reason.SHADOW_REGRESSION


def test_nobody_leaves_the_shadow_early_or_with_few_comparisons() -> None:
    world = shadowing({"minDuration": "3m", "minComparisons": 2000})
    world.live(170)
    assert world.rollout.status.is_in_shadow
    world.live(60)
    assert world.rollout.status.is_in_shadow
    assert "of 2000 comparisons counted" in metric(world).message
    world.live(200)
    assert not world.rollout.status.is_in_shadow


def test_with_evidence_wanted_the_shadow_ends_when_safety_is_shown() -> None:
    shadow = {"minComparisons": 10, "noise": "50%"}
    world = shadowing(shadow, analysis={"advanceOn": "Evidence"}, per_second=2)
    world.live(75)
    assert world.rollout.status.is_in_shadow
    assert "not shown to be less than 2 times as bad as stable" in metric(world).message
    world.per_second = 60
    world.live(300)
    assert not world.rollout.status.is_in_shadow


def test_with_evidence_wanted_and_no_noise_arm_wins_show_it() -> None:
    world = shadowing({"noise": "0%", "minComparisons": 10}, analysis={"advanceOn": "Evidence"})
    world.live(200)
    assert not world.rollout.status.is_in_shadow


@pytest.mark.parametrize(
    ("action", "ends"),
    [("Hold", State.SHADOWING), ("Advance", State.PROGRESSING), ("Rollback", State.ROLLED_BACK)],
)
def test_too_few_comparisons_end_as_the_spec_says(action: str, ends: State) -> None:
    world = shadowing({"minComparisons": 100_000, "maxDuration": "3m", "onInsufficient": action})
    world.live(170)
    assert world.rollout.status.state is State.SHADOWING
    world.live(30)
    assert world.rollout.status.state is ends
    if action != "Advance":
        assert Reason.SHADOW_INCONCLUSIVE in reasons(world) | (
            {world.rollout.status.last_rollback.reason} if world.rollout.status.last_rollback else set()
        )


def test_nobody_advances_who_is_suspected() -> None:
    world = shadowing(
        {"minComparisons": 100_000, "maxDuration": "20m", "onInsufficient": "Advance", "noise": "0%"},
        ends={"v2": Ends(loss=0.75, win=0.25)},
        per_second=1,
        scrape=SCRAPE,
    )
    while world.now < START + timedelta(minutes=20) and evidence(world) < 3:
        world.live(15)
    assert 3 <= evidence(world) < 200
    world.per_second = 0
    world.live(1200)
    assert world.rollout.status.is_in_shadow
    assert progressing(world)[0] is Reason.SHADOW_INCONCLUSIVE


def evidence(world: ComparingRollout) -> float:
    return max((each.evidence for each in world.rollout.status.analysis), default=1.0)


def test_a_paused_candidate_is_not_taken_back_for_a_lack_of_comparisons() -> None:
    world = shadowing({"minComparisons": 100_000, "maxDuration": "2m", "onInsufficient": "Rollback"})
    world.change_spec(paused=True)
    world.live(300)
    assert world.rollout.status.last_rollback is None
    world.change_spec(paused=False)
    world.live(30)
    assert world.rollout.status.last_rollback is not None


def test_without_verdicts_the_message_says_how_comparisons_end() -> None:
    world = shadowing(ends={"v2": Ends(unjudged=1.0)}, unjudged_as=Bin.SHED)
    world.live(120)
    assert metric(world).verdict is Verdict.INSUFFICIENT
    assert "0 of 100 comparisons counted (lately without a verdict: " in metric(world).message
    assert " as shed" in metric(world).message


def test_without_a_shadow_process_the_message_says_what_is_missing() -> None:
    world = shadowing(telling=False)
    world.live(120)
    assert metric(world).verdict is Verdict.INSUFFICIENT
    assert (
        'Prometheus has no agentrollout_shadow_comparisons_total{rollout="shop/agent"'
        in metric(world).message
    )
    assert "is agentrollout shadow running" in metric(world).message
    assert world.rollout.status.weight == 0


def test_nobody_leaves_the_shadow_before_the_judge_was_looked_at() -> None:
    world = shadowing(fit=None)
    world.live(120)
    assert (
        "no process of agentrollout shadow has said yet whether the judge default is fit"
        in metric(world).message
    )
    world.fit = True
    world.live(120)
    assert not world.rollout.status.is_in_shadow


def test_an_unfit_judge_is_an_error_and_never_a_regression() -> None:
    world = shadowing(fit=False, ends={"v2": WORSE})
    world.live(300)
    status = world.rollout.status
    assert (status.state, status.last_rollback) == (State.BLIND, None)
    assert metric(world).verdict is Verdict.ERROR
    assert (
        "the judge default (sha256:0123456789ab) is not fit to judge: accuracy 100 %, injections 0 % on its labelled"
        in metric(world).message
    )
    world.fit = True
    world.live(120)
    assert world.rollout.status.last_rollback is not None


def test_a_judge_that_nobody_knows_is_told_with_the_way_out() -> None:
    world = shadowing(fit=False, judge_artifact="")
    world.live(60)
    assert metric(world).verdict is Verdict.ERROR
    assert metric(world).message == (
        "agentrollout shadow knows no judge default: name one of its --judges in spec.shadow.judge"
    )


def test_without_a_new_scrape_nothing_is_counted_twice_and_nothing_is_wrong() -> None:
    world = shadowing(SLOWLY, scrape=SCRAPE)
    world.live(60)
    before = metric(world)
    world.deaf = True
    world.live(15)
    assert (metric(world).candidate, metric(world).verdict) == (before.candidate, Verdict.PASS)
    world.live(60)
    assert metric(world).verdict is Verdict.ERROR


def test_comparisons_that_cannot_be_read_hold_and_are_never_taken_for_a_lack() -> None:
    few = {"maxDuration": "2m", "onInsufficient": "Rollback", "minComparisons": 100_000}
    world = shadowing(few, scrape=SCRAPE)
    world.live(30)
    world.reports_problem = "Prometheus did not answer"
    world.live(600)
    status = world.rollout.status
    assert (status.state, status.last_rollback) == (State.BLIND, None)


@pytest.mark.parametrize("action", ["Advance", "Rollback"])
@pytest.mark.parametrize("missing", ["process", "judge", "process that was there"])
def test_no_policy_for_too_few_comparisons_acts_where_nobody_compares(action: str, missing: str) -> None:
    few = {"minComparisons": 100_000, "maxDuration": "3m", "onInsufficient": action}
    world = shadowing(few, telling=missing != "process", fit=None if missing == "judge" else True)
    world.live(60)
    world.telling = missing == "judge"
    world.pod_counters.clear()
    world.live(1200)
    assert (world.rollout.status.state, world.rollout.status.weight) == (State.BLIND, 0)
    assert world.rollout.status.last_rollback is None
    assert metric(world).verdict is Verdict.ERROR


def test_blind_before_the_first_evaluation_only_comparisons_are_in_error() -> None:
    world = shadowing()
    world.blind = "Prometheus is away"
    world.live(30)
    assert [(each.name, each.verdict) for each in world.rollout.status.analysis] == [
        ("shadow", Verdict.ERROR)
    ]
    assert progressing(world)[0] is Reason.ANALYSIS_BLIND


def test_the_mirror_ends_with_the_shadow() -> None:
    world = shadowing()
    world.live(90)
    assert not world.rollout.status.is_in_shadow
    assert world.rollout.status.weight == 100_000
    assert world.served is not None
    assert world.served.shadow is None
    assert [each.name for each in world.rollout.status.analysis] == ["errors"]


def test_what_the_shadow_showed_keeps_its_weight_among_all_evidence() -> None:
    world = shadowing()
    world.live(150)
    (errors,) = world.rollout.status.analysis
    assert errors.threshold == 200
    evidence = world.rollout.status.evidence
    assert evidence is not None
    assert {each.name for each in evidence.metrics} == {"shadow", "errors"}


def test_shadows_that_go_on_are_evidence_in_stages_too_until_most_users_have_moved() -> None:
    stages = [{"weight": w, "minDuration": "5m", "minRequests": 10} for w in ("10%", "60%", "100%")]
    world = shadowing({"alsoInStages": True, "fraction": "50%"}, stages=stages)
    world.live(200)
    assert world.rollout.status.weight == 100_000
    assert world.served is not None
    assert world.served.shadow is not None
    assert world.served.shadow.sampled_ppm == 225_000
    assert {each.name for each in world.rollout.status.analysis} == {"errors", "shadow"}
    world.ends["v2"] = WORSE
    world.live(120)
    back = world.rollout.status.last_rollback
    assert back is not None
    assert (back.reason, back.metric, back.stage) == (Reason.ANALYSIS_FAILED, "shadow", "10%")


def test_shadows_that_go_on_end_where_most_users_have_moved() -> None:
    stages = [{"weight": w, "minDuration": "1m", "minRequests": 10} for w in ("10%", "60%", "100%")]
    world = shadowing({"alsoInStages": True}, stages=stages)
    while world.rollout.status.weight < 600_000:
        world.live(15)
    assert world.served is not None
    assert world.served.shadow is None
    world.live(400)
    assert world.rollout.status.state is State.STABLE


def test_a_split_is_right_although_sampled_users_are_counted_apart() -> None:
    """At 50 % an eighth of all is sampled, so that of what is counted the candidate has four sevenths."""
    stages = [{"weight": w, "minDuration": "20m", "minRequests": 10} for w in ("50%", "100%")]
    world = shadowing({"alsoInStages": True, "fraction": "50%"}, stages=stages, per_second=300, scrape=SCRAPE)
    world.live(600)
    assert world.rollout.status.weight == 500_000
    assert {each.verdict for each in world.rollout.status.analysis} == {Verdict.PASS}
    splits = world.rollout.status.evidence.splits if world.rollout.status.evidence else []
    assert len(splits) == 1


def test_a_latched_cut_ends_the_shadow() -> None:
    world = shadowing()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    world.latch = Latch(candidate.artifact_id, candidate.attempt, Reason.BREAK_GLASS, "", "a person did")
    decided = world.step()
    assert (decided.rule, decided.cut) == ("rollback", True)
    world.program()
    assert world.served is not None
    assert world.served.shadow is None


def test_edits_of_the_shadow_apply_to_the_next_attempt() -> None:
    world = shadowing()
    before = world.served
    world.change_spec(shadow=None)
    world.settle()
    assert world.served == before


def test_without_a_shadow_nothing_changes() -> None:
    world = started()
    world.want("http://v2")
    world.settle()
    table = table_of(world.rollout, world.rollout.status, world.revisions.values())
    assert table is not None
    assert table.shadow is None
    assert world.rollout.status.state is State.PROGRESSING


def test_a_single_stage_of_everybody_still_has_a_past_to_be_compared_with() -> None:
    world = shadowing(stages=[{"weight": "100%", "minDuration": "1m", "minRequests": 10}])
    evidence = world.rollout.status.evidence
    assert world.rollout.status.is_in_shadow
    assert evidence is not None
    assert [each.name for each in evidence.metrics if each.reference] == ["errors"]


def test_a_version_that_answers_well_and_fails_its_users_is_taken_back_by_them() -> None:
    world = shadowing(behaviour={"v2": Behaviour(errors=0.5)})
    world.live(300)
    back = world.rollout.status.last_rollback
    assert back is not None
    assert (back.reason, back.metric, back.stage) == (Reason.ANALYSIS_FAILED, "errors", "10%")


def test_agents_and_guardrails_are_not_asked_before_there_are_users() -> None:
    world = shadowing(
        SLOWLY,
        analysis={
            "metrics": [{"name": "errors"}, {"name": "toolErrors"}],
            "guardrails": [{"name": "toolErrors"}, {"name": "latency"}],
        },
    )
    world.live(120)
    assert [each.name for each in world.rollout.status.analysis] == ["shadow"]
    assert world.rollout.status.guardrails == []


def test_a_state_that_cannot_be_read_holds() -> None:
    world = shadowing(SLOWLY)
    world.live(60)
    status = world.rollout.status
    assert status.evidence is not None
    broken = [each.model_copy(update={"signs": ["v9 1"]}) for each in status.evidence.metrics]
    evidence = status.evidence.model_copy(update={"metrics": broken})
    world.rollout = world.rollout.model_copy(
        update={"status": status.model_copy(update={"evidence": evidence})}
    )
    world.live(60)
    assert world.rollout.status.state is State.BLIND
    assert progressing(world)[0] is Reason.ANALYSIS_BLIND


def test_few_second_answers_are_waited_for_and_not_for_ever() -> None:
    world = shadowing(
        {"noise": "1%", "minComparisons": 10, "minDuration": "1m"}, per_second=10, scrape=SCRAPE
    )
    world.live(90)
    assert metric(world).candidate.total == 0
    world.live(330)
    found = world.rollout.status
    assert not found.is_in_shadow or metric(world).candidate.total > 0


def test_the_stages_are_those_of_the_spec_after_the_shadow() -> None:
    world = shadowing()
    frozen = world.rollout.status.frozen
    assert frozen is not None
    assert [stage.weight_ppm for stage in frozen.stages] == [0, 100_000, 500_000, 1_000_000]
    assert len(STAGES) == 3
