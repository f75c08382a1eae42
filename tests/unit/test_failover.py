from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from controller.adapters.failover import FailoverSource
from controller.adapters.ports import MetricSourceError, Question
from controller.core.counts import Series

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUESTION = Question(
    processes=frozenset({"live"}),
    names=frozenset({"total"}),
    label="cluster",
    values=frozenset({"a"}),
    only=(),
    edges=None,
    window=timedelta(minutes=1),
    at=NOW,
)


def live(*seconds_ago: float) -> tuple[Series, ...]:
    samples = tuple((NOW.timestamp() - ago, 1.0) for ago in sorted(seconds_ago, reverse=True))
    return (Series({"__name__": "live", "instance": "router-0"}, samples),)


class Server:
    """Answers what it is told to, when it is told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: tuple[Series, ...] | None = live(15, 10, 5)
        self.asked = 0
        self.reached = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def read(self, question: Question) -> tuple[Series, ...]:
        self.asked += 1
        self.reached.set()
        await self.goes_on.wait()
        if self.answer is None:
            raise MetricSourceError(f"Prometheus at {self.name} cannot be reached")
        return self.answer

    async def values(self, query: str, at: datetime) -> tuple[float, ...]:
        return tuple(each for one in await self.read(QUESTION) for _, each in one.samples[:1])


@pytest.fixture
def servers() -> tuple[Server, Server]:
    return Server("first"), Server("second")


async def test_the_first_is_asked_alone_while_it_answers(servers: tuple[Server, Server]) -> None:
    source = FailoverSource(servers)
    for _ in range(3):
        assert await source.read(QUESTION) == servers[0].answer
    assert (servers[0].asked, servers[1].asked) == (3, 0)


async def test_the_one_that_answered_stays_the_one_that_is_asked(servers: tuple[Server, Server]) -> None:
    source, healthy = FailoverSource(servers), servers[0].answer
    servers[0].answer = None
    servers[1].answer = live(14, 9, 4)
    with capture_logs() as logs:
        assert await source.read(QUESTION) == servers[1].answer
        servers[0].answer = healthy
        assert await source.read(QUESTION) == servers[1].answer
    assert (servers[0].asked, servers[1].asked) == (1, 2)
    (said,) = logs
    assert (said["event"], said["prometheus"]) == ("prometheus_answers", "second")
    assert said["problem"] == "Prometheus at first cannot be reached"
    servers[1].answer = None
    assert await source.read(QUESTION) == healthy


@pytest.mark.parametrize("answer", [(), live(5), live(60, 55, 50)], ids=["empty", "one scrape", "stale"])
async def test_one_without_fresh_samples_is_passed_over(
    servers: tuple[Server, Server], answer: tuple[Series, ...]
) -> None:
    source = FailoverSource(servers)
    servers[0].answer = answer
    assert await source.read(QUESTION) == servers[1].answer
    servers[1].answer = None
    assert await source.read(QUESTION) == answer  # what is wrong with it, the reader knows best


async def test_if_none_answers_each_says_why(servers: tuple[Server, Server]) -> None:
    source = FailoverSource(servers)
    for server in servers:
        server.answer = None
    with pytest.raises(MetricSourceError, match=r"first cannot be reached; .* second cannot be reached"):
        await source.read(QUESTION)


async def test_a_late_answer_of_one_that_was_left_does_not_lead_back_to_it(
    servers: tuple[Server, Server],
) -> None:
    source = FailoverSource(servers)
    servers[0].goes_on.clear()
    late = asyncio.create_task(source.read(QUESTION))
    await servers[0].reached.wait()
    quick = Server("first")
    quick.answer = None
    source._sources = (quick, servers[1])
    await source.read(QUESTION)
    servers[0].goes_on.set()
    with capture_logs() as logs:
        await late
        await source.read(QUESTION)
    assert logs == []
    assert servers[1].asked == 2


async def test_a_query_is_answered_by_the_next_server_and_moves_nobody(
    servers: tuple[Server, Server],
) -> None:
    source = FailoverSource(servers)
    servers[0].answer = None
    assert await source.values("up", NOW) == (1.0,)
    servers[0].answer = live(16, 11, 6)
    assert await source.read(QUESTION) == servers[0].answer


async def test_a_query_that_nobody_answers_is_told_in_the_words_of_all(
    servers: tuple[Server, Server],
) -> None:
    servers[0].answer = servers[1].answer = None
    with pytest.raises(MetricSourceError, match=r"first cannot be reached; .*second cannot be reached"):
        await FailoverSource(servers).values("up", NOW)


async def test_a_question_that_no_server_can_answer_moves_nobody(servers: tuple[Server, Server]) -> None:
    first, second = servers
    source = FailoverSource(servers)
    await source.read(QUESTION)
    first.answer = second.answer = None
    for question in (QUESTION, replace(QUESTION, processes=frozenset())):
        with pytest.raises(MetricSourceError):
            await source.read(question)
    first.answer = second.answer = live(15, 10, 5)
    asked = second.asked
    await source.read(QUESTION)
    assert second.asked == asked


async def test_what_one_server_cannot_say_of_agents_moves_nobody(servers: tuple[Server, Server]) -> None:
    first, second = servers
    source = FailoverSource(servers)
    first.answer = None
    await source.read(replace(QUESTION, processes=frozenset()))
    first.answer, asked = live(15, 10, 5), second.asked
    await source.read(QUESTION)
    assert second.asked == asked
