"""When two answers that are worded differently may be called the same by their similarity alone."""

from __future__ import annotations

import re

_LENGTH_RATIO = 1.5
"""An answer this much longer says more, or says less in more words; similarity cannot tell which."""

# The vector of a text hardly moves when one of these changes, and the meaning turns round.
_FACT = re.compile(
    r"\d+(?:[.,:/-]\d+)*"  # numbers, dates, times
    r"|(?i:\b(?:not?|never|none|nor|neither|without|cannot|nicht|kein\w*|nie|niemals|ohne|true|false|yes)\b)"
    r"|\b\w+n['\u2019]t\b"
    r"|\b[A-ZÄÖÜ]\w*"  # names
)


def ties(stable: str, other: str, cosine: float, least: float) -> bool:
    """Whether nothing that similarity is blind to sets the answers apart, and they are at least so similar."""
    shorter, longer = sorted((len(stable), len(other)))
    return cosine >= least and longer <= _LENGTH_RATIO * shorter and _facts(stable) == _facts(other)


def _facts(text: str) -> list[str]:
    """Numbers, negations and names, in their order: who did it to whom is nothing that a vector of words knows."""
    return [word.casefold() for word in _FACT.findall(text)]
