"""Whether stable is like itself: what a plan makes of its control slices."""

from __future__ import annotations

from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.core.controls import Controls
from controller.core.counts import Scrapes, Span, Tallied
from controller.core.soundness import control_log_e_values
from controller.core.stages import Arm
from controller.core.tally import Tally
from tests.virtual import CATALOGUE, Behaviour, VirtualRollout, rollout_of

STAGES = [{"weight": weight, "minDuration": "5m", "minRequests": 10} for weight in ("5%", "50%", "100%")]
BROKEN = Behaviour(errors=0.9)


def delivering(**kwargs: object) -> VirtualRollout:
    world = VirtualRollout(rollout_of(stages=STAGES), per_second=100, **kwargs)  # type: ignore[arg-type]
    world.settle()
    world.live(60)
    world.want("http://v2")
    world.settle()
    return world


def test_a_slice_of_stable_that_fails_holds_the_weight_and_takes_nothing_back() -> None:
    world = delivering(slices={3: BROKEN})
    world.live(600)
    status = world.rollout.status
    assert (status.weight, status.state, status.verdict) == (50_000, State.BLIND, Verdict.ERROR)
    (errors,) = status.analysis
    assert errors.reason is Reason.NOISY_EVIDENCE
    progressing = status.condition(ConditionType.PROGRESSING)
    assert progressing is not None
    assert (progressing.status, progressing.reason) == ("True", Reason.NOISY_EVIDENCE)
    assert "stable differs from itself" in progressing.message


def test_a_candidate_that_looks_as_bad_as_a_slice_of_stable_is_not_taken_back() -> None:
    world = delivering(slices=dict.fromkeys((1, 3, 5, 7), BROKEN), behaviour={"v2": BROKEN})
    world.live(600)
    status = world.rollout.status
    assert status.candidate is not None
    assert status.analysis[0].reason is Reason.NOISY_EVIDENCE
    assert status.analysis[0].evidence > 100


def test_a_candidate_that_is_worse_by_far_is_taken_back_in_spite_of_noise() -> None:
    world = delivering(slices={3: Behaviour(errors=0.08)}, behaviour={"v2": Behaviour(errors=0.9)})
    world.live(300)
    assert world.rollout.status.state is State.ROLLED_BACK


def test_when_stable_is_like_itself_again_the_weight_goes_on() -> None:
    world = delivering(slices={3: Behaviour(errors=0.15)})
    world.live(300)
    assert world.rollout.status.analysis[0].reason is Reason.NOISY_EVIDENCE
    world.slices = {}
    world.live(3600)
    assert world.rollout.status.state is State.STABLE


def test_what_slices_count_is_part_of_what_stable_counts() -> None:
    world = delivering()
    world.live(120)
    status, samples = world.rollout.status, world.read()
    assert status.stable is not None
    arm, scrapes = Arm(status.stable.revision, audience=False), Scrapes.of(samples.series[:1])
    begin = world.now.timestamp() - 60
    tally, span = Tally("shop/agent", samples.series, CATALOGUE), Span(begin, world.now.timestamp(), begin)
    (whole,) = tally.counts("errors", arm, [], span, scrapes)
    (slices,) = tally.slices("errors", arm, [], span, scrapes)
    assert len(slices) == 8
    assert abs(sum(each.total for each in slices) - 0.4 * 60 * 100) < 200
    assert abs(whole.total - 0.95 * 60 * 100) < 100
    (none,) = tally.slices("errors", Arm("another", audience=False), [], span, scrapes)
    assert {(each.bad, each.total) for each in none} == {(0, 0)}


def test_noise_of_an_earlier_stage_takes_nothing_off_the_evidence_where_stable_has_no_slices() -> None:
    stages = [{"weight": weight, "minDuration": "5m", "minRequests": 10} for weight in ("5%", "80%")]
    world = VirtualRollout(rollout_of(stages=[*stages, {"weight": "100%"}]), per_second=100)
    world.settle()
    world.live(60)
    world.want("http://v2")
    world.settle()
    world.live(330)
    status = world.rollout.status
    assert status.evidence is not None
    assert status.weight == 800_000
    (errors,) = status.evidence.metrics
    slices, everyone = [Tallied(30, 40)] * 8, Tallied(300, 900)
    noisy = Controls().after(slices, everyone, control_log_e_values(slices, everyone), 1.0, 100.0)
    assert noisy.check.e_value > 1000
    metrics = [errors.model_copy(update={"controls": [noisy.encode()]})]
    evidence = status.evidence.model_copy(update={"metrics": metrics})
    world.rollout = world.rollout.model_copy(
        update={"status": status.model_copy(update={"evidence": evidence})}
    )
    world.live(30)
    assert world.rollout.status.analysis[0].reason is not Reason.NOISY_EVIDENCE
    assert world.rollout.status.verdict is not Verdict.ERROR
    assert world.rollout.status.evidence is not None
    assert world.rollout.status.evidence.metrics[0].controls == [noisy.encode()]


def test_a_series_without_the_labels_of_a_term_is_none_of_its_events() -> None:
    world = delivering()
    world.live(60)
    status, series = world.rollout.status, world.read().series
    assert status.stable is not None
    arm, begin = Arm(status.stable.revision, audience=False), world.now.timestamp() - 60
    span, scrapes = Span(begin, world.now.timestamp(), begin), Scrapes.of(series[:1])
    other = [
        one._replace(labels={**one.labels, "class": "4"}) if one.labels["__name__"] == "bad" else one
        for one in series
    ]
    (five,) = Tally("shop/agent", series, CATALOGUE).counts("errors", arm, [], span, scrapes)
    (four,) = Tally("shop/agent", other, CATALOGUE).counts("errors", arm, [], span, scrapes)
    assert five.bad > 0
    assert (four.bad, four.total) == (0, five.total)
