import numpy as np
import pytest

from controller.api.status import Counts
from controller.core.dispersion import Scatter, clustering, share_clustering

FEW = np.random.default_rng(4)


def slices_of(failing: int, size: int, requests: int = 10_000, slices: int = 8) -> list[Counts]:
    """Slices with conversations that fail as a whole, ``size`` bad requests each."""
    hit = FEW.multinomial(failing, [1 / slices] * slices)
    return [Counts(bad=int(count) * size, total=requests) for count in hit]


@pytest.mark.parametrize(
    "slices",
    [
        [],
        [Counts(bad=0, total=500)] * 8,
        [Counts(bad=1, total=500), *[Counts(bad=0, total=500)] * 7],
        [Counts(bad=500, total=500)] * 8,
        [Counts()] * 8,
    ],
)
def test_slices_that_can_say_nothing_leave_the_prior(slices: list[Counts]) -> None:
    assert clustering(slices, 10.0) == 10.0


def test_it_is_half_prior_half_evidence_with_eight_slices() -> None:
    slices = [Counts(bad=bad, total=100) for bad in (2, 4, 6, 8, 2, 4, 6, 8)]
    scatter = sum((bad - 5) ** 2 / (5 * 0.95) for bad in (2, 4, 6, 8, 2, 4, 6, 8))
    assert clustering(slices, 10.0) == pytest.approx((80 + scatter) / 16)


def test_conversations_that_fail_as_a_whole_are_seen() -> None:
    found = [clustering(slices_of(failing=200, size=30), 10.0) for _ in range(50)]
    # Half of the weight is the prior's, and of eight residuals one degree of freedom is spent on their mean.
    assert np.mean(found) == pytest.approx((8 * 10 + 7 * 30) / 16, rel=0.1)


def test_independent_events_and_a_prior_of_one_leave_the_test_as_it_is() -> None:
    found = [clustering(slices_of(failing=500, size=1), 1.0) for _ in range(50)]
    assert 1.0 <= np.mean(found) < 1.15


def test_an_empty_slice_is_no_scatter() -> None:
    slices = [Counts(bad=10, total=200), Counts(bad=12, total=200), Counts()]
    assert 1.0 <= clustering(slices, 1.0) < 1.1


def test_the_scatter_of_sizes_grows_with_what_each_user_sends() -> None:
    assert share_clustering([], 20.0) == share_clustering([0, 0, 0], 20.0) == 20.0
    even = share_clustering([1_000] * 8, 20.0)
    assert even == 10.0
    once, tenfold = (share_clustering([n * 100, 0, n * 100, 0, 0, 0, 0, 0], 20.0) for n in (1, 10))
    assert tenfold - even == pytest.approx(10 * (once - even))


def scattered(size: int, intervals: int, prior: float, seed: int = 1) -> float:
    """φ within intervals, of conversations that fail as a whole with ``size`` requests each."""
    random, scatter = np.random.default_rng(seed), Scatter()
    for _ in range(intervals):
        hit = random.multinomial(random.poisson(1.0), [1 / 8] * 8)
        scatter = scatter.after([Counts(bad=int(each) * size, total=2_000) for each in hit])
    return scatter.clustering(prior)


@pytest.mark.parametrize("size", [1, 10, 40])
@pytest.mark.parametrize("prior", [1.0, 10.0])
def test_within_intervals_the_size_of_bunches_is_soon_known(size: int, prior: float) -> None:
    assert scattered(size, 2_000, prior) == pytest.approx(size, rel=0.15 if size > 1 else 0.5)


def test_intervals_that_can_say_nothing_leave_the_scatter_alone() -> None:
    assert Scatter().clustering(7.0) == pytest.approx(7.0)
    for slices in ([], [Counts(total=30)] * 8, [Counts(bad=3, total=3)] * 8):
        assert Scatter(3.0, 2.0).after(slices) == Scatter(3.0, 2.0)


def test_the_larger_estimate_counts() -> None:
    even = [Counts(bad=40, total=1_000)] * 8
    assert clustering(even, 10.0) == 5.0
    assert clustering(even, 10.0, Scatter(30_000.0, 1_000.0)) == pytest.approx((8 * 100 + 30_000) / 1_080)
    assert clustering(even, 10.0, Scatter(1_000.0, 1_000.0)) == 5.0


def test_clustering_is_known_the_better_the_more_bunches_were_seen() -> None:
    unknown, few, many = Scatter(), Scatter(300.0, 30.0), Scatter(300_000.0, 30_000.0)
    assert unknown.freedom(10.0) == pytest.approx(5 * 8 / 20)
    assert few.freedom(10.0) == pytest.approx(5 * 11 / 23)
    assert 4.9 < many.freedom(10.0) < 5
    assert Scatter(30_000.0, 1_000.0).freedom(10.0) < Scatter(1_000.0, 1_000.0).freedom(10.0)
