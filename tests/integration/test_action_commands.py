"""`agentrollout approve`, `abort` and the like: two people on a real API server with its policy; the test is the operator."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controller import cli_act
from controller.api.action import ActionName
from controller.api.agent import Agent
from controller.cli import app
from controller.core.artifact import artifact_id
from devkit.controlplane import ControlPlane
from tests.crds.actions import grant
from tests.crds.refusals import rollout
from tests.crds.status import CANDIDATE, patch_status, progressing

Raw = dict[str, Any]

TAKEN_BACK = "sha256:" + "9" * 64
WANTED = artifact_id(Agent.model_validate(rollout("support-agent")["spec"]["agent"]))
"""By the spec, which has moved on since that was taken back."""


@pytest.fixture
def shop(control_plane: ControlPlane, namespace: str) -> str:
    """A rollout in the middle of its delivery; alice may do everything with it, bob only pause it."""
    control_plane.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(rollout("support-agent")))
    patch_status(control_plane, namespace, progressing())
    grant(control_plane, namespace, "alice", "get", *(name.verb for name in ActionName))
    grant(control_plane, namespace, "bob", "get", "pause")
    return namespace


def run(control_plane: ControlPlane, user: str, action: str, namespace: str, *more: str) -> Result:
    kubeconfig = f"--kubeconfig={control_plane.user_kubeconfig(user)}"
    words = (action, "support-agent", "-n", namespace, "--reason=odd numbers", kubeconfig)
    return CliRunner().invoke(app, [*words, *more])


def asked(control_plane: ControlPlane, namespace: str) -> list[Raw]:
    found: list[Raw] = json.loads(control_plane.kubectl("get", "ract", "-n", namespace, "-o", "json"))[
        "items"
    ]
    return found


@contextmanager
def deciding(control_plane: ControlPlane, namespace: str, phase: str, message: str) -> Iterator[None]:
    """Decide on every action as the operator would."""
    stop = threading.Event()
    decided = {"phase": phase, "message": message}

    def decide() -> None:
        while not stop.wait(0.2):
            for each in asked(control_plane, namespace):
                if "status" not in each:
                    name = each["metadata"]["name"]
                    patch_status(control_plane, namespace, decided, kind="ract", name=name)

    thread = threading.Thread(target=decide)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_an_action_is_bound_to_the_candidate_and_to_whoever_asks_and_its_outcome_is_told(
    control_plane: ControlPlane, shop: str
) -> None:
    with deciding(control_plane, shop, "Applied", "nothing rises until someone resumes it"):
        paused = run(control_plane, "alice", "pause", shop)
        retried = run(control_plane, "alice", "retry", shop)
    assert paused.exit_code == 0, paused.output
    assert (
        paused.stdout
        == "Pause of support-agent (b81c55e0aa) by alice: Applied, nothing rises until someone resumes it\n"
    )
    assert retried.stdout.startswith(f"Retry of support-agent ({WANTED[7:17]}) by alice: Applied")
    specs = [each["spec"] for each in asked(control_plane, shop)]
    assert {(each["action"], each["artifactID"]) for each in specs} == {
        ("Pause", CANDIDATE),
        ("Retry", WANTED),
    }
    assert all((each["requestedBy"], each["reason"]) == ("alice", "odd numbers") for each in specs)
    history = CliRunner().invoke(
        app, ["history", "support-agent", "-n", shop, f"--kubeconfig={control_plane.kubeconfig}"]
    )
    assert "odd numbers – nothing rises until someone resumes it" in history.stdout


def test_what_was_not_done_ends_with_one_and_says_why(control_plane: ControlPlane, shop: str) -> None:
    with deciding(control_plane, shop, "Expired", "it is not the candidate; nothing was done"):
        other = run(control_plane, "alice", "abort", shop, f"--artifact={TAKEN_BACK}")
    assert other.exit_code == 1
    assert other.stderr == (
        "agentrollout: Abort of support-agent (9999999999) by alice: Expired, it is not the candidate; nothing was done\n"
    )


def test_whom_rbac_does_not_grant_the_verb_is_told_which(control_plane: ControlPlane, shop: str) -> None:
    refused = run(control_plane, "bob", "promote", shop)
    assert refused.exit_code == 1
    assert refused.stderr.startswith(
        f"agentrollout: bob may not promote AgentRollout support-agent in namespace {shop}: a Role must grant the verb"
    )
    assert asked(control_plane, shop) == []


def test_an_action_that_no_operator_looks_at_stays_and_says_how_to_take_it_back(
    control_plane: ControlPlane, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_act, "WAIT_SECONDS", 0.5)
    waited = run(control_plane, "alice", "approve", shop)
    (left,) = asked(control_plane, shop)
    assert waited.exit_code == 1
    assert f"kubectl delete ract {left['metadata']['name']} -n {shop} takes it back" in waited.stderr


def test_where_there_is_nothing_to_decide_on_nothing_is_asked(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(rollout("support-agent")))
    grant(control_plane, namespace, "alice", "get", "abort", "retry")
    for action, words in (("abort", "has no candidate"), ("retry", "has taken no version back")):
        nothing = run(control_plane, "alice", action, namespace)
        assert nothing.exit_code == 1
        assert words in nothing.stderr
    assert asked(control_plane, namespace) == []


def test_a_reason_has_to_be_given() -> None:
    missing = CliRunner().invoke(app, ["abort", "support-agent"], env={"TERM": "dumb", "COLUMNS": "100"})
    assert missing.exit_code == 2
    assert "Missing option '--reason'" in missing.output
