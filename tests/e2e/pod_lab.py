"""A delivery lab whose agents are Deployments: pods that a kubelet runs, behind Services that Kubernetes itself fills."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tests.integration.delivery_lab import DeliveryLab, Raw, manifest

IMAGE = os.environ.get("E2E_IMAGE", "docker.io/library/busybox:1.36")
OTHER_IMAGE = os.environ.get("E2E_OTHER_IMAGE", "docker.io/library/busybox:1.37")
"""Two images of different content that have busybox in their path."""

PORT = 8080

_SERVE = (
    "mkdir /tmp/www && echo {version} > /tmp/www/index.html && touch /tmp/ready && "
    f"exec busybox httpd -f -p {PORT} -h /tmp/www"
)


class PodLab(DeliveryLab):
    """Agents behind Services, driven by kubectl alone."""

    async def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the test's namespace."""
        return await asyncio.to_thread(
            self.control_plane.kubectl, f"--namespace={self.namespace}", *arguments
        )

    async def deploy(self, version: str, *, replicas: int = 1) -> None:
        """Run a version of the agent behind a Service of its own, and wait until all of it is ready."""
        await self.apply(_deployment(self.namespace, version, replicas))
        await self.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": version, "namespace": self.namespace},
                "spec": {"selector": {"app": version}, "ports": [{"port": 80, "targetPort": PORT}]},
            }
        )
        await self.rolled_out(version)

    async def rolled_out(self, version: str) -> None:
        """Wait until a Deployment is as it is wanted."""
        await self.kubectl("rollout", "status", f"deployment/{version}", "--timeout=100s")

    async def want(self, service: str, **spec: Any) -> None:
        """Apply an AgentRollout whose agent is behind a Service."""
        agent = {"code": {"service": {"name": service, "port": 80}}}
        await self.apply(manifest(self.namespace, "", agent=agent, **spec))


def _deployment(namespace: str, version: str, replicas: int) -> Raw:
    container = {
        "name": "agent",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["busybox", "sh", "-c", _SERVE.format(version=version)],
        "readinessProbe": {"exec": {"command": ["busybox", "test", "-f", "/tmp/ready"]}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": version, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": version}},
            "template": {
                "metadata": {"labels": {"app": version}},
                # The agent heeds no SIGTERM: it serves until the grace is over, as one does that drains.
                "spec": {"terminationGracePeriodSeconds": 3, "containers": [container]},
            },
        },
    }
