"""``agentrollout simulate``, as people call it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.api.reasons import State
from controller.cli import app
from controller.manifests import read_rollout
from controller.simulation.delivery import deliver, shortest
from controller.simulation.scenario import Answers, Fault, Scenario

ROLLOUT = """
apiVersion: agentrollout.dev/v1alpha1
kind: AgentRollout
metadata: {name: quick}
spec:
  agent: {code: {url: "http://quick:80"}, prompts: {system: Hello.}}
  traffic: {envoy: {hosts: [quick.example]}}
  stages:
  - {name: internal, audience: {header: x-user-group, values: [internal]}, minDuration: 2m, minRequests: 20}
  - {weight: 10%, minDuration: 5m, minRequests: 100}
  - {weight: 100%, minDuration: 2m, minRequests: 100}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rollout.yaml"
    path.write_text(ROLLOUT)
    return path


def test_a_good_candidate_takes_the_sum_of_the_stages(file: Path) -> None:
    rollout = read_rollout(file)
    run = deliver(rollout, Scenario(100.0, Answers(0.02), 0.05), seed=1)
    assert run.state is State.STABLE
    assert shortest(rollout.spec.stages) <= run.took <= 1.5 * shortest(rollout.spec.stages)
    assert [stay.stage for stay in run.stays] == ["internal", "10%", "100%"]
    assert all(
        stay.requests >= stage.min_requests
        for stay, stage in zip(run.stays, rollout.spec.stages, strict=True)
    )


def test_a_late_fault_is_caught_after_it_began_and_an_early_one_before_everyone_meets_it(file: Path) -> None:
    rollout = read_rollout(file)
    late = deliver(rollout, Scenario(100.0, Answers(0.02), 0.05, Fault.parse("errors*8@3m")), seed=1)
    assert late.state is State.ROLLED_BACK
    assert late.fault_to_cut is not None
    early = deliver(rollout, Scenario(100.0, Answers(0.02), 0.05, Fault.parse("latency*4")), seed=1)
    assert early.state is State.ROLLED_BACK
    assert "100%" not in [stay.stage for stay in early.stays]


def test_without_traffic_the_candidate_is_held_and_the_command_says_why(file: Path) -> None:
    run = deliver(read_rollout(file), Scenario(0.01, Answers(0.02), 0.05), seed=1)
    assert run.state is not State.STABLE
    assert "requests" in run.message


def test_the_command_prints_deliveries_and_stages_within_a_hundred_columns(file: Path) -> None:
    arguments = ["--traffic", "100/s", "--error-rate", "2%", "--fault", "errors*8", "--runs", "3"]
    result = CliRunner().invoke(app, ["simulate", "-f", str(file), *arguments], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    assert "errors*8" in result.output
    assert "0 of 3 good candidates were taken back" in result.output
    assert max(map(len, result.output.splitlines())) <= 100


def test_a_file_without_a_rollout_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("kind: ConfigMap")
    result = CliRunner().invoke(app, ["simulate", "-f", str(path), "--traffic", "1/s"])
    assert result.exit_code == 2
    assert "has no AgentRollouts" in result.output


def test_what_only_agents_know_is_left_out_and_said(file: Path, tmp_path: Path) -> None:
    metrics = "  shadow: {fraction: 5%}\n  analysis: {metrics: [{name: toolErrors}, {name: errors}]}\n"
    path = tmp_path / "reports.yaml"
    path.write_text(file.read_text().split("  analysis:")[0].rstrip() + "\n" + metrics)
    result = CliRunner().invoke(app, ["simulate", "-f", str(path), "--traffic", "100/s", "--runs", "1"])
    assert result.exit_code == 0, result.output
    assert "Left out, since it cannot be simulated: shadow, toolErrors." in result.output
    path.write_text(path.read_text().replace(", {name: errors}", ""))
    result = CliRunner().invoke(app, ["simulate", "-f", str(path), "--traffic", "100/s"])
    assert result.exit_code == 2
    assert "shadow, toolErrors cannot be simulated: add errors or latency" in result.output


def test_people_are_taken_to_approve_and_windows_to_be_open(file: Path) -> None:
    text = file.read_text().replace("{weight: 10%,", "{weight: 10%, approval: {required: 2},")
    file.write_text(text + "  windows: [{cron: '0 0 30 2 *', duration: 1h}]\n")
    rollout = read_rollout(file)
    assert rollout.spec.windows
    assert any(stage.approval for stage in rollout.spec.stages)
    assert deliver(rollout, Scenario(100.0, Answers(0.02), 0.05), seed=1).state is State.STABLE
