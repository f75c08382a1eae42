import math
import tracemalloc

import numpy as np
import pytest

from controller.api.status import Counts
from controller.core.soundness import (
    CONTROL_RATIOS,
    SPLIT_CLUSTERING,
    ControlTest,
    SplitTest,
    beyond_noise,
    control_log_e_values,
    is_noisy,
    is_split_wrong,
    share_bounds,
    split_log_e_values,
)
from controller.core.statistics import Interval, log_e_value


@pytest.mark.parametrize(
    ("share", "low", "high"),
    [(0.01, 0.005, 0.02), (0.1, 0.05, 0.2), (0.5, 0.25, 0.75), (0.9, 0.8, 0.95), (0.99, 0.98, 0.995)],
)
def test_neither_arm_may_have_less_than_half_or_more_than_double(
    share: float, low: float, high: float
) -> None:
    assert share_bounds(share) == pytest.approx((low, high))


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.8, 0.99])
def test_no_share_within_the_bounds_is_evidence_on_average(share: float) -> None:
    n = 60
    low, high = share_bounds(share)
    seen = np.arange(n + 1)
    ways = np.array([math.comb(n, s) for s in seen], dtype=float)
    e_values = np.exp([split_log_e_values(s, n - s, share) for s in seen.tolist()])
    for true in (low, share, high):
        expected = (ways * true**seen * (1 - true) ** (n - seen)) @ e_values
        assert (expected <= 1 + 1e-9).all()


def requests(random: np.random.Generator, share: float, conversations: int) -> tuple[int, int]:
    """One interval of conversations of 1 to 20 requests."""
    lengths = random.integers(1, 21, conversations)
    mine = random.random(conversations) < share
    return int(lengths[mine].sum()), int(lengths[~mine].sum())


def wrong_after(
    programmed: float, true: float, seed: int, conversations: int = 50, most: int = 240
) -> int | None:
    """In which interval the split is found wrong."""
    random, test = np.random.default_rng(seed), SplitTest()
    for interval in range(1, most + 1):
        candidate, baseline = requests(random, true, conversations)
        test = test.after(split_log_e_values(candidate, baseline, programmed), SPLIT_CLUSTERING)
        if is_split_wrong(test):
            return interval
    return None


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9])
def test_right_splits_of_conversations_are_not_found_wrong(share: float) -> None:
    assert [seed for seed in range(40) if wrong_after(share, share, seed, most=80) is not None] == []


@pytest.mark.parametrize(
    ("programmed", "true"), [(0.01, 0.5), (0.01, 0.1), (0.1, 0.9), (0.5, 0.05), (0.5, 1.0), (0.9, 0.0)]
)
def test_a_split_that_is_plainly_wrong_is_found_within_minutes(programmed: float, true: float) -> None:
    found = [wrong_after(programmed, true, seed) for seed in range(10)]
    assert all(interval is not None and interval <= 40 for interval in found)


def test_a_split_that_was_put_right_is_believed_again() -> None:
    random, test = np.random.default_rng(1), SplitTest()
    for true, intervals in ((0.9, 2_000), (0.5, 100)):
        for _ in range(intervals):
            test = test.after(split_log_e_values(*requests(random, true, 50), 0.5), SPLIT_CLUSTERING)
        assert is_split_wrong(test) == (true > 0.5)
    assert SplitTest.decode(test.encode()).e_value == pytest.approx(test.e_value)


def test_no_requests_say_nothing_about_the_split() -> None:
    assert set(split_log_e_values(0, 0, 0.1)) == {0.0}


@pytest.mark.parametrize(("requests", "bad"), [(0, 0), (40, 0), (40, 40), (40, 3), (40, 37), (500, 120)])
def test_each_slice_is_compared_with_all_the_rest_of_stable(requests: int, bad: int) -> None:
    random = np.random.default_rng(requests + bad)
    totals = random.multinomial(requests, [0.06] * 8 + [0.52])
    failed = random.multivariate_hypergeometric(totals, bad)
    slices = [Counts(bad=int(s), total=int(n)) for s, n in zip(failed[:8], totals[:8], strict=True)]
    expected = [
        log_e_value(Interval(s.bad, s.total, bad - s.bad, requests - s.total), ratio)
        for s in slices
        for ratio in CONTROL_RATIOS
    ]
    found = control_log_e_values(slices, Counts(bad=bad, total=requests))
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_memory_of_the_check_does_not_grow_by_slices_and_ratios_at_once() -> None:
    slices = [Counts(bad=100_000 + number, total=200_000) for number in range(8)]
    stable = Counts(bad=1_600_000, total=3_200_000)
    tracemalloc.start()
    found = control_log_e_values(slices, stable)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(math.isfinite(each) for each in found)
    assert peak < 8 * 8 * 200_000


def test_one_slice_that_fails_is_noise() -> None:
    slices, check = [Counts(bad=9, total=10), *[Counts(bad=1, total=10)] * 7], ControlTest()
    for _ in range(4):
        check = check.after(control_log_e_values(slices, Counts(bad=26, total=180)), 1.0)
    assert is_noisy(check.e_value, alpha=0.01)
    assert ControlTest.decode(check.encode()).e_value == pytest.approx(check.e_value)


def test_slices_that_are_like_the_rest_are_no_noise() -> None:
    slices, check = [Counts(bad=1, total=10)] * 8, ControlTest()
    for _ in range(100):
        check = check.after(control_log_e_values(slices, Counts(bad=18, total=180)), 1.0)
    assert check.e_value < 1


def test_harm_counts_as_far_as_it_is_beyond_noise() -> None:
    assert beyond_noise(150.0, control=0.3) == 150.0
    assert beyond_noise(150.0, control=10.0) == 15.0
    assert is_noisy(100.0, alpha=0.01)
    assert not is_noisy(99.0, alpha=0.01)
