from __future__ import annotations

from collections.abc import Sequence

import pytest

from controller.api.delivery import Analysis
from controller.api.status import Counts, MetricEvidence
from controller.core.controls import Clustering, Controls, clusterings, control_e_value, sizes_of
from controller.core.counts import Events, Tallied
from controller.core.evidence import Counted, Step, weighed
from controller.core.mixture import UnknownStateError
from controller.core.soundness import control_log_e_values

EVEN = [Counts(bad=2, total=40)] * 8
UNEVEN = [Counts(bad=30, total=40), *[Counts(bad=2, total=40)] * 7]
STABLE = Counts(bad=60, total=900)
STATE = MetricEvidence(name="errors")
ONE = Clustering(1.0)


def beside(slices: Sequence[Sequence[Events]], stable: Sequence[Events] | None = None) -> MetricEvidence:
    """The state after an interval in which the candidate had no requests."""
    step = Step([Tallied()] * max(len(slices), 1), stable or [STABLE] * len(slices), slices)
    (found,) = weighed([Counted(STATE, [ONE] * len(step.candidate), [step])], Analysis())
    return found.state


def after(
    controls: Controls, slices: Sequence[Events], stable: Events, phi: float, enough: float = 100.0
) -> Controls:
    return controls.after(slices, stable, control_log_e_values(slices, stable), phi, enough)


def phis(state: MetricEvidence | None, tests: int, prior: float, *, audience: bool = False) -> list[float]:
    return [each.phi for each in clusterings(state, tests, prior, audience=audience)]


def test_the_state_goes_on_after_a_restart() -> None:
    before = after(Controls(), UNEVEN, STABLE, 3.0)
    text = before.encode()
    assert Controls.decode(text).counts == before.counts
    assert Controls.decode(text).encode() == text
    assert len(Controls((Counts(bad=10**12, total=10**12),) * 8, before.check).encode()) <= 1024


@pytest.mark.parametrize(
    "text",
    ["", "c2 1", Controls().encode().replace("c1 0", "c1 -1"), Controls().encode().replace("c1 0", "c1 inf"),
     Controls().encode().partition(";")[0]],
)  # fmt: skip
def test_a_state_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UnknownStateError):
        Controls.decode(text)


def test_a_state_of_an_older_version_goes_on_with_what_is_configured() -> None:
    assert phis(STATE, 2, 10.0) == [10.0, 10.0]
    assert phis(None, 1, 10.0) == [10.0]
    assert control_e_value(STATE) == 1.0


def test_an_interval_tempers_the_next_ones_and_not_itself() -> None:
    noisy = beside([UNEVEN])
    assert phis(STATE, 1, 1.0) == [1.0]
    (phi,) = phis(noisy, 1, 1.0)
    assert phi > 5
    assert control_e_value(noisy) > 100


def test_an_audience_is_taken_to_be_no_less_clustered_than_everyone_nor_than_is_said() -> None:
    even, uneven = (beside([each]) for each in (EVEN, UNEVEN))
    assert phis(even, 1, 10.0, audience=True) == [10.0]
    assert phis(even, 1, 10.0) < [10.0]
    assert phis(uneven, 1, 2.0, audience=True) == phis(uneven, 1, 2.0) > [2.0]


def test_without_requests_in_slices_nothing_changes() -> None:
    assert beside([[Counts()] * 8]).controls == []
    assert beside([], [STABLE]).controls == []


def test_the_checks_of_a_metrics_tests_are_averaged() -> None:
    both = beside([EVEN, UNEVEN])
    one, other = (beside([each]) for each in (EVEN, UNEVEN))
    assert control_e_value(both) == pytest.approx((control_e_value(one) + control_e_value(other)) / 2)


def test_noise_beyond_what_makes_a_difference_is_forgotten() -> None:
    noisy = Controls()
    for _ in range(50):
        noisy = after(noisy, UNEVEN, STABLE, 1.0)
    assert 100 < noisy.check.e_value < 1000
    for _ in range(10):
        noisy = after(noisy, EVEN, Counts(bad=45, total=900), 1.0)
    assert noisy.check.e_value < 100


def test_the_sizes_of_slices_are_known_as_far_as_they_were_counted() -> None:
    assert sizes_of(None) == sizes_of(STATE) == []
    assert sizes_of(beside([EVEN, UNEVEN])) == [40] * 8


def test_the_rest_of_stable_tells_of_bunches_as_the_slices_do() -> None:
    none, all_in_the_rest = [Tallied(0, 40)] * 8, Tallied(60, 900)
    seen = after(Controls(), none, all_in_the_rest, 3.0)
    assert seen.scatter.expected > 0
    assert seen.scatter == Controls().scatter.after([*none, Tallied(60, 580)])
