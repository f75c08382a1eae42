"""Where the story is told: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live

from examples.demo.events import Event
from examples.demo.story import Chapter
from examples.demo.view import Scene, clock, render, status_line

PICTURE_SECONDS = 0.25
_LINE_SECONDS = 5.0


class Screen(Protocol):
    """Shows the demo to a person."""

    def event(self, chapter: Chapter, event: Event) -> None:
        """Something happened."""

    def scene(self, scene: Callable[[], Scene]) -> None:
        """Called a few times a second; a screen that shows nothing now does not ask for the scene."""


class LiveScreen:
    """A picture that is drawn anew; events are part of it."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def event(self, chapter: Chapter, event: Event) -> None:
        """Nothing to do: the next picture has it."""

    def scene(self, scene: Callable[[], Scene]) -> None:
        """Draw."""
        self._live.update(render(scene()), refresh=True)


class PlainScreen:
    """One line an event, and the state of things every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_line = time.monotonic() + _LINE_SECONDS

    def event(self, chapter: Chapter, event: Event) -> None:
        """Print the event."""
        self._print(chapter, clock(event.at, chapter.began), event.text)

    def scene(self, scene: Callable[[], Scene]) -> None:
        """Print the state, if it is time to."""
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_SECONDS
            now = scene()
            self._print(now.chapter, clock(now.now, now.chapter.began), status_line(now))

    def _print(self, chapter: Chapter, when: str, text: str) -> None:
        label = f"act {chapter.act.number}" if chapter.act else "start"
        self._console.print(f"{label} {when:>8}  {text}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def open_screen(console: Console) -> Iterator[Screen]:
    """The screen that fits the console."""
    if not console.is_terminal:
        yield PlainScreen(console)
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        yield LiveScreen(live)
