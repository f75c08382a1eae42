"""Which images the pods behind a Service run. Pods are listed when the endpoints have changed, never watched.

What is not known yet is asked for and comes later: no decision waits for it here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from controller.core.traffic import ServicePort
from controller.reconcilers.services import ServiceEndpoints
from controller.runtime.client import ListerWatcher
from controller.runtime.controller import Result
from controller.runtime.errors import ApiError
from controller.runtime.resource import RawObject, Resource, split_key
from controller.runtime.workqueue import WorkQueue

PODS = Resource("", "v1", "pods", "Pod")

QUIET_SECONDS = 0.5
"""Pods come in groups: a Service's are listed so long after the first change, and no more often."""

PAGE = 100
"""Whole pods come over the wire, some 10 KB each."""

MAX_IMAGES = 64
"""More digests than this behind one Service cannot be frozen."""


MAX_LENGTH = 256
"""Longest ID that status can hold; a digest has 71 characters."""


@dataclass(frozen=True, slots=True)
class Images:
    """What is known of the images behind a Service.

    Attributes:
        digests: Digest, or the ID on the node where there is none, of every container's image; None while not known.
        problem: Why it is not known, if there is more to say than that it is being read.
    """

    digests: frozenset[str] | None
    problem: str = ""


NOTHING = Images(frozenset())
"""No pods that could be found: a Service without a selector, or without endpoints."""

_BEING_READ = Images(None)

Pods = frozenset[tuple[str, int]]


class PodImages:
    """Lists the pods of those Services that somebody asks about."""

    def __init__(
        self,
        services: ServiceEndpoints,
        queue: WorkQueue,
        lister: Callable[[str, str], ListerWatcher],
    ) -> None:
        """Nothing is listed yet.

        Args:
            services: Knows the pods' names.
            queue: Of the controller that calls ``read``.
            lister: ``lister(namespace, label_selector)`` lists pods.
        """
        self._services = services
        self._queue = queue
        self._lister = lister
        self._known: dict[str, tuple[Pods, Images]] = {}
        self._listeners: list[Callable[[str], None]] = []
        services.on_change(self._forget)

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(key)`` when the images behind the Service ``key`` became known."""
        self._listeners.append(callback)

    def images(self, service: ServicePort) -> Images:
        """What is known now; if that is nothing, it is going to be read."""
        if not self._services.selector(service.key) or not self._services.pods(service.key):
            return NOTHING
        known = self._known.get(service.key)
        if known is None:
            self._queue.add_after(service.key, QUIET_SECONDS)
        return known[1] if known else _BEING_READ

    async def read(self, key: str) -> Result:
        """List the pods of one Service.

        Raises:
            ApiError: They cannot be listed; ask again.
        """
        pods, selector = self._services.pods(key), self._services.selector(key)
        if not pods or not selector:
            return Result()
        names = {name for name, _ in pods}
        try:
            found = await self._list(split_key(key)[0], selector, names)
        except ApiError as error:
            self._learn(key, pods, Images(None, str(error)))
            raise
        if self._services.pods(key) != pods:
            return Result(QUIET_SECONDS)
        problem = f"the pods have more than {MAX_IMAGES} images" if len(found) > MAX_IMAGES else ""
        self._learn(key, pods, Images(None if problem else found, problem))
        return Result()

    async def _list(self, namespace: str, selector: str, names: set[str]) -> frozenset[str]:
        client, token, found = self._lister(namespace, selector), "", set[str]()
        while True:
            page = await client.list_page(limit=PAGE, continue_token=token)
            found.update(_digests(pod for pod in page.items if pod["metadata"]["name"] in names))
            token = page.continue_token
            if not token:
                return frozenset(found)

    def _learn(self, key: str, pods: Pods, images: Images) -> None:
        before = self._known.get(key)
        self._known[key] = pods, images
        if before != self._known[key]:
            for listener in self._listeners:
                listener(key)

    def _forget(self, key: str) -> None:
        """Whoever asks again gets it read again."""
        if key in self._known and self._known[key][0] != self._services.pods(key):
            del self._known[key]


def _digests(pods: Iterable[RawObject]) -> Iterator[str]:
    """Registries and tags left out: the same content elsewhere is the same image."""
    for pod in pods:
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            if image := container.get("imageID"):
                yield image.rpartition("@")[2].rpartition("://")[2][:MAX_LENGTH]
