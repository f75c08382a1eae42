"""Similarity of two texts by static word vectors on this machine: no network, no GPU. The optional extra ``embedding``.

It knows which words are there, not what they say together: see ``controller.core.shadow.similarity`` for what has to agree
before it may call a tie.
"""

from __future__ import annotations

import asyncio
import logging
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.core.shadow.comparison import Case
from controller.core.shadow.reply import read_reply
from controller.core.shadow.similarity import ties

if TYPE_CHECKING:
    from wordllama.inference import WordLlamaInference

_MODEL = "l2_supercat"
_LONGEST = 100_000
"""Characters; of longer answers nobody is asked."""


class Alike:
    """Whether two answers are so alike that they are a tie."""

    def __init__(self, least: float) -> None:
        """``least`` is the least cosine of a tie.

        Raises:
            ImportError: If the extra is not installed.
        """
        self._least = least
        self._model = _model()

    @property
    def content(self) -> dict[str, Any]:
        """What it is made of, for the judge's artifact."""
        return {"model": _MODEL, "wordllama": version("wordllama"), "tieAbove": self._least}

    async def tie(self, case: Case) -> str:
        """Why the answers are a tie; empty if they are none, or nobody can tell."""
        stable, other = read_reply(case.stable), read_reply(case.other)
        if stable.calls or other.calls or not stable.text.strip() or not other.text.strip():
            return ""
        if case.stable.status >= 400 or case.other.status >= 400:
            return ""
        if max(len(stable.text), len(other.text)) > _LONGEST:
            return ""
        cosine = await asyncio.to_thread(self.cosine, stable.text, other.text)
        if not ties(stable.text, other.text, cosine, self._least):
            return ""
        return f"the answers are alike (cosine {cosine:.3f}), with the same names, numbers and negations"

    def cosine(self, one: str, another: str) -> float:
        """Of the texts' vectors; the same in either order."""
        first, second = self._model.embed([one, another], norm=True)
        return float(first @ second)


@cache
def _model() -> WordLlamaInference:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    import wordllama  # noqa: PLC0415  an optional extra

    # Its import sets up the logs of the whole process.
    root.handlers[:], root.level = before
    # It looks for its own tokenizer in the wrong folder of its wheel, but in the right one of a cache.
    shipped = Path(wordllama.__file__).parent
    return wordllama.WordLlama.load(config=_MODEL, cache_dir=shipped, disable_download=True)
