"""What an API server owes the runtime, told to a real kube-apiserver and to the faulty one without faults.

Whatever the faulty server is used to show rests on its being like the real one here.
"""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
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
from controller.runtime.transport import KubernetesTransport
from controller.runtime.watcher import WatcherSettings
from devkit.controlplane import ControlPlane
from tests.contract.widgets import CONFIG_MAPS, LEASES, WIDGETS, config_map, widget, widget_definition
from tests.faulty_api import FaultyApi, Kind
from tests.waiting import eventually, while_running

QUICK = WatcherSettings(backoff=Backoff(base=0.05, cap=0.2), page_size=7)
BY_WATCH_LIST_AND_BY_LIST = pytest.mark.parametrize("watch_list", [True, False], ids=["WatchList", "list"])


def _negative(raw: RawObject) -> tuple[tuple[str, str], ...]:
    wrong = (raw.get("spec") or {}).get("size", 0) < 0
    return (("spec.size", "should be greater than or equal to 0"),) if wrong else ()


def faulty_kind(resource: Resource, **different: Any) -> Kind:
    return Kind(resource.group, resource.version, resource.plural, resource.kind, **different)


@pytest.fixture(scope="module")
def real_kubeconfig(control_plane: ControlPlane) -> Path:
    control_plane.kubectl("apply", "-f", "-", input=widget_definition(minimum=0))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/widgets.runtime-tests.example.com")
    return control_plane.kubeconfig


@pytest.fixture(params=["kube-apiserver", "faulty"])
async def kubeconfig(
    request: pytest.FixtureRequest, real_kubeconfig: Path, tmp_path: Path
) -> AsyncIterator[Path]:
    if request.param == "kube-apiserver":
        yield real_kubeconfig
        return
    widgets = faulty_kind(WIDGETS, has_status=True, validate=_negative)
    async with FaultyApi(tmp_path, faulty_kind(CONFIG_MAPS), faulty_kind(LEASES), widgets) as server:
        yield server.kubeconfig


@pytest.fixture
def namespace(kubeconfig: Path, control_plane: ControlPlane) -> Iterator[str]:
    """Of one test; the faulty server asks for none."""
    name = f"test-{secrets.token_hex(4)}"
    if kubeconfig != control_plane.kubeconfig:
        yield name
        return
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def transport(kubeconfig: Path) -> AsyncIterator[KubernetesTransport]:
    transport = await KubernetesTransport.connect(kubeconfig=str(kubeconfig))
    yield transport
    await transport.close()


@pytest.fixture
def config_maps(transport: KubernetesTransport) -> ResourceClient:
    return ResourceClient(transport, CONFIG_MAPS, field_manager="runtime-tests")


@pytest.fixture
def widgets(transport: KubernetesTransport) -> ResourceClient:
    return ResourceClient(transport, WIDGETS, field_manager="runtime-tests")


async def test_create_get_delete(config_maps: ResourceClient, namespace: str) -> None:
    created = await config_maps.create(config_map(namespace, "one", a="1"))
    assert (await config_maps.get(f"{namespace}/one"))["data"] == {"a": "1"}

    with pytest.raises(errors.AlreadyExists, match="already exists"):
        await config_maps.create(config_map(namespace, "one"))
    with pytest.raises(errors.Conflict):
        await config_maps.delete(f"{namespace}/one", uid="another")

    await config_maps.delete(f"{namespace}/one", uid=created["metadata"]["uid"])
    with pytest.raises(errors.NotFound, match='configmaps "one" not found'):
        await config_maps.get(f"{namespace}/one")


async def test_a_refused_object_names_the_field(widgets: ResourceClient, namespace: str) -> None:
    with pytest.raises(errors.Invalid) as refusal:
        await widgets.create(widget(namespace, "negative", size=-1))
    assert [field for field, _ in refusal.value.causes] == ["spec.size"]
    assert "should be greater than or equal to 0" in str(refusal.value)


async def test_a_list_comes_in_pages_of_one_version(config_maps: ResourceClient, namespace: str) -> None:
    for number in range(5):
        await config_maps.create(config_map(namespace, f"page-{number}"))
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
    await client.create(config_map(namespace, "before"))
    informer: Informer[str] = Informer(client, lambda _: "", SystemClock(), settings=QUICK)

    async def follow() -> None:
        assert informer.store.get(f"{namespace}/before") is not None
        await client.create(config_map(namespace, "after"))
        await eventually(lambda: informer.store.get(f"{namespace}/after") is not None)
        await client.delete(f"{namespace}/before")
        await eventually(lambda: informer.store.get(f"{namespace}/before") is None)
        assert (client.lists, client.watches, client.watch_lists) == (0, 1, 1)

    await while_running(informer, follow)


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
        await client.create(config_map(namespace, name))
    settings = replace(QUICK, watch_list=watch_list)
    informer: Informer[str] = Informer(client, lambda _: "", SystemClock(), settings=settings)

    async def nothing() -> None: ...

    await while_running(informer, nothing)
    await client.delete(f"{namespace}/goes")
    informer._watcher._machine.ended(errors.Gone("as after a compaction"))
    changes: list[tuple[str, bool]] = []
    informer.on_change(lambda key, _, new: changes.append((key, new is None)))

    async def follow() -> None:
        await eventually(lambda: (f"{namespace}/goes", True) in changes)
        assert (f"{namespace}/stays", True) not in changes
        assert client.watch_lists == (2 if watch_list else 0)

    await while_running(informer, follow)


@BY_WATCH_LIST_AND_BY_LIST
async def test_the_informer_follows_changes(
    config_maps: ResourceClient, namespace: str, watch_list: bool
) -> None:
    for number in range(20):
        await config_maps.create(config_map(namespace, f"before-{number:02}", n=str(number)))
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
        await config_maps.create(config_map(namespace, "after", n="a"))
        await config_maps.apply(config_map(namespace, "after", n="b"), force=True)
        await config_maps.delete(f"{namespace}/after")
        await eventually(lambda: len(changes) == 3)
        key = f"{namespace}/after"
        assert changes == [(key, None, "a"), (key, "a", "b"), (key, "b", None)]

    await while_running(informer, follow)


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
        informer.store.put_if_newer(await config_maps.create(config_map(namespace, "mine", n="1")))
        assert informer.store.get(key) == "1"
        # Something later in the same watch proves that the event of our write has come and was no news.
        await config_maps.create(config_map(namespace, "later", n="2"))
        await eventually(lambda: f"{namespace}/later" in changes)
        assert changes == [key, f"{namespace}/later"]

    await while_running(informer, write)


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
        await eventually(lambda: closed() >= 2)
        await config_maps.create(config_map(namespace, "late"))
        await eventually(lambda: informer.store.get(f"{namespace}/late") is not None)

    await while_running(informer, outlive)


async def test_a_status_write_on_an_old_version_conflicts(widgets: ResourceClient, namespace: str) -> None:
    created = await widgets.create(widget(namespace, "w"))
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
    created = await widgets.create(widget(namespace, "w"))
    with pytest.raises(errors.Conflict):
        await widgets.update_status(
            f"{namespace}/w",
            {"seen": 1},
            resource_version=created["metadata"]["resourceVersion"],
            uid="00000000-0000-0000-0000-000000000000",
        )


async def test_a_status_write_leaves_everything_else_alone(widgets: ResourceClient, namespace: str) -> None:
    raw = widget(namespace, "w")
    raw["metadata"] |= {
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "finalizers": ["example.com/keep"],
    }
    applied = await widgets.apply(raw)
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
    await config_maps.apply(config_map(namespace, "shared", ours="1"))
    await other.apply(config_map(namespace, "shared", theirs="1"))

    with pytest.raises(errors.Conflict, match="conflict with") as conflict:
        await config_maps.apply(config_map(namespace, "shared", ours="2", theirs="2"))
    assert [field for field, _ in conflict.value.causes] == [".data.theirs"]

    updated = await config_maps.apply(config_map(namespace, "shared", ours="2"))
    assert updated["data"] == {"ours": "2", "theirs": "1"}
    forced = await config_maps.apply(config_map(namespace, "shared", theirs="2"), force=True)
    assert forced["data"] == {"theirs": "2"}


async def test_finalizers_hold_a_deleted_object_until_they_are_given_up(
    config_maps: ResourceClient, namespace: str
) -> None:
    held = config_map(namespace, "held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await config_maps.apply(held)
    await config_maps.delete(f"{namespace}/held")
    assert (await config_maps.get(f"{namespace}/held"))["metadata"]["deletionTimestamp"]
    await config_maps.apply(config_map(namespace, "held"))
    with pytest.raises(errors.NotFound):
        await config_maps.get(f"{namespace}/held")


async def test_an_update_on_an_old_version_conflicts(transport: KubernetesTransport, namespace: str) -> None:
    leases = ResourceClient(transport, LEASES, field_manager="runtime-tests")
    lease = {"metadata": {"namespace": namespace, "name": "leader"}, "spec": {"holderIdentity": "a"}}
    created = await leases.create(lease)
    metadata = {**lease["metadata"], "resourceVersion": created["metadata"]["resourceVersion"]}
    updated = await leases.update({"metadata": metadata, "spec": {"holderIdentity": "b"}})
    assert updated["spec"] == {"holderIdentity": "b"}
    assert updated["metadata"]["uid"] == created["metadata"]["uid"]
    with pytest.raises(errors.Conflict, match="the object has been modified"):
        await leases.update({"metadata": metadata, "spec": {"holderIdentity": "c"}})


async def test_an_apply_that_changes_nothing_makes_no_new_version(
    config_maps: ResourceClient, namespace: str
) -> None:
    first = await config_maps.apply(config_map(namespace, "same", a="1"))
    second = await config_maps.apply(config_map(namespace, "same", a="1"))
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_a_watch_with_a_selector_sees_objects_come_and_go_by_their_labels(
    transport: KubernetesTransport, config_maps: ResourceClient, namespace: str
) -> None:
    client = ResourceClient(
        transport, CONFIG_MAPS, field_manager="runtime-tests", namespace=namespace, label_selector="seen=yes"
    )
    informer: Informer[str] = Informer(client, lambda _: "", SystemClock(), settings=QUICK)

    def labelled(name: str, seen: str) -> RawObject:
        raw = config_map(namespace, name)
        raw["metadata"]["labels"] = {"seen": seen}
        return raw

    async def follow() -> None:
        await config_maps.apply(labelled("a", "no"))
        await config_maps.apply(labelled("b", "yes"))
        await eventually(lambda: informer.store.keys() == (f"{namespace}/b",))
        await config_maps.apply(labelled("b", "no"))
        await config_maps.apply(labelled("a", "yes"))
        await eventually(lambda: informer.store.keys() == (f"{namespace}/a",))

    await while_running(informer, follow)
