"""Within an interval the evidence is looked at after every scrape."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import chain, pairwise
from operator import add

import pytest

from controller.api.delivery import Analysis
from controller.api.reasons import Verdict
from controller.api.status import Counts, MetricEvidence
from controller.core.assess import assess
from controller.core.controls import Clustering, control_e_value
from controller.core.counts import Scrapes, Series, Span, Tallied
from controller.core.evidence import Counted, Step, weighed
from controller.core.reading import MOST_STEPS, read, steps_of
from controller.core.statistics import HarmTest, Interval, harm_log_e_values
from controller.core.verdict import Look, judge
from tests.findings import FINDING
from tests.virtual import CATALOGUE, Behaviour, VirtualRollout, rollout_of

BURST = Step([Tallied(9, 10)], [Tallied(0, 10)])
CALM = Step([Tallied(0, 10)], [Tallied(9, 10)])


def scrapes(**times: list[float]) -> Scrapes:
    return Scrapes.of(
        Series({"__name__": "live", "instance": name}, tuple((time, 1.0) for time in of_one))
        for name, of_one in times.items()
    )


def ends(span: Span, found: Scrapes) -> list[float]:
    steps = steps_of(span, found)
    assert steps[0].after == span.after
    assert all(one.until == following.after for one, following in pairwise(steps))
    assert {each.not_before for each in steps} == {span.not_before}
    return [each.until for each in steps]


def test_an_interval_goes_from_scrape_to_scrape_of_the_router_that_it_ends_with() -> None:
    found = scrapes(a=[0, 5, 10, 15, 20], b=[4, 9, 14, 19, 24])
    assert ends(Span(5, 20, 0), found) == [10, 15, 20]
    assert ends(Span(4, 19, 0), found) == [9, 14, 19]
    assert ends(Span(15, 20, 0), found) == [20]


def test_scrapes_of_another_split_are_no_steps() -> None:
    assert ends(Span(0, 20, 11), scrapes(a=[0, 5, 10, 15, 20])) == [15, 20]


def test_after_a_long_absence_some_scrapes_are_passed_over() -> None:
    every = [float(time) for time in range(1000)]
    found = ends(Span(0, 999, 0), scrapes(a=every))
    assert len(found) <= MOST_STEPS + 1
    assert {round(following - one) for one, following in pairwise(found[:-1])} == {34}


def test_the_scrapes_of_an_interval_are_one_step_of_the_mixture_and_multiply() -> None:
    state = MetricEvidence(name="errors")
    (found,) = weighed([Counted(state, [Clustering(1.0)], [BURST, CALM])], Analysis())
    burst, calm = harm_log_e_values(Interval(9, 10, 0, 10)), harm_log_e_values(Interval(0, 10, 9, 10))
    together = HarmTest().after(tuple(map(add, burst, calm)), 1.0)
    assert found.state.tests == [together.encode()]
    assert found.e_value == pytest.approx(together.e_value)
    (look,) = found.looks
    assert look.e_value == pytest.approx(HarmTest().after(burst, 1.0).e_value)
    assert found.looks[0].e_value > 100 > found.e_value
    assert found.state.reference == [Counts(bad=9, total=20)]


def test_within_an_interval_clustering_tempers_what_all_of_its_scrapes_said() -> None:
    state = MetricEvidence(name="errors")
    (found,) = weighed([Counted(state, [Clustering(10.0)], [BURST, BURST])], Analysis())
    burst = harm_log_e_values(Interval(9, 10, 0, 10))
    whole = HarmTest().after(tuple(2 * each for each in burst), 10.0)
    assert found.state.tests == [whole.encode()]


def test_noise_is_looked_at_after_every_scrape_too() -> None:
    slices = [[Tallied(9, 10), *[Tallied(0, 10)] * 7]]
    noisy = Step([Tallied(9, 10)], [Tallied(9, 100)], slices)
    calm = Step([Tallied(0, 10)], [Tallied(0, 100)], [[Tallied(0, 10)] * 8])
    state = MetricEvidence(name="errors")
    (found,) = weighed([Counted(state, [Clustering(1.0)], [calm, noisy, calm])], Analysis())
    first, second = found.looks
    assert first.control == pytest.approx(1.0)
    assert second.control > control_e_value(found.state) > 100, (
        "what makes no difference is forgotten at the end"
    )
    (unsliced,) = weighed([Counted(found.state, [Clustering(1.0)], [CALM, CALM])], Analysis())
    assert unsliced.looks[0].control == control_e_value(found.state)


def test_at_the_bake_scrapes_are_looked_at_against_the_reference() -> None:
    state = MetricEvidence(name="errors", reference=[Counts(bad=20, total=1000)])
    steps = [Step([Tallied(20, 40)], None), Step([Tallied(0, 400)], None)]
    (found,) = weighed([Counted(state, [Clustering(1.0)], steps)], Analysis())
    assert found.looks[0].e_value > 100 > found.e_value
    assert found.state.reference == state.reference


def test_evidence_that_sufficed_at_a_scrape_decides_whatever_came_after_it() -> None:
    receded = replace(FINDING, e_value=20.0, looks=(Look(3.0), Look(140.0), Look(80.0)))
    (errors,) = judge([receded], 0.01, watched=1)
    assert errors.verdict is Verdict.FAIL
    assert errors.evidence == 140
    assert "e-value 140 of 100" in errors.message


def test_noise_is_taken_off_what_was_seen_at_the_same_scrape() -> None:
    noisy = replace(FINDING, e_value=20.0, looks=(Look(140.0, 2.0), Look(80.0)))
    (errors,) = judge([noisy], 0.01, watched=1)
    assert errors.verdict is Verdict.INSUFFICIENT


def test_metrics_share_their_budget_at_every_scrape() -> None:
    errors = replace(FINDING, e_value=1.0, looks=(Look(150.0), Look(1.0)))
    latency = replace(FINDING, name="latency", e_value=1.0, looks=(Look(60.0), Look(1.0)))
    found = {each.name: each.verdict for each in judge([errors, latency], 0.01, watched=2)}
    assert found == {"errors": Verdict.FAIL, "latency": Verdict.PASS}
    apart = replace(latency, looks=(Look(1.0), Look(60.0)))
    assert Verdict.FAIL not in {each.verdict for each in judge([errors, apart], 0.01, watched=2)}


@pytest.mark.parametrize(("before", "verdict"), [(60.0, Verdict.FAIL), (1.0, Verdict.INSUFFICIENT)])
def test_what_is_not_told_by_scrape_stands_where_it_stood_before_the_interval(
    before: float, verdict: Verdict
) -> None:
    errors = replace(FINDING, e_value=5.0, looks=(Look(150.0),))
    tools = replace(FINDING, name="toolErrors", e_value=60.0, before=before)
    found = {each.name: each.verdict for each in judge([errors, tools], 0.01, watched=2)}
    assert found["errors"] is verdict


@pytest.mark.parametrize("seed", range(4))
def test_what_suffices_at_a_scrape_takes_back_at_the_next_evaluation(seed: int) -> None:
    world = VirtualRollout(
        rollout_of(stages=[{"weight": "50%", "minDuration": "1h"}, {"weight": "100%"}]),
        behaviour={"v2": Behaviour(errors=0.06)},
        scrape=timedelta(seconds=1),
        seed=seed,
    )
    world.settle()
    world.live(60)
    world.want("http://v2")
    world.settle()
    sufficed = 0
    while world.rollout.status.candidate is not None:
        world.now += world.scrape
        world.serve(world.per_second)
        world.take_samples()
        at_once = assess(replace(world.snapshot(), samples=world.read()), CATALOGUE, world.now)
        sufficed = sufficed + 1 if sufficed or at_once.verdict is Verdict.FAIL else 0
        world.settle()
        assert sufficed <= 15
    assert sufficed


def test_routers_that_two_jobs_scrape_are_read_as_if_one_did() -> None:
    world = VirtualRollout(rollout_of(stages=[{"weight": "50%", "minDuration": "1h"}, {"weight": "100%"}]))
    world.settle()
    world.live(60)
    samples = world.read()
    by_job = {
        job: [Series({**one.labels, "instance": "router", "job": job}, one.samples) for one in samples.series]
        for job in ("one", "other")
    }
    once, twice = (
        read("shop/agent", replace(samples, series=tuple(chain(*jobs))), CATALOGUE)
        for jobs in ([by_job["one"]], by_job.values())
    )
    assert len(twice.scrapes.times) == len(once.scrapes.times)
    assert twice.until == once.until
