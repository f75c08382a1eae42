"""How far back questions look: no further than the last answer shows to be needed."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from controller.core.counts import Series
from controller.reconcilers.lookback import Lookback
from tests.virtual import START

MOST = timedelta(seconds=120)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def series(*seconds: float) -> Series:
    return Series({}, tuple((at(each).timestamp(), 1.0) for each in seconds))


def margin(lookback: Lookback, *counted: float | None) -> float:
    ends = [None if each is None else at(each) for each in counted]
    begins = min((each for each in ends if each), default=at(0))
    return lookback.margin("shop/agent", ends, begins, MOST).total_seconds()


def test_after_an_answer_two_scrapes_and_a_moment_more_are_enough() -> None:
    lookback = Lookback()
    lookback.note("shop/agent", [series(0, 15, 30, 45), series(12, 27, 42)])
    assert margin(lookback, 42) == pytest.approx(31)
    assert margin(lookback, 42, 45) == pytest.approx(31)


def test_nothing_is_known_before_the_first_answer_nor_of_other_rollouts() -> None:
    lookback = Lookback()
    assert margin(lookback, 42) == 120
    lookback.note("shop/other", [series(0, 15, 30)])
    assert margin(lookback, 30) == 120


@pytest.mark.parametrize("counted", [(None,), (30.0,), (45.0, None), (45.0, 30.0)])
def test_an_answer_on_which_counting_did_not_end_says_nothing(counted: tuple[float | None, ...]) -> None:
    lookback = Lookback()
    lookback.note("shop/agent", [series(0, 15, 30, 45)])
    assert margin(lookback, *counted) == 120


def test_a_series_that_stands_still_is_looked_for_as_long_as_it_would_be_without_memory() -> None:
    lookback = Lookback()
    lookback.note("shop/agent", [series(0, 15, 30, 45), series(0, 15)])
    assert margin(lookback, 45) == pytest.approx(61)
    lookback.note("shop/agent", [series(60, 75, 90, 105, 120, 135), series(0, 15)])
    assert margin(lookback, 135) == 120


def test_missed_scrapes_lengthen_the_rhythm() -> None:
    lookback = Lookback()
    lookback.note("shop/agent", [series(0, 15, 30, 45), series(15, 45)])
    assert margin(lookback, 45) == pytest.approx(61)


@pytest.mark.parametrize("found", [[], [series()], [series(45), series(45)]])
def test_an_answer_without_a_rhythm_says_nothing(found: list[Series]) -> None:
    lookback = Lookback()
    lookback.note("shop/agent", [series(0, 15, 30, 45)])
    lookback.note("shop/agent", found)
    assert margin(lookback, 45) == 120


def test_a_rollout_that_is_gone_is_forgotten() -> None:
    lookback = Lookback()
    lookback.note("shop/agent", [series(0, 15, 30, 45)])
    lookback.forget("shop/agent")
    lookback.forget("shop/agent")
    assert margin(lookback, 45) == 120
