"""What a simulation is told, and how its runs are summed up."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.adapters.envoy.metrics import LATENCY_EDGES_MS
from controller.api.delivery import MetricName
from controller.api.reasons import State
from controller.simulation.delivery import Run, Stay
from controller.simulation.scenario import Answers, Fault, Scenario, parse_traffic
from controller.simulation.summary import Spread, Summary

GOOD = Scenario(10.0, Answers(0.01), 0.05)


def run(state: State, minutes: float, *, caught: float | None = None, failed: int = 0) -> Run:
    stays = (Stay("10%", timedelta(minutes=minutes), 100),)
    fault = None if caught is None else timedelta(minutes=caught)
    return Run(state, timedelta(minutes=minutes), stays, "its words", fault, failed)


@pytest.mark.parametrize(
    ("text", "per_second"), [("2000/min", 2000 / 60), ("30/s", 30.0), ("0.5/s", 0.5), ("900/h", 0.25)]
)
def test_rates_of_requests_are_read(text: str, per_second: float) -> None:
    assert parse_traffic(text) == pytest.approx(per_second)


@pytest.mark.parametrize("text", ["2000", "2000/day", "0/s", "-1/s", "many/min"])
def test_what_is_no_rate_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(ValueError, match="write 2000/min"):
        parse_traffic(text)


def test_faults_are_read() -> None:
    assert Fault.parse("errors*3@10m") == Fault(MetricName.ERRORS, 3.0, timedelta(minutes=10))
    assert Fault.parse("latency*1.5") == Fault(MetricName.LATENCY, 1.5)


@pytest.mark.parametrize("text", ["errors", "errors*1", "errors*0.5", "speed*2", "errors*3@", "errors*x"])
def test_what_is_no_fault_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(ValueError, match=r"write errors\*3@10m"):
        Fault.parse(text)


def test_a_fault_after_no_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="not a duration"):
        Fault.parse("errors*3@soon")


def test_faults_make_answers_worse_up_to_all_of_them() -> None:
    usual = Answers(0.4, 1000.0)
    assert usual.worse_by(Fault(MetricName.ERRORS, 2.0)).errors == pytest.approx(0.8)
    assert usual.worse_by(Fault(MetricName.ERRORS, 3.0)).errors == 1.0
    assert usual.worse_by(Fault(MetricName.LATENCY, 2.0)).median_ms == 2000.0


def test_half_of_the_answers_come_within_the_median() -> None:
    shares = Answers(0.0, LATENCY_EDGES_MS[20]).within
    assert shares[20] == pytest.approx(0.5)
    assert list(shares) == sorted(shares)


def test_runs_are_summed_up_by_how_they_ended() -> None:
    runs = [
        run(State.STABLE, 60),
        run(State.STABLE, 80),
        run(State.ROLLED_BACK, 10, caught=4, failed=9),
        run(State.PROGRESSING, 300),
    ]
    found = Summary.of(GOOD, runs)
    assert (found.runs, found.promoted, found.rolled_back) == (4, 2, 1)
    assert found.seconds_to_promote == Spread(70 * 60, 78 * 60)
    assert found.seconds_to_catch == Spread(240, 240)
    assert found.held == "its words"
    assert found.stages[0].reached == 4


def test_no_rollback_among_few_runs_is_no_proof_of_none() -> None:
    found = Summary.of(GOOD, [run(State.STABLE, 60)] * 100)
    assert found.seconds_to_catch is None
    assert found.held == ""
    assert found.at_most == pytest.approx(1 - 0.05 ** (1 / 100))  # (1 - p)^100 = 5 %
