"""Takes comparisons from the queue, has them judged, and records how they ended, each once."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

import structlog

from controller.adapters.shadow_ports import (
    MAX_ATTEMPTS,
    Delivery,
    Queue,
    Record,
    Records,
    RecordsError,
    Spent,
)
from controller.core.shadow.comparison import Bin, Case, CaseAnswer
from controller.core.shadow.judgement import JudgeError, Judgement, OverBudgetError
from controller.runtime.backoff import Backoff
from controller.runtime.clock import Clock
from controller.shadow.comparisons import Comparison, decode
from controller.shadow.funnel import Funnel

RETRIES = Backoff(base=30.0, cap=600.0)
"""Between attempts of one comparison. The judge itself has retried within each."""
_RECORDS = Backoff(base=0.5, cap=15.0)

_BEATS = 3
"""So many times within the queue's patience a worker says that it is alive."""

_log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Panel(Protocol):
    """Whoever judges."""

    async def judge(self, case: Case) -> Judgement:
        """See ``Judge.judge``."""

    def artifact(self, case: Case) -> str:
        """Of the judge that the case is for; empty if there is none."""


class Workers:
    """So many comparisons are worked on at once.

    A record decides: what has one is not judged again, and is counted by whoever wrote it. While records cannot be
    written, workers wait with what they have, and the queue fills.

    Args:
        queue: Where comparisons come from.
        panel: Judges them.
        records: Where ends are stored.
        funnel: Where ends are counted.
        clock: Source of time.
        count: Comparisons at once.
        retries: Between attempts.
    """

    name = "workers"

    def __init__(
        self,
        queue: Queue,
        panel: Panel,
        records: Records,
        funnel: Funnel,
        *,
        clock: Clock,
        count: int,
        retries: Backoff = RETRIES,
    ) -> None:
        """Nothing runs yet."""
        self._queue, self._panel, self._records, self._funnel = queue, panel, records, funnel
        self._clock, self._count, self._retries = clock, count, retries
        self._stopping = asyncio.Event()
        self._idle: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._problem = ""
        funnel.pending("judging", lambda: self._busy)

    @property
    def problem(self) -> str:
        """Why nothing can be recorded; empty while all is well."""
        return self._problem

    async def run(self) -> None:
        """Work until `stop`, then finish what is under way; cancelled, give it back to the queue."""
        if not self._stopping.is_set():
            async with asyncio.TaskGroup() as group:
                for _ in range(self._count):
                    group.create_task(self._loop())

    def stop(self) -> None:
        """Take nothing more."""
        self._stopping.set()
        for task in self._idle:
            task.cancel()

    async def _loop(self) -> None:
        me = asyncio.current_task()
        assert me is not None  # noqa: S101  a task calls it
        while not self._stopping.is_set():
            self._idle.add(me)
            try:
                delivery = await self._queue.get()
            except asyncio.CancelledError:
                if self._stopping.is_set() and me.uncancel() == 0:
                    return
                raise
            finally:
                self._idle.discard(me)
            self._busy += 1
            try:
                await self._work(delivery)
            finally:
                self._busy -= 1

    async def _work(self, delivery: Delivery) -> None:
        beating = asyncio.create_task(self._beat(delivery))
        try:
            await self._settle(delivery)
        except asyncio.CancelledError:
            await delivery.again(0)
            raise
        finally:
            beating.cancel()

    async def _beat(self, delivery: Delivery) -> None:
        while True:
            await self._clock.sleep(self._queue.patience / _BEATS)
            await delivery.working()

    async def _settle(self, delivery: Delivery) -> None:
        try:
            comparison = decode(delivery.payload)
        except ValueError as error:
            _log.error("not_a_comparison", error=type(error).__name__)
            await delivery.done()
            return
        case = comparison.case
        if await self._stored(self._records.has, case.id):
            await delivery.done()
            return
        end = await self._end(comparison, delivery.attempt)
        if isinstance(end, Spent):
            if end.tokens:
                await self._stored(self._records.spend, end, self._clock.now().timestamp())
                self._funnel.spent(case.subject, end.tokens, end.cost)
            await delivery.again(self._retries.delay(delivery.attempt))
            return
        if await self._stored(self._records.add, end):
            self._funnel.end(case.subject, case.side, end.bin)
            self._funnel.spent(case.subject, end.tokens, end.cost)
        await delivery.done()

    async def _end(self, comparison: Comparison, attempt: int) -> Record | Spent:
        """How the comparison ends; if it is to be tried again, what this attempt has cost."""
        case = comparison.case
        if comparison.decided is not None:
            return self._record(case, comparison.decided, _failure(comparison.decided, case))
        if attempt > MAX_ATTEMPTS:
            return self._record(case, Bin.DEAD_LETTER, "Its workers died, one after the other.")
        try:
            return await self._judged(case)
        except (OverBudgetError, JudgeError) as error:
            return self._unjudged(case, error, attempt)
        except Exception as error:  # noqa: BLE001  a judge that has a bug gives no verdict either
            # Message and traceback could quote the answers.
            _log.error(
                "judge_failed",
                rollout=case.subject.rollout,
                artifact=case.subject.candidate_artifact,
                pair=case.id,
                error=type(error).__name__,
                where=_place(error),
            )
            return self._record(case, Bin.JUDGE_ERROR, f"The judge failed: {type(error).__name__}.")

    def _unjudged(self, case: Case, error: OverBudgetError | JudgeError, attempt: int) -> Record | Spent:
        where, reason = Bin.JUDGE_ERROR, str(error)
        if isinstance(error, OverBudgetError):
            where = Bin.OVER_BUDGET
        elif error.transient and attempt < MAX_ATTEMPTS:
            return Spent(case.subject.rollout, case.subject.judge, error.tokens, error.cost)
        elif error.transient:
            where, reason = Bin.DEAD_LETTER, f"It was tried {attempt} times: {error}"
        return self._record(case, where, reason, error.tokens, error.cost)

    async def _judged(self, case: Case) -> Record:
        began = self._clock.monotonic()
        judgement = await self._panel.judge(case)
        return Record(
            case=case,
            bin=judgement.outcome.bin,
            reason=judgement.reason,
            at=self._clock.now().timestamp(),
            judge_artifact=judgement.judge_artifact,
            model=judgement.model,
            tokens=judgement.tokens,
            cost=judgement.cost,
            seconds=self._clock.monotonic() - began,
        )

    def _record(self, case: Case, where: Bin, reason: str, tokens: int = 0, cost: float = 0.0) -> Record:
        return Record(
            case,
            where,
            reason,
            self._clock.now().timestamp(),
            judge_artifact=self._panel.artifact(case) if where in _JUDGES else "",
            tokens=tokens,
            cost=cost,
        )

    async def _stored(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        failures = 0
        while True:
            try:
                result = await asyncio.to_thread(call, *args, **kwargs)
            except RecordsError as error:
                failures += 1
                if not self._problem:
                    _log.warning("records_out_of_reach", error=str(error))
                self._problem = str(error)
            else:
                self._problem = ""
                return result
            await self._clock.sleep(_RECORDS.delay(failures))


_JUDGES = frozenset({Bin.JUDGE_ERROR, Bin.OVER_BUDGET, Bin.DEAD_LETTER})
"""Ends that say something about a judge."""


def _place(error: Exception) -> str:
    """Where in the source it was raised."""
    last = traceback.extract_tb(error.__traceback__, -1)[0]
    return f"{last.filename}:{last.lineno}"


def _failure(where: Bin, case: Case) -> str:
    match where:
        case Bin.LOSS:
            return f"It failed where stable answered: {_told(case.other)}."
        case Bin.DIVERGED:
            step = case.replayed.steps if case.replayed else 0
            return (
                f"It diverged at step {step}: it calls a tool that stable's run did not call at that point."
            )
        case Bin.WIN:
            return f"It answered where stable failed: {_told(case.stable)}."
        case _:
            return f"Both failed: {_told(case.other)}; stable {_told(case.stable)}."


def _told(answer: CaseAnswer) -> str:
    if not answer.status:
        return "no answer"
    return f"HTTP {answer.status}" + ("" if answer.status >= 500 else ", cut short")
