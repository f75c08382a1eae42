"""What is read from answers of different forms."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.core.shadow.reply import Reply, ToolCall, read_reply
from tests.unit.shadow.cases import called, message, said


def streamed(*events: Any) -> Reply:
    lines = [f"data: {event if isinstance(event, str) else json.dumps(event)}" for event in events]
    return read_reply(said("\n\n".join([": hello", *lines]), content_type="text/event-stream"))


def delta(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def test_a_stream_says_what_the_whole_answer_would() -> None:
    reply = streamed(
        delta(role="assistant", content=""),
        delta(content="Hel"),
        delta(content="lo"),
        delta("stop"),
        "[DONE]",
    )
    assert reply == read_reply(message(content="Hello")) == Reply("Hello")


def test_tool_calls_of_a_stream_come_in_pieces() -> None:
    reply = streamed(
        delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "find", "arguments": ""}}]),
        delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "drop", "arguments": "{}"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"n": 1}'}}]),
        delta("tool_calls"),
    )
    assert reply.calls == (ToolCall("find", '{"n": 1}'), ToolCall("drop", "{}"))
    assert not reply.empty


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\u0085"])
def test_only_line_ends_of_event_streams_end_a_line(odd: str) -> None:
    raw = json.dumps(delta(content=f"one{odd}two"), ensure_ascii=False).replace(json.dumps(odd)[1:-1], odd)
    stream = f"data: {raw}\n\ndata: {json.dumps(delta(content='!'))}\r\rdata: [DONE]\r\n\r\n"
    assert read_reply(said(stream, content_type="text/event-stream")) == Reply(f"one{odd}two!")
    assert streamed("one\vtwo\f") == Reply("one\vtwo\f")


def test_a_stream_of_something_else_is_its_data() -> None:
    assert streamed("one", "two") == Reply("one\ntwo")
    assert streamed({"token": "x"}).text == '{"token": "x"}'


def test_who_answered_is_not_read() -> None:
    secret = {
        "id": "chatcmpl-1",
        "model": "acme/large-2",
        "system_fingerprint": "fp",
        "usage": {"total_tokens": 3},
    }
    answer = said(
        json.dumps({**secret, "choices": [{"message": {"content": "Hi"}}]}), content_type="application/json"
    )
    assert read_reply(answer) == Reply("Hi")


def test_content_may_be_parts() -> None:
    assert (
        read_reply(
            message(content=[{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}])
        ).text
        == "ab"
    )


def test_a_refusal_and_a_limit_are_noted() -> None:
    assert read_reply(message(content=None, refusal="No.")) == Reply("No.", declined=True)
    assert read_reply(message("length", content="It")) == Reply("It", cut=True)


@pytest.mark.parametrize(
    "body",
    [
        "plain",
        "{",
        "[]",
        "{}",
        '{"choices": []}',
        '{"choices": [1]}',
        '{"choices": {}}',
        '{"choices": [{"message": 1}]}',
        "9" * 5000,
    ],
)
def test_what_is_no_chat_completion_is_taken_whole(body: str) -> None:
    assert read_reply(said(body, content_type="application/json")) == Reply(body)


def test_odd_calls_are_read_as_far_as_they_go() -> None:
    assert read_reply(message(content=None, tool_calls=[{"function": 1}, 2])).calls == (ToolCall("", ""),)
    assert read_reply(called("find", "{}")).calls == (ToolCall("find", "{}"),)
    indices: list[Any] = [[], {}, True, "0"]
    odd = [{"index": index, "function": {"name": "find"}} for index in indices]
    assert read_reply(message(content=None, tool_calls=odd)).calls == (ToolCall("find", ""),) * 4
