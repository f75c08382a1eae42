import math

import numpy as np
import pytest
from scipy.stats import nchypergeom_fisher

from controller.core.mixture import UnknownStateError
from controller.core.safety import BETA, THRESHOLD, SafetyTest, safety_log_e_values
from controller.core.statistics import HarmTest, Interval


@pytest.mark.parametrize("max_ratio", [1.5, 2.0, 5.0])
@pytest.mark.parametrize(
    ("n_c", "n_b", "bad"), [(10, 90, 7), (50, 50, 20), (3, 400, 5), (100, 10, 12), (200, 9_000, 90)]
)
def test_it_has_expectation_one_at_the_largest_ratio_and_at_most_one_above(
    n_c: int, n_b: int, bad: int, max_ratio: float
) -> None:
    possible = range(max(0, bad - n_b), min(bad, n_c) + 1)
    e_values = np.array(
        [np.exp(safety_log_e_values(Interval(s, n_c, bad - s, n_b), max_ratio)) for s in possible]
    )
    at_the_bound = nchypergeom_fisher.pmf(possible, n_c + n_b, bad, n_c, max_ratio) @ e_values
    assert at_the_bound == pytest.approx(1.0, rel=1e-9)
    above = nchypergeom_fisher.pmf(possible, n_c + n_b, bad, n_c, 2 * max_ratio) @ e_values
    assert (above <= 1 + 1e-9).all()


def shown_safe(ratio: float, seed: int, intervals: int = 60) -> bool:
    """Whether E' ever reaches the threshold, looked at in every interval; 10 % of 5 000 requests each, 2 % bad."""
    random, test = np.random.default_rng(seed), SafetyTest()
    worse = ratio * 0.02 / (1 - 0.02 + ratio * 0.02)
    for _ in range(intervals):
        interval = Interval(int(random.binomial(500, worse)), 500, int(random.binomial(4_500, 0.02)), 4_500)
        test = test.after(safety_log_e_values(interval, 2.0), clustering=1)
        if test.e_value >= THRESHOLD:
            return True
    return False


def test_an_equal_version_is_shown_safe_and_one_at_the_bound_hardly_ever() -> None:
    assert all(shown_safe(1.0, seed) for seed in range(10))
    wrong = sum(shown_safe(2.0, seed) for seed in range(100))
    assert wrong <= 100 * BETA + 3 * math.sqrt(100 * BETA * (1 - BETA))


def test_nothing_counted_shows_nothing() -> None:
    assert SafetyTest().e_value == 1.0
    assert safety_log_e_values(Interval(0, 0, 3, 50), 2.0) == (0.0, 0.0, 0.0)


def test_the_state_survives_being_written_down() -> None:
    test = SafetyTest().after((0.5, -1.25, 3.0), clustering=2)
    assert SafetyTest.decode(test.encode()).log_evidence == pytest.approx(test.log_evidence, rel=1e-8)
    for text in ("", "s1", "s1 1 2", "s1 1 2 x", "s0 1 2 3", HarmTest().encode()):
        with pytest.raises(UnknownStateError, match="unknown state"):
            SafetyTest.decode(text)


def test_huge_evidence_does_not_overflow() -> None:
    assert 1e300 < SafetyTest((5_000.0, 0.0, 0.0)).e_value < math.inf
