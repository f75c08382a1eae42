"""Conversations as trials: what requests that ended say about them, in bounded memory.

A trial is a conversation that is met for the first time under the present split. It is judged a fixed exposure after its
first request ended, and bad if any of its requests in this time was: every conversation has the same time to fail,
whichever version it met. The versions are drawn by conversation, each is counted once, and every rule here is the same
for all versions; so under equal versions the trials are exchangeable, however the requests of one conversation
depend on each other. docs/adr/0030-conversation-trials.md has the reasons.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TypeVar

from controller.core.traffic import TrafficTable

T = TypeVar("T")

WHOLE = 1 << 64
"""The hashes of conversations are below it."""

LOOKBACK_EXPOSURES = 5
"""So many exposures a rollout is watched before the first trial: who was met in this time was there before."""

MEMORY_EXPOSURES = 60
"""So many exposures after its last request a conversation is forgotten; it would then be a new one."""

REMEMBERED = 200_000
"""Conversations that one process remembers, of all rollouts together; each takes 170 to 300 bytes."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that ended.

    Attributes:
        conversation: A hash of what identifies it, evenly spread below ``WHOLE`` and independent of the split's.
        split: Name of the split that chose the version.
        revision: The version.
        bad: Whether it failed.
    """

    conversation: int
    split: str
    revision: str
    bad: bool


@dataclass(frozen=True, slots=True)
class TrialCounts:
    """The trials of one version that were judged so far."""

    rollout: str
    revision: str
    bad: int
    good: int


@dataclass(slots=True)
class _Trial:
    began: float
    revision: str
    bad: bool


@dataclass(slots=True)
class _Judged:
    bad: int = 0
    good: int = 0


@dataclass(slots=True)
class Ledger:
    """The conversations of one rollout. Instants are seconds of a clock that never goes back.

    Attributes:
        exposure: How long after its first request a conversation is judged.
        judged: Counts by revision, which never fall.
        share: One in 2 to the power of this many conversations is looked at.
    """

    exposure: float
    judged: dict[str, _Judged] = field(default_factory=dict)
    share: int = 0
    _split: str = ""
    _since: float | None = None
    _met: OrderedDict[int, float] = field(default_factory=OrderedDict)
    _pending: OrderedDict[int, _Trial] = field(default_factory=OrderedDict)

    @property
    def remembered(self) -> int:
        """How many conversations are kept in mind."""
        return len(self._met)

    def begin(self, split: str, revisions: tuple[str, ...], now: float) -> None:
        """Another split is programmed; trials that are not over are left out, those of every version alike.

        To go on with those that stay where they are would favour stable: its long conversations, which fail more often
        than short ones, are seen to move to the candidate, and the candidate's never to move.

        Args:
            split: Its name; empty while the candidate has no share.
            revisions: The versions whose trials count.
            now: The present.
        """
        self.advance(now)
        self.judged = {revision: self.judged.get(revision, _Judged()) for revision in revisions}
        if split != self._split:
            self._split = split
            self._pending.clear()

    def take(self, request: Request, now: float) -> None:
        """A request ended."""
        self.advance(now)
        if self._since is None:
            self._since = now
        conversation = request.conversation
        if conversation >= WHOLE >> self.share:
            return
        is_new = self._met.pop(conversation, None) is None
        self._met[conversation] = now
        if is_new:
            if self._counts(request, now):
                self._pending[conversation] = _Trial(now, request.revision, request.bad)
            return
        trial = self._pending.get(conversation)
        if trial is None:
            return
        if request.split != self._split or request.revision != trial.revision:
            # Several routers take a split at instants of their own, and break-glass moves people: nobody's trial.
            del self._pending[conversation]
        else:
            trial.bad |= request.bad

    def advance(self, now: float) -> None:
        """Judge whose exposure is over, forget who was not met for long."""
        for conversation, trial in _until(self._pending, lambda each: each.began + self.exposure <= now):
            del self._pending[conversation]
            counts = self.judged[trial.revision]
            if trial.bad:
                counts.bad += 1
            else:
                counts.good += 1
        memory = MEMORY_EXPOSURES * self.exposure
        for conversation, _ in _until(self._met, lambda met: met + memory <= now):
            del self._met[conversation]

    def halve(self) -> None:
        """From now on look at half as many conversations: those with the smaller hashes, of every version alike."""
        self.share += 1
        least = WHOLE >> self.share
        self._met = OrderedDict((each, met) for each, met in self._met.items() if each < least)
        self._pending = OrderedDict((each, trial) for each, trial in self._pending.items() if each < least)

    def forget(self) -> None:
        """Nobody watches for a while: who is met afterwards may have been there before. What was judged stays."""
        self._since, self.share = None, 0
        self._met.clear()
        self._pending.clear()

    def _counts(self, request: Request, now: float) -> bool:
        assert self._since is not None  # noqa: S101  the caller looked
        watched = now - self._since >= LOOKBACK_EXPOSURES * self.exposure
        return (
            watched and self._split != "" and request.split == self._split and request.revision in self.judged
        )


class Trials:
    """The ledgers of all rollouts whose conversations count, under one limit of memory."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        """Nothing is watched yet.

        Args:
            limit: Conversations to remember. Beyond it the rollout with the most goes on with half of them.
        """
        self._limit = limit
        self._ledgers: dict[str, Ledger] = {}
        self._remembered = 0

    @property
    def remembered(self) -> int:
        """How many conversations are kept in mind."""
        return self._remembered

    def publish(self, table: TrafficTable, now: float) -> None:
        """The table is what is wanted of its rollout."""
        if table.exposure is None or table.candidate is None:
            self.remove(table.key)
            return
        exposure = table.exposure.total_seconds()
        if table.key in self._ledgers and self._ledgers[table.key].exposure != exposure:
            self.remove(table.key)
        ledger = self._ledgers.setdefault(table.key, Ledger(exposure))
        before = ledger.remembered
        ledger.begin(split_name(table), tuple(each.revision for each in table.backends), now)
        self._remembered += ledger.remembered - before

    def remove(self, key: str) -> None:
        """Nothing of the rollout ``namespace/name`` is on its way."""
        ledger = self._ledgers.pop(key, None)
        if ledger is not None:
            self._remembered -= ledger.remembered

    def take(self, key: str, request: Request, now: float) -> None:
        """A request of the rollout ended."""
        ledger = self._ledgers.get(key)
        if ledger is None:
            return
        before = ledger.remembered
        ledger.take(request, now)
        self._remembered += ledger.remembered - before
        while self._remembered > self._limit:
            max(self._ledgers.values(), key=lambda each: each.remembered).halve()
            self._recount()

    def interrupt(self, now: float) -> None:
        """Requests end unseen from now on; whose exposure was over by then is judged."""
        for ledger in self._ledgers.values():
            ledger.advance(now)
            ledger.forget()
        self._recount()

    def counts(self, now: float) -> Iterator[TrialCounts]:
        """What was judged so far, of every version that is watched."""
        for key, ledger in self._ledgers.items():
            ledger.advance(now)
            for revision, judged in ledger.judged.items():
                yield TrialCounts(key, revision, judged.bad, judged.good)
        self._recount()

    def _recount(self) -> None:
        self._remembered = sum(ledger.remembered for ledger in self._ledgers.values())


def split_name(table: TrafficTable) -> str:
    """Eight characters that stand for who is drawn to which version; empty while nobody is drawn to the candidate."""
    if not table.weight_ppm:
        return ""
    drawn = repr((table.candidate, table.stable, table.attempt, table.weight_ppm, table.audiences))
    return hashlib.blake2b(drawn.encode(), digest_size=4).hexdigest()


def _until(kept: OrderedDict[int, T], is_over: Callable[[T], bool]) -> list[tuple[int, T]]:
    """The oldest for as long as they are over."""
    return list(takewhile(lambda each: is_over(each[1]), kept.items()))
