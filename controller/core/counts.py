"""Raw counter samples (the reading half; counting follows in this module)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Series:
    """One counter of one scraped process.

    Attributes:
        labels: All labels, ``__name__`` included.
        samples: ``(unix seconds, value)``, oldest first.
    """

    labels: dict[str, str]
    samples: tuple[tuple[float, float], ...]
