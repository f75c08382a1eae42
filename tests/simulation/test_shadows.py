"""Whole stays in the shadow, with a judge that errs and versions that fail, with fixed seeds. The bench has more of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.answering import answering, in_shadow

LONGER_THAN_ANY: dict[str, Any] = {"minComparisons": 1_000_000, "maxDuration": "10d"}
RUNS = 15
INTERVALS = 50


@pytest.mark.parametrize(
    ("noise", "clustering", "longest", "spread"),
    [("15%", 1, 1, 0.0), ("15%", 3, 20, 0.0), ("50%", 1, 1, 0.4), ("0%", 1, 1, 0.0)],
)
def test_the_same_version_twice_is_no_regression(
    noise: str, clustering: float, longest: int, spread: float
) -> None:
    shadow = {"noise": noise, "clustering": clustering, **LONGER_THAN_ANY}
    endings = [
        in_shadow(
            answering(per_interval=60, seed=seed, shadow=shadow, longest=longest, spread=spread), INTERVALS
        )
        for seed in range(RUNS)
    ]
    assert not [each for each in endings if each.reason or each.passed]
    assert min(each.comparisons for each in endings) > 0.9 * 60 * (INTERVALS - 20)


def test_a_version_that_is_worse_in_30_percent_is_found() -> None:
    shadow = {"noise": "50%", "clustering": 1, **LONGER_THAN_ANY}
    endings = [
        in_shadow(answering(per_interval=60, seed=s, shadow=shadow, worse=0.3), 200) for s in range(10)
    ]
    assert {each.reason for each in endings} == {"ShadowRegression"}
    assert sorted(each.comparisons for each in endings)[5] < 2000


def test_a_version_that_is_no_worse_is_shown_to_be_safe() -> None:
    shadow = {"noise": "15%", "clustering": 1, "maxDuration": "10d"}
    endings = [
        in_shadow(answering(per_interval=60, seed=s, shadow=shadow, evidence=True), 200) for s in range(10)
    ]
    assert sum(each.passed for each in endings) >= 9
