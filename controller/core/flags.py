"""What sources say of flags: numbered, so that old words never replace newer ones, and kept when a source is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

Value = bool | str | int | float

LOST_AFTER = timedelta(seconds=5)
"""A source that does not answer for so long is called lost; a question that failed now and then is no news."""

NEVER = "it has not answered yet"


@dataclass(frozen=True, slots=True)
class Said:
    """What a source says of one flag.

    Attributes:
        value: What it said last, True and False being the words of a switch; None if it never said anything.
        switch: The last True or False among what it said.
        at: When it last said it.
        problem: Why it does not say so now; empty if it does.
    """

    value: Value | None = None
    switch: bool | None = None
    at: datetime | None = None
    problem: str = ""

    @property
    def on(self) -> bool | None:
        """Whether a switch is on; None if that is not known.

        What was on stays on until the source says off. What was off is not known any more once it says something else
        that is no word of a switch; while it says nothing, its last word counts.
        """
        if isinstance(self.value, bool):
            return self.value
        return True if self.switch else None

    @property
    def doubt(self) -> str:
        """Why it is not known, or why what is known may be old; empty if there is none."""
        if self.problem or self.value is None:
            return self.problem or NEVER
        if not isinstance(self.value, bool):
            return f"its value is {self.value!r}, which is neither true nor false"
        return ""


class FlagBook:
    """All that one source has said. For use on one event loop.

    Every word has a number: of a question that is when it is asked, of what a source tells by itself when it arrives. What has
    a lower number than what was taken in before is old and changes nothing.

    Args:
        unknown: Why a flag is not known that the source has never spoken of.
    """

    def __init__(self, unknown: str = "the source does not have it") -> None:
        self._unknown = unknown
        self._said: dict[str, Said] = {}
        self._number = self._newest = 0
        self._answered_at: datetime | None = None
        self._failing_since: datetime | None = None
        self._problem = ""
        self._listeners: list[Callable[[frozenset[str] | None], None]] = []

    def on_change(self, listener: Callable[[frozenset[str] | None], None]) -> None:
        """Call ``listener(flags)`` when something else is said of these flags; None stands for all."""
        self._listeners.append(listener)

    @property
    def answered_at(self) -> datetime | None:
        """When the source last spoke."""
        return self._answered_at

    @property
    def is_heard(self) -> bool:
        """Whether the source has spoken, or failed to."""
        return self._answered_at is not None or self._problem != ""

    def number(self) -> int:
        """The number of a question that is about to be asked, or of a word that has just arrived."""
        self._number += 1
        return self._number

    def said(self, flag: str) -> Said:
        """What is known of a flag."""
        known = self._said.get(flag)
        if known is None:
            return Said(problem=self._problem or (self._unknown if self._answered_at else NEVER))
        return replace(known, problem=known.problem or self._problem)

    def forget_gone(self, flag: str) -> None:
        """Nobody asks for this flag: if its source has it no longer, its last word is not needed."""
        if flag in self._said and self._said[flag].problem:
            del self._said[flag]

    def tell(self, values: Mapping[str, Value], number: int, now: datetime) -> None:
        """The source says just this of all its flags."""
        if not self._is_new(number, now):
            return
        gone = {flag: None for flag in self._said if flag not in values}
        self._take({**values, **gone}, now)

    def correct(self, values: Mapping[str, Value | None], number: int, now: datetime) -> None:
        """The source says this of some flags, and nothing new of the others; None is a flag that it has no longer."""
        if self._is_new(number, now):
            self._take(values, now)

    def fail(self, problem: str, number: int, now: datetime) -> None:
        """A question had no answer; what was said before stays. That it is lost is told once, whatever its problem is called next."""
        if number <= self._newest:
            return
        self._failing_since = self._failing_since or now
        since = self._answered_at or self._failing_since
        if self._answered_at is not None and now - self._failing_since < LOST_AFTER:
            return
        told = f"no answer since {_time(since)}: {problem}" if self._answered_at else f"{NEVER}: {problem}"
        is_news = not self._problem
        self._problem = told
        if is_news:
            self._notify(None)

    def _is_new(self, number: int, now: datetime) -> bool:
        """Whether this has not been overtaken; then the source is not lost."""
        if number <= self._newest:
            return False
        lost, first = bool(self._problem), self._answered_at is None
        self._newest, self._answered_at = number, now
        self._failing_since, self._problem = None, ""
        if lost or first:
            self._notify(None)
        return True

    def _take(self, values: Mapping[str, Value | None], now: datetime) -> None:
        changed = set()
        for flag, value in values.items():
            before = self._said.get(flag)
            after = _followed(before, value, now)
            if before is None or replace(before, at=None) != replace(after, at=None):
                changed.add(flag)
            self._said[flag] = after
        if changed:
            self._notify(frozenset(changed))

    def _notify(self, flags: frozenset[str] | None) -> None:
        for listener in self._listeners:
            listener(flags)


def _followed(before: Said | None, value: Value | None, now: datetime) -> Said:
    if value is not None:
        switch = value if isinstance(value, bool) else (before.switch if before else None)
        return Said(value, switch, now)
    known = before or Said()
    when = f" since {_time(now)}" if known.value is not None else ""
    return known if known.problem else replace(known, problem=f"the source has nothing of it{when}")


def read_text(text: str) -> Value:
    """The value of a flag in a text, as in ConfigMaps: ``true`` and ``false`` are words of a switch, also with a line end."""
    return {"true": True, "false": False}.get(text.strip(), text)


def header_value(value: Value) -> str | None:
    """The value as a request header carries it; None if it cannot be one."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    fits = len(text) <= 128 and text.isascii() and text.isprintable() and text == text.strip()
    return text if fits else None


def _time(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")
