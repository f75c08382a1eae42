"""`agentrollout get`, `status`, `history` and `diff` on a real API server, and `kubectl agentrollout`."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.cli import app
from devkit.cluster import Cluster
from devkit.controlplane import ControlPlane
from devkit.process import wait_until
from devkit.toolchain import Toolchain
from tests.crds.refusals import rollout
from tests.crds.status import CANDIDATE, NOW, STABLE, patch_status, progressing
from tests.crds.test_revisions import revision

Raw = dict[str, Any]

AGENT: Raw = {"code": {"url": "http://agent-v1.example:8080"}, "prompts": {"system": "You help."}}


@pytest.fixture
def shop(control_plane: ControlPlane, namespace: str) -> str:
    """The namespace of a rollout in the middle of its delivery, with its versions and an event."""

    def create(text: str) -> None:
        control_plane.kubectl("create", "-n", namespace, "-f", "-", input=text)

    create(json.dumps(rollout("support-agent")))
    patch_status(control_plane, namespace, progressing())
    for artifact, prompt in ((STABLE, "You help."), (CANDIDATE, "You help briefly.")):
        made = json.loads(revision(agent=AGENT | {"prompts": {"system": prompt}}))
        made["metadata"]["name"] = f"support-agent-{artifact[7:17]}"
        made["spec"] |= {"rollout": "support-agent", "artifactID": artifact}
        create(json.dumps(made))
    for name in ("support-agent", "another-agent"):
        create(json.dumps(event(namespace, name)))
    return namespace


def event(namespace: str, name: str) -> Raw:
    regarding = {
        "apiVersion": "agentrollout.dev/v1alpha1",
        "kind": "AgentRollout",
        "name": name,
        "namespace": namespace,
    }
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.1"},
        "eventTime": NOW.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "regarding": regarding,
        "type": "Normal",
        "reason": "StageStarted",
        "action": "Advance",
        "note": f"{name} entered its stage",
        "reportingController": "agentrollout.dev/operator",
        "reportingInstance": "operator-0",
    }


def run(cluster: Cluster, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, f"--kubeconfig={cluster.kubeconfig}"])


def test_get_lists_rollouts_as_kubectl_does(control_plane: ControlPlane, shop: str) -> None:
    listed = run(control_plane, "get", "-n", shop).stdout.splitlines()
    assert listed[0].split() == ["NAME", "STABLE", "CANDIDATE", "STAGE", "WEIGHT", "STATE", "VERDICT", "AGE"]
    assert listed[1].split()[:-1] == [
        "support-agent",
        "3f9a1c2b7d",
        "b81c55e0aa",
        "10%",
        "10%",
        "Progressing",
        "Insufficient",
    ]
    everywhere = run(control_plane, "get", "-A").stdout
    assert re.search(rf"^{shop} +support-agent ", everywhere, re.MULTILINE)
    one = json.loads(run(control_plane, "get", "support-agent", "-n", shop, "-o", "json").stdout)
    assert one["status"]["candidate"]["artifactID"] == CANDIDATE
    assert "managedFields" not in one["metadata"]
    all_of_it = yaml.safe_load(run(control_plane, "get", "-n", shop, "-o", "yaml").stdout)
    assert [each["metadata"]["name"] for each in all_of_it["items"]] == ["support-agent"]


def test_status_history_and_diff_tell_of_the_delivery(control_plane: ControlPlane, shop: str) -> None:
    status = run(control_plane, "status", "support-agent", "-n", shop).stdout
    assert "● 10%" in status
    assert "support-agent entered its stage" in status
    assert "another-agent" not in status
    assert "\x1b" not in status
    history = run(control_plane, "history", "support-agent", "-n", shop)
    assert re.search(r"support-agent-b81c55e0aa .* candidate, attempt 1", history.stdout)
    assert "AnalysisFailed" in history.stdout
    kept = json.loads(run(control_plane, "history", "support-agent", "-n", shop, "-o", "json").stdout)
    assert [each["kind"] for each in kept["items"]] == [
        "AgentRollout",
        "AgentRevision",
        "AgentRevision",
        "Event",
    ]
    names = ("support-agent-b81c55e0aa", "support-agent-3f9a1c2b7d")
    for arguments, words in (
        (["support-agent"], "support-agent-3f9a1c2b7d (stable)  →  support-agent-b81c55e0aa (candidate)"),
        (names, "support-agent-b81c55e0aa  →  support-agent-3f9a1c2b7d"),
    ):
        diff = run(control_plane, "diff", *arguments, "-n", shop)
        assert words in diff.stdout, diff.output
        assert "You help briefly." in diff.stdout


def test_what_cannot_be_asked_is_told_in_a_sentence(
    control_plane: ControlPlane, shop: str, tmp_path: Path
) -> None:
    nobody = run(control_plane, "status", "nobody", "-n", shop)
    assert nobody.exit_code == 1
    assert nobody.stderr.startswith(f"agentrollout: there is no AgentRollout {shop}/nobody: -n names another")
    refused = CliRunner().invoke(
        app, ["get", "-n", shop, f"--kubeconfig={control_plane.user_kubeconfig('bob')}"]
    )
    assert refused.exit_code == 1
    assert 'you are not allowed to: User "bob" cannot list resource "agentrollouts"' in refused.stderr
    for change, words in (
        ({"server": "https://127.0.0.1:1"}, "the API server at https://127.0.0.1:1 cannot be reached"),
        ({"namespace": "elsewhere"}, "there is no AgentRollout in namespace elsewhere: -n names another"),
    ):
        told = CliRunner().invoke(app, ["get", f"--kubeconfig={changed(control_plane, tmp_path, change)}"])
        assert words in told.stderr
    assert "-A" in run(control_plane, "get", "x", "-A").stderr


@pytest.mark.parametrize("command", ["status", "explain"])
def test_where_no_namespace_is_named_it_is_the_contexts(
    command: str, control_plane: ControlPlane, shop: str, tmp_path: Path
) -> None:
    kubeconfig = changed(control_plane, tmp_path, {"namespace": shop})
    told = CliRunner().invoke(app, [command, "support-agent", f"--kubeconfig={kubeconfig}"])
    assert told.exit_code == 0, told.stderr
    assert f"{shop}/support-agent" in told.stdout


def changed(control_plane: ControlPlane, directory: Path, change: dict[str, str]) -> Path:
    """The kubeconfig with another server, or with a namespace for its context."""
    config = yaml.safe_load(Path(control_plane.kubeconfig).read_text())
    if "server" in change:
        config["clusters"][0]["cluster"].update(change)
    else:
        config["contexts"][0]["context"].update(change)
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def test_kubectl_finds_the_command_as_its_plugin(control_plane: ControlPlane, shop: str) -> None:
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "KUBECONFIG": str(control_plane.kubeconfig),
    }
    kubectl = [str(Toolchain().find("kubectl")), "agentrollout", "get", "-n", shop]
    printed = subprocess.run(kubectl, env=environment, check=True, capture_output=True, text=True).stdout
    assert "support-agent" in printed


def test_a_watched_status_writes_nothing_but_what_changed(control_plane: ControlPlane, shop: str) -> None:
    """In a terminal: after the first picture, lines that stay are not written again, and nothing is cleared."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    command = [
        str(Path(sys.executable).with_name("agentrollout")),
        "status",
        "support-agent",
        "-n",
        shop,
        "--watch",
    ]
    environment = os.environ | {"KUBECONFIG": str(control_plane.kubeconfig), "TERM": "xterm-256color"}
    for size in ("COLUMNS", "LINES"):  # they would count for more than the terminal's own
        environment.pop(size, None)
    os.set_blocking(ours, False)
    seen = bytearray()

    def has(text: str) -> bool:
        try:
            seen.extend(os.read(ours, 1 << 16))
        except BlockingIOError:
            return False
        return text in seen.decode(errors="ignore")

    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as watching:
        try:
            wait_until(lambda: has("entered its stage"), timeout=60, what="the first picture")
            first = len(seen)
            patch_status(control_plane, shop, {"state": "Paused"})
            wait_until(lambda: has("Paused"), timeout=30, what="the change")
        finally:
            watching.terminate()
    os.close(ours)
    os.close(theirs)
    assert b"support-agent entered its stage" in seen[:first]
    assert b"support-agent entered its stage" not in seen[first:]
    assert b"stable" not in seen[first:]
    assert b"\x1b[2J" not in seen


async def test_a_watched_status_is_a_line_a_change_where_there_is_no_terminal(
    control_plane: ControlPlane, shop: str
) -> None:
    command = [
        str(Path(sys.executable).with_name("agentrollout")),
        "status",
        "support-agent",
        "-n",
        shop,
        "--watch",
    ]
    environment = os.environ | {"KUBECONFIG": str(control_plane.kubeconfig), "PYTHONUNBUFFERED": "1"}
    watching = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    assert watching.stdout
    try:
        async with asyncio.timeout(60):
            assert b"support-agent Progressing: stage 10%, weight 10%" in await watching.stdout.readline()
            await asyncio.to_thread(patch_status, control_plane, shop, {"state": "Paused"})
            assert b"support-agent Paused: stage 10%" in await watching.stdout.readline()
    finally:
        watching.terminate()
        await watching.wait()
