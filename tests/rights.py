"""The operator's own account in an API server, with the rights that the chart gives it and no others."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from controller.runtime.client import ResourceClient
from controller.runtime.resource import Resource, key_of
from controller.runtime.transport import KubernetesTransport
from devkit.helm import Helm

Raw = dict[str, Any]

CHART = Path(__file__).parents[1] / "charts" / "agentrollout"

_RBAC = "rbac.authorization.k8s.io"
_RESOURCES = {
    each.kind: each
    for each in (
        Resource("", "v1", "serviceaccounts", "ServiceAccount"),
        Resource(_RBAC, "v1", "roles", "Role"),
        Resource(_RBAC, "v1", "rolebindings", "RoleBinding"),
        Resource(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
        Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    )
}
_A_DAY = 86_400
_ELSEWHERE = "elsewhere"


@functools.cache
def _rendered(secrets: bool) -> str:
    settings = ["prometheus.urls={http://prometheus:9090}"]
    if secrets:
        settings.append("operator.secretHmacKeySecret=hmac")
    return Helm().run(
        "template",
        f"agentrollout-{_ELSEWHERE}",
        CHART,
        f"--namespace={_ELSEWHERE}",
        "--show-only=templates/rbac.yaml",
        *(f"--set={setting}" for setting in settings),
    )


def chart_rights(namespace: str, *, secrets: bool) -> list[Raw]:
    """Account, roles and bindings of an operator in a namespace; ``secrets``: references to Secrets are on."""
    return list(yaml.safe_load_all(_rendered(secrets).replace(_ELSEWHERE, namespace)))


class OperatorAccount:
    """A ServiceAccount, its rights, and a kubeconfig with its token."""

    def __init__(self, transport: KubernetesTransport, objects: Iterable[Raw]) -> None:
        self._transport = transport
        self._objects = list(objects)

    async def create(self, administrators: Path, kubeconfig: Path) -> None:
        """Bring it into the API server that ``administrators`` leads to, and write ``kubeconfig`` for it."""
        for found in self._objects:
            await self._client(found).apply(found, force=True)
        (account,) = (each for each in self._objects if each["kind"] == "ServiceAccount")
        metadata = account["metadata"]
        path = _RESOURCES["ServiceAccount"].path(metadata["namespace"], metadata["name"], "token")
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _A_DAY},
        }
        answer = await self._transport.request("POST", path, body=asked, timeout=10)
        _write_kubeconfig(kubeconfig, administrators, answer["status"]["token"])

    async def remove(self) -> None:
        """Take away what belongs to no namespace."""
        for found in self._objects:
            if not _RESOURCES[found["kind"]].namespaced:
                await self._client(found).delete(key_of(found))

    def _client(self, found: Raw) -> ResourceClient:
        return ResourceClient(self._transport, _RESOURCES[found["kind"]], field_manager="tests")


def _write_kubeconfig(path: Path, like: Path, token: str) -> None:
    config = yaml.safe_load(like.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
