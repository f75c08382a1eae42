"""The informer while the API server is killed, started again and has forgotten its history."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator

import pytest
from prometheus_client import CollectorRegistry

from controller.runtime.backoff import Backoff
from controller.runtime.client import ResourceClient
from controller.runtime.clock import SystemClock
from controller.runtime.informer import Informer
from controller.runtime.metrics import RuntimeMetrics
from controller.runtime.resource import Resource
from controller.runtime.transport import KubernetesTransport
from controller.runtime.watcher import WatcherSettings
from devkit.controlplane import ControlPlane
from tests.waiting import eventually

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SETTINGS = WatcherSettings(backoff=Backoff(base=0.1, cap=1.0))


@pytest.fixture
def own_control_plane() -> Iterator[ControlPlane]:
    """One that can be killed without harm to other tests."""
    with ControlPlane() as control_plane:
        yield control_plane


@pytest.fixture
async def client(own_control_plane: ControlPlane) -> AsyncIterator[ResourceClient]:
    transport = await KubernetesTransport.connect(kubeconfig=str(own_control_plane.kubeconfig))
    yield ResourceClient(transport, CONFIG_MAPS, field_manager="runtime-tests")
    await transport.close()


def _compact(control_plane: ControlPlane, revision: str) -> None:
    """Have etcd forget everything before ``revision``."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{control_plane._ports['etcd']}/v3/kv/compaction",
        data=json.dumps({"revision": revision, "physical": True}).encode(),
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


async def _create(client: ResourceClient, name: str) -> str:
    created = await client.create({"metadata": {"namespace": "default", "name": name}})
    return str(created["metadata"]["resourceVersion"])


async def test_a_killed_api_server_costs_no_event_even_if_history_is_compacted(
    own_control_plane: ControlPlane, client: ResourceClient
) -> None:
    registry = CollectorRegistry()
    informer: Informer[str] = Informer(
        client,
        lambda raw: str(raw["metadata"]["name"]),
        SystemClock(),
        settings=SETTINGS,
        metrics=RuntimeMetrics(registry),
    )
    gone: list[str] = []
    informer.on_change(lambda key, _, new: gone.append(key) if new is None else None)

    def ended(reason: str) -> float:
        labels = {"resource": "configmaps", "reason": reason}
        return registry.get_sample_value("agentrollout_watch_restarts_total", labels) or 0.0

    await _create(client, "stays")
    await _create(client, "goes")
    informing = asyncio.create_task(informer.run())
    try:
        await eventually(lambda: informer.store.get("default/goes") is not None, seconds=60)
        own_control_plane.api_server.kill()
        await eventually(lambda: bool(informer.problem), seconds=60)
        # Stopped here, so that it surely misses the deletion; it goes on below from the version it had.
        informing.cancel()
        await asyncio.gather(informing, return_exceptions=True)
        own_control_plane.api_server.start()
        await asyncio.to_thread(own_control_plane.wait_ready)
        await client.delete("default/goes")
        _compact(own_control_plane, await _create(client, "new"))
        own_control_plane.api_server.kill()
        own_control_plane.api_server.start()
        await asyncio.to_thread(own_control_plane.wait_ready)
        informing = asyncio.create_task(informer.run())
        await eventually(lambda: informer.store.get("default/new") is not None, seconds=60)
    finally:
        informing.cancel()
        await asyncio.gather(informing, return_exceptions=True)
    assert ended("Expired") + ended("Gone") == 1
    assert gone == ["default/goes"]
    assert informer.store.get("default/stays") == "stays"
