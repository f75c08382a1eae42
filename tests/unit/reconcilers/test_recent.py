"""Which rollouts have a candidate, or had one until not long ago."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.core.traffic import Backend, TrafficTable
from controller.reconcilers.recent import RecentCandidates
from controller.runtime.testing import FakeClock

KEY = "shop/agent"
IDLE = TrafficTable(KEY, ("agent.example",), "x-session-id", Backend("agent-1", "sha256:1", "v1", 80))
SPLIT = replace(IDLE, candidate=Backend("agent-2", "sha256:2", "v2", 80), weight_ppm=10_000, attempt=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def recent(clock: FakeClock) -> RecentCandidates:
    return RecentCandidates(clock, seconds=60)


def test_a_table_that_never_had_a_candidate_has_none_lately(recent: RecentCandidates) -> None:
    assert not recent.note(KEY, IDLE)


def test_a_lost_candidate_counts_for_a_while(recent: RecentCandidates, clock: FakeClock) -> None:
    assert recent.note(KEY, SPLIT)
    assert recent.note(KEY, IDLE)
    clock.advance(59)
    assert recent.note(KEY, IDLE)
    assert recent.forget_old() == []
    clock.advance(1)
    assert not recent.note(KEY, IDLE)
    assert recent.forget_old() == [KEY]
    assert recent.forget_old() == []


def test_an_old_loss_is_forgotten_quietly_when_the_next_candidate_is_there(
    recent: RecentCandidates, clock: FakeClock
) -> None:
    recent.note(KEY, SPLIT)
    recent.note(KEY, IDLE)
    recent.note(KEY, SPLIT)
    clock.advance(60)
    assert recent.forget_old() == []
    assert recent.note(KEY, SPLIT)


def test_a_rollout_that_is_gone_is_forgotten_at_once(recent: RecentCandidates) -> None:
    recent.note(KEY, SPLIT)
    recent.note(KEY, IDLE)
    assert not recent.note(KEY, None)
    assert not recent.note(KEY, IDLE)
