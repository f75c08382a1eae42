"""The runtime's client and informer against a real kube-apiserver."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from controller.runtime import errors
from controller.runtime.backoff import Backoff
from controller.runtime.client import ResourceClient
from controller.runtime.clock import SystemClock
from controller.runtime.informer import Informer
from controller.runtime.resource import RawObject
from controller.runtime.transport import ConfigurationError, KubernetesTransport
from controller.runtime.watcher import WatcherSettings
from devkit.controlplane import ControlPlane
from tests.contract.widgets import CONFIG_MAPS, WIDGETS, widget, widget_definition
from tests.waiting import eventually, while_running

QUICK = WatcherSettings(backoff=Backoff(base=0.05, cap=0.2), page_size=7)


@pytest.fixture(scope="module")
def widgets_served(control_plane: ControlPlane) -> None:
    control_plane.kubectl("apply", "-f", "-", input=widget_definition(minimum=0))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/widgets.runtime-tests.example.com")


@pytest.fixture
async def transport(control_plane: ControlPlane) -> AsyncIterator[KubernetesTransport]:
    transport = await KubernetesTransport.connect(kubeconfig=str(control_plane.kubeconfig))
    yield transport
    await transport.close()


@pytest.fixture
def widgets(transport: KubernetesTransport, widgets_served: None) -> ResourceClient:
    return ResourceClient(transport, WIDGETS, field_manager="runtime-tests")


async def test_a_user_without_rights_is_told_so(control_plane: ControlPlane, namespace: str) -> None:
    transport = await KubernetesTransport.connect(kubeconfig=str(control_plane.user_kubeconfig("bob")))
    try:
        client = ResourceClient(transport, CONFIG_MAPS, field_manager="bob")
        with pytest.raises(errors.Forbidden, match='User "bob" cannot get resource "configmaps"'):
            await client.get(f"{namespace}/any")
    finally:
        await transport.close()


async def test_an_unusable_kubeconfig_is_named(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no kubeconfig .*nowhere"):
        await KubernetesTransport.connect(kubeconfig=str(tmp_path / "nowhere.kubeconfig"))
    empty = tmp_path / "empty.kubeconfig"
    empty.write_text("{}")
    with pytest.raises(ConfigurationError, match=r"no usable Kubernetes configuration in .*empty"):
        await KubernetesTransport.connect(kubeconfig=str(empty))


@pytest.mark.parametrize("watch_list", [True, False], ids=["WatchList", "list and watch"])
async def test_metadata_comes_without_contents(
    transport: KubernetesTransport, namespace: str, watch_list: bool
) -> None:
    whole = ResourceClient(transport, CONFIG_MAPS, field_manager="runtime-tests", namespace=namespace)
    client = ResourceClient(
        transport, CONFIG_MAPS, field_manager="runtime-tests", namespace=namespace, metadata_only=True
    )
    raw: RawObject = {"metadata": {"name": "one", "namespace": namespace}, "data": {"secret": "planted"}}
    await whole.create(raw)
    seen: list[RawObject] = []

    def project(raw: RawObject) -> str:
        seen.append(raw)
        return str(raw["metadata"]["name"])

    settings = replace(QUICK, watch_list=watch_list)
    informer: Informer[str] = Informer(client, project, SystemClock(), settings=settings)

    async def look() -> None:
        await whole.create({**raw, "metadata": {"name": "two", "namespace": namespace}})
        await whole.delete(f"{namespace}/one")
        await eventually(lambda: informer.store.get(f"{namespace}/two") is not None)
        await eventually(lambda: informer.store.get(f"{namespace}/one") is None)

    await while_running(informer, look)
    assert {raw["metadata"]["name"] for raw in seen} >= {"one", "two"}
    assert "planted" not in str(seen)
    assert (await client.get(f"{namespace}/two"))["data"] == {"secret": "planted"}


async def test_an_object_stored_before_a_stricter_schema_does_not_stop_the_others(
    control_plane: ControlPlane, widgets: ResourceClient, namespace: str
) -> None:
    def project(raw: RawObject) -> int:
        size = raw["spec"]["size"]
        if size < 10:
            raise ValueError(f"size {size} is below 10")
        return int(size)

    await widgets.create(widget(namespace, "small", size=3))
    await widgets.create(widget(namespace, "large", size=30))
    control_plane.kubectl("apply", "-f", "-", input=widget_definition(minimum=10))
    informer: Informer[int] = Informer(widgets, project, SystemClock(), settings=QUICK)

    async def look() -> None:
        assert informer.store.get(f"{namespace}/large") == 30
        assert informer.store.get(f"{namespace}/small") is None
        assert informer.store.invalid(f"{namespace}/small") == "ValueError: size 3 is below 10"
        await widgets.apply(widget(namespace, "small", size=11), force=True)
        await eventually(lambda: informer.store.get(f"{namespace}/small") == 11)
        assert informer.store.invalid(f"{namespace}/small") is None

    try:
        await while_running(informer, look)
    finally:
        control_plane.kubectl("apply", "-f", "-", input=widget_definition(minimum=0))
