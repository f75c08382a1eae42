"""How comparisons end that no judge is needed for."""

from __future__ import annotations

import pytest

from controller.core.shadow.comparison import Bin, Outcome, without_judge
from controller.core.shadow.exchange import Answer, Pair, Question, Side
from tests.compared import SUBJECT

GOOD = Answer(200, (), b"hello", complete=True, seconds=0.1)
BAD = Answer(503, (), b"", complete=True, seconds=0.1)
BROKEN = Answer(200, (), b"hel", complete=False, seconds=0.1)
SILENT = Answer(None, (), b"", complete=False, seconds=60.0)
REFUSED = Answer(404, (), b"", complete=True, seconds=0.1)


def pair(stable: Answer, other: Answer) -> Pair:
    return Pair("1", Side.CANDIDATE, SUBJECT, Question("POST", "/", (), b"hi"), stable, other)


@pytest.mark.parametrize("failed", [BAD, BROKEN, SILENT])
def test_who_fails_where_the_other_answers_has_lost(failed: Answer) -> None:
    assert without_judge(pair(GOOD, failed)) is Bin.LOSS
    assert without_judge(pair(failed, GOOD)) is Bin.WIN


def test_two_failures_say_nothing() -> None:
    assert without_judge(pair(SILENT, BAD)) is Bin.BOTH_ERROR


@pytest.mark.parametrize("answer", [GOOD, REFUSED])
def test_answers_are_for_a_judge(answer: Answer) -> None:
    assert without_judge(pair(GOOD, answer)) is None
    assert without_judge(pair(answer, GOOD)) is None


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome_is_the_opposite_seen_from_the_other_side(outcome: Outcome) -> None:
    assert outcome.mirrored.mirrored is outcome
    assert (outcome.mirrored is outcome) is (outcome is Outcome.TIE)
    assert outcome.bin.value == outcome.value


def test_stable_answers_the_noise_arm() -> None:
    assert SUBJECT.revision(Side.NOISE) == SUBJECT.stable
    assert SUBJECT.revision(Side.CANDIDATE) == SUBJECT.candidate
