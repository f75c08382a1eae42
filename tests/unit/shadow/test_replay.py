"""What of a conversation is a run, and which of its results a version gets that goes its own way."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from controller.core.shadow.exchange import Answer, Replayed
from controller.core.shadow.replay import MAX_CALLS, RecordedTools, Replay, ReplayEnd, Run, read_run
from controller.core.shadow.reply import ToolCall
from tests.unit.shadow.runs import answer, asked, called, calls, pair, result

pytestmark = pytest.mark.unit

FIND, TRACK, CANCEL = ("find", '{"id": 7}'), ("track", '{"id": 7}'), ("cancel", '{"id": 7}')
TWO_STEPS = asked((FIND, TRACK), (CANCEL,))


def run(messages: Any = TWO_STEPS, **request: Any) -> Run:
    found = read_run(pair(messages, **request))
    assert found is not None
    return found


def test_a_run_is_what_followed_the_last_message_of_the_user() -> None:
    before = [*asked((FIND,)), {"role": "assistant", "content": "It is here."}]
    found = run([*before, *asked((TRACK,), (CANCEL,))], tools=[{"type": "function"}], stream=True)
    assert list(found.opening) == [*before, *asked()]
    assert [[call.meaning[0] for call in step] for step in found.steps] == [["track"], ["cancel"]]
    assert found.steps[0][0].result == result(0, 0, "result 0-0")
    assert found.request == {"model": "agent", "tools": [{"type": "function"}], "stream": True}
    assert found.calls == 2


def test_results_in_another_order_belong_to_their_calls() -> None:
    messages = asked((FIND, TRACK))
    messages[-2:] = messages[:-3:-1]
    assert run(messages).steps == run(asked((FIND, TRACK))).steps


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(asked(), id="no tool was called"),
        pytest.param(asked((FIND,))[:-1], id="a result is missing"),
        pytest.param(asked((FIND, TRACK))[:-1], id="one of two results is missing"),
        pytest.param([*asked((FIND,)), {"role": "user", "content": "And?"}], id="the user spoke last"),
        pytest.param([*asked((FIND,)), {"role": "assistant", "content": "Well."}], id="the agent spoke last"),
        pytest.param(
            [*asked((FIND,)), {"role": "system", "content": "Stop."}], id="somebody spoke in between"
        ),
        pytest.param([*asked(), called(0, FIND), result(0, 1, "x")], id="a result of another call"),
        pytest.param([*asked(), called(0, FIND), {"role": "tool", "content": "x"}], id="a result of no call"),
        pytest.param([*asked(), called(0, FIND), "x"], id="a result that is none"),
        pytest.param([*asked(), called(0, *[FIND] * (MAX_CALLS + 1))], id="more calls than results"),
        pytest.param(asked((FIND,) * (MAX_CALLS + 1)), id="too many calls"),
        pytest.param([called(0, FIND), result(0, 0, "x")], id="no user"),
        pytest.param([1, None, {}], id="no messages"),
        pytest.param("Hello", id="no list"),
    ],
)
def test_anything_else_is_no_run(messages: Any) -> None:
    assert read_run(pair(messages)) is None


@pytest.mark.parametrize(
    ("stable", "other"),
    [
        (calls(FIND), None),
        (answer("No.", 404), None),
        (answer("No.", 503), None),
        (None, answer("No.", 401)),
        (None, answer("It", complete=False)),
    ],
)
def test_a_run_that_goes_on_or_that_somebody_did_not_answer_is_not_driven_again(
    stable: Answer | None, other: Answer | None
) -> None:
    assert read_run(pair(TWO_STEPS, stable, other)) is None


@pytest.mark.parametrize("choice", ["none", "required", {"type": "function", "function": {"name": "find"}}])
def test_nor_is_one_whose_client_decides_in_the_end_about_tools(choice: object) -> None:
    assert read_run(pair(TWO_STEPS, tool_choice=choice)) is None
    assert read_run(pair(TWO_STEPS, tool_choice="auto"))


@pytest.mark.parametrize(
    "change", [{"method": "PUT"}, {"path": "@elsewhere"}, {"body": b"\xff"}, {"body": b"[]"}]
)
def test_nor_is_what_is_no_request_for_a_chat_completion(change: Any) -> None:
    found = pair(TWO_STEPS)
    assert read_run(replace(found, question=replace(found.question, **change))) is None


def tools() -> RecordedTools:
    return RecordedTools(run().steps)


def took(tools: RecordedTools, *wanted: tuple[str, str]) -> list[Any] | None:
    found = tools.take([ToolCall(*call) for call in wanted])
    return None if found is None else [each["content"] for each in found]


def test_calls_of_one_step_are_answered_in_any_order_and_however_their_arguments_are_written() -> None:
    recorded = tools()
    assert took(recorded, ("track", '{"id":7}'), ("find", '{ "id" : 7 }')) == ["result 0-1", "result 0-0"]
    assert (recorded.taken, recorded.ended) == (2, False)
    assert took(recorded, CANCEL) == ["result 1-0"]
    assert (recorded.taken, recorded.ended) == (3, True)


def test_calls_of_one_step_may_come_one_after_the_other_and_of_several_steps_together() -> None:
    assert [took(one := tools(), TRACK), took(one, FIND), took(one, CANCEL)] == [
        ["result 0-1"], ["result 0-0"], ["result 1-0"],
    ]  # fmt: skip
    assert took(tools(), CANCEL, TRACK, FIND) == ["result 1-0", "result 0-1", "result 0-0"]


def test_a_result_does_not_hold_before_all_that_was_called_before_it() -> None:
    recorded = tools()
    assert took(recorded, FIND, CANCEL) is None
    assert recorded.taken == 0
    assert took(recorded, FIND) == ["result 0-0"]
    assert took(recorded, CANCEL) is None


@pytest.mark.parametrize("wanted", [("find", '{"id": 7.0}'), ("find", "{"), ("look", '{"id": 7}')])
def test_other_calls_have_no_result(wanted: tuple[str, str]) -> None:
    assert took(tools(), wanted) is None


def test_the_same_call_twice_needs_two_results() -> None:
    assert took(tools(), FIND, FIND) is None
    twice = RecordedTools(run(asked((FIND,), (FIND,))).steps)
    assert took(twice, FIND) == ["result 0-0"]
    assert took(twice, FIND) == ["result 1-0"]
    assert took(twice, FIND) is None


def test_the_version_meets_its_own_calls_with_recorded_results_until_it_answers() -> None:
    replay = Replay(run(temperature=0))
    assert json.loads(replay.body) == {"model": "agent", "temperature": 0, "messages": asked()}
    assert replay.take(calls(TRACK, FIND)) is None
    sent = json.loads(replay.body)["messages"]
    said, *results = sent[2:]
    assert [call["function"]["name"] for call in said["tool_calls"]] == ["track", "find"]
    assert [each["tool_call_id"] for each in results] == [call["id"] for call in said["tool_calls"]]
    assert [each["content"] for each in results] == ["result 0-1", "result 0-0"]
    assert replay.take(answer("It is here.")) is ReplayEnd.MATCHED
    assert replay.progress == Replayed(steps=2, calls=2, recorded=3)


def test_a_version_that_calls_what_was_not_recorded_diverges_at_that_step() -> None:
    replay = Replay(run())
    assert replay.take(calls(FIND)) is None
    assert replay.take(calls(TRACK, ("refund", "{}"))) is ReplayEnd.DIVERGED
    assert replay.progress == Replayed(steps=2, calls=1, recorded=3, diverged=True)


@pytest.mark.parametrize(
    ("last", "how"),
    [
        (answer("", 503), ReplayEnd.FAILED),
        (answer("It", complete=False), ReplayEnd.FAILED),
        (answer("Who are you?", 401), ReplayEnd.REFUSED),
    ],
)
def test_a_version_that_fails_or_refuses_ends_the_run(last: Answer, how: ReplayEnd) -> None:
    assert Replay(run()).take(last) is how


def test_a_lone_surrogate_does_not_keep_a_request_from_being_sent() -> None:
    assert b"Where?" in Replay(run(asked((FIND,), text="Where\ud800"))).body
