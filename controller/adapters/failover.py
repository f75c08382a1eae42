"""Several Prometheus servers that scrape the same routers: one of them answers, the others stand by."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import structlog

from controller.adapters.ports import MetricSource, MetricSourceError, Question
from controller.core.counts import Scrapes, Series, stale_before

_log = structlog.get_logger(__name__)


class NamedSource(MetricSource, Protocol):
    """A MetricSource that people can tell from others."""

    @property
    def name(self) -> str:
        """What it is called in logs."""


class FailoverSource:
    """A MetricSource that asks one server until it fails to answer with fresh samples, then the next one.

    The one that answered stays the one that is asked, wherever it stands in the list: servers scrape at instants of
    their own, and each switch costs a scrape interval of evidence. docs/adr/0028-several-scrapers.md says more.
    """

    def __init__(self, sources: Sequence[NamedSource]) -> None:
        """Nothing is asked yet; the first of ``sources`` will be the first to be."""
        self._sources = tuple(sources)
        self._asked = 0
        self._answered = ""

    async def read(self, question: Question) -> tuple[Series, ...]:
        """See ``MetricSource.read``. If no server has fresh samples, the answer is that of the first that answered."""
        first = self._asked
        problems: list[str] = []
        stale: tuple[Series, ...] | None = None
        for turn in range(len(self._sources)):
            position = (first + turn) % len(self._sources)
            source = self._sources[position]
            try:
                series = await source.read(question)
            except MetricSourceError as error:
                problems.append(str(error))
            else:
                if _is_fresh(series, question):
                    self._stay(first, position, question)
                    self._tell(position, problems)
                    return series
                problems.append(f"Prometheus at {source.name} has no fresh samples")
                stale = series if stale is None else stale
        if stale is not None:
            return stale
        raise MetricSourceError("; ".join(problems))

    async def values(self, query: str, at: datetime) -> tuple[float, ...]:
        """See ``MetricSource.values``. Whoever is asked for samples is asked first, and stays so: a query may be bad."""
        problems = []
        for turn in range(len(self._sources)):
            source = self._sources[(self._asked + turn) % len(self._sources)]
            try:
                return await source.values(query, at)
            except MetricSourceError as error:
                problems.append(str(error))
        raise MetricSourceError("; ".join(problems))

    def _stay(self, first: int, position: int, question: Question) -> None:
        """Go on with the server that answered, unless another question found out meanwhile.

        Only what is asked of the routers moves everybody: a question about agents may be one that no server can answer.
        """
        if question.processes and self._asked == first:
            self._asked = position

    def _tell(self, position: int, problems: list[str]) -> None:
        """Name who answers, whenever that is another one."""
        name = self._sources[position].name
        if position == self._asked and name != self._answered:
            _log.info(
                "prometheus_answers", prometheus=name, before=self._answered, problem="; ".join(problems)
            )
            self._answered = name


def _is_fresh(series: Sequence[Series], question: Question) -> bool:
    """Whether the answer is of the present, as far as the question tells."""
    if not question.processes:
        return True
    scrapes = Scrapes.of(one for one in series if one.labels.get("__name__") in question.processes)
    gap = scrapes.gap_seconds
    return gap is not None and scrapes.common_end(stale_before(question.at.timestamp(), gap)) is not None
