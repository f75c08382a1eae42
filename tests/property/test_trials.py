"""Whatever arrives, and when: each conversation is judged once, after its exposure, and by the same rule whoever answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.traffic import Backend, TrafficTable
from controller.core.trials import (
    LOOKBACK_EXPOSURES,
    MEMORY_EXPOSURES,
    WHOLE,
    Request,
    TrialCounts,
    Trials,
    split_name,
)

EXPOSURE = 10
KEY = "shop/agent"
STABLE, CANDIDATE = (Backend(name, f"sha256:{name}", "127.0.0.1", 80) for name in ("old", "new"))
OTHERS = tuple((part * 2 + 1) * WHOLE // 24 for part in range(12))
"""Conversations, spread over all hashes."""

Step = tuple[int, str, int, bool]
"""Seconds since the step before, what happens, which one, whether it is bad."""

steps = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.sampled_from(["request"] * 12 + ["late", "raise", "same", "scrape", "interrupt"]),
        st.integers(0, len(OTHERS) - 1),
        st.booleans(),
    ),
    max_size=100,
)


def table(weight: int) -> TrafficTable:
    return TrafficTable(
        KEY,
        ("h",),
        "x-session-id",
        STABLE,
        CANDIDATE,
        weight,
        exposure=timedelta(seconds=EXPOSURE),
    )


FIRST = split_name(table(10))

few = settings(max_examples=60)


def revision(conversation: int, weight: int) -> str:
    """Drawn by something that the ledger's hash does not know."""
    return "new" if (conversation * 7919) % 100 < weight else "old"


@dataclass(frozen=True)
class Event:
    """Something that happened; ``raise`` begins ``split``, ``request`` was drawn under it."""

    time: float
    what: str
    split: str = ""
    conversation: int = -1
    revision: str = ""
    bad: bool = False


class Run:
    """One history, with everything that is known about it from outside."""

    def __init__(self, *, limit: int = 100_000, swapped: bool = False) -> None:
        self.trials = Trials(limit)
        self.now, self.weight, self.before = 0.0, 10, 10
        self.events: list[Event] = []
        self.most = 0
        self.swapped = swapped
        self.trials.publish(table(self.weight), 0.0)

    def play(self, history: list[Step]) -> dict[str, TrialCounts]:
        for seconds, what, which, bad in history:
            self.now += seconds
            self.happen(what, OTHERS[which], bad)
            self.most = max(self.most, self.trials.remembered)
        self.now += 2 * EXPOSURE
        return self.counts()

    def happen(self, what: str, conversation: int, bad: bool) -> None:
        if what in {"request", "late"}:
            weight = self.before if what == "late" else self.weight
            answered = revision(conversation, weight)
            if self.swapped:
                answered = {"old": "new", "new": "old"}[answered]
            request = Request(conversation, split_name(table(weight)), answered, bad)
            self.trials.take(KEY, request, self.now)
            self.events.append(Event(self.now, "request", request.split, conversation, answered, bad))
        elif what in {"raise", "same"}:
            if what == "raise":
                self.before, self.weight = self.weight, self.weight + 1
                self.events.append(Event(self.now, "raise", split_name(table(self.weight))))
            self.trials.publish(table(self.weight), self.now)
        elif what == "interrupt":
            self.trials.interrupt(self.now)
            self.events.append(Event(self.now, "interrupt"))
        else:
            self.counts()

    def counts(self) -> dict[str, TrialCounts]:
        return {each.revision: each for each in self.trials.counts(self.now)}


def judged(counts: dict[str, TrialCounts]) -> int:
    return sum(each.bad + each.good for each in counts.values())


def times_new(times: list[float]) -> int:
    """How often a conversation was new: first, or after having been forgotten."""
    gaps = zip([-1e9, *times], times, strict=False)
    return sum(later - earlier >= MEMORY_EXPOSURES * EXPOSURE for earlier, later in gaps)


def by_hand(events: list[Event]) -> Iterator[tuple[str, bool]]:
    """Version and outcome of every trial, from everything that happened, before and after."""
    for number, first in enumerate(events):
        if first.what != "request" or first.split != split_at(events, number):
            continue
        gap = max((at for at, each in enumerate(events[:number]) if each.what == "interrupt"), default=-1)
        seen = [each for each in events[gap + 1 : number + 1] if each.what == "request"]
        earlier = [each.time for each in seen[:-1] if each.conversation == first.conversation]
        if earlier and first.time - earlier[-1] < MEMORY_EXPOSURES * EXPOSURE:
            continue
        if first.time - seen[0].time < LOOKBACK_EXPOSURES * EXPOSURE:
            continue
        following = [each for each in events[number:] if each.time < first.time + EXPOSURE]
        own = [
            each for each in following if each.conversation == first.conversation and each.what == "request"
        ]
        moved = any((each.split, each.revision) != (first.split, first.revision) for each in own)
        if not moved and all(each.what == "request" for each in following):
            yield first.revision, any(each.bad for each in own)


def split_at(events: list[Event], number: int) -> str:
    return next((each.split for each in reversed(events[:number]) if each.what == "raise"), FIRST)


@few
@given(steps)
def test_the_counts_are_what_the_whole_history_says(history: list[Step]) -> None:
    run = Run()
    counts = run.play(history)
    expected = {name: [0, 0] for name in ("old", "new")}
    for name, bad in by_hand(run.events):
        expected[name][not bad] += 1
    assert {name: [each.bad, each.good] for name, each in counts.items()} == expected


@few
@given(steps)
def test_no_conversation_counts_twice_while_it_is_remembered(history: list[Step]) -> None:
    run = Run()
    counts = run.play([step for step in history if step[1] != "interrupt"])
    times: dict[int, list[float]] = defaultdict(list)
    for each in run.events:
        if each.what == "request":
            times[each.conversation].append(each.time)
    assert judged(counts) <= sum(map(times_new, times.values()))


@few
@given(steps)
def test_the_rule_is_the_same_for_both_versions(history: list[Step]) -> None:
    plain, swapped = Run().play(history), Run(swapped=True).play(history)
    assert (plain["old"].bad, plain["old"].good) == (swapped["new"].bad, swapped["new"].good)
    assert (plain["new"].bad, plain["new"].good) == (swapped["old"].bad, swapped["old"].good)


@few
@given(steps, st.integers(1, 6))
def test_memory_is_bounded_and_what_is_left_out_does_not_depend_on_the_version(
    history: list[Step], limit: int
) -> None:
    run, swapped = Run(limit=limit), Run(limit=limit, swapped=True)
    plain, other = run.play(history), swapped.play(history)
    assert run.most <= limit
    assert (plain["old"].bad, plain["old"].good) == (other["new"].bad, other["new"].good)
    assert judged(plain) <= judged(Run().play(history))


@few
@given(steps)
def test_counts_never_fall(history: list[Step]) -> None:
    run, before = Run(), {"old": (0, 0), "new": (0, 0)}
    for step in history:
        run.now += step[0]
        run.happen(step[1], OTHERS[step[2]], step[3])
        for name, each in run.counts().items():
            assert each.bad >= before[name][0]
            assert each.good >= before[name][1]
            before[name] = each.bad, each.good


@few
@given(steps)
def test_a_scrape_changes_nothing_but_when_it_is_seen(history: list[Step]) -> None:
    quiet = [(0, "same", 0, False) if step[1] == "scrape" else step for step in history]
    timed = [(old[0], *new[1:]) for old, new in zip(history, quiet, strict=True)]
    assert Run().play(history) == Run().play(timed)


def test_a_table_without_candidate_ends_the_watch() -> None:
    run = Run()
    run.happen("request", OTHERS[0], bad=True)
    run.trials.publish(replace(table(10), candidate=None), 1.0)
    assert not list(run.trials.counts(2.0))
    assert run.trials.remembered == 0
