import numpy as np
import pytest

from controller.api.status import Counts
from controller.core.dispersion import clustering, share_clustering

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
