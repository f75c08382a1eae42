"""Drives finished runs of stable again: the other side is asked from their start, and recorded results answer its tools."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from controller.adapters.shadow_ports import Agents, TooLargeError, UnreachableError
from controller.core.shadow.exchange import Pair, Target
from controller.core.shadow.replay import MAX_BODY_BYTES, Replay, ReplayEnd, Run, read_run
from controller.shadow.funnel import Funnel

MAX_SECONDS = 300.0
"""Of one run; each answer has its own time within it."""

_log = structlog.get_logger(__name__)


class TooLargeRunError(Exception):
    """What the other side said is larger than what is kept."""


class Replays:
    """A bounded number of runs at once; none waits. Where there is no room, the mirrored answer is compared as ever.

    Args:
        agents: Who is asked.
        funnel: Where ends are counted.
        at_once: Runs at once.
    """

    def __init__(self, agents: Agents, funnel: Funnel, at_once: int) -> None:
        """Nothing is under way."""
        self._agents, self._funnel, self._at_once = agents, funnel, at_once
        self._driving: set[asyncio.Task[tuple[ReplayEnd, Pair]]] = set()
        self._stopping = False
        funnel.pending("replaying", lambda: len(self._driving))

    async def of(self, pair: Pair, *, loaded: bool) -> Pair:
        """The pair with the last answer of the run that was driven again; the pair itself if none was.

        Args:
            pair: Two answers to a mirrored request.
            loaded: Whether the process has so much to do that no run is to begin.

        Raises:
            TooLargeRunError: What the other side said is larger than what is kept.
        """
        if pair.target is None or b'"tool_call_id"' not in pair.question.body:
            return pair
        run = await asyncio.to_thread(read_run, pair)
        if run is None:
            return pair
        how, found = ReplayEnd.DROPPED, pair
        if not (loaded or self._stopping or len(self._driving) >= self._at_once):
            how, found = await self._bounded(pair, pair.target, run)
        self._funnel.replayed(pair.subject, pair.side, how, found.replayed)
        if how is ReplayEnd.TOO_LARGE:
            raise TooLargeRunError
        return found

    def stop(self) -> None:
        """Give up what is under way: its mirrored answers are compared."""
        self._stopping = True
        for task in self._driving:
            task.cancel()

    async def _bounded(self, pair: Pair, target: Target, run: Run) -> tuple[ReplayEnd, Pair]:
        task = asyncio.create_task(self._drive(pair, target, run))
        self._driving.add(task)
        try:
            await asyncio.wait({task}, timeout=MAX_SECONDS)
            if not task.done() or task.cancelled():
                return ReplayEnd.DROPPED, pair
            return task.result()
        except Exception as error:  # noqa: BLE001  whatever it is, the mirrored answer is there
            # Message and traceback could quote the answers.
            _log.error(
                "replay_failed", rollout=pair.subject.rollout, pair=pair.id, error=type(error).__name__
            )
            return ReplayEnd.DROPPED, pair
        finally:
            task.cancel()
            self._driving.discard(task)

    async def _drive(self, pair: Pair, target: Target, run: Run) -> tuple[ReplayEnd, Pair]:
        replay, artifact = Replay(run), pair.subject.artifact(pair.side)
        while True:
            body = replay.body
            if len(body) > MAX_BODY_BYTES:
                return ReplayEnd.TOO_LARGE, pair
            try:
                answer = await self._agents.ask(target, artifact, replace(pair.question, body=body))
            except UnreachableError:
                return ReplayEnd.UNREACHABLE, pair
            except TooLargeError:
                return ReplayEnd.TOO_LARGE, pair
            how = replay.take(answer)
            if how is ReplayEnd.REFUSED:
                return how, pair
            if how is not None:
                return how, replace(pair, other=answer, replayed=replay.progress)
