"""Whatever processes, scrapes and readers do, what happened is counted once: the sum equals what a list of events says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.api.status import Evidence
from controller.core.counts import Scrapes, Series, increment, joined
from controller.core.reading import Reading, continued, span_of
from controller.core.tally import Tally
from controller.reconcilers.lookback import Lookback
from tests.virtual import CATALOGUE

PATIENCE = 12
"""A process that was not scraped for so many steps holds nobody up."""


@dataclass
class Router:
    """One process; its counter exists from the first event on."""

    name: str
    value: int = 0
    scrapes: dict[str, list[tuple[float, int | None]]] = field(default_factory=dict)
    """What each server stored: the instant and the counter, None while it does not exist."""

    def series(self, servers: Iterable[str], since: float) -> list[Series]:
        found = []
        for server in servers:
            labels = {"instance": self.name, "job": server}
            taken = [(time, value) for time, value in self.scrapes.get(server, []) if time >= since]
            found.append(Series({"__name__": "live", **labels}, tuple((time, 1.0) for time, _ in taken)))
            counted = tuple((time, float(value)) for time, value in taken if value is not None)
            found.append(Series({"__name__": "total", **labels}, counted))
        return [one for one in found if one.samples]

    def seen(self, servers: Iterable[str], until: float) -> int:
        """What scrapes up to an instant tell of the events, by hand."""
        known, before = 0, None
        merged = sorted((t, v or 0) for server in servers for t, v in self.scrapes.get(server, []))
        for time, value in merged:
            if time <= until and before is not None:
                known += value - before if value >= before else value
            before = value
        return known


@dataclass
class World:
    """Routers, servers that scrape them, and a reader with what it has counted."""

    routers: list[Router]
    now: float = 0.0
    evidence: Evidence = field(default_factory=Evidence)
    counted: int = 0

    @property
    def counted_until(self) -> float:
        return self.evidence.counted_until.timestamp() if self.evidence.counted_until else 0.0

    def evaluate_as_told(self, lookback: Lookback, most: float) -> None:
        """Look back no further than the last answer says."""
        counted = self.evidence.counted_until
        begins = counted or datetime.fromtimestamp(0, UTC)
        margin = lookback.margin("", [counted], begins, timedelta(seconds=most))
        window = self.now - begins.timestamp() + margin.total_seconds()
        lookback.note("", self.evaluate(("a",), lookback=window))

    def evaluate(self, servers: tuple[str, ...], *, lookback: float = 1e9) -> list[Series]:
        answer = [one for router in self.routers for one in router.series(servers, self.now - lookback)]
        series = joined(answer, "live")
        scrapes = Scrapes.of(one for one in series if one.labels["__name__"] == "live")
        until = scrapes.common_end(self.now - PATIENCE)
        if until is None:
            return answer
        reading = Reading(Tally("", (), CATALOGUE), scrapes, until)
        self.evidence = continued(self.evidence, reading)
        span = span_of(self.evidence, reading, datetime.fromtimestamp(0, UTC))
        self.counted += sum(
            increment(one, span, scrapes) for one in series if one.labels["__name__"] == "total"
        )
        end = datetime.fromtimestamp(span.until, UTC)
        self.evidence = self.evidence.model_copy(update={"counted_until": end})
        return answer

    def act(self, action: str, router: Router, amount: int, server: str) -> None:
        """One step; every one takes a moment, so no two things happen at the same instant."""
        self.now += 1.0
        if action == "serve":
            router.value += amount
        elif action == "restart":
            router.value = 0
        elif action == "scrape":
            exists = router.value or any(value is not None for _, value in router.scrapes.get(server, []))
            router.scrapes.setdefault(server, []).append((self.now, router.value if exists else None))


STEP = st.tuples(
    st.sampled_from(["serve", "serve", "scrape", "scrape", "scrape", "restart", "evaluate"]),
    st.integers(0, 2),
    st.integers(1, 9),
    st.sampled_from(["a", "b"]),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEP, min_size=30, max_size=60))
def test_the_sum_of_all_intervals_is_what_was_seen_of_the_events(
    steps: list[tuple[str, int, int, str]],
) -> None:
    """Resets, processes that come and go, missed scrapes, windows that overlap wholly."""
    world = World([Router(f"router-{number}") for number in range(3)])
    for action, number, amount, _ in steps:
        world.act(action, world.routers[number], amount, "a")
        if action == "evaluate":
            world.evaluate(("a",))
    assert world.counted == sum(router.seen(("a",), world.counted_until) for router in world.routers)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEP, min_size=30, max_size=60))
def test_a_process_that_two_scrape_counts_once(steps: list[tuple[str, int, int, str]]) -> None:
    """Both scrapers' samples are one series; those of a restart that only one of them has seen may be lost."""
    world = World([Router(f"router-{number}") for number in range(3)])
    for action, number, amount, server in steps:
        if action != "restart":
            world.act(action, world.routers[number], amount, server)
        if action == "evaluate":
            world.evaluate(("a", "b"))
    assert world.counted == sum(router.seen(("a", "b"), world.counted_until) for router in world.routers)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(STEP, min_size=30, max_size=60),
    lookbacks=st.lists(st.integers(3, 60), min_size=1, max_size=5),
)
def test_whichever_server_answers_nothing_counts_twice(
    steps: list[tuple[str, int, int, str]], lookbacks: list[int]
) -> None:
    """Two servers scrape at instants of their own and answer in turn, with windows of any length.

    Every event is a bit of its own in the sum, up to as many as a float holds exactly.
    """
    world = World([Router(f"router-{number}") for number in range(3)])
    event = 1
    for index, (action, number, _, server) in enumerate(steps):
        if action != "restart" and event < 2**50:
            world.act(action, world.routers[number], event, server)
        if action == "serve":
            event *= 2
        if action == "evaluate":
            before = world.counted
            world.evaluate((server,), lookback=lookbacks[index % len(lookbacks)])
            assert before & (world.counted - before) == 0


ROUND = st.tuples(
    st.lists(st.integers(0, 9), min_size=3, max_size=3),
    st.lists(
        st.sampled_from(["scraped", "scraped", "scraped", "missed", "restarted"]), min_size=3, max_size=3
    ),
    st.sampled_from(["evaluated", "evaluated", "lost", "waited"]),
)


@settings(max_examples=100, deadline=None)
@given(rounds=st.lists(ROUND, min_size=8, max_size=20))
def test_what_the_last_answer_says_is_needed_is_enough(
    rounds: list[tuple[list[int], list[str], str]],
) -> None:
    """Scrapes every 4 s at three offsets, restarts, up to two scrapes missed in a row, evaluations whose writes are lost."""
    world, lookback = World([Router(f"router-{number}") for number in range(3)]), Lookback()
    missed = [0, 0, 0]
    for events, happened, reader in rounds:
        for number, router in enumerate(world.routers):
            router.value = (
                events[number] if happened[number] == "restarted" else router.value + events[number]
            )
            missed[number] = missed[number] + 1 if happened[number] == "missed" and missed[number] < 2 else 0
            world.act("wait" if missed[number] else "scrape", router, 0, "a")
        world.now += 1.0
        if reader != "waited":
            before = world.evidence, world.counted
            world.evaluate_as_told(lookback, most=120)
            if reader == "lost":
                world.evidence, world.counted = before
        assert world.counted == sum(router.seen(("a",), world.counted_until) for router in world.routers)
