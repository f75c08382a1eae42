"""Pods are listed when somebody asks and the endpoints have changed; nobody waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.reasons import Reason
from controller.core.traffic import Backend
from controller.reconcilers.backends import Backends
from controller.reconcilers.grants import Grants
from controller.reconcilers.images import MAX_IMAGES, NOTHING, Images, PodImages
from controller.runtime.client import Page
from controller.runtime.errors import Unavailable
from controller.runtime.testing import FakeClock
from controller.runtime.workqueue import WorkQueue
from tests.unit.reconcilers.test_services import AGENT, LEAVING, READY, UNREADY, World, service, slice_of

Raw = dict[str, Any]
SELECTING = {"selector": {"app": "agent", "tier": "web"}}


def pod(name: str, *images: str) -> Raw:
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "status": {"containerStatuses": [{"imageID": image} for image in images]},
    }


def behind(*pods: tuple[str, Raw], version: int = 1) -> Raw:
    """A slice whose endpoints are these pods."""
    made = slice_of(*((f"10.0.0.{n}", state) for n, (_, state) in enumerate(pods)), version=version)
    for endpoint, (name, _) in zip(made["endpoints"], pods, strict=True):
        endpoint["targetRef"] = {"kind": "Pod", "name": name, "namespace": "shop"}
    return made


class Cluster:
    """Services, and pods that are listed one a page."""

    def __init__(self, *slices: Raw, **spec: Any) -> None:
        self.clock = FakeClock()
        self.world = World(*slices, service=service(**(spec or SELECTING)))
        self.queue = WorkQueue("images", self.clock)
        self.pods: list[Raw] = []
        self.lists: list[tuple[str, str]] = []
        self.problem: Exception | None = None
        self.meanwhile: Raw | None = None
        self.images = PodImages(self.world.known, self.queue, self.lister)
        self.told: list[str] = []
        self.images.on_change(self.told.append)

    def lister(self, namespace: str, selector: str) -> Any:
        self.lists.append((namespace, selector))
        return self

    async def list_page(self, *, limit: int, continue_token: str) -> Page:
        if self.problem:
            raise self.problem
        if self.meanwhile:
            self.world.see(self.meanwhile)
        at = int(continue_token or 0)
        return Page(tuple(self.pods[at : at + 1]), "1", str(at + 1) if at + 1 < len(self.pods) else "")

    @property
    def known(self) -> Images:
        return self.images.images(AGENT)

    async def work(self) -> None:
        await self.clock.run_for(1)
        while len(self.queue):
            key = await self.queue.get()
            result = await self.images.read(key)
            self.queue.done(key)
            if result.requeue_after:
                self.queue.add_after(key, result.requeue_after)


async def test_the_digests_of_the_pods_behind_the_service_become_known() -> None:
    cluster = Cluster(behind(("a", READY), ("b", UNREADY), ("leaving", LEAVING)))
    cluster.pods = [
        pod("a", "docker.io/library/agent@sha256:1", "docker-pullable://istio/proxy@sha256:2"),
        pod("b", "other.example/agent@sha256:1", ""),
        pod("leaving", "sha256:old"),
        pod("same-labels", "sha256:not-behind-it"),
        {"metadata": {"name": "b", "namespace": "shop"}},
    ]
    assert cluster.known == Images(None)
    await cluster.work()
    assert cluster.known == Images(frozenset({"sha256:1", "sha256:2"}))
    assert cluster.lists == [("shop", "app=agent,tier=web")]
    assert cluster.told == ["shop/agent"]


async def test_pods_are_listed_again_only_when_the_endpoints_changed_and_somebody_asks() -> None:
    cluster = Cluster(behind(("a", UNREADY)))
    cluster.pods = [pod("a", "sha256:1")]
    _ = cluster.known
    await cluster.work()
    cluster.world.see(behind(("a", UNREADY), version=2))
    assert cluster.known.digests == frozenset({"sha256:1"})
    cluster.world.see(behind(("a", READY), version=3))
    await cluster.work()
    assert len(cluster.lists) == 1
    assert cluster.known == Images(None)
    await cluster.work()
    assert len(cluster.lists) == 2


async def test_pods_that_changed_while_they_were_listed_are_listed_again() -> None:
    cluster = Cluster(behind(("a", READY)))
    cluster.pods, cluster.meanwhile = [pod("a", "sha256:1")], behind(("b", READY), version=2)
    _ = cluster.known
    await cluster.work()
    assert cluster.known == Images(None)
    cluster.pods = [pod("b", "sha256:2")]
    await cluster.work()
    assert cluster.known.digests == frozenset({"sha256:2"})


async def test_what_cannot_be_listed_says_why_and_is_tried_again() -> None:
    cluster = Cluster(behind(("a", READY)))
    cluster.problem = Unavailable("no answer")
    _ = cluster.known
    with pytest.raises(Unavailable):
        await cluster.work()
    assert cluster.known == Images(None, "no answer")
    cluster.problem, cluster.pods = None, [pod("a", "sha256:1")]
    await cluster.images.read("shop/agent")
    assert cluster.known.digests == frozenset({"sha256:1"})
    assert cluster.told == ["shop/agent"] * 2


async def test_more_images_than_status_can_hold_are_not_known() -> None:
    cluster = Cluster(behind(("a", READY)))
    cluster.pods = [pod("a", *(f"sha256:{n}" for n in range(MAX_IMAGES + 1)))]
    _ = cluster.known
    await cluster.work()
    assert cluster.known == Images(None, "the pods have more than 64 images")


async def test_services_without_selector_or_pods_have_nothing_to_read() -> None:
    assert Cluster(behind(("a", READY)), selector=None).known == NOTHING
    cluster = Cluster(slice_of(("10.0.0.1", READY)))
    assert cluster.known == NOTHING
    await cluster.images.read("shop/agent")
    assert cluster.lists == []


async def test_endpoints_and_images_of_a_backend_are_one_answer() -> None:
    cluster = Cluster(behind(("a", READY)))
    backends = Backends(Grants(), cluster.world.known, cluster.images)
    by_service = Backend("r", "sha256:1", "agent.shop.svc", 80, service=AGENT)
    found = backends.endpoints(by_service)
    assert found is not None
    assert (found.ready, found.images) == (1, None)
    assert backends.problem(by_service, "shop") is None
    by_url = Backend("r", "sha256:1", "host", 80)
    assert backends.endpoints(by_url) is None
    refused = backends.problem(by_url, "shop")
    assert refused is not None
    assert refused.reason is Reason.BACKEND_NOT_ALLOWED
