"""What was heard of when, so that what nothing is heard of any more need not be shown for ever."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Heard(Generic[K]):
    """Keys, each with the last time that something was heard of it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Nothing was heard of yet; ``monotonic`` gives seconds that never go back."""
        self._monotonic = monotonic
        self._at: dict[K, float] = {}

    def __iter__(self) -> Iterator[K]:
        """All that is not forgotten."""
        return iter(self._at)

    def note(self, key: K) -> bool:
        """Something was heard of it just now; whether that is the first."""
        is_new = key not in self._at
        self._at[key] = self._monotonic()
        return is_new

    def forget(self, seconds: float) -> list[K]:
        """Forget that of which nothing was heard for so long, and say what it was."""
        limit = self._monotonic() - seconds
        old = [key for key, at in self._at.items() if at < limit]
        for key in old:
            del self._at[key]
        return old
