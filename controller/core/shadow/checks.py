"""What can be said of two answers without understanding them. Every rule treats both sides alike."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, NoReturn

import jsonschema_rs

from controller.core.shadow.comparison import Case, CaseAnswer, Outcome
from controller.core.shadow.reply import (
    EVENT_STREAM,
    Reply,
    ToolCall,
    canonical,
    is_json,
    parse_json,
    read_reply,
)

_CANNOT = r"(?:can(?:['\u2019]?t| ?not)|(?:am|['\u2019]m|are|['\u2019]re) (?:unable|not able)|won['\u2019]t)"
_REFUSAL = re.compile(
    rf"\W*(?:(?:(?:i|we)(?:['\u2019]m|['\u2019]re| am| are)? (?:\w+ )?)?sorry\b|as an ai\b)[^.!?\n]{{0,60}}\b(?:i|we) ?{_CANNOT}\b"
    rf"|\W*(?:i|we) ?{_CANNOT} (?:to )?(?:help|assist|comply|do that|answer|provide|fulfil|discuss|continue|share)\b"
    r"|\W*(?:es )?tut mir (?:sehr )?leid\b[^.!?\n]{0,60}\b(?:ich|wir)\b[^.!?\n]{0,40}\bnicht\b",
    re.IGNORECASE,
)

_NAMED, _NAMED_LENGTH = 3, 80
"""Tool calls that a sentence names, and characters of each."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What is checked beyond what always is.

    Attributes:
        forbidden: What no answer may contain.
    """

    forbidden: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """What the checks say.

    Attributes:
        outcome: About the side that answered beside stable.
        reason: In a sentence.
    """

    outcome: Outcome
    reason: str


def decide(case: Case, checks: Checks, *, alone: bool) -> Decided | None:
    """The verdict where none needs understanding; None where it does.

    Answers that do the same are a tie. Else an answer that is broken loses to one that is not. Whether a refusal or an
    answer that was cut short is worse depends on the question, so it only counts if nobody is there to ask (``alone``).
    """
    stable, other = read_reply(case.stable), read_reply(case.other)
    if same := _same(case, stable, other):
        return Decided(Outcome.TIE, same)
    asked = _asked(case)
    problems = (
        _problem(case.stable, stable, asked, checks),
        _problem(case.other, other, asked, checks),
    )
    if alone and problems == ("", ""):
        problems = _weakness(stable), _weakness(other)
    of_stable, of_other = problems
    if of_other and not of_stable:
        return Decided(Outcome.LOSS, f"the other answer {of_other}, unlike stable's")
    if of_stable and not of_other:
        return Decided(Outcome.WIN, f"stable's answer {of_stable}, unlike the other")
    return None


def differing_steps(case: Case) -> str:
    """What either side would do next, if they would not call the same tools in the same way; empty if neither calls any."""
    stable, other = read_reply(case.stable), read_reply(case.other)
    if not (stable.calls or other.calls):
        return ""
    return f"their next steps differ: stable {_step(stable)}, the other {_step(other)}"


def _step(reply: Reply) -> str:
    calls = [f"{call.name}({call.arguments})"[:_NAMED_LENGTH] for call in reply.calls]
    more = " and more" if len(calls) > _NAMED else ""
    return f"calls {' and '.join(calls[:_NAMED])}{more}" if calls else "answers"


def _same(case: Case, stable: Reply, other: Reply) -> str:
    """Why the answers are alike for whoever asked; empty if they are not."""
    if case.stable.status >= 400 and case.other.status >= 400:
        return "both refuse the request by their status"
    if (case.stable.status >= 400) != (case.other.status >= 400):
        return ""
    if stable.calls or other.calls:
        calls = [Counter(call.meaning for call in reply.calls) for reply in (stable, other)]
        return "both call the same tools with the same arguments" if calls[0] == calls[1] else ""
    if stable.text.split() == other.text.split():
        return "both say the same"
    try:
        equal = canonical(stable.text) == canonical(other.text)
    except ValueError:
        return ""
    return "both are the same JSON" if equal else ""


def _asked(case: Case) -> dict[str, Any]:
    try:
        asked = parse_json(case.question)
    except ValueError:
        return {}
    return asked if isinstance(asked, dict) else {}


def _problem(answer: CaseAnswer, reply: Reply, asked: dict[str, Any], checks: Checks) -> str:
    """What is broken about an answer, whatever was asked; empty if nothing is."""
    if answer.status >= 400:
        return f"has status {answer.status}"
    if reply.empty:
        return "is empty"
    if is_json(answer.content_type) and not _valid(answer.text, None):
        return "claims to be JSON and is none"
    if found := next(filter(None, (pattern.search(reply.text) for pattern in checks.forbidden)), None):
        return f"contains what is forbidden ({found.re.pattern})"
    return _wrong_calls(reply.calls, asked) if reply.calls else _wrong_format(answer, reply, asked)


def _wrong_format(answer: CaseAnswer, reply: Reply, asked: dict[str, Any]) -> str:
    wanted = asked.get("response_format")
    kind = str(wanted.get("type")) if isinstance(wanted, dict) else ""
    known = is_json(answer.content_type) or answer.content_type == EVENT_STREAM
    if kind not in {"json_object", "json_schema"} or not known or reply.declined:
        return ""
    if not _valid(reply.text, None):
        return "is no JSON, which was asked for"
    described = wanted.get("json_schema") if isinstance(wanted, dict) else None
    schema = described.get("schema") if isinstance(described, dict) else None
    return "" if _valid(reply.text, schema) else "does not match the JSON schema that was asked for"


def _wrong_calls(calls: tuple[ToolCall, ...], asked: dict[str, Any]) -> str:
    offered = asked.get("tools")
    if not isinstance(offered, list):
        return ""
    functions = [each.get("function") for each in offered if isinstance(each, dict)]
    schemas = {str(each.get("name")): each.get("parameters") for each in functions if isinstance(each, dict)}
    for call in calls:
        if call.name not in schemas:
            return f"calls the tool {call.name!r}, which was not offered"
        if not _valid(call.arguments or "{}", schemas[call.name]):
            return f"calls the tool {call.name!r} with arguments that it does not take"
    return ""


def _weakness(reply: Reply) -> str:
    if reply.declined or _REFUSAL.match(reply.text):
        return "refuses"
    return "was cut short" if reply.cut else ""


def _valid(text: str, schema: Any) -> bool:
    """Whether it is JSON, and as the schema says; a schema that cannot be used, or not on this, refuses nothing."""
    try:
        found = parse_json(text)
    except ValueError:
        return False
    if not isinstance(schema, dict):
        return True
    try:
        validator = jsonschema_rs.validator_for(
            schema, retriever=_nothing_is_fetched, pattern_options=jsonschema_rs.RegexOptions()
        )
        return validator.is_valid(found)
    except (ValueError, jsonschema_rs.ReferencingError):
        return True


def _nothing_is_fetched(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched")
