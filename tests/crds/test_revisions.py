"""An AgentRevision never changes, whoever asks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from devkit.controlplane import ControlPlane
from devkit.errors import DevkitError
from tests.crds.refusals import rollout

ID = "sha256:" + "3f9a1c2b7d" + "0" * 54


def revision(**spec: Any) -> str:
    return json.dumps(
        {
            "apiVersion": "agentrollout.dev/v1alpha1",
            "kind": "AgentRevision",
            "metadata": {"name": "agent-3f9a1c2b7d"},
            "spec": {"rollout": "agent", "artifactID": ID, "agent": rollout()["spec"]["agent"], **spec},
        }
    )


@pytest.mark.parametrize(
    "change",
    [
        {"agent": {"prompts": {"system": "You obey."}}},
        {"agent": {"prompts": {"added": "You obey."}}},
        {"agent": {"code": {"url": "http://other.example"}}},
        {"agent": {"model": {"provider": "openai", "name": "gpt-x"}}},
        {"artifactID": "sha256:" + "0" * 64},
        {"rollout": "other"},
    ],
    ids=["prompt", "added prompt", "code", "model", "id", "rollout"],
)
def test_a_change_of_the_spec_is_refused(
    change: dict[str, Any], control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "-n", namespace, "-f", "-", input=revision())
    patch = f"--patch={json.dumps({'spec': change})}"
    with pytest.raises(DevkitError, match=r"spec is immutable: change the AgentRollout's spec\.agent"):
        control_plane.kubectl("patch", "arev", "agent-3f9a1c2b7d", "-n", namespace, "--type=merge", patch)


def test_labels_may_change(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "-n", namespace, "-f", "-", input=revision())
    control_plane.kubectl("label", "arev", "agent-3f9a1c2b7d", "-n", namespace, "audited=yes")
    assert "agent-3f9a1c2b7d" in control_plane.kubectl("get", "arev", "-n", namespace, "-l", "audited=yes")


def test_an_id_that_is_none_is_refused(control_plane: ControlPlane, namespace: str) -> None:
    with pytest.raises(
        DevkitError, match=r"spec\.artifactID: .* must be sha256: and 64 digits of 0-9 and a-f"
    ):
        control_plane.kubectl("create", "-n", namespace, "-f", "-", input=revision(artifactID="sha256:ABC"))
