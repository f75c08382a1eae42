"""A delivery lab whose agents are pods behind Services."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any, Self

from controller.reconcilers.services import ENDPOINT_SLICES, SERVICES
from controller.runtime.client import ResourceClient
from tests.integration.delivery_lab import DeliveryLab, Raw, Users, manifest
from tests.integration.envoy_lab import eventually
from tests.integration.pod_network import PORT, Pod, PodNetwork


class ServiceLab(DeliveryLab):
    """Services without selector, whose EndpointSlices the test writes as Kubernetes would."""

    async def __aenter__(self) -> Self:
        self._pods = AsyncExitStack()
        self._network = self._stack.enter_context(PodNetwork())
        await super().__aenter__()
        self._services = ResourceClient(self._transport, SERVICES, field_manager="tests")
        self._slices = ResourceClient(self._transport, ENDPOINT_SLICES, field_manager="tests")
        return self

    async def __aexit__(self, *_: object) -> None:
        # First those who use them, or the pods' last moments would fill the logs.
        await super().__aexit__()
        await self._pods.aclose()

    async def pod(self, version: str) -> Pod:
        """Start an agent."""
        return await self._pods.enter_async_context(Pod(self._network, version))

    async def service(self, name: str, *, selects: bool = False) -> None:
        """Make a Service with port 80 and nothing behind it; one that ``selects`` has pods labelled with its name."""
        spec: Raw = {"ports": [{"name": "http", "port": 80, "targetPort": PORT}]}
        if selects:
            spec["selector"] = {"app": name}
        await self._services.apply({"metadata": {"name": name, "namespace": self.namespace}, "spec": spec})
        await self.endpoints(name)

    async def runs(self, service: str, pod: Pod, image: str) -> None:
        """Make the object of a pod that selects for a Service, or say that it has been restarted with another image."""
        name = self._name(pod)
        spec = {"containers": [{"name": "agent", "image": "agent"}]}
        metadata = {"name": name, "namespace": self.namespace, "labels": {"app": service}}
        await self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        said = {
            "name": "agent",
            "image": "agent",
            "imageID": f"registry.example/agent@{image}",
            "ready": True,
            "restartCount": 0,
        }
        status = json.dumps({"status": {"containerStatuses": [said]}})
        where = (f"--namespace={self.namespace}", "--subresource=status", "--type=merge")
        await asyncio.to_thread(self.control_plane.kubectl, "patch", "pod", name, *where, f"--patch={status}")

    @staticmethod
    def _name(pod: Pod) -> str:
        return f"pod-{pod.address.replace('.', '-')}"

    async def endpoints(self, service: str, *ready: Pod, unready: tuple[Pod, ...] = ()) -> None:
        """Say what stands behind a Service."""
        endpoints = [
            {
                "addresses": [pod.address],
                "conditions": {"ready": pod in ready, "serving": pod in ready, "terminating": False},
                "targetRef": {"kind": "Pod", "name": self._name(pod), "namespace": self.namespace},
            }
            for pod in (*ready, *unready)
        ]
        await self._slices.apply(
            {
                "metadata": {
                    "name": f"{service}-1",
                    "namespace": self.namespace,
                    "labels": {"kubernetes.io/service-name": service},
                },
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
                "endpoints": endpoints,
            }
        )

    def manifest(self, service: str, **spec: Any) -> Raw:
        """An AgentRollout whose agent is behind a Service."""
        agent = {
            "code": {"service": {"name": service, "port": 80}},
            "prompts": {"system": f"You are {service}."},
        }
        return manifest(self.namespace, "", agent=agent, **spec)

    async def want(self, service: str, **spec: Any) -> None:
        """Apply an AgentRollout whose agent is behind a Service."""
        await self.apply(self.manifest(service, **spec))

    async def answers(self, met: Users, version: str, more: int) -> None:
        """Wait until users have got so many more answers of a version."""
        wanted = met.versions[version] + more
        assert await eventually(lambda: _now(met.versions[version]), lambda count: count >= wanted) >= wanted

    async def quiet(self, pod: Pod) -> int:
        """The pod's requests once it gets no more, which the router was told a moment ago or is about to be."""
        seen = -1
        while seen != pod.requests:
            seen = pod.requests
            await asyncio.sleep(0.5)  # users ask 150 times a second
        return seen

    async def configured(self) -> dict[str, str]:
        """When the router took each cluster and route configuration."""
        found = {}
        for kind, holds in (
            ("dynamic_active_clusters", "cluster"),
            ("dynamic_route_configs", "route_config"),
        ):
            dump = await asyncio.to_thread(self.envoy.admin_get, "/config_dump", resource=kind)
            for each in dump.json()["configs"]:
                found[f"{kind} {each[holds]['name']}"] = each["last_updated"]
        return found


async def _now(value: int) -> int:
    return value
