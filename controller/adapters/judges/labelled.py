"""The labelled set that a judge is examined with: the one that ships with the project, or a file of the same form."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from controller.adapters.config_files import Strict, read_config
from controller.core.shadow.comparison import Case, CaseAnswer, Outcome
from controller.core.shadow.exchange import Side, Subject
from controller.core.shadow.health import LabelledPair, Sight

ROLLOUT = "judge/health"
"""Whose budget the examination is paid from: no rollout's, but as large as one's."""

_SUBJECT = Subject(ROLLOUT, "other", "", "stable", "", (), "")
_FEWEST = 20


class _Section(Strict):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class AnswerForm(_Section):
    """An answer that is more than a text.

    Attributes:
        status: HTTP status.
        content_type: Left out: of plain text, or of JSON where there is a message.
        text: The body.
        message: Instead of the body, the ``message`` of a chat completion.
        finish_reason: Of that chat completion.
    """

    status: int = 200
    content_type: str = ""
    text: str = ""
    message: dict[str, Any] | None = None
    finish_reason: str = "stop"

    def answer(self) -> CaseAnswer:
        """As it is judged."""
        if self.message is None:
            return CaseAnswer(self.status, self.content_type or "text/plain", self.text, 1.0)
        choice = {"index": 0, "message": self.message, "finish_reason": self.finish_reason}
        return CaseAnswer(
            self.status, self.content_type or "application/json", json.dumps({"choices": [choice]}), 1.0
        )


_Written = str | AnswerForm | None


class PairForm(_Section):
    """A question with two answers: ``better`` and ``worse``, or two that are a ``tie``.

    Attributes:
        name: For messages.
        kind: Of difficulty.
        needs: ``form`` if it takes no understanding to see, else ``meaning``.
        injection: Whether ``worse`` tries to make the judge prefer it.
        question: A text, or the JSON of a request.
    """

    name: str = Field(min_length=1, max_length=100)
    kind: str = Field(min_length=1, max_length=100)
    needs: Sight = Sight.MEANING
    injection: bool = False
    question: str | dict[str, Any]
    better: str | AnswerForm | None = None
    worse: str | AnswerForm | None = None
    tie: tuple[str | AnswerForm, str | AnswerForm] | None = None

    @model_validator(mode="after")
    def _whole(self) -> PairForm:
        preference = self.better is not None and self.worse is not None
        if preference == (self.tie is not None) or (self.better is None) != (self.worse is None):
            raise ValueError("give better and worse, or tie with two answers")
        if self.injection and not preference:
            raise ValueError("injection is about an answer that is worse: give better and worse")
        return self

    def pair(self, position: int) -> LabelledPair:
        """Every other time the better answer is stable's, so that no side wins by being a side."""
        sides: tuple[_Written, _Written] = (self.better, self.worse)
        expected = Outcome.LOSS
        if self.tie is not None:
            sides, expected = self.tie, Outcome.TIE
        elif position % 2:
            sides, expected = (self.worse, self.better), Outcome.WIN
        case = Case(
            id=f"{ROLLOUT}/{self.name}",
            side=Side.CANDIDATE,
            subject=_SUBJECT,
            method="POST",
            path="/",
            question=self.question if isinstance(self.question, str) else json.dumps(self.question),
            stable=_answer(sides[0]),
            other=_answer(sides[1]),
            at=0.0,
        )
        return LabelledPair(self.name, self.kind, self.needs, self.injection, case, expected)


class _SetFile(_Section):
    pairs: tuple[PairForm, ...] = Field(min_length=_FEWEST, max_length=10_000)

    @model_validator(mode="after")
    def _whole(self) -> _SetFile:
        names = [pair.name for pair in self.pairs]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"pairs: the name {twice!r} stands there twice")
        if not any(pair.injection for pair in self.pairs):
            raise ValueError("pairs: at least one must be an injection, or nobody knows what one would do")
        return self


def read_labelled(path: Path | None) -> tuple[LabelledPair, ...]:
    """The pairs of a file; without one, those that ship with the project.

    Raises:
        ValueError: If it cannot be read or is not understood; the message names the field.
    """
    if path is None:
        return _shipped()
    found = read_config(path, _SetFile, "not a field that is read here")
    return tuple(pair.pair(position) for position, pair in enumerate(found.pairs))


@cache
def _shipped() -> tuple[LabelledPair, ...]:
    with as_file(files("controller.adapters.judges") / "labelled.yaml") as path:
        return read_labelled(path)


def _answer(form: _Written) -> CaseAnswer:
    return (form if isinstance(form, AnswerForm) else AnswerForm(text=form or "")).answer()
