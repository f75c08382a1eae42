from dataclasses import replace

import pytest

from controller.api.reasons import Reason, Verdict
from controller.api.status import Counts
from controller.core.verdict import Safety, hold_for_split, judge
from tests.findings import FINDING

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


def test_what_is_noise_adds_little_to_the_others() -> None:
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


def test_that_no_harm_was_found_says_what_it_is_worth() -> None:
    (errors,) = judge([FINDING], ALPHA, watched=1)
    assert errors.verdict is Verdict.PASS
    assert errors.min_detectable_ratio is not None
    assert 1 < errors.min_detectable_ratio < 10
    assert errors.message == (
        "no harm found: candidate 12/400 (3 %), baseline 30/4000 (0.75 %), e-value 1 of 100; "
        f"an odds ratio of {errors.min_detectable_ratio:g} would have shown"
    )


def test_clustering_and_several_tests_make_it_worth_less() -> None:
    def least(clustering: float = 1.0, tests: int = 1) -> float:
        finding = replace(FINDING, clustering=clustering, tests=tests)
        (errors,) = judge([finding], ALPHA, watched=1)
        assert errors.min_detectable_ratio is not None
        return errors.min_detectable_ratio

    assert least(clustering=3) > least()
    assert least(tests=2) > least()


def test_so_few_requests_could_not_have_shown_anything() -> None:
    few = replace(FINDING, candidate=Counts(total=2), baseline=Counts(total=3), min_requests=1)
    (errors,) = judge([few], ALPHA, watched=1)
    assert errors.min_detectable_ratio is None
    assert errors.message.endswith("; so few requests could not have shown any harm")


def test_where_nobody_is_left_to_compare_with_it_is_a_multiple_of_what_is_tolerated() -> None:
    (errors,) = judge([replace(FINDING, compared=False)], ALPHA, watched=1)
    assert "of what is tolerated would have shown" in errors.message


def test_safety_that_has_to_be_shown_and_is_not_is_insufficient() -> None:
    (errors,) = judge([replace(FINDING, safety=Safety(7.0, 2.0))], ALPHA, watched=1)
    assert (errors.verdict, errors.safety) == (Verdict.INSUFFICIENT, 7.0)
    assert errors.message.startswith(
        "not shown to be less than 2 times as bad as stable (e-value 7 of 20) yet: "
    )


def test_shown_safety_passes_and_says_so() -> None:
    (errors,) = judge([replace(FINDING, safety=Safety(31.0, 2.0))], ALPHA, watched=1)
    assert errors.verdict is Verdict.PASS
    assert "shown to be less than 2 times as bad as stable (e-value 31 of 20)" in errors.message


def test_other_users_have_nothing_to_show() -> None:
    (errors,) = judge([replace(FINDING, own=False, safety=Safety(1.0, 2.0))], ALPHA, watched=1)
    assert errors.verdict is Verdict.PASS


def test_suspected_harm_does_not_pass_although_safety_was_shown_before() -> None:
    (errors,) = judge([replace(FINDING, e_value=5.0, safety=Safety(90.0, 2.0))], ALPHA, watched=1)
    assert errors.verdict is Verdict.INSUFFICIENT
    assert "harm is suspected" in errors.message
