"""What is decided about two answers without understanding them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from controller.core.shadow.checks import Checks, decide, differing_steps
from controller.core.shadow.comparison import CaseAnswer, Outcome
from tests.unit.shadow.cases import called, case, message, said, swapped

JSON = "application/json"
WANTS_JSON = {"messages": [], "response_format": {"type": "json_object"}}
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
WANTS_SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}
OFFERS = {
    "tools": [
        {"type": "function", "function": {"name": "find", "parameters": SCHEMA}},
        "odd",
        {"function": 1},
    ]
}
FORBIDDEN = Checks((re.compile("(?i)internal only"),))

BROKEN: list[tuple[str, CaseAnswer | str, CaseAnswer | str, Any]] = [
    ("has status 404", "yes", said("no", 404), "why?"),
    ("is empty", "yes", " \n", "why?"),
    ("is empty", message(content="yes"), message(content=None), "why?"),
    ("claims to be JSON", said("{}", content_type=JSON), said("{", content_type=JSON), "why?"),
    (
        "claims to be JSON",
        said("{}", content_type=JSON),
        said('{"a": NaN}', content_type="application/a+json"),
        "?",
    ),
    ("claims to be JSON", said("{}", content_type=JSON), said("[" * 100_000, content_type=JSON), "?"),
    ("contains what is forbidden", "yes", "This is INTERNAL only.", "why?"),
    ("is no JSON, which was asked for", message(content='{"n": 1}'), message(content="n is 1"), WANTS_JSON),
    (
        "does not match the JSON schema",
        message(content='{"n": 1}'),
        message(content='{"n": "1"}'),
        WANTS_SCHEMA,
    ),
    (
        "calls the tool 'look', which was not offered",
        called("find", '{"n": 1}'),
        called("look", '{"n": 1}'),
        OFFERS,
    ),
    ("with arguments that it does not take", called("find", '{"n": 1}'), called("find", '{"m": 1}'), OFFERS),
    ("with arguments that it does not take", called("find", '{"n": 1}'), called("find", "n=1"), OFFERS),
]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("words", "good", "bad", "question"), BROKEN)
def test_a_broken_answer_loses_to_one_that_is_not(
    words: str, good: CaseAnswer | str, bad: CaseAnswer | str, question: Any, alone: bool
) -> None:
    compared = case(good, bad, question)
    decided = decide(compared, FORBIDDEN, alone=alone)
    mirrored = decide(swapped(compared), FORBIDDEN, alone=alone)
    assert decided is not None
    assert mirrored is not None
    assert (decided.outcome, mirrored.outcome) == (Outcome.LOSS, Outcome.WIN)
    assert decided.reason.startswith("the other answer ")
    assert mirrored.reason.startswith("stable's answer ")
    assert words in decided.reason
    assert words in mirrored.reason


WEAK: list[tuple[str, CaseAnswer | str]] = [
    ("refuses", "I'm sorry, but I can't help with that."),
    ("refuses", "Sorry, we cannot do this for you"),
    ("refuses", "As an AI language model, I am not able to say."),
    ("refuses", "I can not assist with that"),
    ("refuses", "Es tut mir leid, dabei kann ich Ihnen nicht helfen."),
    ("refuses", message(content=None, refusal="No.")),
    ("was cut short", message("length", content="It is because of the")),
]


@pytest.mark.parametrize(("words", "weak"), WEAK)
def test_whether_a_refusal_is_worse_is_left_to_a_model_if_there_is_one(
    words: str, weak: CaseAnswer | str
) -> None:
    compared = case(message(content="Because."), weak)
    assert decide(compared, Checks(), alone=False) is None
    decided = decide(compared, Checks(), alone=True)
    assert decided is not None
    assert decided.outcome is Outcome.LOSS
    assert words in decided.reason


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry to hear that. Your order will arrive tomorrow.",
        "Sorry for the delay, the parcel is here.",
        "You cannot return opened games.",
        "Es tut mir leid, das Paket kam nicht an.",
    ],
)
def test_regret_is_no_refusal(answer: str) -> None:
    assert decide(case("Because.", answer), Checks(), alone=True) is None


ALIKE: list[tuple[str, CaseAnswer | str, CaseAnswer | str]] = [
    ("both say the same", "It is so.", " It  is\nso. "),
    ("same JSON", said('{"a": 1, "b": 2}', content_type=JSON), said('{"b":2,"a":1}', content_type=JSON)),
    ("by their status", said("no", 400), said("never", 422)),
    ("same tools", called("find", '{"n": 1, "m": 2}'), called("find", '{"m":2,"n":1}', "One moment.")),
    ("same tools", called("find", ""), called("find", "{}")),
    ("same tools", called("find", "n=1"), called("find", "n=1")),
]


@pytest.mark.parametrize(("words", "one", "another"), ALIKE)
def test_answers_that_do_the_same_are_a_tie(
    words: str, one: CaseAnswer | str, another: CaseAnswer | str
) -> None:
    decided = decide(case(one, another), Checks(), alone=False)
    assert decided is not None
    assert decided.outcome is Outcome.TIE
    assert words in decided.reason


@pytest.mark.parametrize(("one", "another"), [("1", "1.0"), ('{"a": 1}', '{"a": true}'), ("[0]", "[false]")])
def test_a_number_is_no_other_type(one: str, another: str) -> None:
    answers = said(one, content_type=JSON), said(another, content_type=JSON)
    assert decide(case(*answers), Checks(), alone=False) is None


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (message("length", content="It is"), "the other answer was cut short, unlike stable's"),
        (message(content=None), "the other answer is empty, unlike stable's"),
        (said("no", 404), "the other answer has status 404, unlike stable's"),
    ],
)
def test_a_reason_is_a_sentence(bad: CaseAnswer, reason: str) -> None:
    good = message(content="Because.")
    decided = decide(case(good, bad), Checks(), alone=True)
    assert decided is not None
    assert decided.reason == reason


OPEN: list[tuple[CaseAnswer | str, CaseAnswer | str, Any]] = [
    ("Canberra.", "Sydney.", "The capital of Australia?"),
    (called("find", '{"n": 1}'), called("find", '{"n": 2}'), OFFERS),
    (called("find", '{"n": 1}'), called("drop", '{"n": 1}'), {"tools": "odd"}),
    (called("find", '{"n": 1}'), message(content="It is 1."), OFFERS),
    ("", " ", {"response_format": "odd"}),
    ("no json", "none either", {**WANTS_JSON, "model": "x"}),
    (message(content='{"n": 1}'), message(content='{"n": 2}'), WANTS_SCHEMA),
    (message(content='{"n": 1}'), message(content="no"), {"response_format": {"type": "text"}}),
    (
        message(content="{}"),
        message(content='{"a": 1}'),
        {"response_format": {"type": "json_schema", "json_schema": {}}},
    ),
]


@pytest.mark.parametrize(("one", "another", "question"), OPEN)
def test_what_takes_understanding_is_left_open(
    one: CaseAnswer | str, another: CaseAnswer | str, question: Any
) -> None:
    decided = decide(case(one, another, question), Checks(), alone=True)
    assert decided is None or decided.outcome is Outcome.TIE


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "no such type"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"properties": {"n": {"pattern": "(?=x)"}}},
    ],
)
def test_a_schema_that_cannot_be_used_refuses_nobody(schema: dict[str, Any]) -> None:
    question = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    assert (
        decide(
            case(message(content='{"n": 1}'), message(content='{"n": 2}'), question), Checks(), alone=False
        )
        is None
    )


def test_a_pattern_of_a_user_cannot_stall_a_judge() -> None:
    schema = {"properties": {"n": {"type": "string", "pattern": "^(a+)+$"}}}
    question = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    evil = message(content='{"n": "' + "a" * 5_000 + '!"}')
    decided = decide(case(message(content='{"n": "a"}'), evil, question), Checks(), alone=False)
    assert decided is not None
    assert decided.outcome is Outcome.LOSS


@pytest.mark.parametrize(
    ("stable", "other", "told"),
    [
        (called("find", "{}"), called("track", "{}"), "stable calls find({}), the other calls track({})"),
        (called("find", "{}"), "Done.", "stable calls find({}), the other answers"),
        ("Done.", called("find", "{}"), "stable answers, the other calls find({})"),
    ],
)
def test_next_steps_that_differ_are_named(
    stable: CaseAnswer | str, other: CaseAnswer | str, told: str
) -> None:
    assert differing_steps(case(stable, other)) == f"their next steps differ: {told}"


def test_many_and_long_calls_are_not_named_whole() -> None:
    call = {"function": {"name": "find", "arguments": "x" * 1000}}
    many = message(content=None, tool_calls=[call] * 9)
    assert len(differing_steps(case(many, "Done."))) < 400


def test_answers_without_tools_are_no_steps() -> None:
    assert differing_steps(case("Canberra.", "Sydney.")) == ""
