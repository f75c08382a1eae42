"""An operator that can be ended before or after any of its effects, on a real API server; users and time are virtual."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from prometheus_client import CollectorRegistry

from controller.adapters.ports import Question
from controller.api.rollout import AgentRollout
from controller.core.counts import Series
from controller.core.traffic import Programmed, TrafficTable
from controller.reconcilers.actions import BY_ROLLOUT, Actions, observe_action
from controller.reconcilers.backends import Backends
from controller.reconcilers.deletion import Deletion
from controller.reconcilers.fleet import Fleet, observe_report
from controller.reconcilers.gather import Gatherer
from controller.reconcilers.grants import Grants
from controller.reconcilers.images import PodImages
from controller.reconcilers.metrics import RolloutMetrics
from controller.reconcilers.observed import (
    REVISIONS,
    ROLLOUTS,
    hosts_of,
    observe_revision,
    observe_rollout,
    references_of,
)
from controller.reconcilers.references import References
from controller.reconcilers.rollouts import RolloutReconciler
from controller.reconcilers.services import BY_SERVICE, ServiceEndpoints, observe_service, observe_slice
from controller.reconcilers.sources import BY_SOURCE, Sources
from controller.reconcilers.teller import Teller
from controller.reconcilers.traffic import BY_HOST, BY_OWNER, TrafficPublisher
from controller.reconcilers.unreadable import UnreadableTeller
from controller.runtime.client import ResourceClient
from controller.runtime.errors import Conflict, NotFound
from controller.runtime.recorder import Recorder
from controller.runtime.resource import RawObject
from controller.runtime.store import Store
from controller.runtime.testing import FakeClock
from controller.runtime.transport import Transport
from controller.runtime.workqueue import WorkQueue
from controller.runtime.writes import WriteThrough
from tests.virtual import CATALOGUE, Behaviour, VirtualRollout, rollout_of

Raw = dict[str, Any]

URLS = tuple(f"v{number}" for number in range(1, 6))
STAGES = [{"weight": weight, "minDuration": "10s", "minRequests": 10} for weight in ("10%", "100%")]
TICK_SECONDS = 5


class Crash(BaseException):
    """The process is gone; nothing but the outside world is left of it."""


@dataclass
class Failpoints:
    """One before and one after each effect, in the order in which they come; the process ends at one of them.

    Attributes:
        crash_at: Number of that point; None for no crash.
        effects: What was done.
    """

    crash_at: int | None = None
    effects: list[str] = field(default_factory=list)
    passed: int = 0

    def around(self, effect: str, do: Callable[[], None]) -> None:
        """Do something at once, between its two points."""
        self.point()
        do()
        self.effects.append(effect)
        self.point()

    def point(self) -> None:
        """Go on, or end here."""
        self.passed += 1
        if self.crash_at == self.passed:
            raise Crash


class FailingTransport:
    """Every request that changes something has a failpoint on each side."""

    def __init__(self, inner: Transport, failpoints: Failpoints) -> None:
        self._inner = inner
        self._failpoints = failpoints

    async def request(self, method: str, path: str, **how: Any) -> RawObject:
        """See `Transport.request`."""
        if method == "GET":
            return await self._inner.request(method, path, **how)
        self._failpoints.point()
        answer = await self._inner.request(method, path, **how)
        self._failpoints.effects.append(f"{method} {path.partition('/namespaces/')[2].partition('/')[2]}")
        self._failpoints.point()
        return answer

    def stream(self, path: str, **how: Any) -> Any:
        """See `Transport.stream`."""
        return self._inner.stream(path, **how)


class DataPlane:
    """Routers that take every table at once, and outlive the operator."""

    def __init__(self, clock: FakeClock) -> None:
        self.failpoints = Failpoints()
        self.table: TrafficTable | None = None
        self.history: list[TrafficTable | None] = []
        self._clock = clock
        self._at: datetime | None = None
        self.routers = frozenset({"router-0"})

    def publish(self, table: TrafficTable) -> None:
        if table != self.table:
            self.failpoints.around("publish", lambda: self._take(table))

    def remove(self, key: str) -> None:
        if self.table is not None:
            self.failpoints.around("remove", lambda: self._take(None))

    def programmed(self, key: str) -> Programmed:
        return Programmed(self.table, self._at, 1)

    def on_change(self, callback: Callable[[str], None]) -> None:
        """What changes does so within a call of ``publish``, after which the lab plans anyway."""

    def _take(self, table: TrafficTable | None) -> None:
        self.table, self._at = table, self._clock.now()
        self.history.append(table)


class Silent:
    """Events are told to nobody: they have no part in what becomes of a rollout."""

    def record(self, *_: Any, **__: Any) -> None:
        """Say nothing."""


class CrashLab:
    """One rollout in one namespace, from its first version on."""

    def __init__(self, transport: Transport, namespace: str, crash_at: int | None = None) -> None:
        self.key = f"{namespace}/agent"
        self.failpoints = Failpoints(crash_at)
        self.crashes = 0
        self._namespace = namespace
        self._outside = ResourceClient(transport, ROLLOUTS, field_manager="tests", namespace=namespace)
        self._transport = FailingTransport(transport, self.failpoints)
        self._clock = FakeClock()
        self.data_plane = DataPlane(self._clock)
        self.data_plane.failpoints = self.failpoints
        virtual = rollout_of().model_copy(
            update={"metadata": rollout_of().metadata.model_copy(update={"namespace": namespace})}
        )
        self._users = VirtualRollout(virtual, now=self._clock.now())

    async def read(self, question: Question) -> tuple[Series, ...]:
        """The metric source."""
        return self._users.read().series

    async def values(self, query: str, at: datetime) -> tuple[float, ...]:
        """No guardrail asks."""
        raise NotImplementedError

    async def start(self) -> None:
        """A new process: everything in memory is made anew, and filled from the API server."""
        clients = [
            ResourceClient(
                cast("Transport", self._transport),
                kind,
                field_manager="agentrollout",
                namespace=self._namespace,
            )
            for kind in (ROLLOUTS, REVISIONS)
        ]
        rollouts = Store(observe_rollout, indexers={BY_HOST: hosts_of, BY_SOURCE: references_of})
        revisions = Store(observe_revision, indexers={BY_OWNER: lambda r: (r.owner,)})
        for store, client in ((revisions, clients[1]), (rollouts, clients[0])):
            for raw in (await client.list_page()).items:
                cast("Store[Any]", store).put_if_newer(raw)
        publisher = TrafficPublisher(cast("Any", self.data_plane), rollouts, revisions)
        for key in rollouts.keys():  # noqa: SIM118  a Store is no dict
            publisher.publish(key)
        if self.key not in rollouts.keys():  # noqa: SIM118  likewise
            self.data_plane.remove(self.key)  # routers that connect again learn of nothing else
        self._stores = rollouts, revisions
        self._reconciler = self._operator(clients, publisher)

    def _operator(self, clients: list[ResourceClient], publisher: TrafficPublisher) -> RolloutReconciler:
        rollouts, revisions = self._stores
        reports = Store(observe_report)
        services = ServiceEndpoints(
            Store(observe_service), Store(observe_slice, indexers={BY_SERVICE: lambda s: (s.service,)})
        )
        images = PodImages(services, WorkQueue("images", self._clock), lambda *_: cast("Any", None))
        fleet = Fleet(cast("Any", self.data_plane), publisher, reports, identity="this", clock=self._clock)
        silent = cast("Recorder", Silent())
        through = WriteThrough(clients[0], rollouts)
        metrics = RolloutMetrics(CollectorRegistry(), self._clock)
        return RolloutReconciler(
            rollouts=rollouts,
            revisions=revisions,
            rollout_client=through,
            revision_client=WriteThrough(clients[1], revisions),
            gatherer=Gatherer(
                revisions=revisions,
                publisher=publisher,
                fleet=fleet,
                backends=Backends(Grants.parse(URLS), services, images),
                metrics=self,
                catalogue=CATALOGUE,
            ),
            references=References(clients[0], Sources({}, rollouts, None)),
            publisher=publisher,
            catalogue=CATALOGUE,
            clock=self._clock,
            metrics=metrics,
            teller=Teller(silent),
            unreadable=UnreadableTeller(through, silent, self._clock),
            deletion=Deletion(publisher, cast("Any", self.data_plane), fleet, through, self._clock),
            actions=self._nobody_asks(metrics),
        )

    def _nobody_asks(self, metrics: RolloutMetrics) -> Actions:
        actions = Store(observe_action, indexers={BY_ROLLOUT: lambda found: (found.rollout,)})
        none = cast("Any", None)
        return Actions(actions, none, none, none, self._clock, metrics)

    async def want(self, url: str, *, errors: float = 0.0) -> None:
        """A user applies a version that fails so often."""
        self._users.behaviour[url] = Behaviour(errors=errors)
        spec = rollout_of(f"http://{url}", stages=STAGES).spec.to_json()
        await self._outside.apply(
            {"metadata": {"name": "agent", "namespace": self._namespace}, "spec": spec}, force=True
        )
        await self._hear()

    async def delete(self) -> None:
        """A user deletes the rollout."""
        await self._outside.delete(self.key)
        await self._hear()

    async def live(self) -> None:
        """A few seconds; a process that ends is followed by a new one."""
        try:
            await self._tick()
        except Crash:
            self.crashes += 1
            await self._start_again()

    async def live_until(self, holds: Callable[[AgentRollout | None], bool], *, ticks: int = 60) -> None:
        """Until the rollout as stored is so."""
        for _ in range(ticks):
            rollout = await self.rollout()
            if holds(rollout):
                return
            await self.live()
        raise AssertionError(f"it never came to that: {rollout.status if rollout else None}")

    async def rollout(self) -> AgentRollout | None:
        """The rollout as stored; None when it is gone."""
        try:
            return AgentRollout.model_validate(await self._outside.get(self.key))
        except NotFound:
            return None

    async def revisions(self) -> set[str]:
        """Names of the AgentRevisions as stored."""
        client = ResourceClient(
            cast("Transport", self._transport), REVISIONS, field_manager="tests", namespace=self._namespace
        )
        return {raw["metadata"]["name"] for raw in (await client.list_page()).items}

    async def _start_again(self) -> None:
        """What crashes while it starts is started once more."""
        try:
            await self.start()
        except Crash:
            self.crashes += 1
            await self.start()

    async def _tick(self) -> None:
        self._clock.advance(TICK_SECONDS)
        users, (_, revisions) = self._users, self._stores
        users.now, users.served = self._clock.now(), self.data_plane.table
        users.revisions |= {found.revision.name: found.revision for found in revisions.list()}
        users.serve(200)
        users.take_samples()
        for _ in range(6):
            with suppress(Conflict):
                result = await self._reconciler.reconcile(self.key)
                if result.requeue_after != 0:
                    break

    async def _hear(self) -> None:
        """The watch tells what users did; it is not the subject here."""
        try:
            raw: Mapping[str, Any] | None = await self._outside.get(self.key)
        except NotFound:
            raw = None
        rollouts = self._stores[0]
        try:
            if raw is None:
                rollouts.forget(self.key, rollouts.uid(self.key))
            else:
                rollouts.put_if_newer(dict(raw))
        except Crash:
            self.crashes += 1
            await self._start_again()
