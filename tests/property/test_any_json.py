"""Agents and users write what they like: whatever JSON it is, it is read, checked and put into a prompt without an error."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from controller.core.shadow.checks import Checks, decide
from controller.core.shadow.comparison import CaseAnswer
from controller.core.shadow.prompt import Rubric, prompt
from controller.core.shadow.reply import EVENT_STREAM, read_reply
from tests.unit.shadow.cases import called, case, message, said

words = st.text(st.characters(), max_size=5) | st.sampled_from(
    ["\ud800", "\udc00", "find", "{}", '{"n": 1}', "length"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def near(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object of these fields, of which some are missing and some are something else altogether."""
    return st.fixed_dictionaries({}, optional={name: found | values for name, found in fields.items()})


calls = st.lists(near(index=values, function=near(name=words, arguments=words)), max_size=3)
messages = near(content=words, refusal=words, tool_calls=calls)
completions = near(choices=st.lists(near(message=messages, delta=messages, finish_reason=words), max_size=2))
schemas = near(
    type=st.sampled_from(["object", "string", "integer"]),
    required=st.lists(words, max_size=2),
    properties=values,
)
formats = near(type=st.sampled_from(["json_object", "json_schema", "text"]), json_schema=near(schema=schemas))
questions = near(
    response_format=formats,
    tools=st.lists(near(function=near(name=words, parameters=schemas)), max_size=2),
)


def whole(body: Any) -> CaseAnswer:
    return said(json.dumps(body), content_type="application/json")


def streamed(events: list[Any]) -> CaseAnswer:
    return said("".join(f"data: {json.dumps(event)}\n\n" for event in events), content_type=EVENT_STREAM)


answers = st.builds(whole, completions | values) | st.builds(
    streamed, st.lists(completions | values, max_size=3)
)
DEEP = "[" * 900 + "]" * 900
LONE = message(content="\ud800", tool_calls=[{"function": {"name": "\ud800", "arguments": '"\\udc00"'}}])
SCHEMA = {"properties": {"n": {"type": "integer"}}}
WANTS = {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}


@given(answers, answers, questions | values, st.booleans())
@example(message(content=None, tool_calls=[{"index": [], "function": {}}]), called("find", "{}"), {}, True)
@example(called("find", "{}"), called("drop", "{}"), {"tools": [{"function": {"name": []}}]}, True)
@example(message(content="a"), message(content="b"), {"response_format": {"type": {}}}, True)
@example(LONE, message(content='"\\ud800"'), WANTS, True)
@example(message(content=DEEP), message(content=f"{DEEP} "), WANTS, True)
@example(called("find", DEEP), called("find", f"[{DEEP}]"), {"tools": [{"function": {"name": "find"}}]}, True)
@example(
    called("find", f'{{"n": {DEEP}}}'),
    called("find", "{}"),
    {"tools": [{"function": {"name": "find", "parameters": SCHEMA}}]},
    False,
)
def test_any_json_is_read_checked_and_shown_to_a_model(
    stable: CaseAnswer, other: CaseAnswer, question: Any, alone: bool
) -> None:
    for answer in (stable, other):
        read_reply(answer)
    compared = case(stable, other, question)
    decide(compared, Checks(), alone=alone)
    asked = prompt(compared, Rubric("r", "1", "t"), "5f1d", other_first=False)
    assert len((asked.instructions + asked.data).encode()) < asked.most_tokens
