"""The agent's tools: order lookup and refund, the same answer for the same order every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

_STATES = ("is being packed", "is on its way", "was delivered yesterday")
_LARGEST_REFUND_EUR = 80


class ToolCallError(Exception):
    """The model wrote something that is no tool call."""


def call(text: str) -> str:
    """Run the tool call that the model wrote and return what to tell the customer.

    Raises:
        ToolCallError: If the text is no call of a known tool.
    """
    tools: dict[str, Callable[[int], str]] = {"lookup": _lookup, "refund": _refund}
    try:
        request: dict[str, Any] = json.loads(text)
        return tools[request["tool"]](int(request["arguments"]["order"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ToolCallError(f"The model wrote a tool call that cannot be parsed: {text!r}") from error


def _lookup(order: int) -> str:
    return f"Order {order} {_STATES[order % len(_STATES)]}."


def _refund(order: int) -> str:
    amount = order % 100 + 5
    if amount > _LARGEST_REFUND_EUR:
        return f"A colleague looks at the refund of {amount} EUR for order {order}."
    return f"{amount} EUR for order {order} are on their way back to you."
