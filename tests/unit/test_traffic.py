from __future__ import annotations

from dataclasses import replace

import pytest

from controller.core.traffic import CONTROL_SLICES, AudienceSplit, Backend, TrafficTable, most_sampled_ppm

V1, V2 = Backend("agent-1", "sha256:1", "v1", 80), Backend("agent-2", "sha256:2", "v2", 80)
TABLE = TrafficTable("shop/agent", ("agent.example",), "x-session-id", V1, V2, 10_000, attempt=2)


def test_without_candidate_everyone_is_on_stable() -> None:
    cut = TABLE.without_candidate()
    assert (cut.candidate, cut.weight_ppm, cut.audiences) == (None, 0, ())
    assert (cut.stable, cut.hosts) == (V1, TABLE.hosts)


def test_a_candidate_is_served_by_weight_or_by_an_audience() -> None:
    internal = AudienceSplit("x-user-group", ("internal",), 1_000_000)
    nobody = TrafficTable("shop/agent", (), "x-session-id", V1, V2)
    assert TABLE.serves_candidate
    assert not nobody.serves_candidate
    assert TrafficTable("shop/agent", (), "x-session-id", V1, V2, audiences=(internal,)).serves_candidate
    assert not TABLE.without_candidate().serves_candidate


@pytest.mark.parametrize(
    ("weight", "size"),
    [(0, 0), (1, 1), (10_000, 10_000), (100_000, 56_250), (500_000, 31_250), (500_001, 0), (1_000_000, 0)],
)
def test_control_slices_are_as_large_as_the_candidates_share_while_stable_keeps_half(
    weight: int, size: int
) -> None:
    assert replace(TABLE, weight_ppm=weight).control_slice_ppm == size
    assert CONTROL_SLICES * size <= (1_000_000 - weight) / 2


def test_without_a_candidate_there_are_no_control_slices() -> None:
    assert TABLE.without_candidate().control_slice_ppm == 0


@pytest.mark.parametrize(
    ("weight", "most"), [(0, 500_000), (1, 249_999), (100_000, 225_000), (500_000, 125_000), (500_001, 0)]
)
def test_stable_keeps_enough_that_is_not_sampled_to_be_compared_with(weight: int, most: int) -> None:
    assert most_sampled_ppm(weight) == most
    slices = CONTROL_SLICES * replace(TABLE, weight_ppm=weight).control_slice_ppm
    assert 1_000_000 - weight - most - slices >= most
