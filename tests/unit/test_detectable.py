import math

import numpy as np
import pytest
from scipy.stats import nchypergeom_fisher

from controller.core.detectable import (
    LARGEST_RATIO,
    expected_evidence,
    min_detectable_ratio,
    min_detectable_ratio_against_rate,
)
from controller.core.statistics import HarmTest, Interval, harm_log_e_values


@pytest.mark.parametrize(
    ("n_c", "n_b", "rate", "ratio", "tolerated"),
    [
        (2_000, 18_000, 0.02, 2.0, 1.0),
        (2_000, 18_000, 0.02, 3.0, 1.5),
        (500, 500, 0.5, 2.0, 1.0),
        (5_000, 5_000, 0.05, 1.5, 1.0),
        (300, 30_000, 0.3, 5.0, 1.2),
    ],
)
def test_the_expected_evidence_is_that_of_the_conditional_test(
    n_c: int, n_b: int, rate: float, ratio: float, tolerated: float
) -> None:
    odds = rate / (1 - rate)
    bad = round(n_c * ratio * odds / (1 + ratio * odds) + n_b * rate)
    s = np.arange(max(0, bad - n_b), min(bad, n_c) + 1)
    worse, null = (nchypergeom_fisher(n_c + n_b, bad, n_c, each) for each in (ratio, tolerated))
    s = s[worse.pmf(s) > 1e-12]
    exact = float(worse.pmf(s) @ (worse.logpmf(s) - null.logpmf(s)))
    assert expected_evidence(n_c, n_b, odds, ratio, tolerated) == pytest.approx(exact, rel=0.06)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_what_could_just_be_shown_is_found_in_about_half_of_the_cases_and_twice_as_much_nearly_always(
    share: float,
) -> None:
    candidate, intervals, rate = 2_000, 20, 0.03
    baseline = round(candidate / share) - candidate
    ratio = min_detectable_ratio(candidate, baseline, round(baseline * rate), threshold=100.0, clustering=1.0)
    assert ratio is not None

    def found(ratio: float, seed: int) -> bool:
        random, test = np.random.default_rng(seed), HarmTest()
        worse = ratio * rate / (1 - rate + ratio * rate)
        for _ in range(intervals):
            c, b = candidate // intervals, baseline // intervals
            table = Interval(int(random.binomial(c, worse)), c, int(random.binomial(b, rate)), b)
            test = test.after(harm_log_e_values(table), clustering=1)
            if test.e_value >= 100:
                return True
        return False

    assert 0.35 < np.mean([found(ratio, seed) for seed in range(100)]) < 0.9
    assert np.mean([found(1 + 2 * (ratio - 1), seed) for seed in range(50)]) > 0.95


def test_too_little_traffic_could_have_shown_nothing() -> None:
    assert min_detectable_ratio(0, 1_000, 10, threshold=100, clustering=1) is None
    assert min_detectable_ratio(100, 0, 0, threshold=100, clustering=1) is None
    assert min_detectable_ratio(1, 1_000, 10, threshold=100, clustering=1) is None
    assert min_detectable_ratio_against_rate(3, 0.01, threshold=100, clustering=10) is None


def test_it_is_the_smallest_ratio_whose_expected_evidence_suffices() -> None:
    found = min_detectable_ratio(500, 4_500, 45, threshold=200, clustering=2, tolerated=1.2)
    assert found is not None
    assert 1.2 < found < LARGEST_RATIO
    odds, wanted = 45.5 / 4_455.5, 2 * math.log(14 * 200)
    assert expected_evidence(500, 4_500, odds, found * 1.0005, 1.2) >= wanted
    assert expected_evidence(500, 4_500, odds, found * 0.9995, 1.2) < wanted


def test_against_a_finished_baseline_it_is_a_multiple_of_the_tolerated_odds() -> None:
    found = min_detectable_ratio_against_rate(1_000, 0.04, threshold=100, clustering=1)
    assert found is not None
    assert 1.5 < found < 2.5
