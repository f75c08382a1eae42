"""Who may ask for what: the API server alone decides, with no operator running."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.api.action import ActionName
from controller.api.policy import BINDING, NAME, POLICY
from controller.core.policy import ACTIVATION, policy_problem
from devkit.controlplane import ControlPlane
from devkit.errors import DevkitError
from tests.crds.actions import ID, action, ask, grant
from tests.crds.status import patch_status
from tests.crds.test_display import table


@pytest.fixture
def shop(control_plane: ControlPlane, namespace: str) -> str:
    """A namespace in which alice may do everything, and bob only pause and resume."""
    grant(control_plane, namespace, "alice", *(name.verb for name in ActionName))
    grant(control_plane, namespace, "bob", "pause", "resume")
    return namespace


@pytest.mark.parametrize("name", ActionName)
def test_whom_rbac_grants_the_verb_may_ask(name: ActionName, control_plane: ControlPlane, shop: str) -> None:
    assert ask(control_plane, shop, "alice", action(name, "alice")).startswith(name.verb)


@pytest.mark.parametrize("name", [name for name in ActionName if name not in {"Pause", "Resume"}])
def test_whom_rbac_does_not_grant_the_verb_is_told_which(
    name: ActionName, control_plane: ControlPlane, shop: str
) -> None:
    words = f"bob may not {name.verb} AgentRollout agent in namespace {shop}: a Role must grant the verb {name.verb} on"
    with pytest.raises(DevkitError, match=words):
        ask(control_plane, shop, "bob", action(name, "bob"))
    ask(control_plane, shop, "bob", action("Pause", "bob"))


def test_nobody_asks_in_the_name_of_somebody_else(control_plane: ControlPlane, shop: str) -> None:
    words = r"spec\.requestedBy is alice, but the API server knows you as bob: write that"
    with pytest.raises(DevkitError, match=words):
        ask(control_plane, shop, "bob", action("Pause", "alice"))


def test_an_administrator_cannot_either(control_plane: ControlPlane, shop: str) -> None:
    with pytest.raises(DevkitError, match=r"spec\.requestedBy is alice, but the API server knows you as "):
        control_plane.kubectl("create", "-n", shop, "-f", "-", input=json.dumps(action("Abort", "alice")))


def test_a_grant_for_one_rollout_is_none_for_another(control_plane: ControlPlane, namespace: str) -> None:
    grant(control_plane, namespace, "alice")
    verbs = ("--verb=abort", "--resource=agentrollouts.agentrollout.dev", "--resource-name=agent")
    control_plane.kubectl("create", "role", "one", *verbs, "-n", namespace)
    control_plane.kubectl("create", "rolebinding", "one", "--role=one", "--user=alice", "-n", namespace)
    ask(control_plane, namespace, "alice", action("Abort", "alice"))
    with pytest.raises(DevkitError, match="alice may not abort AgentRollout other"):
        ask(control_plane, namespace, "alice", action("Abort", "alice", rollout="other"))


@pytest.mark.parametrize(
    "change",
    [
        {"rollout": "other"},
        {"artifactID": "sha256:" + "0" * 64},
        {"action": "Resume"},
        {"reason": "another"},
        {"requestedBy": "bob"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_was_asked_is_never_changed(
    change: dict[str, Any], control_plane: ControlPlane, shop: str
) -> None:
    name = ask(control_plane, shop, "alice", action("Pause", "alice"))
    patch = f"--patch={json.dumps({'spec': change})}"
    with pytest.raises(DevkitError, match="spec is immutable: create another RolloutAction"):
        control_plane.kubectl("patch", "ract", name, "-n", shop, "--type=merge", patch)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"artifactID": "3f9a1c2b7d"}, "must be sha256: and 64 digits of 0-9 and a-f"),
        ({"action": "Undo"}, 'supported values: "Approve", "Promote", "Abort", "Pause", "Resume", "Retry"'),
        ({"reason": ""}, "must say why, for those who read the history"),
        ({"reason": "x" * 1025}, "may not be more than 1024"),
        ({"rollout": "x" * 53}, "may not be more than 52"),
    ],
    ids=["artifact", "action", "no reason", "long reason", "rollout"],
)
def test_an_action_that_is_none_is_refused(
    spec: dict[str, Any], words: str, control_plane: ControlPlane, shop: str
) -> None:
    wanted = action("Pause", "alice") | {"metadata": {"generateName": "wrong-"}}
    wanted["spec"] |= spec
    with pytest.raises(DevkitError, match=words):
        ask(control_plane, shop, "alice", wanted)


def test_get_shows_who_asked_for_what_and_what_became_of_it(control_plane: ControlPlane, shop: str) -> None:
    name = ask(control_plane, shop, "alice", action("Pause", "alice"))
    done = {"phase": "Applied", "message": "nothing rises", "at": "2026-01-01T00:00:00.000Z"}
    patch_status(control_plane, shop, done, kind="ract", name=name)
    shown = table(control_plane.kubectl("get", "ract", "-n", shop, "-o", "wide"))
    assert shown.pop("AGE")
    assert shown == {
        "NAME": name,
        "ROLLOUT": "agent",
        "ACTION": "Pause",
        "BY": "alice",
        "PHASE": "Applied",
        "REASON": "the numbers are odd",
        "MESSAGE": "nothing rises",
        "ARTIFACT": ID,
    }


def test_the_examples_let_whom_they_name_ask(control_plane: ControlPlane, namespace: str) -> None:
    folder = Path(__file__).parents[2] / "examples" / "actions"
    control_plane.kubectl("apply", "-n", namespace, "-f", str(folder / "rbac.yaml"))
    abort = yaml.safe_load((folder / "abort.yaml").read_text())
    ask(control_plane, namespace, "alice", abort)
    abort["spec"]["requestedBy"] = "bob"
    ask(control_plane, namespace, "bob", abort)
    abort["spec"]["action"] = "Resume"
    with pytest.raises(DevkitError, match="bob may not resume AgentRollout support-agent"):
        ask(control_plane, namespace, "bob", abort)


def test_the_policy_as_it_is_stored_is_the_one_that_the_operator_asks_for(
    control_plane: ControlPlane,
) -> None:
    policy, binding = (
        json.loads(control_plane.kubectl("get", kind["kind"].lower(), NAME, "-o", "json"))
        for kind in (POLICY, BINDING)
    )
    assert policy_problem(policy, binding, datetime.now(UTC) + ACTIVATION) == ""
