import math

import pytest
from scipy.stats import hypergeom, nchypergeom_fisher

from controller.core.statistics import (
    HORIZON,
    ODDS_RATIOS,
    HarmTest,
    Interval,
    UnknownStateError,
    log_e_value,
    log_e_value_against_reference,
    tolerated_rate,
)


def test_the_golden_e_value() -> None:
    assert math.exp(log_e_value(Interval(5, 100, 10, 1000), 2.0)) == pytest.approx(
        8.733503205859948, rel=1e-12
    )


@pytest.mark.parametrize("odds_ratio", ODDS_RATIOS)
@pytest.mark.parametrize(("n_c", "n_b", "bad"), [(10, 90, 7), (50, 50, 20), (3, 400, 5), (100, 10, 12)])
def test_the_e_value_has_expectation_one_when_both_are_alike(
    odds_ratio: float, n_c: int, n_b: int, bad: int
) -> None:
    low, high = max(0, bad - n_b), min(bad, n_c)
    expectation = sum(
        hypergeom.pmf(s, n_c + n_b, bad, n_c)
        * math.exp(log_e_value(Interval(s, n_c, bad - s, n_b), odds_ratio))
        for s in range(low, high + 1)
    )
    assert expectation == pytest.approx(1.0, rel=1e-10)


def test_the_e_value_agrees_with_scipys_noncentral_hypergeometric() -> None:
    for s in range(8):
        expected = nchypergeom_fisher.pmf(s, 220, 7, 20, 3.0) / nchypergeom_fisher.pmf(s, 220, 7, 20, 1.5)
        assert math.exp(log_e_value(Interval(s, 20, 7 - s, 200), 3.0, tolerated=1.5)) == pytest.approx(
            expected
        )


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
    for text in ("v0 " + HarmTest().encode()[3:], "v1 1 2 3", "v1 one", "", "v1"):
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


def test_a_test_that_has_not_begun_is_no_evidence() -> None:
    assert HarmTest().e_value == 1.0
