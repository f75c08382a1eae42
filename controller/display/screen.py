"""A part of the terminal that is kept current by writing only the lines that changed.

Erasing and writing all of it at each refresh, as `rich.live` does, flickers on terminals that draw in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from rich.console import Console, RenderableType

_HIDE, _SHOW, _ERASE_LINE, _ERASE_BELOW = "\x1b[?25l", "\x1b[?25h", "\x1b[K", "\x1b[J"


class Screen:
    """Use it as a context: at the end the cursor is back, below what was shown last.

    Args:
        console: The terminal.
        write: Where bytes for it go, in one piece a refresh.
    """

    def __init__(self, console: Console, write: Callable[[str], None]) -> None:
        self._console = console
        self._write = write
        self._lines: list[str] = []
        self._width = 0

    def __enter__(self) -> Self:
        self._write(_HIDE)
        return self

    def __exit__(self, *_: object) -> None:
        self._write(_SHOW)

    def show(self, what: RenderableType) -> None:
        """Make the terminal show this instead of what was shown before."""
        width, height = self._console.size
        lines = _fitting(self._rendered(what, width), height - 1)
        if width != self._width:  # the terminal has wrapped the old lines anew: nobody knows where they are
            self._lines, self._width = [], width
        if text := repaint(self._lines, lines):
            self._write(text)
        self._lines = lines

    def _rendered(self, what: RenderableType, width: int) -> list[str]:
        """One column is left free: in the last one, terminals differ about where the cursor is."""
        with self._console.capture() as captured:
            self._console.print(what, width=width - 1)
        return [line.rstrip() for line in captured.get().splitlines()]


def _fitting(lines: list[str], height: int) -> list[str]:
    """As many as the terminal has room for; the last one says how many are left out."""
    if len(lines) <= height:
        return lines
    return [*lines[: height - 1], f"… {len(lines) - height + 1} more lines: make the terminal taller"]


def repaint(old: Sequence[str], new: Sequence[str]) -> str:
    """What to write so that a terminal with the old lines, and the cursor below them, shows the new ones.

    Lines that are the same are not written again.
    """
    changed = [number for number, line in enumerate(new) if number >= len(old) or old[number] != line]
    if not changed and len(new) == len(old):
        return ""
    at, written = len(old), []
    for number in changed:
        written += [_move(at, number), "\r", new[number], _ERASE_LINE, "\n"]
        at = number + 1
    written += [_move(at, len(new)), "\r"]
    return "".join([*written, _ERASE_BELOW] if len(new) < len(old) else written)


def _move(line: int, to: int) -> str:
    """Up or down within what was already written."""
    if to == line:
        return ""
    return f"\x1b[{line - to}A" if to < line else f"\x1b[{to - line}B"
