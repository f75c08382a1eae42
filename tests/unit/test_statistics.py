import math

import numpy as np
import pytest
from scipy.stats import hypergeom, nchypergeom_fisher

from controller.core.mixture import HORIZON, UnknownStateError, tempered
from controller.core.statistics import (
    ODDS_RATIOS,
    HarmTest,
    Interval,
    harm_log_e_values,
    log_e_value,
    log_e_value_against_reference,
    log_likelihoods,
    log_likelihoods_of_each,
    tolerated_rate,
)


def test_the_golden_e_value() -> None:
    assert math.exp(log_e_value(Interval(5, 100, 10, 1000), 2.0)) == pytest.approx(
        8.733503205859948, rel=1e-12
    )


TABLES = [
    (n_c, n_b, bad)
    for n_c, n_b in ((1, 40), (3, 400), (10, 90), (40, 3), (50, 50), (100, 10), (60, 6_000), (500, 500))
    for bad in (1, 2, 5, 7, 12, 20, 37)
    if bad < n_c + n_b
]
"""Requests of candidate and baseline, and bad ones among all of them."""


def test_there_are_tables_enough() -> None:
    assert len(TABLES) >= 50


@pytest.mark.parametrize(("n_c", "n_b", "bad"), TABLES)
@pytest.mark.parametrize("tolerated", [1.0, 1.5])
def test_the_e_value_has_expectation_one_at_the_tolerated_odds_and_at_most_one_below(
    n_c: int, n_b: int, bad: int, tolerated: float
) -> None:
    possible = range(max(0, bad - n_b), min(bad, n_c) + 1)
    e_values = np.array(
        [np.exp(harm_log_e_values(Interval(s, n_c, bad - s, n_b), tolerated)) for s in possible]
    )
    at_the_bound = nchypergeom_fisher.pmf(possible, n_c + n_b, bad, n_c, tolerated) @ e_values
    assert at_the_bound == pytest.approx(1.0, rel=1e-9)
    below = hypergeom.pmf(possible, n_c + n_b, bad, n_c) @ e_values
    assert (below <= 1 + 1e-9).all()


def test_the_e_value_agrees_with_scipys_noncentral_hypergeometric_over_random_tables() -> None:
    random = np.random.default_rng(20)
    for _ in range(200):
        n_c, n_b = (int(each) for each in 10 ** random.uniform(0, 3.5, 2))
        bad = int(random.integers(1, min(n_c + n_b, 300)))
        ratio, tolerated = (float(each) for each in 10 ** random.uniform(-0.5, 1, 2))
        s = int(nchypergeom_fisher.rvs(n_c + n_b, bad, n_c, 2.0, random_state=random))
        expected = nchypergeom_fisher.logpmf(s, n_c + n_b, bad, n_c, ratio) - nchypergeom_fisher.logpmf(
            s, n_c + n_b, bad, n_c, tolerated
        )
        found = log_e_value(Interval(s, n_c, bad - s, n_b), ratio, tolerated)
        assert found == pytest.approx(float(expected), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("bad", [1, 1_000, 1_000_000])
@pytest.mark.parametrize("share", [0.001, 0.5])
def test_a_billion_requests_do_not_overflow(bad: int, share: float) -> None:
    n_c = round(1_000_000_000 * share)
    n_b = 1_000_000_000 - n_c
    for s in {0, round(bad * share), min(bad, n_c)}:
        values = harm_log_e_values(Interval(s, n_c, bad - s, n_b))
        assert all(math.isfinite(each) for each in values)
        # Rare events are drawn all but independently, and then the sum has a closed form.
        expected = [s * math.log(w) - bad * math.log1p(share * (w - 1)) for w in ODDS_RATIOS]
        assert values == pytest.approx(expected, rel=0.05, abs=1e-2)


@pytest.mark.parametrize(
    "interval", [Interval(0, 0, 3, 50), Interval(4, 60, 0, 0), Interval(0, 60, 0, 800), Interval(9, 9, 5, 5)]
)
def test_an_interval_that_can_say_nothing_leaves_the_evidence_alone(interval: Interval) -> None:
    assert [log_e_value(interval, ratio) for ratio in ODDS_RATIOS] == [0.0] * len(ODDS_RATIOS)


def test_start_weights_are_spent_and_sum_to_one() -> None:
    test = HarmTest()
    for _ in range(20 * HORIZON):
        test = test.after((0.0,) * len(ODDS_RATIOS), clustering=1)
        assert test.e_value == pytest.approx(1.0)


def test_the_state_survives_being_written_down() -> None:
    test = HarmTest().after((0.5, 1, 2, 3, 4, 5, 6), 10).after((-1.0, -2, -3, -4, -5, -6, -7), 10)
    again = HarmTest.decode(test.encode())
    assert again.intervals == 2
    assert again.e_value == pytest.approx(test.e_value, rel=1e-7)
    assert HarmTest.decode(HarmTest().encode()) == HarmTest()


def test_an_unknown_state_is_refused() -> None:
    seven = " 0" * len(ODDS_RATIOS)
    wrong = ("v1 1 2 3", "v1 one", "", "v1", f"v1 nan{seven}", f"v1 inf{seven}", f"v1 -1{seven}")
    for text in ("v0 " + HarmTest().encode()[3:], *wrong):
        with pytest.raises(UnknownStateError, match="unknown state"):
            HarmTest.decode(text)


def test_huge_evidence_does_not_overflow() -> None:
    test = HarmTest()
    for _ in range(50):
        test = test.after((500.0,) * len(ODDS_RATIOS), clustering=1)
    assert 1e300 < test.e_value < math.inf


def test_clustering_tempers_the_evidence() -> None:
    interval = tuple(log_e_value(Interval(20, 100, 10, 1000), ratio) for ratio in ODDS_RATIOS)
    assert HarmTest().after(interval, 1).e_value > 100 > HarmTest().after(interval, 10).e_value > 1


def test_against_a_reference_only_more_than_the_tolerated_rate_is_evidence() -> None:
    assert log_e_value_against_reference(20, 100, 8.0, 0.02) > 10
    assert log_e_value_against_reference(2, 100, 8.0, 0.02) < 0


@pytest.mark.parametrize(
    ("bad", "total", "low", "high"), [(0, 100, 0.08, 0.09), (10, 1000, 0.038, 0.043), (5, 5, 0.99, 1)]
)
def test_against_the_past_twice_the_odds_of_what_it_may_have_been_are_tolerated(
    bad: int, total: int, low: float, high: float
) -> None:
    assert low < tolerated_rate(bad, total) < high


def test_of_a_past_whose_failures_came_in_bunches_less_is_known() -> None:
    assert tolerated_rate(20, 10_000, 10.0) == tolerated_rate(2, 1000)
    assert tolerated_rate(21, 10_009, 10.0) == tolerated_rate(3, 1000)


def test_a_test_that_has_not_begun_is_no_evidence() -> None:
    assert HarmTest().e_value == 1.0


def test_independent_requests_prove_what_their_likelihood_says() -> None:
    values = np.array([-30.0, -1.0, 0.0, 0.5, 40.0, 500.0])
    assert tempered(values, 1.0) == pytest.approx(values)


def test_the_more_clustered_requests_are_the_less_they_prove_and_one_interval_never_all() -> None:
    values = np.array([-30.0, 1.0, 20.0, 400.0])
    few, many = tempered(values, 2.0), tempered(values, 40.0)
    assert (np.abs(many) < np.abs(few)).all()
    assert few[0] == -15.0
    assert (few <= values / 2 + 1e-12).all()
    assert few[1] == pytest.approx(0.5, rel=0.03)
    assert many[3] < 400 / 40 / 1.5


def test_intervals_of_all_sizes_are_weighed_together_as_each_is_alone() -> None:
    intervals = [
        Interval(5, 100, 10, 1000),
        Interval(0, 0, 3, 50),
        Interval(140, 280, 2100, 4200),
        Interval(2100, 6000, 4000, 12_000),
        Interval(300, 2000, 1100, 9000),
    ]
    ratios = (*ODDS_RATIOS, 1.0)
    together = log_likelihoods_of_each(intervals, ratios)
    for interval, found in zip(intervals, together, strict=True):
        assert found == pytest.approx(log_likelihoods(interval, ratios), rel=1e-12, abs=1e-11)
    worse, same = log_likelihoods_of_each([*intervals, intervals[0]], (2.0, 1.0))[-1]
    assert math.exp(worse - same) == pytest.approx(8.733503205859948, rel=1e-12)
    assert log_likelihoods_of_each([], ratios) == []
