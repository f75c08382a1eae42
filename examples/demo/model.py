"""A scripted stand-in for a language model: answers by keyword, calls tools in JSON, counts tokens."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from examples.demo.versions import Faults

_ORDER = re.compile(r"\b(\d{4})\b")
_CHARACTERS_PER_TOKEN = 4
_USD_PER_PROMPT_TOKEN = 0.15e-6
_USD_PER_COMPLETION_TOKEN = 0.60e-6
# No real model is perfect: a little noise on every version keeps the comparison honest.
_SLIPS = 0.004
# Wide on purpose, as with real models: a busy machine then adds little in comparison.
_THINKING_MS, _THINKING_SPREAD = 100.0, 0.6
_LONGEST_THINKING_MS = 800.0
_REFUSAL = "I'm sorry, but I can't help with that."


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote, and what it cost.

    Attributes:
        text: The answer; empty if the model calls a tool first.
        tool_call: The call as the model wrote it, to be parsed; empty if there is none.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        seconds: How long the model thinks.
    """

    text: str
    tool_call: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float

    @property
    def tokens(self) -> int:
        """All tokens of the task."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost_usd(self) -> float:
        """Price of the task."""
        return self.prompt_tokens * _USD_PER_PROMPT_TOKEN + self.completion_tokens * _USD_PER_COMPLETION_TOKEN


class ScriptedModel:
    """Deterministic for a given seed."""

    def __init__(self, prompts: Sequence[str], faults: Faults, seed: int) -> None:
        self._prompt_characters = sum(map(len, prompts))
        self._faults = faults
        self._random = random.Random(seed)

    def complete(self, messages: Sequence[str]) -> Completion:
        """Answer the last message; ``messages`` are the texts of the conversation so far."""
        refused = self._random.random() < self._faults.refusals
        tool_call = "" if refused else self._tool_call(messages[-1])
        text = "" if tool_call else _REFUSAL if refused else "Happy to help. Which order is it about?"
        read = self._prompt_characters + sum(map(len, messages))
        thinking = min(
            _LONGEST_THINKING_MS, self._random.lognormvariate(math.log(_THINKING_MS), _THINKING_SPREAD)
        )
        return Completion(
            text=text,
            tool_call=tool_call,
            prompt_tokens=_tokens(read),
            completion_tokens=_tokens(len(text) + len(tool_call)),
            seconds=(thinking + self._faults.added_latency_ms) / 1000,
        )

    def _tool_call(self, question: str) -> str:
        if self._random.random() < _SLIPS + self._faults.unparsable_tool_calls:
            return 'I will now look up the order, as asked: orders.lookup("'
        order = _ORDER.search(question)
        if order is None:
            return ""
        tool = "refund" if "refund" in question.lower() else "lookup"
        return json.dumps({"tool": tool, "arguments": {"order": order.group(1)}})


def _tokens(characters: int) -> int:
    return characters // _CHARACTERS_PER_TOKEN + 1
