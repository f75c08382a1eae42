"""Drives a run of stable again: another version starts where it started, and its tools have the results that they had.

A run is what an agent did about a user's last message, as the client sent it with its last request: the agent called
tools, the client ran them and came back with their results, until the agent answered. Nothing is run again. A result holds
only after the same calls as in the recording: reading an order says something else before it was cancelled than
afterwards. So a call is answered once all that stable called in earlier steps was called too, and what stable called in
one step may be called in any order.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from controller.core.shadow.exchange import Answer, Pair, Replayed, media_of
from controller.core.shadow.reply import Reply, ToolCall, calls_of, parse_json, reply_in

MAX_CALLS = 32
"""Tool calls of a run; with more it is not driven again. Each step answers one at least, which bounds the steps."""

MAX_BODY_BYTES = 2 << 20
"""Of a request. The recording is at most half of it; the rest is what the agent said."""

_ANY_TOOL = (None, "auto")


class ReplayEnd(StrEnum):
    """How driving a run again ended; the label ``outcome`` of the metric, which is API."""

    MATCHED = "matched"
    """The other side came to an answer; this one is compared with stable's."""
    DIVERGED = "diverged"
    """It called a tool that stable's run did not call at that point: no verdict."""
    FAILED = "failed"
    """It failed to answer, which is a loss as elsewhere."""
    TOO_LARGE = "too_large"
    """What it said is larger than what is kept."""
    REFUSED = "refused"
    """It answered with a status of 4xx, which may be for what is not known of the request; the mirrored answer is compared."""
    UNREACHABLE = "unreachable"
    """There was no connection to it; the mirrored answer is compared."""
    DROPPED = "dropped"
    """There was no room or no time for it; the mirrored answer is compared."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A tool call of stable's run.

    Attributes:
        meaning: See ``ToolCall.meaning``.
        result: The message with which the client answered it.
    """

    meaning: tuple[str, str]
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run of stable.

    Attributes:
        request: All of its last request but the messages.
        opening: The messages before the agent's first step.
        steps: The tool calls of each step.
    """

    request: dict[str, Any]
    opening: tuple[Any, ...]
    steps: tuple[tuple[RecordedCall, ...], ...]

    @property
    def calls(self) -> int:
        """Of all steps."""
        return sum(map(len, self.steps))


def read_run(pair: Pair) -> Run | None:
    """The run that stable's answer finishes; None if it finishes none, or one that cannot be driven again."""
    if any(answer.failed or (answer.status or 0) >= 400 for answer in (pair.stable, pair.other)):
        return None
    question = pair.question
    if question.method != "POST" or not question.path.startswith("/") or reply_of(pair.stable).calls:
        return None
    try:
        request = parse_json(question.body.decode())
    except ValueError:
        return None
    messages = request.get("messages") if isinstance(request, dict) else None
    if not isinstance(messages, list) or request.get("tool_choice") not in _ANY_TOOL:
        # A client that forbids or demands tools in the last step did not do so in the first.
        return None
    opening, run = _opened(messages)
    steps = _steps(run)
    if not steps or sum(map(len, steps)) > MAX_CALLS:
        return None
    del request["messages"]
    return Run(request, opening, steps)


def reply_of(answer: Answer) -> Reply:
    """What is said in an answer as it was captured."""
    return reply_in(answer.body.decode("utf-8", "replace"), media_of(answer.headers)[0])


class RecordedTools:
    """Gives each recorded result once, in the order of the steps."""

    def __init__(self, steps: Iterable[Sequence[RecordedCall]]) -> None:
        """Nothing was called yet."""
        self._steps = [list(step) for step in steps]
        self.taken = 0

    @property
    def ended(self) -> bool:
        """Whether every result was given."""
        return not any(self._steps)

    def take(self, calls: Sequence[ToolCall]) -> list[dict[str, Any]] | None:
        """The results of a step's calls, in their order; None if one of them has none, and then nothing is given."""
        waiting: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for position, call in enumerate(calls):
            waiting[call.meaning].append(position)
        results: dict[int, dict[str, Any]] = {}
        rest = list(self._steps)
        while rest and len(results) < len(calls):
            left = []
            for recorded in rest[0]:
                if positions := waiting[recorded.meaning]:
                    results[positions.pop(0)] = recorded.result
                else:
                    left.append(recorded)
            if left:
                rest[0] = left
                break
            del rest[0]
        if len(results) < len(calls):
            return None
        self._steps = rest
        self.taken += len(calls)
        return [results[position] for position in range(len(calls))]


class Replay:
    """One run that is driven again: what to send next, and what to make of the answer."""

    def __init__(self, run: Run) -> None:
        """Nothing was sent yet."""
        self._run = run
        self._messages = list(run.opening)
        self._tools = RecordedTools(run.steps)
        self._steps = 0
        self._diverged = False

    @property
    def body(self) -> bytes:
        """Of the next request."""
        request = {**self._run.request, "messages": self._messages}
        return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    @property
    def progress(self) -> Replayed:
        """How far it came."""
        return Replayed(self._steps, self._tools.taken, self._run.calls, self._diverged)

    def take(self, answer: Answer) -> ReplayEnd | None:
        """How it ends with this answer; None if there is a next request."""
        self._steps += 1
        if answer.failed:
            return ReplayEnd.FAILED
        if (answer.status or 0) >= 400:
            return ReplayEnd.REFUSED
        reply = reply_of(answer)
        if not reply.calls:
            return ReplayEnd.MATCHED
        results = self._tools.take(reply.calls)
        if results is None:
            self._diverged = True
            return ReplayEnd.DIVERGED
        self._say(reply, results)
        return None

    def _say(self, reply: Reply, results: list[dict[str, Any]]) -> None:
        # Ids of ours are unique in the conversation; nine letters and digits are what every provider takes.
        ids = [f"c{self._steps:03}n{number:04}" for number in range(len(results))]
        calls = [
            {"id": id_, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for id_, call in zip(ids, reply.calls, strict=True)
        ]
        self._messages.append({"role": "assistant", "content": reply.text or None, "tool_calls": calls})
        self._messages += [{**result, "tool_call_id": id_} for id_, result in zip(ids, results, strict=True)]


def _opened(messages: list[Any]) -> tuple[tuple[Any, ...], list[Any]]:
    """The messages before the first step that follows the user's last message, and the rest."""
    roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
    asked = max((place for place, role in enumerate(roles) if role == "user"), default=len(roles))
    first = next((place for place in range(asked, len(roles)) if roles[place] == "assistant"), len(roles))
    return tuple(messages[:first]), messages[first:]


def _steps(run: list[Any]) -> tuple[tuple[RecordedCall, ...], ...]:
    """Steps of tool calls that were all answered, one after the other; empty if it is anything else."""
    found: list[tuple[RecordedCall, ...]] = []
    place = 0
    while place < len(run):
        called = calls_of(run[place])
        results = run[place + 1 : place + 1 + len(called)]
        step = _answered(called, results)
        if not step:
            return ()
        found.append(step)
        place += 1 + len(step)
    return tuple(found)


def _answered(called: Sequence[tuple[str, ToolCall]], results: Sequence[Any]) -> tuple[RecordedCall, ...]:
    by_id = {
        str(result.get("tool_call_id")): result
        for result in results
        if isinstance(result, dict) and result.get("role") == "tool"
    }
    if len(by_id) != len(called) or any(id_ not in by_id for id_, _ in called):
        return ()
    return tuple(RecordedCall(call.meaning, by_id[id_]) for id_, call in called)
