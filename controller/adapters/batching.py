"""One query for all rollouts whose evaluations fall together, instead of one for each."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from controller.adapters.ports import MetricSource, MetricSourceError, Question
from controller.core.counts import Series

_log = structlog.get_logger(__name__)

WINDOW_SECONDS = 0.05
"""How long the first question of a batch waits for others; evaluations begin on a grid, so most come in that time."""

VALUES_PER_QUERY = 40
"""Versions in one query, each of up to nine clusters. It bounds the size of an answer, and so for how long decoding one keeps the others waiting."""

VALUES_OF_WHOLE_HISTOGRAMS = 25
"""The same where all edges of a histogram are read, not two."""

EDGES_PER_QUERY = 8
"""Edges in one query. Every version in it is read with all of them; a few more queries are cheaper than that."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Questions of one kind share queries; one that looks back much further than the others goes apart from them.

    Those about agents share one only if they read the same metrics: those of one rollout may be large, or none at all.
    """

    processes: frozenset[str]
    label: str
    only: tuple[tuple[str, tuple[str, ...]], ...]
    whole_histograms: bool
    magnitude: int
    names: frozenset[str]

    @classmethod
    def of(cls, question: Question) -> _Kind:
        """Windows are of one magnitude up to a factor of two."""
        magnitude = math.frexp(question.window.total_seconds())[1]
        names = frozenset[str]() if question.processes else question.names
        return cls(
            question.processes, question.label, question.only, question.edges is None, magnitude, names
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    question: Question
    answer: asyncio.Future[tuple[Series, ...]]


class BatchingSource:
    """A MetricSource that collects questions for a moment and asks another one for all of them at once.

    Whoever is cancelled meanwhile leaves the shared query to the others. A query that fails fails for those whose
    versions it was about, each with an error of its own.
    """

    def __init__(self, source: MetricSource, *, window_seconds: float = WINDOW_SECONDS) -> None:
        """Nothing is asked yet.

        Args:
            source: Who is asked.
            window_seconds: How long a question waits for others.
        """
        self._source = source
        self._window = window_seconds
        self._waiting: dict[_Kind, list[_Asked]] = {}
        self._running: set[asyncio.Task[tuple[Series, ...]]] = set()

    async def read(self, question: Question) -> tuple[Series, ...]:
        """See ``MetricSource.read``."""
        loop, kind = asyncio.get_running_loop(), _Kind.of(question)
        asked = _Asked(question, loop.create_future())
        if kind not in self._waiting:
            self._waiting[kind] = []
            loop.call_later(self._window, self._send, kind)
        self._waiting[kind].append(asked)
        return await asked.answer

    async def values(self, query: str, at: datetime) -> tuple[float, ...]:
        """See ``MetricSource.values``: no two queries of people can be one."""
        return await self._source.values(query, at)

    async def close(self) -> None:
        """Give up what is under way; whoever still waits is told so."""
        for kind in list(self._waiting):
            self._send(kind)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _send(self, kind: _Kind) -> None:
        for batch in _batches(self._waiting.pop(kind, []), kind):
            question = _merged([asked.question for asked in batch])
            task = asyncio.get_running_loop().create_task(self._source.read(question))
            self._running.add(task)
            task.add_done_callback(partial(self._answered, batch))

    def _answered(self, batch: list[_Asked], task: asyncio.Task[tuple[Series, ...]]) -> None:
        self._running.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            _hand_out(batch, task.result())
            return
        problem = str(error) or "the question to the metric source was given up"
        if not isinstance(error, MetricSourceError | asyncio.CancelledError):
            _log.error("metric_source_failed", exc_info=error)
            problem = f"the metric source failed: {type(error).__name__}"
        for asked in batch:
            if not asked.answer.done():
                asked.answer.set_exception(MetricSourceError(problem))


def _batches(waiting: Iterable[_Asked], kind: _Kind) -> Iterator[list[_Asked]]:
    """The questions in parts of limited size; those with the same edges together, so that few edges are read."""
    limit = VALUES_OF_WHOLE_HISTOGRAMS if kind.whole_histograms else VALUES_PER_QUERY
    batch: list[_Asked] = []
    values, edges = 0, frozenset[float]()
    for asked in sorted(waiting, key=lambda each: sorted(each.question.edges or ())):
        if asked.answer.done():
            continue
        values += len(asked.question.values)
        edges |= asked.question.edges or frozenset()
        if batch and (values > limit or len(edges) > EDGES_PER_QUERY):
            yield batch
            batch = []
            values, edges = len(asked.question.values), asked.question.edges or frozenset()
        batch.append(asked)
    if batch:
        yield batch


def _merged(questions: list[Question]) -> Question:
    """One question whose answer holds the answers to all of them."""
    at = max(question.at for question in questions)
    begin = min(question.at - question.window for question in questions)
    edges = [question.edges for question in questions if question.edges is not None]
    return replace(
        questions[0],
        names=frozenset().union(*(question.names for question in questions)),
        values=frozenset().union(*(question.values for question in questions)),
        edges=frozenset().union(*edges) if edges else None,
        window=max(at - begin, timedelta(0)),
        at=at,
    )


def _hand_out(batch: list[_Asked], series: tuple[Series, ...]) -> None:
    label, processes = batch[0].question.label, batch[0].question.processes
    everyones: list[Series] = []
    by_value: dict[str, list[Series]] = {}
    for one in series:
        if one.labels.get("__name__") in processes:
            everyones.append(one)
        else:
            by_value.setdefault(one.labels.get(label, ""), []).append(one)
    for asked in batch:
        own = (one for value in asked.question.values for one in by_value.get(value, ()))
        if not asked.answer.done():
            asked.answer.set_result((*everyones, *own))
