"""Where output goes: a terminal in colours and at its width, or a file or pipe, plain and uncut."""

from __future__ import annotations

import json
import sys
from typing import Any

import yaml
from rich.console import Console, RenderableType

UNCUT = 2000
"""Columns of what is no terminal: programs read it line by line."""


def terminal() -> Console:
    """Standard output. Objects may have any text in them, so brackets are brackets."""
    console = Console(markup=False, highlight=False, emoji=False)
    return console if console.is_terminal else _console(UNCUT)


def _console(width: int) -> Console:
    return Console(markup=False, highlight=False, emoji=False, width=width)


def show(what: RenderableType, *, uncut: bool = False) -> None:
    """Print a table or text; to what is no terminal without colours, and without spaces at the ends of lines.

    Args:
        what: To be printed.
        uncut: Whether a terminal gets whole lines too, and breaks them where it ends.
    """
    console = terminal()
    if console.is_terminal and not uncut:
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what, width=UNCUT, crop=False)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def width() -> int | None:
    """Columns of the terminal; None if output goes elsewhere."""
    console = terminal()
    return console.width if console.is_terminal else None


def as_json(what: Any) -> None:
    """For programs."""
    print(json.dumps(what, indent=2, ensure_ascii=False))


def as_yaml(what: Any) -> None:
    """For programs and people."""
    print(yaml.safe_dump(what, sort_keys=False, allow_unicode=True), end="")


def without_managed_fields(raw: dict[str, Any]) -> dict[str, Any]:
    """The object as kubectl shows it: who owns which field is of interest to few."""
    metadata = {name: value for name, value in raw["metadata"].items() if name != "managedFields"}
    return {**raw, "metadata": metadata}
