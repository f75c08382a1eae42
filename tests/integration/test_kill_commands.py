"""`agentrollout kill` and `release` with a real operator and router."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controller import cli_kill
from controller.api.reasons import State
from controller.cli import app
from devkit.controlplane import ControlPlane
from tests.crds.refusals import rollout
from tests.integration.delivery_lab import DeliveryLab, manifest, stage


async def run(lab: DeliveryLab, *arguments: str) -> Result:
    words = [*arguments, f"--namespace={lab.namespace}", f"--kubeconfig={lab.control_plane.kubeconfig}"]
    return await asyncio.to_thread(CliRunner().invoke, app, words)


async def test_a_killed_candidate_is_gone_until_it_is_released(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        old, new = lab.agent("old"), lab.agent("new")
        await lab.apply(manifest(namespace, old.url))
        await lab.until(lambda r: r.status.state is State.STABLE)
        await lab.apply(manifest(namespace, new.url, stages=[stage("10%", seconds=600), stage("100%")]))
        serving = await lab.until(lambda r: r.status.stage and r.status.programmed)
        assert serving.status.candidate
        nobody = await run(lab, "kill", "agnet")
        assert nobody.exit_code == 1
        assert "there is no AgentRollout" in nobody.stderr
        other = await run(lab, "kill", "agent")
        assert other.exit_code == 0, other.output
        assert (
            f"the kill switch of {namespace}/agent is on: ConfigMap agentrollout-kill, key agent"
            in other.stdout
        )
        assert "the routers serve stable alone" in other.stdout
        killed = await lab.get()
        assert killed.status.state is State.KILLED
        assert killed.status.programmed == 0
        shown = await run(lab, "status", "agent")
        assert "killed" in shown.stdout
        released = await run(lab, "release", "agent", "--reason=the provider is back")
        assert released.exit_code == 0, released.output
        assert "the kill switch of" in released.stdout
        again = await lab.until(lambda r: r.status.candidate and r.status.candidate.attempt == 2)
        assert again.status.candidate
        assert again.status.candidate.artifact_id == serving.status.candidate.artifact_id
        twice = await run(lab, "release", "agent", "--reason=again")
        assert "it was not killed, so there is nothing to resume" in twice.stdout


def test_the_switches_of_two_rollouts_are_turned_one_by_one(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no operator: the switch is on all the same, and the command says what to do next."""
    monkeypatch.setattr(cli_kill, "WAIT_SECONDS", 0.5)
    options = (f"--namespace={namespace}", f"--kubeconfig={control_plane.kubeconfig}")
    for name in ("one", "two"):
        control_plane.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(rollout(name)))
        killed = CliRunner().invoke(app, ["kill", name, *options])
        assert killed.exit_code == 1
        assert "The switch stays on. If they are dead: agentrollout kill --break-glass" in killed.stderr
    assert switches(control_plane, namespace) == {"one": "true", "two": "true"}
    CliRunner().invoke(app, ["release", "one", "--reason=mended", *options])
    assert switches(control_plane, namespace) == {"one": "false", "two": "true"}


def switches(control_plane: ControlPlane, namespace: str) -> dict[str, str]:
    found = json.loads(
        control_plane.kubectl("get", "configmap", "agentrollout-kill", "-n", namespace, "-o", "json")
    )
    assert found["metadata"]["labels"] == {"agentrollout.dev/kill-switch": "rollouts"}
    data: dict[str, str] = found["data"]
    return data


def test_break_glass_needs_all_that_it_will_not_look_up() -> None:
    for command in ("kill", "release"):
        refused = CliRunner().invoke(
            app, [command, "agent", "--break-glass", "--router=https://10.0.0.7:9902"]
        )
        assert refused.exit_code == 2
        assert "--break-glass needs -n, --router, --cert, --key and --ca" in refused.stderr


def test_a_release_has_a_reason() -> None:
    refused = CliRunner().invoke(app, ["release", "agent"], env={"TERM": "dumb", "COLUMNS": "100"})
    assert refused.exit_code == 2
    assert "say why" in refused.output
