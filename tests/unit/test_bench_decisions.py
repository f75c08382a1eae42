"""The harness of ``make bench-decisions``: its vectorised decisions are those of ``controller.core``, and a smoke run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from scipy.stats import hypergeom
from typer.testing import CliRunner

from controller.api.reasons import Verdict
from controller.api.status import Counts
from controller.core.dispersion import Scatter, clustering
from controller.core.safety import SafetyTest, safety_log_e_values
from controller.core.soundness import ControlTest, control_log_e_values
from controller.core.statistics import (
    ODDS_RATIOS,
    HarmTest,
    Interval,
    harm_log_e_values,
    log_e_value_against_reference,
    log_likelihoods,
)
from controller.core.verdict import Finding, judge
from tests.bench import decisions
from tests.bench.decision_rules import Never, Ours, Unit
from tests.bench.decision_runs import deliver
from tests.bench.decision_statistics import is_significant, log_e_values_against_rate
from tests.bench.decision_statistics import log_likelihoods as log_likelihoods_of_many
from tests.bench.decision_traffic import Counted, Simulation, World
from tests.bench.decision_verdict import Good, Report, shortcomings

RUNS = 12


def tables(seed: int) -> list[Interval]:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(200):
        n_c, n_b = (int(each) for each in random.integers(0, 400, 2))
        found.append(Interval(int(random.integers(0, n_c + 1)), n_c, int(random.integers(0, n_b + 1)), n_b))
    return found


def columns(found: list[Interval]) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    s_c, n_c, s_b, n_b = np.array(
        [[t.candidate_bad, t.candidate_total, t.baseline_bad, t.baseline_total] for t in found]
    ).T
    return (s_c, n_c), (s_b, n_b)


def test_e_values_of_many_rollouts_are_those_of_each() -> None:
    found, ratios = tables(1), (0.5, 1.0, 2.0, 100.0)
    many = log_likelihoods_of_many(*columns(found), ratios)
    for row, table in zip(many, found, strict=True):
        one = np.array(log_likelihoods(table, ratios))
        assert row - row[1] == pytest.approx(one - one[1], rel=1e-4, abs=1e-4)


def test_e_values_against_a_rate_are_those_of_each() -> None:
    bad, total, rate = np.array([0, 3, 50]), np.array([10, 100, 90]), np.array([0.01, 0.05, 0.4])
    for row, b, n, p in zip(log_e_values_against_rate((bad, total), rate), bad, total, rate, strict=True):
        expected = [log_e_value_against_reference(int(b), int(n), ratio, float(p)) for ratio in ODDS_RATIOS]
        assert row == pytest.approx(expected)


def test_repeated_fisher_is_fishers_exact_test() -> None:
    candidate, baseline = columns(tables(2))
    (s_c, n_c), (s_b, n_b) = candidate, baseline
    exact = hypergeom.sf(s_c - 1, n_c + n_b, s_c + s_b, n_c) < 0.05
    assert (is_significant(candidate, baseline, 0.05) == exact).all()


def counts(counted: Counted, run: int, arm: int) -> Counts:
    return Counts(bad=int(counted.bad[run, arm]), total=int(counted.total[run, arm]))


def test_the_rule_called_ours_decides_as_the_product_does() -> None:
    """One rollout of each kind after the other, by the product's own functions, beside all of them at once."""
    world = World(0.05, per_minute=1_500, ratio=4.0, fault_at=8, longest=12)
    simulation = Simulation(world, RUNS, seed=4)
    rule = Ours(RUNS, clustering=3.0, sliced=True, checked=True, max_ratio=2.0)
    tests, controls, safe = [HarmTest()] * RUNS, [ControlTest()] * RUNS, [SafetyTest()] * RUNS
    sums, scatters, requests = [[Counts()] * 8] * RUNS, [Scatter()] * RUNS, [0] * RUNS
    failures = 0
    for _ in range(25):
        interval = simulation.draw(np.full(RUNS, 0.1))
        back = rule.takes_back(interval, np.ones(RUNS, dtype=bool))
        held = rule.holds()
        for run in range(RUNS):
            counted = interval.requests
            candidate, rest = counts(counted, run, 0), counts(counted, run, 9)
            slices = [counts(counted, run, arm) for arm in range(1, 9)]
            stable_bad = rest.bad + sum(each.bad for each in slices)
            stable_total = rest.total + sum(each.total for each in slices)
            table = Interval(candidate.bad, candidate.total, stable_bad, stable_total)
            phi = clustering(sums[run], 3.0, scatters[run])
            freedom = scatters[run].freedom(3.0)
            tests[run] = tests[run].after(harm_log_e_values(table), phi, freedom)
            stable = Counts(bad=stable_bad, total=stable_total)
            control = controls[run].after(control_log_e_values(slices, stable), phi, freedom)
            controls[run] = control.forgetting(100.0)
            safe[run] = safe[run].after(safety_log_e_values(table, 2.0), phi, freedom)
            scatters[run] = scatters[run].after([*slices, rest])
            sums[run] = [
                Counts(bad=a.bad + b.bad, total=a.total + b.total)
                for a, b in zip(sums[run], slices, strict=True)
            ]
            requests[run] += candidate.total
            finding = Finding(
                "errors", Counts(bad=0, total=requests[run]), Counts(bad=0, total=10**6), tests[run].e_value,
                compared=True, own=True, min_requests=100, control=controls[run].e_value,
            )  # fmt: skip
            (verdict,) = judge([finding], 0.01, watched=1)
            assert back[run] == (verdict.verdict is Verdict.FAIL)
            if verdict.verdict is Verdict.PASS:
                assert held[run] == (safe[run].e_value < 20)
            else:
                assert back[run] or held[run] or verdict.verdict is Verdict.ERROR
            failures += int(back[run])
    assert 0 < failures < 25 * RUNS


def test_arms_get_their_shares_and_their_rates() -> None:
    for world in (World(0.05), World(0.05, longest=50)):
        simulation = Simulation(world, 50, seed=1)
        drawn = [simulation.draw(np.full(50, 0.1)).requests for _ in range(40)]
        total = sum(each.total.sum(axis=0) for each in drawn)
        bad = sum(each.bad.sum(axis=0) for each in drawn)
        assert total[0] / total.sum() == pytest.approx(0.1, rel=0.05)
        assert total[1:9] / total.sum() == pytest.approx(np.full(8, 0.9 / 16), rel=0.1)
        assert bad.sum() / total.sum() == pytest.approx(0.05, rel=0.05)


def test_a_rule_that_always_holds_fails_the_bench() -> None:
    world = World(0.02, per_minute=500)
    held = Good("ours", 0.02, 2000, 1, True, deliver(world, Never(3), seed=1))
    good = Good("ours", 0.02, 2000, 1, True, deliver(world, Ours(3), seed=1))
    assert shortcomings(Report(0.01, [], [], [held], []))
    assert shortcomings(Report(0.01, [], [], [good], [])) == []


def test_conversation_trials_count_conversations() -> None:
    rule = Ours(4, unit=Unit.CONVERSATIONS)
    simulation = Simulation(World(0.05, longest=50, ratio=8), 4, seed=1)
    back = [rule.takes_back(simulation.draw(np.full(4, 0.5)), np.ones(4, dtype=bool)) for _ in range(60)]
    assert np.any(back, axis=0).all()


def test_the_bench_runs_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        decisions, "QUICK", decisions.Settings(3, 2, 2, (0.02,), (0.1,), (8.0,), (2000.0,), 8)
    )
    monkeypatch.setattr("tests.bench.decisions.costs", list)
    monkeypatch.setattr("tests.bench.decisions.HOUR", 6)
    monkeypatch.setattr("tests.bench.decision_runs.DEADLINE", 6)
    app = typer.Typer()
    app.command()(decisions.main)
    report = tmp_path / "report.json"
    ended = CliRunner().invoke(app, ["--quick", "--report", str(report)])
    assert ended.exit_code == 0, ended.output
    for words in (
        "Good versions taken back",
        "conversations of 1 to 50",
        "through 1, 10, 50, 100 %",
        "Minutes from the fault",
    ):
        assert words in ended.output.replace("\n", " ")
    found = json.loads(report.read_text())["found"]
    assert {cell["rule"] for cell in found["good"]} >= {"ours", "always hold", "Flagger", "Argo"}
