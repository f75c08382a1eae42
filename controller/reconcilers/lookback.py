"""How far back the next question about a rollout has to look, as the last answer tells.

Nobody says how often Prometheus scrapes, so a first question looks back generously. The answer shows where each series ended and
in what rhythm; the next one then needs no more than what follows, and two scrapes before it. What it leaves out was counted
before, so nothing that is counted depends on it: memory that is lost costs one long answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.core.counts import Series, stale_before


@dataclass(frozen=True, slots=True)
class _Seen:
    """One answer.

    Attributes:
        newest: The instants of the newest samples of all series, in unix milliseconds.
        since: From where on samples are needed if counting went up to one of these instants, in unix seconds.
    """

    newest: tuple[int, ...]
    since: float


class Lookback:
    """What is remembered of the last answers about each rollout."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._seen: dict[str, _Seen] = {}

    def note(self, key: str, series: Iterable[Series]) -> None:
        """Remember an answer about the rollout ``namespace/name``.

        A series that stands still keeps the next question long until it is out of sight.
        """
        sampled = [one.samples for one in series if one.samples]
        gaps = [
            (samples[-1][0] - samples[0][0]) / (len(samples) - 1) for samples in sampled if len(samples) > 1
        ]
        if not gaps:
            self.forget(key)
            return
        newest = {samples[-1][0] for samples in sampled}
        instants = tuple(sorted(map(_milliseconds, newest)))
        self._seen[key] = _Seen(instants, stale_before(min(newest), max(gaps)))

    def margin(
        self, key: str, counted: Sequence[datetime | None], begins: datetime, most: timedelta
    ) -> timedelta:
        """How far to look back beyond the beginning of the next interval.

        Args:
            key: The rollout.
            counted: Up to when each of its metrics was counted. If one did not end with the answer that is remembered, as after
                a lost write or a change of the lead, that answer says nothing.
            begins: From where the next interval counts.
            most: What is enough without knowing anything.
        """
        seen = self._seen.get(key)
        if seen is None or not all(
            each and _milliseconds(each.timestamp()) in seen.newest for each in counted
        ):
            return most
        return min(most, timedelta(seconds=max(begins.timestamp() - seen.since, 0.0)))

    def forget(self, key: str) -> None:
        """The rollout is gone, or was not answered."""
        self._seen.pop(key, None)


def _milliseconds(time: float) -> int:
    """Prometheus knows time in milliseconds."""
    return round(1000 * time)
