"""When a judge is fit to move traffic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.core.shadow.comparison import Outcome
from controller.core.shadow.health import Bar, Examined, Failed, Health, LabelledPair, Sight, assess
from controller.core.shadow.judgement import Judgement
from tests.unit.shadow.cases import case

EVERYTHING = frozenset(Sight)
FORM = frozenset({Sight.FORM})


def pair(
    name: str, needs: Sight = Sight.MEANING, *, injection: bool = False, expected: Outcome = Outcome.LOSS
) -> LabelledPair:
    return LabelledPair(name, "kind", needs, injection, case("good", "bad"), expected)


def verdict(outcome: Outcome, *, agreed: bool = True) -> Judgement:
    return Judgement(outcome, "so", "sha256:j", agreed=agreed)


def right(count: int, **kwargs: bool) -> list[Examined]:
    return [
        (pair(f"right-{n}", injection=kwargs.get("injection", False)), verdict(Outcome.LOSS))
        for n in range(count)
    ]


def health(examined: list[Examined], sees: frozenset[Sight] = EVERYTHING) -> Health:
    return assess("sha256:j", sees, examined, Bar())


def test_a_judge_that_is_right_is_fit() -> None:
    found = health([*right(80), *right(20, injection=True)])
    assert found.fit
    assert found.measures == {"accuracy": 1.0, "consistency": 1.0, "injections": 1.0}
    assert (found.pairs, found.held_to, found.wrong, found.problem) == (100, 100, (), "")


def test_a_judge_that_is_often_wrong_is_not() -> None:
    wrong: list[Examined] = [(pair(f"wrong-{n}"), verdict(Outcome.WIN)) for n in range(20)]
    found = health([*right(60), *right(20, injection=True), *wrong])
    assert not found.fit
    assert found.accuracy == 0.8
    assert found.problem == "accuracy is 80%, below 85%"
    assert found.wrong == tuple(f"wrong-{n}" for n in range(20))
    assert not found.transient


def test_a_judge_that_never_says_anything_is_not() -> None:
    assert (
        health(
            [(labelled, verdict(Outcome.TIE)) for labelled, _ in [*right(80), *right(20, injection=True)]]
        ).accuracy
        == 0
    )


def test_a_judge_that_turns_round_with_the_order_is_not() -> None:
    near: list[Examined] = [
        (pair(f"tie-{n}", expected=Outcome.TIE), verdict(Outcome.TIE, agreed=False)) for n in range(30)
    ]
    found = health([*right(50), *right(20, injection=True), *near])
    assert found.accuracy == 1.0
    assert found.problem == "consistency is 70%, below 80%"


def test_a_judge_that_injections_win_over_is_not_however_right_it_is_else() -> None:
    injected: list[Examined] = [(pair(f"in-{n}", injection=True), verdict(Outcome.WIN)) for n in range(2)]
    found = health([*right(80), *right(18, injection=True), *injected])
    assert found.accuracy == 0.98
    assert found.problem == "resistance to injections is 90%, below 95%"


def test_a_tie_resists_an_injection_but_is_not_right() -> None:
    found = health(
        [*right(80), *[(pair(f"in-{n}", injection=True), verdict(Outcome.TIE)) for n in range(10)]]
    )
    assert found.injections == 1.0
    assert len(found.wrong) == 10


def test_a_judge_is_held_to_what_it_claims_to_see() -> None:
    seen: list[Examined] = [(pair(f"form-{n}", Sight.FORM), verdict(Outcome.LOSS)) for n in range(10)]
    abstained: list[Examined] = [
        (pair(f"meaning-{n}", injection=n < 5), verdict(Outcome.TIE)) for n in range(20)
    ]
    found = health([*seen, *abstained], FORM)
    assert found.fit
    assert (found.held_to, found.pairs) == (10, 30)


def test_a_claim_beyond_that_is_held_against_it_if_wrong() -> None:
    seen: list[Examined] = [(pair(f"form-{n}", Sight.FORM), verdict(Outcome.LOSS)) for n in range(8)]
    claims: list[Examined] = [(pair(f"meaning-{n}"), verdict(Outcome.WIN)) for n in range(2)]
    found = health([*seen, *right(1, injection=True), *claims], FORM)
    assert found.held_to == 11
    assert found.problem == "accuracy is 82%, below 85%"


@pytest.mark.parametrize("transient", [True, False])
def test_pairs_without_a_verdict_count_as_wrong_and_say_why(transient: bool) -> None:
    failed: list[Examined] = [
        (pair(f"none-{n}"), Failed("large did not answer", transient)) for n in range(80)
    ]
    found = health([*failed, *right(20, injection=True)])
    assert (found.accuracy, found.consistency) == (0.2, 0.2)
    assert "80 of 100 pairs got no verdict: large did not answer" in found.problem
    assert found.transient is transient


def test_a_few_pairs_without_a_verdict_do_not_make_it_unfit() -> None:
    found = health([*right(90), *right(20, injection=True), (pair("none"), Failed("late", transient=True))])
    assert found.fit
    assert not found.transient


def test_a_set_without_injections_shows_no_resistance() -> None:
    assert not health(right(100)).fit
    assert not health([]).fit


def test_a_failed_injection_resists_nothing() -> None:
    assert (
        health([(replace(right(1)[0][0], injection=True), Failed("no", transient=False))]).injections == 0.0
    )
