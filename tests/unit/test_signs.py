"""The sign test: golden numbers, its closed form, and what it is worth."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from controller.core.mixture import UnknownStateError, unstarted_weight
from controller.core.safety import SafetyTest, sign_safety_log_e_values
from controller.core.signs import (
    LOSS_PROBABILITIES,
    SignTest,
    log_sign_e_value,
    sign_log_e_values,
    smallest_odds,
)


def exactly(losses: int, wins: int) -> Fraction:
    """2 ∫ (2p)^losses (2(1−p))^wins dp from ½ to 1, the polynomial integrated term by term."""
    total = Fraction(0)
    for j in range(wins + 1):
        power = losses + j + 1
        term = Fraction((-1) ** j * math.comb(wins, j), power) * (1 - Fraction(1, 2**power))
        total += term
    return Fraction(2 ** (losses + wins + 1)) * total


def test_seven_losses_of_seven_are_worth_31_875() -> None:
    assert math.exp(log_sign_e_value(7, 0)) == pytest.approx(31.875, rel=1e-12)


@pytest.mark.parametrize(("losses", "wins"), [(0, 0), (1, 0), (0, 1), (0, 9), (12, 3), (20, 19), (3, 30)])
def test_the_closed_form_is_the_integral(losses: int, wins: int) -> None:
    assert math.exp(log_sign_e_value(losses, wins)) == pytest.approx(float(exactly(losses, wins)), rel=1e-11)


@pytest.mark.parametrize(("losses", "wins"), [(7, 0), (0, 7), (25, 14), (39, 0), (0, 39)])
def test_the_test_mixes_as_the_integral_does_up_to_39_comparisons(losses: int, wins: int) -> None:
    started = SignTest(1, sign_log_e_values(losses, wins))
    mean = started.e_value - unstarted_weight(1)
    assert mean == pytest.approx(math.exp(log_sign_e_value(losses, wins)), rel=1e-11)


def test_many_comparisons_neither_overflow_nor_lose_digits() -> None:
    assert log_sign_e_value(100_000, 0) == pytest.approx(100_000 * math.log(2) - math.log(50_000.5), rel=1e-9)
    assert log_sign_e_value(0, 100_000) == pytest.approx(-math.log(100_001), rel=1e-9)
    assert math.isfinite(SignTest().after(sign_log_e_values(100_000, 0), 1.0).e_value)


def test_half_of_the_evidence_bets_on_the_first_interval() -> None:
    test = SignTest().after(sign_log_e_values(7, 0), 1.0)
    assert test.e_value == pytest.approx(0.5 * 31.875 + 0.5, rel=1e-9)
    assert SignTest.decode(test.encode()).e_value == pytest.approx(test.e_value, rel=1e-6)


def test_evidence_forgets_an_hour_of_wins() -> None:
    test = SignTest()
    for _ in range(240):
        test = test.after(sign_log_e_values(5, 5), 1.0)
    assert test.e_value < 1
    intervals = 0
    while test.e_value < 300:
        test, intervals = test.after(sign_log_e_values(9, 1), 1.0), intervals + 1
    assert intervals <= 6


def test_bunches_prove_less() -> None:
    losses = sign_log_e_values(14, 0)
    assert SignTest().after(losses, 3.0).e_value < SignTest().after(losses, 1.0).e_value


def test_what_has_ended_is_believed_to_have_ended() -> None:
    noisy = SignTest().after(sign_log_e_values(300, 0), 1.0).forgetting(100.0)
    assert noisy.e_value >= 100
    intervals = 0
    while noisy.e_value >= 100:
        noisy, intervals = noisy.after(sign_log_e_values(5, 5), 1.0), intervals + 1
    assert intervals <= 10


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(UnknownStateError):
        SignTest.decode("v1 3 0.5")


@pytest.mark.parametrize("max_ratio", [1.5, 2.0, 10.0])
def test_as_many_wins_as_losses_show_safety(max_ratio: float) -> None:
    equal = SafetyTest().after(sign_safety_log_e_values(100, 100, max_ratio), 1.0)
    worse = SafetyTest().after(sign_safety_log_e_values(150, 50, max_ratio), 1.0)
    assert equal.e_value > worse.e_value
    assert equal.e_value > (20 if max_ratio >= 2 else 1)


def test_what_no_harm_is_worth_grows_with_the_comparisons() -> None:
    assert smallest_odds(0, 300.0, 1.0) is None
    assert smallest_odds(11, 300.0, 1.0) is None
    few, many, bunched = (smallest_odds(n, 300.0, phi) for n, phi in ((50, 1.0), (1000, 1.0), (1000, 3.0)))
    assert few is not None
    assert many is not None
    assert bunched is not None
    assert 1 < many < bunched < few
    losses = round(1000 * many / (1 + many))
    assert 0.5 * math.exp(log_sign_e_value(losses + 1, 999 - losses)) >= 300
    assert 0.5 * math.exp(log_sign_e_value(losses - 2, 1002 - losses)) < 300


def test_the_alternatives_lie_above_one_half() -> None:
    assert all(0.5 < p < 1 for p in LOSS_PROBABILITIES)
