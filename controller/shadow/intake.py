"""From captured halves to comparisons in the queue: pairing, replaying, the rule for failures, redaction, handing over."""

from __future__ import annotations

import asyncio

import structlog

from controller.adapters.shadow_ports import Queue, QueueFullError, TooLargeError
from controller.core.shadow.comparison import Bin, without_judge
from controller.core.shadow.exchange import Exchange, Pair
from controller.core.shadow.pairing import Ended, Pairing
from controller.core.shadow.recognisers import Recogniser
from controller.core.shadow.redaction import case_of
from controller.runtime.clock import Clock
from controller.shadow.comparisons import Comparison, encode
from controller.shadow.funnel import Funnel
from controller.shadow.replays import Replays, TooLargeRunError

EXPIRY_SECONDS = 1.0
"""How often is looked for halves whose other one is overdue."""

MAX_HANDING_OVER = 2_000
MAX_HANDING_OVER_BYTES = 64 << 20
"""Of comparisons that are replayed, wait for redaction, or that the queue has not confirmed yet; what is beyond is shed."""

LOADED = 0.25
"""Of either; above it no run is driven again, so that replays are what is left out first."""

_log = structlog.get_logger(__name__)


class Intake:
    """Takes captured halves; for use on one event loop.

    Args:
        pairing: Joins them.
        recognise: Finds personal data.
        queue: Where comparisons go.
        funnel: Where ends are counted.
        clock: Source of time.
        replays: Drives runs again; None if none are.
    """

    def __init__(
        self,
        pairing: Pairing,
        recognise: Recogniser,
        queue: Queue,
        funnel: Funnel,
        clock: Clock,
        replays: Replays | None = None,
    ) -> None:
        """Nothing is under way."""
        self._replays = replays
        self._pairing, self._recognise, self._queue = pairing, recognise, queue
        self._funnel, self._clock = funnel, clock
        self._handing_over: set[asyncio.Task[None]] = set()
        self._bytes = 0
        self._redacting = asyncio.Lock()  # recognisers from outside need not bear several threads
        funnel.pending("pairing", lambda: pairing.waiting)
        funnel.pending("handing_over", lambda: len(self._handing_over))

    def take(self, exchange: Exchange) -> None:
        """A half has been captured."""
        self._funnel.know(exchange.subject)
        if self._replays is not None and exchange.target is not None:
            self._funnel.know_replays(exchange.subject, exchange.side)
        self._each(self._pairing.take(exchange, self._clock.monotonic()))

    async def run(self) -> None:
        """End what waits in vain, until cancelled."""
        while True:
            await self._clock.sleep(EXPIRY_SECONDS)
            self._each(self._pairing.expire(self._clock.monotonic()))

    async def finish(self, seconds: float) -> int:
        """Wait until the queue has all that was paired, at most so long; says how many comparisons are lost."""
        lost = self._pairing.waiting
        if self._replays is not None:
            self._replays.stop()
        if self._handing_over:
            _, late = await asyncio.wait(self._handing_over, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            lost += len(late)
        return lost

    def _each(self, results: tuple[Pair | Ended, ...]) -> None:
        for result in results:
            if isinstance(result, Ended):
                self._funnel.end(result.subject, result.side, result.bin)
            else:
                self._pair(result)

    def _pair(self, pair: Pair) -> None:
        size = sum(len(body) for body in (pair.question.body, pair.stable.body, pair.other.body))
        if len(self._handing_over) >= MAX_HANDING_OVER or self._bytes + size > MAX_HANDING_OVER_BYTES:
            self._funnel.end(pair.subject, pair.side, Bin.SHED)
            return
        self._bytes += size
        task = asyncio.get_running_loop().create_task(self._hand_over(pair, size))
        self._handing_over.add(task)
        task.add_done_callback(self._handing_over.discard)

    async def _hand_over(self, pair: Pair, size: int) -> None:
        at = self._clock.now().timestamp()
        try:
            if self._replays is not None:
                pair = await self._replays.of(pair, loaded=self._is_loaded)
            payload = await self._redacted(pair, at)
            if payload is not None:
                await self._queue.put(pair.id, payload)
        except QueueFullError:
            self._funnel.end(pair.subject, pair.side, Bin.SHED)
        except (TooLargeError, TooLargeRunError):
            self._funnel.end(pair.subject, pair.side, Bin.TOO_LARGE)
        finally:
            self._bytes -= size

    @property
    def _is_loaded(self) -> bool:
        return (
            len(self._handing_over) > LOADED * MAX_HANDING_OVER
            or self._bytes > LOADED * MAX_HANDING_OVER_BYTES
        )

    async def _redacted(self, pair: Pair, at: float) -> bytes | None:
        """What goes into the queue; None if the redactor failed. A large pair takes seconds: captures must not wait for it."""
        try:
            async with self._redacting:
                return await asyncio.to_thread(_payload, pair, self._recognise, at)
        except Exception as error:  # noqa: BLE001  whatever it is, nothing of the pair goes on
            # Message and traceback could quote what was to be taken out.
            _log.error(
                "redaction_failed",
                rollout=pair.subject.rollout,
                artifact=pair.subject.candidate_artifact,
                pair=pair.id,
                error=type(error).__name__,
            )
            self._funnel.end(pair.subject, pair.side, Bin.REDACTION_FAILED)
            return None


def _payload(pair: Pair, recognise: Recogniser, at: float) -> bytes:
    return encode(Comparison(case_of(pair, recognise, at), without_judge(pair)))
