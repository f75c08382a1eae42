"""The runtime's client and informer against a real kube-apiserver."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.runtime import errors
from controller.runtime.backoff import Backoff
from controller.runtime.client import Page, ResourceClient, WatchEvent
from controller.runtime.clock import SystemClock
from controller.runtime.informer import Informer
from controller.runtime.metrics import RuntimeMetrics
from controller.runtime.resource import RawObject, Resource
from controller.runtime.transport import ConfigurationError, KubernetesTransport
from controller.runtime.watcher import WatcherSettings
from devkit.controlplane import ControlPlane

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
WIDGETS = Resource("runtime-tests.example.com", "v1", "widgets", "Widget")
QUICK = WatcherSettings(backoff=Backoff(base=0.05, cap=0.2), page_size=7)
BY_WATCH_LIST_AND_BY_LIST = pytest.mark.parametrize("watch_list", [True, False], ids=["WatchList", "list"])


def _definition(minimum: int) -> str:
    """A CRD with a status subresource whose ``spec.size`` has a minimum."""
    spec = {"type": "object", "properties": {"size": {"type": "integer", "minimum": minimum}}}
    status = {"type": "object", "properties": {"seen": {"type": "integer"}, "note": {"type": "string"}}}
    schema = {"type": "object", "properties": {"spec": spec, "status": status}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget"}
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.runtime-tests.example.com"},
            "spec": {
                "group": "runtime-tests.example.com",
                "scope": "Namespaced",
                "names": names,
                "versions": [version],
            },
        }
    )


@pytest.fixture(scope="module")
def widgets_served(control_plane: ControlPlane) -> None:
    control_plane.kubectl("apply", "-f", "-", input=_definition(minimum=0))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/widgets.runtime-tests.example.com")


@pytest.fixture
async def transport(control_plane: ControlPlane) -> AsyncIterator[KubernetesTransport]:
    transport = await KubernetesTransport.connect(kubeconfig=str(control_plane.kubeconfig))
    yield transport
    await transport.close()


@pytest.fixture
def config_maps(transport: KubernetesTransport) -> ResourceClient:
    return ResourceClient(transport, CONFIG_MAPS, field_manager="runtime-tests")


@pytest.fixture
def widgets(transport: KubernetesTransport, widgets_served: None) -> ResourceClient:
    return ResourceClient(transport, WIDGETS, field_manager="runtime-tests")


def _config_map(namespace: str, name: str, **data: str) -> RawObject:
    return {"metadata": {"namespace": namespace, "name": name}, "data": data}


def _widget(namespace: str, name: str, size: int = 1) -> RawObject:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"size": size}}


async def _eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.02)


async def _running(informer: Informer[Any], test: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(20):
            await informer.wait_for_sync()
        await test()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_create_get_delete(config_maps: ResourceClient, namespace: str) -> None:
    created = await config_maps.create(_config_map(namespace, "one", a="1"))
    assert (await config_maps.get(f"{namespace}/one"))["data"] == {"a": "1"}

    with pytest.raises(errors.AlreadyExists, match="already exists"):
        await config_maps.create(_config_map(namespace, "one"))
    with pytest.raises(errors.Conflict):
        await config_maps.delete(f"{namespace}/one", uid="another")

    await config_maps.delete(f"{namespace}/one", uid=created["metadata"]["uid"])
    with pytest.raises(errors.NotFound, match='configmaps "one" not found'):
        await config_maps.get(f"{namespace}/one")


async def test_a_refused_object_names_the_field(widgets: ResourceClient, namespace: str) -> None:
    with pytest.raises(errors.Invalid) as refusal:
        await widgets.create(_widget(namespace, "negative", size=-1))
    assert [field for field, _ in refusal.value.causes] == ["spec.size"]
    assert "should be greater than or equal to 0" in str(refusal.value)


async def test_a_user_without_rights_is_told_so(control_plane: ControlPlane, namespace: str) -> None:
    transport = await KubernetesTransport.connect(kubeconfig=str(control_plane.user_kubeconfig("bob")))
    try:
        client = ResourceClient(transport, CONFIG_MAPS, field_manager="bob")
        with pytest.raises(errors.Forbidden, match='User "bob" cannot get resource "configmaps"'):
            await client.get(f"{namespace}/any")
    finally:
        await transport.close()


async def test_an_unusable_kubeconfig_is_named(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no usable Kubernetes configuration in .*nowhere"):
        await KubernetesTransport.connect(kubeconfig=str(tmp_path / "nowhere.kubeconfig"))


async def test_a_list_comes_in_pages_of_one_version(config_maps: ResourceClient, namespace: str) -> None:
    for number in range(5):
        await config_maps.create(_config_map(namespace, f"page-{number}"))
    first = await config_maps.list_page(limit=2)
    assert len(first.items) == 2
    pages = [first]
    while pages[-1].continue_token:
        pages.append(await config_maps.list_page(limit=2, continue_token=pages[-1].continue_token))
    ours = [item for page in pages for item in page.items if item["metadata"]["namespace"] == namespace]
    assert [item["metadata"]["name"] for item in ours] == [f"page-{number}" for number in range(5)]
    assert {page.resource_version for page in pages} == {first.resource_version}
    assert {(item["apiVersion"], item["kind"]) for item in ours} == {("v1", "ConfigMap")}


class _Counting(ResourceClient):
    """Counts the requests of an informer."""

    lists = watches = watch_lists = 0

    async def list_page(self, **arguments: Any) -> Page:
        self.lists += 1
        return await super().list_page(**arguments)

    async def watch(
        self, resource_version: str, *, send_initial_events: bool = False, **arguments: Any
    ) -> AsyncGenerator[WatchEvent, None]:
        self.watches += 1
        self.watch_lists += send_initial_events
        stream = super().watch(resource_version, send_initial_events=send_initial_events, **arguments)
        async with aclosing(stream):
            async for event in stream:
                yield event


async def test_one_request_brings_all_objects_and_the_changes_after_them(
    transport: KubernetesTransport, namespace: str
) -> None:
    client = _Counting(transport, CONFIG_MAPS, field_manager="runtime-tests")
    await client.create(_config_map(namespace, "before"))
    informer: Informer[str] = Informer(client, lambda _: "", SystemClock(), settings=QUICK)

    async def follow() -> None:
        assert informer.store.get(f"{namespace}/before") is not None
        await client.create(_config_map(namespace, "after"))
        await _eventually(lambda: informer.store.get(f"{namespace}/after") is not None)
        await client.delete(f"{namespace}/before")
        await _eventually(lambda: informer.store.get(f"{namespace}/before") is None)
        assert (client.lists, client.watches, client.watch_lists) == (0, 1, 1)

    await _running(informer, follow)


async def test_a_watch_list_of_a_version_that_was_never_reached_is_refused_in_words_of_its_own(
    config_maps: ResourceClient,
) -> None:
    stream = config_maps.watch("99999999", server_timeout=10, inactivity_timeout=10, send_initial_events=True)
    async with aclosing(stream):
        with pytest.raises(errors.VersionNotReached, match="Too large resource version"):
            await anext(stream)


@BY_WATCH_LIST_AND_BY_LIST
async def test_what_vanished_while_nobody_watched_is_told_as_a_deletion(
    transport: KubernetesTransport, namespace: str, watch_list: bool
) -> None:
    """The informer stops, loses its place in the history, and goes on."""
    client = _Counting(transport, CONFIG_MAPS, field_manager="runtime-tests")
    for name in ("stays", "goes"):
        await client.create(_config_map(namespace, name))
    settings = replace(QUICK, watch_list=watch_list)
    informer: Informer[str] = Informer(client, lambda _: "", SystemClock(), settings=settings)

    async def nothing() -> None: ...

    await _running(informer, nothing)
    await client.delete(f"{namespace}/goes")
    informer._watcher._machine.ended(errors.Gone("as after a compaction"))
    changes: list[tuple[str, bool]] = []
    informer.on_change(lambda key, _, new: changes.append((key, new is None)))

    async def follow() -> None:
        await _eventually(lambda: (f"{namespace}/goes", True) in changes)
        assert (f"{namespace}/stays", True) not in changes
        assert client.watch_lists == (2 if watch_list else 0)

    await _running(informer, follow)


@BY_WATCH_LIST_AND_BY_LIST
async def test_the_informer_follows_changes(
    config_maps: ResourceClient, namespace: str, watch_list: bool
) -> None:
    for number in range(20):
        await config_maps.create(_config_map(namespace, f"before-{number:02}", n=str(number)))
    informer: Informer[str] = Informer(
        config_maps,
        lambda raw: str(raw.get("data", {}).get("n", "")),
        SystemClock(),
        indexers={"n": lambda value: [value]},
        settings=replace(QUICK, watch_list=watch_list),
    )
    changes: list[tuple[str, str | None, str | None]] = []
    informer.on_change(
        lambda key, old, new: changes.append((key, old, new)) if key.startswith(namespace) else None
    )

    async def follow() -> None:
        assert len(changes) == 20
        assert "7" in informer.store.by_index("n", "7")
        changes.clear()
        await config_maps.create(_config_map(namespace, "after", n="a"))
        await config_maps.apply(_config_map(namespace, "after", n="b"), force=True)
        await config_maps.delete(f"{namespace}/after")
        await _eventually(lambda: len(changes) == 3)
        key = f"{namespace}/after"
        assert changes == [(key, None, "a"), (key, "a", "b"), (key, "b", None)]

    await _running(informer, follow)


async def test_the_store_sees_a_write_at_once_and_tells_of_it_once(
    config_maps: ResourceClient, namespace: str
) -> None:
    informer: Informer[str] = Informer(
        config_maps, lambda raw: str(raw["data"]["n"]), SystemClock(), settings=QUICK
    )
    changes: list[str] = []
    informer.on_change(lambda key, _, __: changes.append(key) if key.startswith(namespace) else None)
    key = f"{namespace}/mine"

    async def write() -> None:
        # The watch may have been faster than the answer; then this is no news, and must not be told twice.
        informer.store.put_if_newer(await config_maps.create(_config_map(namespace, "mine", n="1")))
        assert informer.store.get(key) == "1"
        # Something later in the same watch proves that the event of our write has come and was no news.
        await config_maps.create(_config_map(namespace, "later", n="2"))
        await _eventually(lambda: f"{namespace}/later" in changes)
        assert changes == [key, f"{namespace}/later"]

    await _running(informer, write)


async def test_the_watch_goes_on_after_the_server_closed_it(
    config_maps: ResourceClient, namespace: str
) -> None:
    registry = CollectorRegistry()
    settings = WatcherSettings(backoff=Backoff(base=0.05, cap=0.2), server_timeout=1.0)
    informer: Informer[str] = Informer(
        config_maps, lambda _: "", SystemClock(), settings=settings, metrics=RuntimeMetrics(registry)
    )

    def closed() -> float:
        labels = {"resource": "configmaps", "reason": "closed"}
        return registry.get_sample_value("agentrollout_watch_restarts_total", labels) or 0.0

    async def outlive() -> None:
        await _eventually(lambda: closed() >= 2)
        await config_maps.create(_config_map(namespace, "late"))
        await _eventually(lambda: informer.store.get(f"{namespace}/late") is not None)

    await _running(informer, outlive)


async def test_a_status_write_on_an_old_version_conflicts(widgets: ResourceClient, namespace: str) -> None:
    created = await widgets.create(_widget(namespace, "w"))
    key, old = f"{namespace}/w", created["metadata"]["resourceVersion"]

    written = await widgets.update_status(key, {"seen": 1, "note": "first"}, resource_version=old)
    assert written["status"] == {"seen": 1, "note": "first"}
    assert written["spec"] == {"size": 1}
    with pytest.raises(errors.Conflict, match="object has been modified"):
        await widgets.update_status(key, {"seen": 2}, resource_version=old)

    current = written["metadata"]["resourceVersion"]
    replaced = await widgets.update_status(key, {"seen": 2}, resource_version=current)
    assert replaced["status"] == {"seen": 2}


async def test_a_status_is_not_written_to_a_namesake(widgets: ResourceClient, namespace: str) -> None:
    created = await widgets.create(_widget(namespace, "w"))
    with pytest.raises(errors.Conflict):
        await widgets.update_status(
            f"{namespace}/w",
            {"seen": 1},
            resource_version=created["metadata"]["resourceVersion"],
            uid="00000000-0000-0000-0000-000000000000",
        )


async def test_a_status_write_leaves_everything_else_alone(widgets: ResourceClient, namespace: str) -> None:
    widget = _widget(namespace, "w")
    widget["metadata"] |= {
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "finalizers": ["example.com/keep"],
    }
    applied = await widgets.apply(widget)
    written = await widgets.update_status(
        f"{namespace}/w", {"seen": 1}, resource_version=applied["metadata"]["resourceVersion"]
    )
    for part in ("labels", "annotations", "finalizers", "generation"):
        assert written["metadata"][part] == applied["metadata"][part], part
    owned = {
        (entry["operation"], entry.get("subresource", "")) for entry in written["metadata"]["managedFields"]
    }
    assert owned == {("Apply", ""), ("Update", "status")}
    await widgets.apply({"metadata": {"namespace": namespace, "name": "w"}})  # gives up the finalizer


async def test_apply_owns_what_it_sets_and_nothing_else(
    transport: KubernetesTransport, config_maps: ResourceClient, namespace: str
) -> None:
    other = ResourceClient(transport, CONFIG_MAPS, field_manager="someone-else")
    await config_maps.apply(_config_map(namespace, "shared", ours="1"))
    await other.apply(_config_map(namespace, "shared", theirs="1"))

    with pytest.raises(errors.Conflict, match="conflict with") as conflict:
        await config_maps.apply(_config_map(namespace, "shared", ours="2", theirs="2"))
    assert [field for field, _ in conflict.value.causes] == [".data.theirs"]

    updated = await config_maps.apply(_config_map(namespace, "shared", ours="2"))
    assert updated["data"] == {"ours": "2", "theirs": "1"}
    forced = await config_maps.apply(_config_map(namespace, "shared", theirs="2"), force=True)
    assert forced["data"] == {"theirs": "2"}


async def test_an_object_stored_before_a_stricter_schema_does_not_stop_the_others(
    control_plane: ControlPlane, widgets: ResourceClient, namespace: str
) -> None:
    def project(raw: RawObject) -> int:
        size = raw["spec"]["size"]
        if size < 10:
            raise ValueError(f"size {size} is below 10")
        return int(size)

    await widgets.create(_widget(namespace, "small", size=3))
    await widgets.create(_widget(namespace, "large", size=30))
    control_plane.kubectl("apply", "-f", "-", input=_definition(minimum=10))
    informer: Informer[int] = Informer(widgets, project, SystemClock(), settings=QUICK)

    async def look() -> None:
        assert informer.store.get(f"{namespace}/large") == 30
        assert informer.store.get(f"{namespace}/small") is None
        assert informer.store.invalid(f"{namespace}/small") == "ValueError: size 3 is below 10"
        await widgets.apply(_widget(namespace, "small", size=11), force=True)
        await _eventually(lambda: informer.store.get(f"{namespace}/small") == 11)
        assert informer.store.invalid(f"{namespace}/small") is None

    try:
        await _running(informer, look)
    finally:
        control_plane.kubectl("apply", "-f", "-", input=_definition(minimum=0))
