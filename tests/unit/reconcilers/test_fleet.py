"""The routers of several replicas as one data plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from controller.api.reasons import Reason
from controller.core.snapshot import Latch
from controller.core.traffic import Backend, Programmed, TrafficTable
from controller.reconcilers.fleet import (
    CUT_SECONDS,
    FORGOTTEN_SECONDS,
    REPORT,
    VALID_SECONDS,
    Fleet,
    Report,
    digest,
    observe_report,
)
from controller.runtime.store import Store
from controller.runtime.testing import FakeClock

KEY = "shop/agent"
STABLE, CANDIDATE = Backend("agent-1", "sha256:1", "v1", 80), Backend("agent-2", "sha256:2", "v2", 80)
IDLE = TrafficTable(KEY, ("agent.example",), "x-session-id", STABLE)
SPLIT = replace(IDLE, candidate=CANDIDATE, weight_ppm=10_000, attempt=1)
LATCH = Latch("sha256:2", 1, Reason.ANALYSIS_FAILED, "errors", "worse than stable")


class Here:
    """This replica: its routers, what is wanted of them, and its cuts."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.routers = frozenset({"here"})
        self.wanted: dict[str, TrafficTable] = {KEY: SPLIT}
        self.taken: TrafficTable | None = SPLIT
        self.latch: Latch | None = None
        self.at: datetime = clock.now()

    def programmed(self, key: str) -> Programmed:
        return Programmed(self.taken if self.routers else None, self.at, len(self.routers))

    def published(self, key: str) -> TrafficTable | None:
        return self.wanted.get(key)

    def tables(self) -> list[TrafficTable]:
        return list(self.wanted.values())

    def latched(self, key: str) -> Latch | None:
        return self.latch

    def on_change(self, listener: Callable[[str], None]) -> None:
        self.listener = listener


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.here = Here(self.clock)
        self.reports: Store[Report] = Store(observe_report)
        self.fleet = Fleet(self.here, self.here, self.reports, identity="this", clock=self.clock)  # type: ignore[arg-type]
        self.told: list[str] = []
        self.fleet.on_change(self.told.append)
        self.version = 0

    def hear(self, report: Report) -> None:
        """A replica has written its report."""
        self.version += 1
        lease: dict[str, Any] = {
            "metadata": {
                "name": f"replica-{report.replica}",
                "namespace": "system",
                "resourceVersion": str(self.version),
                "annotations": {REPORT: report.to_json()},
            },
            "spec": {"holderIdentity": report.replica, "renewTime": f"t{self.version}"},
        }
        self.reports.applied(f"system/replica-{report.replica}", lease)

    @property
    def programmed(self) -> Programmed:
        return self.fleet.programmed(KEY)


def other(*, acknowledged: tuple[TrafficTable, ...] = (), **more: Any) -> Report:
    known = {"routers": frozenset({"there"}), **more}
    return Report("other", "", acknowledged=frozenset(map(digest, acknowledged)), **known)


def test_alone_a_replica_speaks_for_all_routers() -> None:
    world = World()
    assert world.programmed == Programmed(SPLIT, world.here.at, 1)


def test_a_report_survives_its_way_through_a_lease() -> None:
    report = other(acknowledged=(SPLIT,), pending=frozenset({"shop/idle"}), latches={KEY: LATCH})
    world = World()
    world.hear(report)
    assert world.reports.get("system/replica-other") == replace(report, renewed="t1")


def test_a_split_counts_only_once_every_replica_reports_it() -> None:
    world = World()
    world.hear(other())
    assert not world.programmed.serves(SPLIT)
    world.clock.advance(2)
    world.hear(other(acknowledged=(SPLIT,)))
    assert world.programmed == Programmed(SPLIT, world.clock.now(), 2)
    assert world.told == [KEY, KEY]


def test_the_instant_of_agreement_stays_as_long_as_nothing_changes() -> None:
    world = World()
    world.hear(other(acknowledged=(SPLIT,)))
    first = world.programmed
    world.clock.advance(5)
    world.hear(other(acknowledged=(SPLIT,)))
    assert world.programmed == first


def test_while_the_others_are_behind_the_last_agreement_is_what_is_programmed() -> None:
    world = World()
    world.hear(other(acknowledged=(SPLIT,)))
    assert world.programmed.serves(SPLIT)
    wider = replace(SPLIT, weight_ppm=100_000)
    world.here.wanted[KEY] = world.here.taken = wider
    assert world.programmed.table == SPLIT


def test_routers_elsewhere_count_also_where_none_is_connected_here() -> None:
    world = World()
    world.here.routers = frozenset()
    world.hear(other(acknowledged=(SPLIT,)))
    assert world.programmed.serves(SPLIT)
    world.hear(other())
    world.here.wanted[KEY] = replace(SPLIT, weight_ppm=100_000)
    assert not world.programmed.serves(world.here.wanted[KEY])


def test_a_table_without_candidate_is_served_unless_a_report_says_it_is_pending() -> None:
    world = World()
    world.here.wanted[KEY] = world.here.taken = IDLE
    world.hear(other())
    assert world.programmed.serves(IDLE)
    world.hear(other(pending=frozenset({KEY})))
    world.here.wanted[KEY] = world.here.taken = replace(IDLE, hosts=("new.example",))
    assert not world.programmed.serves(world.here.wanted[KEY])


def test_when_routers_come_to_another_replica_rollouts_without_candidate_are_looked_at_too() -> None:
    world = World()
    world.here.routers = frozenset()
    world.here.wanted[KEY] = world.here.taken = IDLE
    world.hear(other(routers=frozenset()))
    world.told.clear()
    world.hear(other())
    assert (world.programmed.serves(IDLE), world.told) == (True, [KEY])


def test_for_a_minute_after_a_cut_silence_says_nothing() -> None:
    world = World()
    world.hear(other(acknowledged=(SPLIT,)))
    assert world.programmed.serves(SPLIT)
    world.here.wanted[KEY] = world.here.taken = IDLE
    assert not world.programmed.serves(IDLE), "the report is older than the cut"
    world.hear(other(acknowledged=(IDLE,)))
    assert world.programmed.serves(IDLE)


def test_a_replica_that_comes_to_lead_after_a_cut_knows_of_it() -> None:
    world = World()
    world.here.listener(KEY)
    world.here.wanted[KEY] = world.here.taken = IDLE
    world.here.listener(KEY)
    world.hear(other())
    assert not world.programmed.serves(IDLE)
    del world.here.wanted[KEY]
    world.here.listener(KEY)
    world.here.wanted[KEY] = IDLE
    assert world.programmed.serves(IDLE), "it was made anew"


def test_of_a_report_with_too_many_pending_to_name_silence_says_nothing() -> None:
    world = World()
    world.here.wanted[KEY] = world.here.taken = IDLE
    world.hear(other(many_pending=True))
    assert not world.programmed.serves(IDLE)
    world.hear(other())
    assert world.programmed.serves(IDLE)


def test_later_silence_says_yes() -> None:
    world = World()
    world.hear(other(acknowledged=(SPLIT,)))
    assert world.programmed.serves(SPLIT)
    world.here.wanted[KEY] = world.here.taken = IDLE
    assert not world.programmed.serves(IDLE)
    world.clock.advance(CUT_SECONDS)
    world.hear(other())
    assert world.programmed.serves(IDLE)


async def test_whoever_waits_for_a_replica_that_started_after_the_cut_is_told_when_its_silence_says_yes() -> (
    None
):
    """It never saw the candidate, so it has nothing to acknowledge."""
    world = World()
    world.here.listener(KEY)
    world.here.wanted[KEY] = world.here.taken = IDLE
    world.here.listener(KEY)
    world.hear(other())
    for _ in range(3):
        await world.clock.run_for(CUT_SECONDS / 4)
        world.hear(other())
    world.told.clear()
    assert not world.programmed.serves(IDLE)
    await world.clock.run_for(CUT_SECONDS / 4 + 1)
    assert (world.programmed.serves(IDLE), world.told) == (True, [KEY])


async def test_of_a_cut_that_is_published_again_and_again_is_told_once() -> None:
    world = World()
    world.here.listener(KEY)
    world.here.wanted[KEY] = world.here.taken = IDLE
    for _ in range(3):
        world.here.listener(KEY)
    await world.clock.run_for(CUT_SECONDS + 1)
    assert world.told == [KEY]


async def test_a_second_cut_is_told_when_its_own_time_is_over() -> None:
    world = World()
    for table in (SPLIT, IDLE):
        world.here.wanted[KEY] = table
        world.here.listener(KEY)
    await world.clock.run_for(CUT_SECONDS / 2)
    for table in (SPLIT, IDLE):
        world.here.wanted[KEY] = table
        world.here.listener(KEY)
    await world.clock.run_for(CUT_SECONDS / 2 + 1)
    world.told.clear()
    await world.clock.run_for(CUT_SECONDS / 2 - 2)
    assert world.told == []
    await world.clock.run_for(2)
    assert world.told == [KEY]


def test_a_report_is_void_when_all_its_routers_have_come_here() -> None:
    world = World()
    world.hear(other())
    world.here.routers = frozenset({"here", "there"})
    assert world.programmed.serves(SPLIT)


async def test_a_report_is_void_when_it_is_not_renewed_and_whoever_waited_is_told() -> None:
    world = World()
    world.hear(other())
    world.told.clear()
    await world.clock.run_for(VALID_SECONDS - 1)
    assert (world.programmed.serves(SPLIT), world.told) == (False, [])
    await world.clock.run_for(2)
    assert (world.programmed.serves(SPLIT), world.told) == (True, [KEY])


async def test_a_renewed_report_stays_valid_and_tells_nobody() -> None:
    world = World()
    for _ in range(4):
        world.hear(other())
        world.told.clear()
        await world.clock.run_for(VALID_SECONDS / 2)
    assert (world.programmed.serves(SPLIT), world.told) == (False, [])


def test_a_cut_that_another_replica_holds_is_known_here() -> None:
    world = World()
    world.hear(other(latches={KEY: LATCH}))
    assert world.fleet.latched(KEY) == LATCH
    assert world.told == [KEY]
    world.hear(other())
    assert world.fleet.latched(KEY) is None


def test_a_cut_is_known_also_from_a_replica_whose_routers_have_left_it() -> None:
    world = World()
    world.hear(other(routers=frozenset(), latches={KEY: LATCH}))
    assert world.fleet.latched(KEY) == LATCH


def test_the_replicas_own_cut_comes_first() -> None:
    world = World()
    world.here.latch = Latch("sha256:2", 1, Reason.ANALYSIS_FAILED, "latency", "slow")
    world.hear(other(latches={KEY: LATCH}))
    assert world.fleet.latched(KEY) == world.here.latch


def test_a_replicas_own_report_is_ignored() -> None:
    world = World()
    world.hear(replace(other(latches={KEY: LATCH}), replica="this"))
    assert world.programmed.serves(SPLIT)
    assert world.fleet.latched(KEY) is None


def test_leases_of_replicas_that_have_been_gone_for_long_are_named() -> None:
    world = World()
    world.hear(other())
    world.clock.advance(FORGOTTEN_SECONDS - 1)
    assert world.fleet.forgotten() == ()
    world.clock.advance(1)
    assert world.fleet.forgotten() == ("system/replica-other",)
    world.reports.deleted("system/replica-other", {"metadata": {"resourceVersion": "9"}})
    assert world.fleet.forgotten() == ()


@pytest.mark.parametrize("annotation", ["[]", '{"latches": [{}]}', "{"])
def test_a_report_that_is_not_understood_is_no_report(annotation: str) -> None:
    world = World()
    lease = {
        "metadata": {
            "name": "x",
            "namespace": "system",
            "resourceVersion": "1",
            "annotations": {REPORT: annotation},
        },
        "spec": {"holderIdentity": "other", "renewTime": "t"},
    }
    world.reports.applied("system/x", lease)
    assert world.reports.get("system/x") is None
    assert world.programmed.serves(SPLIT)


def test_tables_that_differ_have_different_digests() -> None:
    tables = {SPLIT, IDLE, replace(SPLIT, weight_ppm=1), replace(SPLIT, attempt=2), replace(IDLE, hosts=())}
    assert len({digest(table) for table in tables}) == len(tables)


def test_a_reason_that_only_a_newer_replica_knows_takes_the_version_off_all_the_same() -> None:
    text = Report("other", "t1", latches={"shop/agent": LATCH}).to_json()
    raw = {
        "metadata": {"annotations": {REPORT: text.replace("AnalysisFailed", "SomethingNew")}},
        "spec": {"holderIdentity": "other", "renewTime": "t1"},
    }
    assert observe_report(raw).latches == {"shop/agent": LATCH}
