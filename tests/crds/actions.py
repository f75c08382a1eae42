"""RolloutActions as people write them, and users who may ask for some."""

from __future__ import annotations

import json
from typing import Any

from devkit.controlplane import ControlPlane

Raw = dict[str, Any]

ID = "sha256:" + "3f9a1c2b7d" + "0" * 54


def action(name: str, by: str, *, rollout: str = "agent", artifact: str = ID, **spec: Any) -> Raw:
    wanted = {"rollout": rollout, "artifactID": artifact, "action": name, "reason": "the numbers are odd"}
    return {
        "apiVersion": "agentrollout.dev/v1alpha1",
        "kind": "RolloutAction",
        "metadata": {"generateName": f"{name.lower()}-"},
        "spec": wanted | {"requestedBy": by} | spec,
    }


def grant(control_plane: ControlPlane, namespace: str, user: str, *verbs: str) -> None:
    """Let a user create actions, and ask for those whose verbs are named."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": user},
        "rules": [
            {
                "apiGroups": ["agentrollout.dev"],
                "resources": ["rolloutactions"],
                "verbs": ["create", "get", "list", "watch"],
            },
            *(
                [{"apiGroups": ["agentrollout.dev"], "resources": ["agentrollouts"], "verbs": list(verbs)}]
                if verbs
                else []
            ),
        ],
    }
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(role))
    control_plane.kubectl("create", "rolebinding", user, f"--role={user}", f"--user={user}", "-n", namespace)


def ask(control_plane: ControlPlane, namespace: str, user: str, wanted: Raw) -> str:
    """Create the action as a user; its name."""
    kubeconfig = f"--kubeconfig={control_plane.user_kubeconfig(user)}"
    created = control_plane.kubectl(
        "create", "-n", namespace, kubeconfig, "-f", "-", "-o", "name", input=json.dumps(wanted)
    )
    return created.strip().rpartition("/")[2]
