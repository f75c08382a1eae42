"""The pictures of docs/concepts.md are those that their script draws."""

from __future__ import annotations

import runpy
from collections.abc import Callable

import pytest

from tests.unit.docs.pages import ROOT

FOLDER = ROOT / "docs" / "pictures"
PICTURES: dict[str, Callable[[], str]] = runpy.run_path(str(FOLDER / "draw.py"))["PICTURES"]


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_current(name: str) -> None:
    assert (FOLDER / name).read_text() == PICTURES[name](), "python docs/pictures/draw.py writes it anew"
