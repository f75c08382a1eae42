"""What ``make soak`` calls growth."""

from __future__ import annotations

import pytest

from tests.bench.footprint import Footprint
from tests.bench.soak import GAUGES, Growth


def _samples(rss: list[float]) -> list[Footprint]:
    return [
        Footprint(
            at=number * 60.0,
            rss_mib=value,
            peak_mib=value,
            cpu_seconds=0,
            files=20,
            tasks=80,
            series=100,
            requests={},
            reconciles=0,
        )
        for number, value in enumerate(rss)
    ]


@pytest.mark.parametrize(
    ("rss", "grown"),
    [
        ([150.0] * 60, False),
        ([150.0 + number % 7 for number in range(60)], False),
        ([150.0 + number for number in range(60)], True),
        ([150.0, 500.0] + [150.0] * 58, False),
    ],
)
def test_growth_is_told_from_noise(rss: list[float], grown: bool) -> None:
    growth = Growth.of(GAUGES[0], _samples(rss))
    assert growth.grown is grown
    assert growth.most == max(rss)


def test_a_slope_is_of_one_hour() -> None:
    growth = Growth.of(GAUGES[0], _samples([150.0 + number for number in range(60)]))
    assert growth.per_hour == pytest.approx(60)
    assert (growth.first, growth.last) == (159.5, 199.5)
