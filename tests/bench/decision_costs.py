"""What one evaluation of one metric costs."""

from __future__ import annotations

import timeit
from dataclasses import dataclass

from controller.core.detectable import min_detectable_ratio
from controller.core.safety import safety_log_e_values
from controller.core.statistics import HarmTest, Interval, harm_log_e_values


@dataclass(frozen=True)
class Cost:
    """Microseconds of one call, the best of five rounds."""

    what: str
    microseconds: float


def costs() -> list[Cost]:
    """The harm test by the number of bad events in an interval, and everything else that an evaluation computes."""
    tables = {
        bad: Interval(bad // 10, total // 10, bad - bad // 10, total - total // 10)
        for bad, total in (
            (10, 500),
            (100, 5_000),
            (1_000, 50_000),
            (10_000, 200_000),
            (1_000_000, 1_000_000_000),
        )
    }
    test = HarmTest().after(harm_log_e_values(tables[100]), 10.0)
    line = test.encode()
    values = harm_log_e_values(tables[10])
    return [
        *(
            _cost(
                f"harm test, {table.candidate_bad + table.baseline_bad} bad events", harm_log_e_values, table
            )
            for table in tables.values()
        ),
        _cost("safety test, 100 bad events", safety_log_e_values, tables[100], 2.0),
        _cost("state: read, add an interval, e-value, write", _state, line, values),
        _cost("minDetectableRatio", _detectable),
    ]


def _state(line: str, values: tuple[float, ...]) -> None:
    test = HarmTest.decode(line).after(values, 10.0)
    assert test.e_value > 0
    test.encode()


def _detectable() -> None:
    min_detectable_ratio(500, 4_500, 90, threshold=200.0, clustering=10.0)


def _cost(what: str, function: object, *arguments: object) -> Cost:
    timer = timeit.Timer("function(*arguments)", globals={"function": function, "arguments": arguments})
    number = max(1, timer.autorange()[0] // 4)
    return Cost(what, min(timer.repeat(5, number)) / number * 1e6)
