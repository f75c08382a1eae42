"""Swapping the answers mirrors every verdict; the order in which cases come changes none; nobody can end a quotation."""

from __future__ import annotations

import asyncio
import re
from datetime import date
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from controller.adapters.judges.endpoint import Endpoint, Opinion
from controller.adapters.judges.llm import LlmJudge
from controller.core.shadow.breaker import Breaker
from controller.core.shadow.budget import Ledger, Limit, Reservation, Spend
from controller.core.shadow.checks import Checks, decide
from controller.core.shadow.comparison import Case, CaseAnswer, Outcome
from controller.core.shadow.health import Bar, Examined, LabelledPair, Sight, assess
from controller.core.shadow.judgement import Judgement, OverBudgetError
from controller.core.shadow.opinion import Better, combined, outcome_of
from controller.core.shadow.prompt import Prompt, Rubric, prompt
from controller.core.shadow.similarity import ties
from tests.unit.shadow.cases import called, case, message, said, swapped

CHECKS = Checks((re.compile("secret"),))
texts = st.text(max_size=30) | st.sampled_from(
    [
        "",
        "yes",
        "secret",
        "I'm sorry, but I can't help with that.",
        '{"n": 1}',
        '{"n": "1"}',
        "[1",
        "It is 12, not 13.",
    ]
)
answers: st.SearchStrategy[CaseAnswer] = st.one_of(
    st.builds(
        said,
        texts,
        st.sampled_from([200, 204, 404, 422]),
        st.sampled_from(["text/plain", "application/json"]),
    ),
    st.builds(lambda text, finish: message(finish, content=text), texts, st.sampled_from(["stop", "length"])),
    st.builds(called, st.sampled_from(["find", "drop"]), texts),
    st.builds(lambda text: said(f"data: {text}\n\n", content_type="text/event-stream"), texts),
)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
questions = st.sampled_from(
    [
        "why?",
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
        {"tools": [{"type": "function", "function": {"name": "find", "parameters": SCHEMA}}]},
    ]
)


@given(answers, answers, questions, st.booleans())
def test_swapped_answers_get_the_mirrored_verdict_of_checks(
    stable: CaseAnswer, other: CaseAnswer, question: Any, alone: bool
) -> None:
    compared = case(stable, other, question)
    decided = decide(compared, CHECKS, alone=alone)
    mirrored = decide(swapped(compared), CHECKS, alone=alone)
    assert (decided is None) is (mirrored is None)
    if decided and mirrored:
        assert decided.outcome.mirrored is mirrored.outcome


@given(answers, questions, st.booleans())
def test_an_answer_is_never_better_than_itself(answer: CaseAnswer, question: Any, alone: bool) -> None:
    decided = decide(case(answer, answer, question), CHECKS, alone=alone)
    assert decided is not None
    assert decided.outcome is Outcome.TIE


@given(st.sampled_from(Better), st.sampled_from(Better))
def test_swapped_answers_get_the_mirrored_verdict_of_any_model(as_first: Better, as_second: Better) -> None:
    """What a model says with stable's answer first and with the other first: after a swap it is asked the same two, in turn."""

    def verdict(stable_first: Better, other_first: Better) -> Outcome:
        return combined(
            outcome_of(stable_first, other_first=False), outcome_of(other_first, other_first=True)
        )

    assert verdict(as_first, as_second).mirrored is verdict(as_second, as_first)


class Model:
    """Says whatever it likes of two texts in an order, and the same if asked again. It is told nothing else."""

    config = SimpleNamespace(resolved="judge")

    def __init__(self, seed: int) -> None:
        self.seed = seed

    async def ask(self, prompt: Prompt, rollout: str, spends: list[Spend]) -> Opinion:
        data = re.sub(r"(BEGIN|END) ([A-Z ]+) \w+", r"\1 \2", prompt.data)
        spends.append(Spend(len(data)))
        return Opinion(Random(f"{self.seed}{data}").choice(list(Better)), "so", "judge")


def judge_of(seed: int) -> LlmJudge:
    return LlmJudge("sha256:j", CHECKS, None, Rubric("r", "1", "t"), [cast("Endpoint", Model(seed))])


@given(answers, answers, questions, st.integers())
def test_swapped_answers_get_the_mirrored_verdict_whatever_the_model_is_like(
    stable: CaseAnswer, other: CaseAnswer, question: Any, seed: int
) -> None:
    compared, judge = case(stable, other, question), judge_of(seed)
    found, mirrored = (asyncio.run(judge.judge(each)) for each in (compared, swapped(compared)))
    assert found.outcome.mirrored is mirrored.outcome
    assert (found.agreed, found.tokens) == (mirrored.agreed, mirrored.tokens)


@given(st.lists(st.tuples(answers, answers), max_size=6), st.integers(), st.randoms(use_true_random=False))
def test_the_order_in_which_a_model_is_asked_about_cases_changes_no_verdict(
    pairs: list[tuple[CaseAnswer, CaseAnswer]], seed: int, random: Random
) -> None:
    async def verdicts(cases: list[Case]) -> dict[int, Judgement]:
        judge = judge_of(seed)
        return dict(zip(map(id, cases), await asyncio.gather(*map(judge.judge, cases)), strict=True))

    cases = [case(*pair) for pair in pairs]
    one = asyncio.run(verdicts(cases))
    random.shuffle(cases)
    assert asyncio.run(verdicts(cases)) == one


@given(texts, texts, st.floats(-1, 1))
def test_similarity_is_the_same_in_either_order(one: str, another: str, cosine: float) -> None:
    assert ties(one, another, cosine, 0.9) is ties(another, one, cosine, 0.9)


labelled = st.lists(
    st.tuples(
        st.sampled_from(Sight),
        st.booleans(),
        st.sampled_from(Outcome),
        st.sampled_from(Outcome),
        st.booleans(),
    ),
    max_size=30,
)


@given(labelled, st.randoms(use_true_random=False))
def test_the_order_of_cases_changes_no_measure(
    rows: list[tuple[Sight, bool, Outcome, Outcome, bool]], random: Random
) -> None:
    examined: list[Examined] = [
        (
            LabelledPair(str(n), "", needs, injection, case("a", "b"), expected),
            Judgement(given, "", "j", agreed=agreed),
        )
        for n, (needs, injection, expected, given, agreed) in enumerate(rows)
    ]
    shuffled = list(examined)
    random.shuffle(shuffled)
    one, another = (assess("j", frozenset({Sight.FORM}), each, Bar()) for each in (examined, shuffled))
    assert (one.measures, one.problem, sorted(one.wrong)) == (
        another.measures,
        another.problem,
        sorted(another.wrong),
    )


@given(st.lists(st.tuples(answers, answers), max_size=10), st.randoms(use_true_random=False))
def test_the_order_of_cases_changes_no_verdict(
    pairs: list[tuple[CaseAnswer, CaseAnswer]], random: Random
) -> None:
    compared = [case(*pair) for pair in pairs]
    one = {id(each): decide(each, CHECKS, alone=True) for each in compared}
    random.shuffle(compared)
    assert {id(each): decide(each, CHECKS, alone=True) for each in compared} == one


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200), st.booleans())
def test_each_text_stands_whole_between_its_own_delimiters(
    question: str, stable: str, other: str, other_first: bool
) -> None:
    nonce = "5f1d"
    if nonce in question + stable + other:
        return
    data = prompt(case(stable, other, question), Rubric("r", "1", "t"), nonce, other_first=other_first).data
    first, second = (other, stable) if other_first else (stable, other)
    for what, text in (
        ("REQUEST", f"POST /chat\n\n{question}"),
        ("FIRST ANSWER", first),
        ("SECOND ANSWER", second),
    ):
        begin, end = f"=== BEGIN {what} {nonce} ===\n", f"\n=== END {what} {nonce} ==="
        assert data.count(begin) == data.count(end) == 1
        assert data.partition(begin)[2].partition(end)[0] == (text or "(nothing)")


requests = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60), st.booleans()), max_size=60)


@given(requests)
def test_what_is_used_and_set_aside_never_exceeds_the_limit(requests: list[tuple[int, int, bool]]) -> None:
    ledger, day = Ledger(Limit(200)), date(2026, 3, 1)
    open_ones: list[tuple[Reservation, int]] = []
    spent = 0
    for most, used, settles in requests:
        before = ledger.used("a/b", day)
        try:
            open_ones.append((ledger.reserve("a/b", day, Spend(most)), min(used, most)))
        except OverBudgetError:
            assert before.tokens + most > 200
            assert ledger.used("a/b", day) == before
        if settles and open_ones:
            reservation, cost = open_ones.pop(0)
            ledger.settle(reservation, Spend(cost))
            spent += cost
        assert (
            ledger.used("a/b", day).tokens == spent + sum(each.spend.tokens for each, _ in open_ones) <= 200
        )


@given(st.lists(st.tuples(st.sampled_from(["failed", "succeeded", "wait"]), st.floats(0, 40)), max_size=60))
def test_a_breaker_never_lets_a_second_one_try(events: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(), 0.0
    for event, seconds in events:
        if event == "wait":
            now += seconds
            resting = breaker.open_until is not None
            breaker.admits(now)
            assert not (resting and breaker.admits(now))
        elif event == "failed":
            breaker.failed(now)
        else:
            breaker.succeeded()
