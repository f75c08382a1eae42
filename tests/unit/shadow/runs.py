"""Runs of agents that speak chat completions, with tools that the client runs."""

from __future__ import annotations

import json
from typing import Any

from controller.core.shadow.exchange import Answer, Pair, Question, Side, Target
from tests.compared import SUBJECT

JSON = (("content-type", "application/json; charset=utf-8"),)
TARGET = Target("http://127.0.0.1:1", "agent.example", 5.0)

Call = tuple[str, str]
"""Name and arguments."""


def called(step: int, *calls: Call) -> dict[str, Any]:
    """A message of an agent."""
    found = [
        {"id": f"{step}-{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": None, "tool_calls": found}


def result(step: int, number: int, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"{step}-{number}", "content": content}


def asked(*steps: tuple[Call, ...], text: str = "Where is order 7?") -> list[dict[str, Any]]:
    """A conversation up to the results of the last step; each result names its step and call."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    for step, calls in enumerate(steps):
        messages.append(called(step, *calls))
        messages += [result(step, n, f"result {step}-{n}") for n in range(len(calls))]
    return messages


def answer(message: dict[str, Any] | str, status: int = 200, *, complete: bool = True) -> Answer:
    """A chat completion."""
    said = {"role": "assistant", "content": message} if isinstance(message, str) else message
    body = json.dumps({"choices": [{"index": 0, "message": said}]}).encode()
    return Answer(status, JSON, body, complete, 0.1)


def calls(*wanted: Call) -> Answer:
    return answer(called(9, *wanted))


def pair(
    messages: Any,
    stable: Answer | None = None,
    other: Answer | None = None,
    *,
    side: Side = Side.CANDIDATE,
    target: Target | None = TARGET,
    **request: Any,
) -> Pair:
    body = json.dumps({"model": "agent", **request, "messages": messages}).encode()
    question = Question("POST", "/v1/chat/completions", JSON, body)
    shipped = answer("It is on its way.")
    return Pair("1", side, SUBJECT, question, stable or shipped, other or shipped, target)
