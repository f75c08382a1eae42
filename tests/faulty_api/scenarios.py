"""What an API server can do to its clients, one thing at a time, and how many requests of ours it may cost at most.

The bounds hold for the settings that the operator runs with. They are stated per minute, of an informer's reads and of
each key that a controller cannot write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.faulty_api import faults
from tests.faulty_api.faults import READS, WRITES, Fault


@dataclass(frozen=True)
class Scenario:
    """One way to misbehave.

    Attributes:
        name: In a few words.
        faults: Makes the faults.
        reads: Lists and watches of one informer per minute, at most.
        writes: Requests for one key per minute, at most, each with the reading that follows a lost answer.
        compacted: Whether the server has also forgotten its history, so that everything has to be asked for anew.
    """

    name: str
    faults: Callable[[], list[Fault]]
    reads: int
    writes: int = 20
    compacted: bool = False

    @property
    def concerns_reads(self) -> bool:
        """Whether an informer feels it."""
        return any(fault.verbs & READS for fault in self.faults())


def _unknown_watch_lists(*others: Fault) -> list[Fault]:
    return [faults.RefusesWatchLists(), *others]


SCENARIOS = (
    Scenario("connections are reset", lambda: [faults.Resets()], reads=30),
    Scenario("every answer is a 500", lambda: [faults.Refuses(code=500)], reads=15),
    Scenario(
        "429, come again in 5 s",
        lambda: [faults.Refuses(code=429, reason="TooManyRequests", retry_after=5)],
        reads=12,
    ),
    Scenario("requests hang", lambda: [faults.Hangs()], reads=15),
    Scenario("answers drip", lambda: [faults.Drips(piece=200, pause=0.002)], reads=5),
    Scenario("watches are closed at once", lambda: [faults.ClosesWatches()], reads=20),
    Scenario("watches break in the first line", lambda: [faults.BreaksWatches()], reads=20),
    Scenario("watches are half open", lambda: [faults.HalfOpen()], reads=5),
    Scenario("410 to every watch", lambda: [faults.Expires()], reads=5),
    Scenario("410 to every watch, no WatchLists", lambda: _unknown_watch_lists(faults.Expires()), reads=30),
    Scenario("no WatchLists", _unknown_watch_lists, reads=5, compacted=True),
    Scenario("WatchLists never end", lambda: [faults.NeverEndsInitialEvents()], reads=5, compacted=True),
    Scenario(
        "410 to every second page",
        lambda: _unknown_watch_lists(faults.ExpiresPages()),
        reads=5,
        compacted=True,
    ),
    Scenario("events come twice, and old ones again", lambda: [faults.Duplicates()], reads=5),
    Scenario("neighbouring events are swapped", lambda: [faults.Reorders()], reads=5),
    Scenario("watches send nonsense", lambda: [faults.SendsNonsense()], reads=20),
    Scenario("answers of writes are lost", lambda: [faults.LosesAnswers(verbs=WRITES)], reads=5),
    Scenario(
        "every write is a 409",
        lambda: [faults.Refuses(code=409, reason="Conflict", verbs=WRITES)],
        reads=5,
    ),
    Scenario("reads fail, writes do not", lambda: [faults.Refuses(code=503, verbs=READS)], reads=15),
)
