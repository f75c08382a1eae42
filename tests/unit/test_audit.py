"""The audit of chaos runs finds what it is there to find."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.bench.audit import audit, weights_off

Raw = dict[str, Any]


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def version(**status: Any) -> Raw:
    return {
        "metadata": {"name": "agent", "namespace": "shop"},
        "spec": {"agent": {"code": {"url": "http://v2"}}, "traffic": {"envoy": {"hosts": ["a.example"]}}},
        "status": {"stable": {"revision": "agent-1", "artifactID": "sha256:1"}, **status},
    }


def in_stage(index: int, entered: int, *, weight: str, requests: int = 0, counted: int | None = None) -> Raw:
    stages = [
        {"weight": "10%", "minDuration": "5s", "minRequests": 20},
        {"weight": "100%", "minDuration": "5s"},
    ]
    return version(
        candidate={"revision": "agent-2", "artifactID": "sha256:2", "attempt": 1},
        stage={"index": index, "enteredAt": at(entered), "programmedAt": at(entered), "requests": requests},
        weight=weight,
        frozen={"stages": stages, "analysis": {}},
        **({"evidence": {"countedUntil": at(counted)}} if counted is not None else {}),
    )


def rolled_back() -> Raw:
    record = {"artifactID": "sha256:2", "reason": "AnalysisFailed", "at": at(12)}
    return version(lastRollback=record, rolledBack=["sha256:2"])


def promoted() -> Raw:
    return version(stable={"revision": "agent-2", "artifactID": "sha256:2"})


GOOD = (
    version(),
    in_stage(0, 1, weight="10%"),
    in_stage(0, 1, weight="10%", requests=30, counted=6),
    in_stage(1, 7, weight="100%", counted=6),
    in_stage(1, 7, weight="100%", requests=50, counted=12),
    promoted(),
)


def breaches(*story: Raw, stored: Callable[[str, datetime, datetime], int] = lambda *_: 50) -> list[int]:
    return [breach.invariant for breach in audit("agent", story, stored)]


def test_a_delivery_as_it_should_be_breaks_nothing() -> None:
    assert breaches(*GOOD) == []
    assert breaches(*GOOD[:3], rolled_back(), rolled_back()) == []


def test_a_stage_that_was_too_short_is_found() -> None:
    assert breaches(GOOD[2], in_stage(1, 4, weight="100%", counted=6)) == [1]


def test_a_stage_with_too_few_requests_is_found() -> None:
    assert breaches(*GOOD[1:2], in_stage(1, 7, weight="100%"), stored=lambda *_: 19) == [1]


def test_a_stage_that_was_skipped_or_never_programmed_is_found() -> None:
    skipped = in_stage(2, 7, weight="100%", counted=6)
    assert breaches(GOOD[2], skipped) == [1]
    unprogrammed = copy.deepcopy(GOOD[2])
    del unprogrammed["status"]["stage"]["programmedAt"]
    assert breaches(unprogrammed, GOOD[3]) == [1]


def test_a_version_that_comes_back_after_its_rollback_is_found() -> None:
    assert 2 in breaches(*GOOD[:3], rolled_back(), GOOD[1])


def test_a_weight_without_a_candidate_is_found() -> None:
    assert breaches(version(), version(weight="10%")) == [2]


@pytest.mark.parametrize("before", [GOOD[2], version()])
def test_a_version_that_becomes_stable_before_its_last_stage_is_found(before: Raw) -> None:
    assert breaches(before, promoted()) == [3]


def test_a_stable_version_that_is_lost_is_found() -> None:
    lost = version()
    del lost["status"]["stable"]
    assert breaches(version(), lost) == [3]


def test_counting_that_goes_back_or_counts_too_much_is_found() -> None:
    assert breaches(GOOD[2], in_stage(0, 1, weight="10%", requests=30, counted=5)) == [6]
    assert breaches(GOOD[2], stored=lambda *_: 29) == [6]


def test_a_field_that_is_not_the_operators_own_is_found() -> None:
    touched = version()
    touched["metadata"]["managedFields"] = [
        {"manager": "agentrollout", "fieldsV1": {"f:status": {}, "f:spec": {}}},
        {"manager": "kubectl", "fieldsV1": {"f:spec": {}}},
    ]
    assert breaches(touched) == [8]


def test_a_split_that_does_not_sum_to_the_whole_is_found() -> None:
    def dump(*weights: int) -> Raw:
        split = {"clusters": [{"name": str(n), "weight": weight} for n, weight in enumerate(weights)]}
        routes = [{"name": "everyone", "route": {"weighted_clusters": split}}, {"name": "none"}]
        config = {"name": "shop/agent", "virtual_hosts": [{"routes": routes}]}
        return {"configs": [{"dynamic_route_configs": [{"route_config": config}]}]}

    assert list(weights_off(dump(10_000, 990_000))) == []
    assert len(list(weights_off(dump(10_000, 989_999)))) == 1
