"""Our sums against scipy's special functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import betaincinv, gammaln, logsumexp

from controller.core.sums import log_sum_exp, log_sums, log_ways, upper_bound


@pytest.mark.parametrize(
    ("bad", "total"),
    [
        *((0, 1), (0, 50), (1, 2), (1, 1_000), (40, 60), (999, 1_000), (500, 1_000)),
        *((3, 3_000_000), (20_000, 1_000_000), (720_000, 1_500_000)),
    ],
)
@pytest.mark.parametrize("confidence", [0.5, 0.99, 0.9999])
def test_the_upper_bound_is_that_of_the_incomplete_beta_function(
    bad: int, total: int, confidence: float
) -> None:
    expected = float(betaincinv(bad + 1, total - bad, confidence))
    # Where both count millions, it is differences of large logarithms on either side.
    assert upper_bound(bad, total, confidence) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("total", [0, 1, 100])
def test_where_nothing_good_was_seen_every_rate_is_possible(total: int) -> None:
    assert upper_bound(total, total, 0.99) == 1.0


@pytest.mark.parametrize(
    ("drawn", "others", "marked"),
    [
        (100, 1_000, 15),
        (3, 400, 5),
        (100, 10, 12),
        (1_500, 1_500, 1_400),
        (200_000, 100_000, 150_000),
        (5, 5, 10),
    ],
)
def test_ways_are_products_of_binomial_coefficients(drawn: int, others: int, marked: int) -> None:
    low, high = max(0, marked - others), min(marked, drawn)
    k = np.arange(low, high + 1, dtype=float)
    expected = _log_choose(drawn, k) + _log_choose(others, marked - k)
    found = log_ways(drawn, others, marked, low, high)
    assert found == pytest.approx(expected - expected[0], rel=1e-9, abs=1e-8)


@pytest.mark.parametrize(
    "logarithms", [[0.0], [1.0, 2.0], [-1000.0, -1001.0], [800.0, 1.0], [-math.inf, 3.0]]
)
def test_sums_of_logarithms(logarithms: list[float]) -> None:
    assert log_sum_exp(np.array(logarithms)) == pytest.approx(float(logsumexp(logarithms)), rel=1e-14)


def test_the_sum_of_nothing_at_all() -> None:
    assert log_sum_exp(np.array([-math.inf, -math.inf])) == -math.inf


def _log_choose(
    n: int, k: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    result: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    )
    return result


@pytest.mark.parametrize(
    ("drawn", "others", "marked"), [(100, 1_000, 15), (700, 300, 257), (3_000, 2_000, 2_500)]
)
def test_sums_for_several_slopes_are_those_of_all_terms(drawn: int, others: int, marked: int) -> None:
    low, high = max(0, marked - others), min(marked, drawn)
    ways = log_ways(drawn, others, marked, low, high)
    steps = np.arange(high - low + 1, dtype=float)
    slopes = [-50.0, -1.0, 0.0, 0.4, 3.0, 50.0]
    expected = [float(logsumexp(ways + slope * steps)) for slope in slopes]
    assert log_sums(ways, steps, slopes) == pytest.approx(expected, rel=1e-13)
