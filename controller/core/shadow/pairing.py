"""Joins the halves of comparisons, in whichever order and however often they arrive.

Every comparison that is known of ends exactly once, in a pair or in a bin: a half that never arrives ends it when its time
is over or memory is full, a half that arrives again or too late changes nothing. Instants are seconds of a clock that never goes back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from controller.core.shadow.comparison import Bin
from controller.core.shadow.exchange import Exchange, Pair, Side, Subject

SLACK_SECONDS = 10.0
"""For how long after the time that an answer may take its half may still be on its way."""

LARGEST_BYTES = 256 << 20
"""Of all halves that wait."""

MOST = 50_000
"""Requests that are remembered, those that have ended included: they make late halves known as such."""

_OTHERS = (Side.CANDIDATE, Side.NOISE)
_HALF_BYTES = 2_000
"""What a half takes beside its bodies."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A comparison that ended without a pair.

    Attributes:
        id: As that of the pair would be.
        side: Who answered beside stable, or should have.
        subject: Whose answers were to be compared.
        bin: Why it ended.
    """

    id: str
    side: Side
    subject: Subject
    bin: Bin


@dataclass(slots=True)
class _Request:
    """What has arrived of one request.

    Attributes:
        subject: Of its first half.
        until: When its time is over; when it is over a second time, the request is forgotten.
        patience: Seconds that are waited.
        due: Sides whose comparison has not ended.
        ended: Those whose has.
        halves: What has arrived and is still needed.
        arrived: Sides that have arrived.
        forgetting: Whether its time is over.
    """

    subject: Subject
    until: float
    patience: float
    due: set[Side] = field(default_factory=set)
    ended: set[Side] = field(default_factory=set)
    halves: dict[Side, Exchange] = field(default_factory=dict)
    arrived: set[Side] = field(default_factory=set)
    forgetting: bool = False


class Pairing:
    """The comparisons that are not complete, in bounded memory: when it is full, the oldest end as `Bin.UNPAIRED`.

    They are remembered without their halves, until there are too many to remember.
    """

    def __init__(
        self, *, slack: float = SLACK_SECONDS, max_bytes: int = LARGEST_BYTES, max_count: int = MOST
    ) -> None:
        """Nothing has arrived yet.

        Args:
            slack: Seconds to wait beyond the time that an answer may take.
            max_bytes: Of the halves that wait.
            max_count: Requests to remember.
        """
        self._slack = slack
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._open: dict[str, _Request] = {}
        self._ended: dict[str, _Request] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Of the halves that wait."""
        return self._held_bytes

    @property
    def waiting(self) -> int:
        """Comparisons that have not ended."""
        return sum(len(request.due) for request in self._open.values())

    def take(self, exchange: Exchange, now: float) -> tuple[Pair | Ended, ...]:
        """A half has arrived; what it completes or ends, itself or by the room that it needs."""
        request = self._known(exchange.pair) or self._begin(exchange, now)
        if exchange.side in request.arrived:
            return ()
        request.arrived.add(exchange.side)
        request.due |= _due(exchange) - request.ended
        ends = tuple(self._complete(exchange, request))
        self._sort_in(exchange.pair, request)
        return (*ends, *self._make_room())

    def expire(self, now: float) -> tuple[Ended, ...]:
        """End what has waited long enough."""
        ends: list[Ended] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            until, key = heapq.heappop(self._deadlines)
            request = self._known(key)
            if request is None or request.until != until:
                continue  # it was forgotten
            ends += self._give_up(key, request)
            if request.forgetting:
                del self._ended[key]
                continue
            request.forgetting = True
            request.until += request.patience
            heapq.heappush(self._deadlines, (request.until, key))
        return tuple(ends)

    def _known(self, key: str) -> _Request | None:
        return self._open.get(key) or self._ended.get(key)

    def _sort_in(self, key: str, request: _Request) -> None:
        """Only what waits for a half holds any."""
        to, other = (self._open, self._ended) if request.due else (self._ended, self._open)
        other.pop(key, None)
        to[key] = request

    def _begin(self, exchange: Exchange, now: float) -> _Request:
        patience = exchange.timeout + self._slack
        request = _Request(exchange.subject, now + patience, patience)
        heapq.heappush(self._deadlines, (request.until, exchange.pair))
        return request

    def _complete(self, exchange: Exchange, request: _Request) -> Iterator[Pair | Ended]:
        """What the newest half makes of the comparisons that it belongs to."""
        key = exchange.pair
        self._keep(exchange, request)
        stable = request.halves.get(Side.STABLE)
        for side in _OTHERS:
            if side not in request.due:
                continue
            other = request.halves.get(side)
            if (stable and stable.oversized) or (other and other.oversized):
                yield self._end(key, side, request, Bin.TOO_LARGE)
            elif stable and other:
                request.due.discard(side)
                request.ended.add(side)
                yield _pair(side, stable, other)
        self._drop_unneeded(request)

    def _keep(self, exchange: Exchange, request: _Request) -> None:
        request.halves[exchange.side] = exchange
        self._held_bytes += _size(exchange)

    def _drop_unneeded(self, request: _Request) -> None:
        """Stable's half is needed by every comparison, and by one of which nothing has arrived yet."""
        needed = set(request.due)
        if request.due or Side.STABLE not in request.arrived:
            needed.add(Side.STABLE)
        for side in set(request.halves) - needed:
            self._held_bytes -= _size(request.halves.pop(side))

    def _end(self, key: str, side: Side, request: _Request, where: Bin) -> Ended:
        request.due.discard(side)
        request.ended.add(side)
        return Ended(_id(key, side), side, request.subject, where)

    def _give_up(self, key: str, request: _Request) -> list[Ended]:
        ends = [self._end(key, side, request, Bin.UNPAIRED) for side in sorted(request.due)]
        for side in list(request.halves):
            self._held_bytes -= _size(request.halves.pop(side))
        self._sort_in(key, request)
        return ends

    def _make_room(self) -> Iterator[Ended]:
        """The oldest give theirs up, whatever they wait for; what has ended is forgotten first."""
        while self._held_bytes > self._max_bytes:
            key = next(iter(self._open))
            yield from self._give_up(key, self._open[key])
        while len(self._open) + len(self._ended) > self._max_count:
            if not self._ended:
                key = next(iter(self._open))
                yield from self._give_up(key, self._open[key])
            del self._ended[next(iter(self._ended))]


def _due(exchange: Exchange) -> set[Side]:
    """The comparisons that a half says are under way."""
    if exchange.side is not Side.STABLE:
        return {exchange.side}
    return {Side.CANDIDATE, Side.NOISE} if exchange.noise_due else {Side.CANDIDATE}


def _pair(side: Side, stable: Exchange, other: Exchange) -> Pair:
    return Pair(
        id=_id(stable.pair, side),
        side=side,
        subject=stable.subject,
        question=stable.question,
        stable=stable.answer,
        other=other.answer,
        target=other.target,
    )


def _id(key: str, side: Side) -> str:
    return f"{key}/{side}" if side is Side.NOISE else key


def _size(exchange: Exchange) -> int:
    return len(exchange.question.body) + len(exchange.answer.body) + _HALF_BYTES
