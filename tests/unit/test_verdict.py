from dataclasses import replace

import pytest

from controller.api.reasons import Reason, Verdict
from controller.api.status import Counts
from controller.core.verdict import Finding, hold_for_split, judge

FINDING = Finding(
    name="errors",
    candidate=Counts(bad=12, total=400),
    baseline=Counts(bad=30, total=4_000),
    e_value=1.0,
    compared=True,
    own=True,
    min_requests=100,
)
ALPHA = 0.01


def test_harm_alone_is_a_failure() -> None:
    (errors,) = judge([replace(FINDING, e_value=150.0)], ALPHA, watched=1)
    assert errors.verdict is Verdict.FAIL


def test_a_stable_that_differs_from_itself_as_much_makes_it_noise() -> None:
    (errors,) = judge([replace(FINDING, e_value=150.0, control=120.0)], ALPHA, watched=1)
    assert (errors.verdict, errors.reason) == (Verdict.ERROR, Reason.NOISY_EVIDENCE)
    assert "stable differs from itself" in errors.message


def test_noise_is_an_error_without_any_harm() -> None:
    (errors,) = judge([replace(FINDING, control=120.0)], ALPHA, watched=1)
    assert errors.verdict is Verdict.ERROR


def test_noise_does_not_keep_what_is_worse_by_far() -> None:
    (errors,) = judge([replace(FINDING, e_value=13_000.0, control=120.0)], ALPHA, watched=1)
    assert errors.verdict is Verdict.FAIL


def test_what_is_noise_adds_nothing_to_the_others() -> None:
    noisy = replace(FINDING, name="latency", e_value=150.0, control=120.0)
    errors, latency = judge([replace(FINDING, e_value=60.0), noisy], ALPHA, watched=2)
    assert errors.verdict is Verdict.INSUFFICIENT
    assert latency.verdict is Verdict.ERROR


def test_two_that_reach_the_bar_together_are_told_by_the_worse_one() -> None:
    errors, latency = judge(
        [replace(FINDING, e_value=90.0), replace(FINDING, name="latency", e_value=120.0)], ALPHA, watched=2
    )
    assert errors.verdict is Verdict.INSUFFICIENT
    assert latency.verdict is Verdict.FAIL


@pytest.mark.parametrize("e_value", [1.0, 150.0])
def test_a_wrong_split_holds_what_has_not_failed(e_value: float) -> None:
    (errors,) = judge([replace(FINDING, e_value=e_value)], ALPHA, watched=1)
    held = hold_for_split(errors, "1%")
    assert held.verdict is (Verdict.FAIL if e_value > 100 else Verdict.ERROR)
    assert held.evidence == errors.evidence
