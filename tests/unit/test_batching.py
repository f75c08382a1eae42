"""Questions that fall together are asked as one; the metric source here answers, fails or hangs on request."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from controller.adapters.batching import EDGES_PER_QUERY, VALUES_PER_QUERY, BatchingSource
from controller.adapters.ports import MetricSourceError, Question
from controller.core.counts import Series

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BASE = Question(
    processes=frozenset({"live"}),
    names=frozenset({"total"}),
    label="cluster",
    values=frozenset(),
    only=(),
    edges=frozenset(),
    window=timedelta(minutes=2),
    at=NOW,
)


def about(*values: str, **changes: object) -> Question:
    return replace(BASE, values=frozenset(values), **changes)  # type: ignore[arg-type]


def named(name: str, cluster: str = "") -> Series:
    labels = {"__name__": name} | ({"cluster": cluster} if cluster else {})
    return Series(labels, ((NOW.timestamp(), 1.0),))


class Source:
    """Has one counter of every version that is asked for."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.broken: set[str] = set()
        self.answers = asyncio.Event()
        self.answers.set()

    async def read(self, question: Question) -> tuple[Series, ...]:
        self.asked.append(question)
        await self.answers.wait()
        if broken := self.broken & question.values:
            raise MetricSourceError(f"no answer about {', '.join(broken)}")
        return (named("live"), *(named("total", value) for value in question.values))

    async def values(self, query: str, at: datetime) -> tuple[float, ...]:
        return (float(query),)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def batching(source: Source) -> BatchingSource:
    return BatchingSource(source, window_seconds=0.01)


def clusters(answer: tuple[Series, ...]) -> set[str]:
    return {one.labels["cluster"] for one in answer if "cluster" in one.labels}


async def test_one_query_serves_all_and_each_gets_its_own_and_the_processes(
    source: Source, batching: BatchingSource
) -> None:
    both = await asyncio.gather(batching.read(about("a", "b")), batching.read(about("b", "c")))
    assert [clusters(answer) for answer in both] == [{"a", "b"}, {"b", "c"}]
    assert all(answer[0].labels["__name__"] == "live" for answer in both)
    (asked,) = source.asked
    assert asked.values == {"a", "b", "c"}


async def test_the_query_covers_every_window_name_and_edge(source: Source, batching: BatchingSource) -> None:
    later = NOW + timedelta(seconds=3)
    await asyncio.gather(
        batching.read(about("a", edges=frozenset({1.0}))),
        batching.read(about("b", edges=frozenset({2.0}), names=frozenset({"bad"}), at=later)),
    )
    (asked,) = source.asked
    assert (asked.at, asked.window) == (later, timedelta(minutes=2, seconds=3))
    assert asked.names == {"total", "bad"}
    assert asked.edges == frozenset({1.0, 2.0})


async def test_whoever_looks_back_much_further_or_wants_whole_histograms_asks_apart(
    source: Source, batching: BatchingSource
) -> None:
    await asyncio.gather(
        batching.read(about("a")),
        batching.read(about("b", window=timedelta(minutes=30))),
        batching.read(about("c", edges=None)),
        batching.read(about("d", window=timedelta(minutes=2, seconds=5))),
    )
    assert [(asked.values, asked.window, asked.edges) for asked in source.asked] == [
        (frozenset("ad"), timedelta(minutes=2, seconds=5), frozenset()),
        (frozenset("b"), timedelta(minutes=30), frozenset()),
        (frozenset("c"), timedelta(minutes=2), None),
    ]


async def test_many_are_asked_in_parts_and_those_with_the_same_edges_together(
    source: Source, batching: BatchingSource
) -> None:
    edges = [frozenset({1.0, 2.0}), frozenset({5.0, 9.0})]
    questions = [about(f"{n}-stable", f"{n}-new", edges=edges[n % 2]) for n in range(VALUES_PER_QUERY)]
    answers = await asyncio.gather(*(batching.read(question) for question in questions))
    assert [clusters(answer) for answer in answers] == [question.values for question in questions]
    assert [(len(asked.values), asked.edges) for asked in source.asked] == [
        (VALUES_PER_QUERY, edges[0]),
        (VALUES_PER_QUERY, edges[1]),
    ]


async def test_nobody_is_read_with_many_edges_of_others(source: Source, batching: BatchingSource) -> None:
    own = [frozenset({float(n % 20), float(n % 20 + 20)}) for n in range(100)]
    await asyncio.gather(*(batching.read(about(f"{n}", edges=edges)) for n, edges in enumerate(own)))
    assert max(len(asked.edges or ()) for asked in source.asked) <= EDGES_PER_QUERY
    assert len(source.asked) == 5
    assert frozenset[str]().union(*(asked.values for asked in source.asked)) == {f"{n}" for n in range(100)}


async def test_a_failure_is_told_to_those_whom_it_concerns_each_by_an_error_of_its_own(
    source: Source, batching: BatchingSource
) -> None:
    source.broken = {"b"}
    first, second, other = await asyncio.gather(
        batching.read(about("a")),
        batching.read(about("b")),
        batching.read(about("c", window=timedelta(minutes=30))),
        return_exceptions=True,
    )
    assert isinstance(first, MetricSourceError)
    assert isinstance(second, MetricSourceError)
    assert first is not second
    assert str(first) == str(second) == "no answer about b"
    assert not isinstance(other, BaseException)


async def test_a_cancelled_asker_leaves_the_query_to_the_others(
    source: Source, batching: BatchingSource
) -> None:
    source.answers.clear()
    early, late, stays = (asyncio.create_task(batching.read(about(value))) for value in ("a", "b", "c"))
    await asyncio.sleep(0)
    early.cancel()
    async with asyncio.timeout(5):
        while not source.asked:  # noqa: ASYNC110 - a turn of the loop, not a wait
            await asyncio.sleep(0)
    late.cancel()
    source.answers.set()
    assert clusters(await stays) == {"c"}
    (asked,) = source.asked
    assert asked.values == {"b", "c"}
    assert early.cancelled()
    assert late.cancelled()


async def test_a_hanging_query_does_not_hold_up_the_next(source: Source, batching: BatchingSource) -> None:
    source.answers.clear()
    hanging = asyncio.create_task(batching.read(about("a")))
    async with asyncio.timeout(5):
        while not source.asked:  # noqa: ASYNC110 - a turn of the loop, not a wait
            await asyncio.sleep(0)
    source.answers = asyncio.Event()
    source.answers.set()
    assert clusters(await batching.read(about("b"))) == {"b"}
    assert not hanging.done()
    await batching.close()
    with pytest.raises(MetricSourceError, match="given up"):
        await hanging


async def test_closing_tells_those_who_wait_for_their_query_to_begin(source: Source) -> None:
    batching = BatchingSource(source, window_seconds=60)
    waiting = asyncio.create_task(batching.read(about("a")))
    await asyncio.sleep(0)
    await batching.close()
    with pytest.raises(MetricSourceError, match="given up"):
        await waiting


async def test_an_unforeseen_failure_is_an_unusable_answer_too(
    batching: BatchingSource, source: Source
) -> None:
    source.answers = cast("asyncio.Event", None)
    with pytest.raises(MetricSourceError, match="the metric source failed: AttributeError"):
        await batching.read(about("a"))


async def test_queries_of_people_are_passed_on(batching: BatchingSource) -> None:
    assert await batching.values("2", datetime(2026, 1, 1, tzinfo=UTC)) == (2.0,)


async def test_what_agents_report_is_shared_only_by_those_who_read_the_same_metrics(
    source: Source, batching: BatchingSource
) -> None:
    of_agents = {"processes": frozenset[str]()}
    heavy = about("c", names=frozenset({"heavy"}), **of_agents)
    await asyncio.gather(
        *(batching.read(about(value, **of_agents)) for value in ("a", "b")), batching.read(heavy)
    )
    asked = {question.names: question.values for question in source.asked}
    assert asked == {frozenset({"total"}): {"a", "b"}, frozenset({"heavy"}): {"c"}}
