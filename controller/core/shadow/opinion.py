"""From what a model says about two answers in an order to a verdict about a version."""

from __future__ import annotations

import re
from enum import StrEnum

from controller.core.shadow.comparison import Outcome

_VENDORS = re.compile(r"^(?:ft:)?(?:(?:[a-z-]+|ai21)\.)*")
"""In front of a name: of a fine-tuned model, of a region and a vendor (``us.anthropic.``)."""
_VERSION = re.compile(r"(?:[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|\d{3}|v\d+|latest))+$")
_SNAPSHOT = re.compile(r"(?:[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|latest))$")


class Better(StrEnum):
    """Which of two answers a model prefers; it is not told whose they are."""

    FIRST = "first"
    SECOND = "second"
    NEITHER = "neither"


def outcome_of(better: Better, *, other_first: bool) -> Outcome:
    """What it says about the side that answered beside stable."""
    if better is Better.NEITHER:
        return Outcome.TIE
    return Outcome.WIN if (better is Better.FIRST) is other_first else Outcome.LOSS


def combined(forward: Outcome, backward: Outcome) -> Outcome:
    """The verdict of both orders: a preference that turns round with the order is none."""
    return forward if forward is backward else Outcome.TIE


def same_model(one: str, another: str) -> bool:
    """Whether two names are of one model: its provider, and the date of its snapshot, may be left out."""
    return _bare(one) == _bare(another)


def may_be_same_model(one: str, another: str) -> bool:
    """Whether two names may be of one model, however they are written: whom to refuse in doubt.

    Beyond what ``same_model`` leaves out, so do tags (``llama3:latest``), vendors and versions of an API (``anthropic.…-v2:0``),
    and short dates and numbers of snapshots (``-0613``, ``-002``).
    """
    return _stem(one) == _stem(another)


def _bare(name: str) -> str:
    return _SNAPSHOT.sub("", _last(name))


def _stem(name: str) -> str:
    model = _VENDORS.sub("", _last(name)).partition(":")[0]
    return _VERSION.sub("", model)


def _last(name: str) -> str:
    return name.rpartition("/")[2].casefold()
