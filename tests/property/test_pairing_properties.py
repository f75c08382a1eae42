"""However halves are lost, repeated, mixed and late: what is known of ends once, and what is whole is a pair."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from controller.core.shadow.comparison import Bin
from controller.core.shadow.exchange import Answer, Exchange, Pair, Question, Side
from controller.core.shadow.pairing import Ended, Pairing
from tests.compared import SUBJECT

OTHERS = (Side.CANDIDATE, Side.NOISE)


@dataclass(frozen=True)
class Arrival:
    """A half that arrives at an instant."""

    key: str
    side: Side
    noise: bool
    oversized: bool
    at: float

    @property
    def exchange(self) -> Exchange:
        question = Question("POST", "/", (), b"?" * 10)
        answer = Answer(200, (), b"!" * 10, complete=True, seconds=0.1)
        noise_due = self.noise and self.side is Side.STABLE
        return Exchange(self.key, self.side, SUBJECT, question, answer, self.oversized, noise_due)


@st.composite
def traffic(draw: st.DrawFn, latest: float) -> list[Arrival]:
    """Halves of some requests: each lost, once or several times there, in any order."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        noise = draw(st.booleans())
        for side in (Side.STABLE, Side.CANDIDATE, *([Side.NOISE] if noise else [])):
            oversized = draw(st.sampled_from([False, False, False, True]))
            for _ in range(draw(st.integers(0, 3))):
                at = draw(st.floats(0, latest))
                found.append(Arrival(str(number), side, noise, oversized, at))
    return sorted(draw(st.permutations(found)), key=lambda each: each.at)


def run(pairing: Pairing, arrivals: list[Arrival], *, tick: float = 1.0) -> list[Pair | Ended]:
    """Everything that comes of them, with the clock ticking in between."""
    ends: list[Pair | Ended] = []
    now = 0.0
    for arrival in arrivals:
        while now + tick <= arrival.at:
            now += tick
            ends += pairing.expire(now)
        ends += pairing.take(arrival.exchange, arrival.at)
    return [*ends, *pairing.expire(now + 1_000), *pairing.expire(now + 2_000)]


def known(arrivals: list[Arrival]) -> set[tuple[str, Side]]:
    """The comparisons of which at least one half has arrived that tells of them."""
    found: set[tuple[str, Side]] = {
        (each.key, each.side) for each in arrivals if each.side is not Side.STABLE
    }
    for each in arrivals:
        if each.side is Side.STABLE:
            found |= {(each.key, side) for side in OTHERS if side is Side.CANDIDATE or each.noise}
    return found


@given(traffic(latest=130))
def test_every_comparison_that_is_known_of_ends_exactly_once(arrivals: list[Arrival]) -> None:
    pairing = Pairing()
    ends = Counter((each.id.removesuffix("/noise"), each.side) for each in run(pairing, arrivals))

    assert set(ends) == known(arrivals)
    assert set(ends.values()) <= {1}
    assert (pairing.waiting, pairing.held_bytes) == (0, 0)


@given(traffic(latest=69))
def test_in_time_the_order_and_repetition_of_halves_make_no_difference(
    arrivals: list[Arrival],
) -> None:
    def bins(of: list[Arrival]) -> set[tuple[str, str]]:
        return {
            (each.id, each.bin.value if isinstance(each, Ended) else "pair") for each in run(Pairing(), of)
        }

    once = {(each.key, each.side): each for each in arrivals}
    backwards = [Arrival(e.key, e.side, e.noise, e.oversized, 69 - e.at) for e in reversed(once.values())]
    assert bins(arrivals) == bins(sorted(once.values(), key=lambda e: e.at)) == bins(backwards)


@given(traffic(latest=69))
def test_in_time_a_comparison_is_a_pair_just_if_both_halves_are_there_and_small(
    arrivals: list[Arrival],
) -> None:
    arrived = {(each.key, each.side): each for each in arrivals}
    for end in run(Pairing(), arrivals):
        key = end.id.removesuffix("/noise")
        stable, other = arrived.get((key, Side.STABLE)), arrived.get((key, end.side))
        whole = stable is not None and other is not None
        large = any(half is not None and half.oversized for half in (stable, other))
        if isinstance(end, Pair):
            assert whole
            assert not large
        else:
            assert end.bin is (Bin.TOO_LARGE if large else Bin.UNPAIRED)
            assert large or not whole


@given(traffic(latest=130), st.integers(1, 10_000))
def test_bodies_that_do_not_fit_end_no_comparison_twice(arrivals: list[Arrival], most_bytes: int) -> None:
    ends = Counter((each.id, each.side) for each in run(Pairing(max_bytes=most_bytes), arrivals))

    assert {(key.removesuffix("/noise"), side) for key, side in ends} == known(arrivals)
    assert set(ends.values()) <= {1}


@given(traffic(latest=130), st.integers(1, 3), st.integers(1, 10_000))
def test_memory_is_bounded_and_nothing_is_lost_for_it(
    arrivals: list[Arrival], most: int, most_bytes: int
) -> None:
    pairing = Pairing(max_count=most, max_bytes=most_bytes)
    ends: list[Pair | Ended] = []
    for arrival in arrivals:
        ends += pairing.take(arrival.exchange, arrival.at)
        assert pairing.held_bytes <= most_bytes
        assert pairing.waiting <= 2 * most
    ends += [*pairing.expire(1_000), *pairing.expire(2_000)]
    assert {(each.id.removesuffix("/noise"), each.side) for each in ends} == known(arrivals)
    assert pairing.held_bytes == 0
