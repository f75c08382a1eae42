"""E-values of broken limits: expectations by enumeration, and what they find."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from controller.core.limits import THRESHOLD, mean_at_most, mean_log_e_values, share_log_e_values
from controller.core.statistics import HarmTest

EDGES = [100 * 1.5**n for n in range(12)]


def histogram(amounts: np.ndarray) -> dict[float, int]:
    found = {edge: int((amounts <= edge).sum()) for edge in EDGES}
    return found | {math.inf: len(amounts)}


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.5])
def test_at_the_limit_a_share_s_e_values_have_expectation_1_and_below_less(limit: float) -> None:
    for share in (limit, limit / 2):
        expected = sum(
            math.comb(20, bad)
            * share**bad
            * (1 - share) ** (20 - bad)
            * np.exp(share_log_e_values(bad, 20, limit))
            for bad in range(21)
        )
        assert np.all(expected <= 1 + 1e-9)
        if share == limit:
            assert expected == pytest.approx(1)


def test_at_the_limit_a_mean_s_e_values_have_expectation_of_at_most_1() -> None:
    """Two tasks of 0, 200 or 700 tokens each, with a mean of 300."""
    chances = {0: 0.3, 200: 0.4, 700: 0.3 + 1e-15}
    limit = sum(amount * chance for amount, chance in chances.items()) + 10
    expected = np.zeros(7)
    for one, two in product(chances, repeat=2):
        value = np.exp(mean_log_e_values(histogram(np.array([one, two])), limit))
        expected += chances[one] * chances[two] * value
    assert np.all(expected <= 1)


def test_a_mean_beyond_the_limit_is_found_and_one_within_it_is_not() -> None:
    random = np.random.default_rng(1)
    for mean, found in ((900.0, False), (4000.0, True)):
        test = HarmTest()
        for _ in range(100):
            amounts = random.exponential(mean, 30)
            test = test.after(mean_log_e_values(histogram(amounts), 1000), 1.0)
        assert (test.e_value >= THRESHOLD) == found


def test_a_mean_is_at_most_what_upper_edges_give() -> None:
    amounts = np.array([50, 120, 140, 600])
    assert mean_at_most(histogram(amounts)) == pytest.approx((100 + 150 + 150 + 759.375) / 4)
    assert mean_at_most({}) == 0
    assert mean_at_most({100.0: 0, math.inf: 2}) == 100
