"""Cases for judges."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from controller.core.shadow.comparison import Case, CaseAnswer
from controller.core.shadow.exchange import Side, Subject

SUBJECT = Subject(
    "shop/agent", "agent-b", "sha256:b", "agent-a", "sha256:a", ("acme/large", "acme/small"), "default"
)


def said(text: str, status: int = 200, content_type: str = "text/plain") -> CaseAnswer:
    return CaseAnswer(status, content_type, text, 0.1)


def message(finish_reason: str = "stop", **message: Any) -> CaseAnswer:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    return said(json.dumps({"id": "x", "choices": [choice]}), content_type="application/json")


def called(name: str, arguments: str, text: str | None = None) -> CaseAnswer:
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return message("tool_calls", content=text, tool_calls=[call])


def case(stable: CaseAnswer | str, other: CaseAnswer | str, question: str | dict[str, Any] = "why?") -> Case:
    return Case(
        id="1",
        side=Side.CANDIDATE,
        subject=SUBJECT,
        method="POST",
        path="/chat",
        question=question if isinstance(question, str) else json.dumps(question),
        stable=said(stable) if isinstance(stable, str) else stable,
        other=said(other) if isinstance(other, str) else other,
        at=0.0,
    )


def swapped(case: Case) -> Case:
    return replace(case, stable=case.other, other=case.stable)
