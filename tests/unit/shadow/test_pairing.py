"""Which halves become pairs, and what becomes of those that do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.core.shadow.comparison import Bin
from controller.core.shadow.exchange import Answer, Exchange, Pair, Question, Side
from controller.core.shadow.pairing import Ended, Pairing
from tests.compared import SUBJECT

pytestmark = pytest.mark.unit

PATIENCE = 70.0


def half(side: Side, key: str = "1", *, noise_due: bool = False, oversized: bool = False) -> Exchange:
    question = Question("POST", "/", (), side.encode())
    answer = Answer(200, (), side.encode(), complete=True, seconds=0.1)
    return Exchange(key, side, SUBJECT, question, answer, oversized, noise_due)


STABLE, CANDIDATE, NOISE = half(Side.STABLE), half(Side.CANDIDATE), half(Side.NOISE)
STABLE_TWICE = half(Side.STABLE, noise_due=True)


def took(pairing: Pairing, *halves: Exchange, now: float = 0.0) -> list[Pair | Ended]:
    return [each for exchange in halves for each in pairing.take(exchange, now)]


def unpaired(side: Side, key: str = "1") -> Ended:
    return Ended(f"{key}/noise" if side is Side.NOISE else key, side, SUBJECT, Bin.UNPAIRED)


@pytest.mark.parametrize("order", [(STABLE, CANDIDATE), (CANDIDATE, STABLE)])
def test_two_halves_are_a_pair_whichever_comes_first(order: tuple[Exchange, ...]) -> None:
    pairing = Pairing()

    (pair,) = took(pairing, *order)

    assert pair == Pair("1", Side.CANDIDATE, SUBJECT, STABLE.question, STABLE.answer, CANDIDATE.answer)
    assert (pairing.waiting, pairing.held_bytes) == (0, 0)
    assert pairing.expire(10 * PATIENCE) == ()


def test_the_noise_arm_is_a_pair_of_its_own_with_the_same_half_of_stable() -> None:
    pairs = took(Pairing(), NOISE, STABLE_TWICE, CANDIDATE)

    assert [(each.id, each.side) for each in pairs] == [("1/noise", Side.NOISE), ("1", Side.CANDIDATE)]
    assert all(isinstance(each, Pair) and each.stable == STABLE.answer for each in pairs)


def test_a_half_that_comes_again_changes_nothing() -> None:
    pairing = Pairing()

    assert len(took(pairing, STABLE, STABLE, CANDIDATE, CANDIDATE, STABLE)) == 1
    assert pairing.held_bytes == 0


def test_what_lacks_a_half_ends_when_its_time_is_over_and_once() -> None:
    pairing = Pairing()
    took(pairing, STABLE_TWICE, half(Side.CANDIDATE, "2"))

    assert pairing.expire(PATIENCE - 0.1) == ()
    assert pairing.waiting == 3
    assert set(pairing.expire(PATIENCE)) == {
        unpaired(Side.CANDIDATE),
        unpaired(Side.NOISE),
        unpaired(Side.CANDIDATE, "2"),
    }
    assert (pairing.waiting, pairing.held_bytes) == (0, 0)
    assert pairing.expire(10 * PATIENCE) == ()


def test_a_half_that_comes_too_late_is_known_as_such() -> None:
    pairing = Pairing()
    took(pairing, STABLE)
    pairing.expire(PATIENCE)

    assert took(pairing, CANDIDATE, now=PATIENCE + 1) == []
    assert pairing.expire(2 * PATIENCE) == ()


def test_what_a_late_half_tells_of_for_the_first_time_ends_too() -> None:
    pairing = Pairing()
    took(pairing, NOISE)
    assert pairing.expire(PATIENCE) == (unpaired(Side.NOISE),)

    assert took(pairing, STABLE_TWICE, now=PATIENCE + 1) == []
    assert pairing.expire(2 * PATIENCE) == (unpaired(Side.CANDIDATE),)
    assert pairing.held_bytes == 0


def test_an_answer_may_take_as_long_as_its_router_allows() -> None:
    pairing = Pairing(slack=5)
    took(pairing, replace(STABLE, timeout=600.0))

    assert pairing.expire(604.9) == ()
    assert pairing.expire(605.0) == (unpaired(Side.CANDIDATE),)


def test_too_large_a_half_ends_its_comparison_at_once() -> None:
    pairing = Pairing()

    assert took(pairing, half(Side.CANDIDATE, oversized=True)) == [
        Ended("1", Side.CANDIDATE, SUBJECT, Bin.TOO_LARGE)
    ]
    (pair,) = took(pairing, STABLE_TWICE, NOISE)
    assert pair.side is Side.NOISE


def test_too_large_a_half_of_stable_ends_all() -> None:
    pairing = Pairing()

    ends = took(pairing, half(Side.STABLE, noise_due=True, oversized=True), CANDIDATE, NOISE)
    assert [(each.side, isinstance(each, Ended) and each.bin) for each in ends] == [
        (Side.CANDIDATE, Bin.TOO_LARGE),
        (Side.NOISE, Bin.TOO_LARGE),
    ]
    assert pairing.held_bytes == 0


@pytest.mark.parametrize("pairing", [Pairing(max_bytes=5_000), Pairing(max_count=2)])
def test_when_memory_is_full_the_oldest_ends(pairing: Pairing) -> None:
    took(pairing, half(Side.STABLE, "1"), half(Side.STABLE, "2"))

    assert took(pairing, half(Side.STABLE, "3"), now=1.0) == [unpaired(Side.CANDIDATE, "1")]
    assert pairing.waiting == 2


def test_what_ended_for_want_of_memory_does_not_end_again_when_its_other_half_arrives() -> None:
    pairing = Pairing(max_bytes=5_000)
    keys = [str(number) for number in range(30)]
    ends = took(pairing, *(half(Side.STABLE, key) for key in keys))
    ends += took(pairing, *(half(Side.CANDIDATE, key) for key in keys), now=5.0)

    assert [each.id for each in ends] == keys
    assert [each.id for each in ends if isinstance(each, Pair)] == ["28", "29"]
    assert pairing.expire(PATIENCE) == pairing.expire(2 * PATIENCE) == ()
    assert (pairing.waiting, pairing.held_bytes) == (0, 0)


def test_what_has_ended_is_forgotten_before_what_waits() -> None:
    pairing = Pairing(max_count=2)
    took(pairing, half(Side.STABLE, "waits"), half(Side.STABLE, "ends"), half(Side.CANDIDATE, "ends"))

    assert took(pairing, half(Side.STABLE, "new"), now=1.0) == []
    assert pairing.waiting == 2
    # A half of what was forgotten is one of which nothing else is known.
    assert took(pairing, half(Side.CANDIDATE, "ends"), now=2.0) == [unpaired(Side.CANDIDATE, "waits")]
