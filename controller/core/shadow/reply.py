"""What an answer says: its text and the tools that it calls, of a chat completion, a stream of one, or anything else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from controller.core.shadow.comparison import CaseAnswer

EVENT_STREAM = "text/event-stream"

_LINE_END = re.compile(
    r"\r\n|\r|\n"
)  # of HTML's event streams; str.splitlines() knows more, which may stand in JSON


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that an answer wants to be called.

    Attributes:
        name: Of the tool.
        arguments: As the model wrote them: JSON, if it did well.
    """

    name: str
    arguments: str

    @property
    def meaning(self) -> tuple[str, str]:
        """Equal for calls that do the same: the order of keys and white space do not count."""
        try:
            return self.name, canonical(self.arguments or "{}")
        except ValueError:
            return self.name, self.arguments


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer without what tells its author: no id, no name of a model, no usage.

    Attributes:
        text: What is said.
        calls: The tools that are called, in their order.
        declined: Whether the model itself marked it as a refusal.
        cut: Whether it ends because a limit of tokens was reached.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    declined: bool = False
    cut: bool = False

    @property
    def empty(self) -> bool:
        """Whether it says and does nothing."""
        return not self.text.strip() and not self.calls


def parse_json(text: str) -> Any:
    """Strict JSON.

    Raises:
        ValueError: If it is none, or nested too deeply to be read.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def canonical(text: str) -> str:
    """Equal for JSON that says the same: the order of keys and white space do not count, while 1, 1.0 and true are three.

    Raises:
        ValueError: See ``parse_json``.
    """
    return json.dumps(parse_json(text), sort_keys=True)


def is_json(content_type: str) -> bool:
    """Whether a media type without parameters promises JSON."""
    return content_type == "application/json" or content_type.endswith("+json")


def read_reply(answer: CaseAnswer) -> Reply:
    """What is said in the body; the whole body if its form is not known."""
    return reply_in(answer.text, answer.content_type)


def reply_in(text: str, content_type: str) -> Reply:
    """See ``read_reply``; of a media type without parameters."""
    if content_type == EVENT_STREAM:
        return _of_events(_data(text))
    try:
        choice = _first_choice(parse_json(text))
    except ValueError:
        return Reply(text)
    message = choice.get("message")
    if not isinstance(message, dict):
        return Reply(text)
    return _reply([message], [choice])


def calls_of(message: Any) -> list[tuple[str, ToolCall]]:
    """The tool calls of a message of an agent, with their ids; empty if it is anything else."""
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return []
    return [(_text(call.get("id")), _call(call)) for call in _dicts(message.get("tool_calls"))]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _data(stream: str) -> list[str]:
    return [line[5:].removeprefix(" ") for line in _LINE_END.split(stream) if line.startswith("data:")]


def _of_events(events: list[str]) -> Reply:
    choices = []
    for event in events:
        try:
            choices.append(_first_choice(parse_json(event)))
        except ValueError:
            continue
    deltas = [delta for choice in choices if isinstance(delta := choice.get("delta"), dict)]
    return _reply(deltas, choices) if deltas else Reply("\n".join(events))


def _first_choice(found: Any) -> dict[str, Any]:
    choices = found.get("choices") if isinstance(found, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _reply(messages: Iterable[dict[str, Any]], choices: Iterable[dict[str, Any]]) -> Reply:
    """One message, or the pieces of one."""
    text, declined = "", False
    calls: dict[int, ToolCall] = {}
    for message in messages:
        refusal = message.get("refusal")
        declined = declined or bool(refusal)
        text += _text(message.get("content")) + _text(refusal)
        for position, call in enumerate(_dicts(message.get("tool_calls"))):
            key = index if type(index := call.get("index")) is int else position
            piece, known = _call(call), calls.get(key, ToolCall("", ""))
            calls[key] = ToolCall(known.name + piece.name, known.arguments + piece.arguments)
    return Reply(
        text,
        tuple(calls.values()),
        declined=declined,
        cut=any(choice.get("finish_reason") == "length" for choice in choices),
    )


def _call(call: dict[str, Any]) -> ToolCall:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    return ToolCall(_text(function.get("name")), _text(function.get("arguments")))


def _text(content: Any) -> str:
    """Of a text, or of the parts that a text can be written as."""
    if isinstance(content, str):
        return content
    return "".join(_text(part.get("text")) for part in _dicts(content))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
