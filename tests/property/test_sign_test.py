"""What makes the sign test one that may be looked at after every comparison, by enumeration."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.safety import SafetyTest, sign_safety_log_e_values
from controller.core.signs import SignTest, log_sign_e_value, sign_log_e_values

SIZES = st.integers(0, 60)


def chances(decided: int, p: float) -> list[float]:
    """Of each number of losses."""
    return [math.comb(decided, k) * p**k * (1 - p) ** (decided - k) for k in range(decided + 1)]


@given(decided=SIZES)
def test_e_is_one_on_average_where_losses_are_as_probable_as_wins(decided: int) -> None:
    values = (math.exp(log_sign_e_value(k, decided - k)) for k in range(decided + 1))
    assert math.fsum(c * e for c, e in zip(chances(decided, 0.5), values, strict=True)) == pytest.approx(1)


@given(decided=SIZES, p=st.floats(0, 0.5))
def test_e_is_at_most_one_on_average_for_whatever_is_no_worse(decided: int, p: float) -> None:
    values = (math.exp(log_sign_e_value(k, decided - k)) for k in range(decided + 1))
    assert math.fsum(c * e for c, e in zip(chances(decided, p), values, strict=True)) <= 1 + 1e-9


@given(
    before=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6),
    decided=st.integers(0, 12),
    p=st.floats(0, 0.5),
    clustering=st.sampled_from([1.0, 1.7, 10.0]),
)
def test_the_next_interval_adds_nothing_on_average(
    before: list[tuple[int, int]], decided: int, p: float, clustering: float
) -> None:
    test = SignTest()
    for losses, wins in before:
        test = test.after(sign_log_e_values(losses, wins), clustering)
    after = (test.after(sign_log_e_values(k, decided - k), clustering).e_value for k in range(decided + 1))
    expected = math.fsum(c * e for c, e in zip(chances(decided, p), after, strict=True))
    assert expected <= test.e_value * (1 + 1e-9)
    if p == 0.5 and clustering == 1:
        assert expected == pytest.approx(test.e_value)


@given(losses=SIZES, wins=SIZES)
def test_a_loss_more_is_more_evidence_and_a_win_more_is_less(losses: int, wins: int) -> None:
    assert log_sign_e_value(losses + 1, wins) > log_sign_e_value(losses, wins)
    assert log_sign_e_value(losses, wins + 1) < log_sign_e_value(losses, wins)


@given(decided=st.integers(0, 30), ratio=st.floats(1.1, 20), over=st.floats(1, 5))
def test_safety_is_at_most_one_on_average_for_whatever_is_as_bad_as_not_allowed(
    decided: int, ratio: float, over: float
) -> None:
    odds = ratio * over
    values = (
        SafetyTest().after(sign_safety_log_e_values(k, decided - k, ratio), 1.0).e_value
        for k in range(decided + 1)
    )
    p = odds / (1 + odds)
    assert math.fsum(c * e for c, e in zip(chances(decided, p), values, strict=True)) <= 1 + 1e-9
