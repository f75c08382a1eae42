"""How many of the planted identifiers the built-in recognisers find, and Presidio: the table of docs/shadow-process.md."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from controller.adapters.presidio import PresidioRecogniser
from controller.core.shadow.recognisers import Kind, Recogniser, built_in, merged
from tests.planted import IDENTIFIERS, sentences

PRESIDIO_FINDS = {
    Kind.EMAIL: 13,
    Kind.PHONE: 15,
    Kind.CARD: 11,
    Kind.IBAN: 14,
    Kind.IP: 12,
    Kind.NATIONAL_ID: 3,
    Kind.API_KEY: 0,
    Kind.JWT: 0,
    Kind.PRIVATE_KEY: 0,
    Kind.SECRET: 0,
}
"""With its patterns alone; a model adds names of people and places."""


@pytest.fixture(scope="module")
def presidio() -> Iterator[PresidioRecogniser]:
    """Made where nothing can be fetched: it must not need to."""
    patch = pytest.MonkeyPatch()

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("it asked the network")

    patch.setattr(socket.socket, "connect", refused)
    yield PresidioRecogniser()
    patch.undo()


def recall(recognise: Recogniser, kind: Kind) -> int:
    hits = 0
    for value, sentence in sentences(kind):
        kept = sentence
        for one in reversed(merged(recognise(sentence))):
            kept = kept[: one.start] + f"<{one.kind}>" + kept[one.end :]
        hits += value not in kept and f"<{kind}>" in kept
    return hits


@pytest.mark.parametrize("kind", Kind)
def test_the_built_in_recognisers_find_all_of_them(kind: Kind) -> None:
    assert recall(built_in, kind) == len(IDENTIFIERS[kind])


@pytest.mark.parametrize("kind", Kind)
def test_presidio_finds_as_many_as_the_documentation_says(kind: Kind, presidio: PresidioRecogniser) -> None:
    assert recall(presidio, kind) == PRESIDIO_FINDS[kind]


def test_presidio_sees_what_lies_across_the_parts_of_a_long_text(
    presidio: PresidioRecogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.adapters.presidio._CHUNK", 300)
    text = "word " * 58 + "write to john.doe@example.com now " + "word " * 100
    found = {text[one.start : one.end] for one in presidio(text)}
    assert "john.doe@example.com" in found


def test_a_model_that_is_not_installed_is_not_fetched(presidio: PresidioRecogniser) -> None:
    with pytest.raises(OSError, match="no_such_model"):
        PresidioRecogniser("no_such_model")
