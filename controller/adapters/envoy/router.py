"""The Envoy implementation of the TrafficRouter port."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.adapters.envoy.access_log import AccessLog
from controller.adapters.envoy.mutual_tls import TlsFiles
from controller.adapters.envoy.naming import owner_name
from controller.adapters.envoy.node import Node
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import Bundle
from controller.adapters.envoy.snapshot import assigned_endpoints, bundle, nowhere, shared
from controller.adapters.envoy.xds import XdsServer
from controller.adapters.ports import EndpointSource, Programmed
from controller.core.traffic import TrafficTable


@dataclass(frozen=True, slots=True)
class _Generation:
    number: int
    table: TrafficTable | None
    bundle: Bundle


@dataclass(slots=True)
class _Progress:
    """How far the Envoys are with one rollout."""

    key: str
    history: list[_Generation]
    programmed: int = 0
    acknowledged_at: datetime | None = None
    taken: dict[Node, int] = field(default_factory=dict)
    reported: Programmed | None = None


class EnvoyRouter:
    """Programs Envoys over xDS. All methods belong to the event loop's thread and return at once.

    Tables may be published before ``start``; that is how a starting operator makes sure that the first answer an
    Envoy gets is complete.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        options: RouterOptions | None = None,
        endpoints: EndpointSource | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        """Create the router.

        Args:
            now: The clock for ``acknowledged_at``.
            options: What the operator chose; the defaults otherwise.
            endpoints: Of the Services in tables. It must know all of them before ``start``: what it does not know is
                served by nobody.
            access_log: Takes what the Envoys tell of conversations; left out, nobody does.
        """
        self._now = now
        self._options = options or RouterOptions()
        self._wanted: dict[str, Bundle] = {each.owner: each for each in shared(self._options)}
        self._progress: dict[str, _Progress] = {}
        self._endpoints = endpoints.endpoints if endpoints else nowhere
        self._owners: dict[str, set[str]] = {}
        if endpoints:
            endpoints.on_change(self._endpoints_changed)
        self._callbacks: list[Callable[[str], None]] = []
        self._numbers = 0
        self._access_log = access_log or AccessLog()
        self._server = XdsServer(
            self._wanted,
            on_answer=self._answered,
            on_nodes=self._nodes_changed,
            also=self._access_log.add_to,
        )

    async def start(self, host: str = "127.0.0.1", port: int = 0, tls: TlsFiles | None = None) -> int:
        """Serve xDS, in clear without ``tls``; call it once all known rollouts are published. Returns the port."""
        return await self._server.start(host, port, tls)

    async def stop(self, grace: float = 1.0) -> None:
        """Stop serving; Envoys keep the last split."""
        self._access_log.lead(False)
        await self._server.stop(grace)

    def publish(self, table: TrafficTable) -> None:
        """Make ``table`` the wanted split of its rollout; idempotent."""
        progress = self._progress.get(owner_name(table.key))
        newest = progress.history[-1].table if progress is not None else None
        if newest is not None and newest == table and newest.features == table.features:
            return
        self._access_log.publish(table)
        self._want(table.key, table, bundle(table, self._options, self._endpoints))

    def remove(self, key: str) -> None:
        """Stop serving the rollout ``namespace/name``."""
        self._access_log.remove(key)
        if owner_name(key) in self._wanted:
            self._want(key, None, Bundle(owner_name(key), ()))

    @property
    def routers(self) -> frozenset[str]:
        """Names of the connected Envoys."""
        return frozenset(node.name for node in self._server.nodes)

    def programmed(self, key: str) -> Programmed:
        """What every connected Envoy has acknowledged for this rollout."""
        nodes = self._server.nodes
        progress = self._progress.get(owner_name(key))
        if progress is None:
            return Programmed(None, None, len(nodes))
        table = next((each.table for each in progress.history if each.number == progress.programmed), None)
        wanted = self._wanted.get(owner_name(key), progress.history[-1].bundle)
        errors = [f"{node.name}: {words}" for node in nodes if (words := node.refusal(wanted))]
        return Programmed(table, progress.acknowledged_at, len(nodes), "; ".join(errors))

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(key)`` on the event loop whenever ``programmed(key)`` may have changed."""
        self._callbacks.append(callback)

    def _want(self, key: str, table: TrafficTable | None, wanted: Bundle) -> None:
        owner = owner_name(key)
        self._numbers += 1
        generation = _Generation(self._numbers, table, wanted)
        progress = self._progress.setdefault(owner, _Progress(key, []))
        before = progress.history[-1].table if progress.history else None
        progress.history.append(generation)
        self._refer(owner, before, table)
        if table is None:
            self._wanted.pop(owner, None)
        else:
            self._wanted[owner] = wanted
        self._server.touch(owner)
        self._settle(progress)

    def _refer(self, owner: str, before: TrafficTable | None, after: TrafficTable | None) -> None:
        """Note whose endpoints ``owner`` needs."""
        for service in _services(before) - _services(after):
            self._owners[service].discard(owner)
            if not self._owners[service]:
                del self._owners[service]
        for service in _services(after):
            self._owners.setdefault(service, set()).add(owner)

    def _endpoints_changed(self, service: str) -> None:
        """Bring new endpoints to the Envoys; the split stays as it is, and so does what is called programmed."""
        for owner in self._owners.get(service, ()):
            table, wanted = self._progress[owner].history[-1].table, self._wanted[owner]
            assert table is not None  # noqa: S101  only tables refer to Services
            changed = replace(wanted, endpoints=assigned_endpoints(table, self._options, self._endpoints))
            if changed != wanted:
                self._wanted[owner] = changed
                self._server.touch(owner)

    def _answered(self, owners: set[str]) -> None:
        for owner in owners:
            if (progress := self._progress.get(owner)) is not None:
                self._settle(progress)

    def _nodes_changed(self) -> None:
        for progress in list(self._progress.values()):
            self._settle(progress)

    def _settle(self, progress: _Progress) -> None:
        """Find the newest generation that all Envoys have, and tell when that changed."""
        nodes = self._server.nodes
        reached = [number for node in nodes if (number := self._reached(progress, node)) is not None]
        if reached and min(reached) != progress.programmed:
            progress.programmed = min(reached)
            progress.acknowledged_at = self._now() if progress.programmed else None
        progress.taken = {node: progress.taken[node] for node in nodes if node in progress.taken}
        progress.history = [
            each
            for each in progress.history
            if each.number >= progress.programmed or each is progress.history[-1]
        ]
        self._report(progress, gone=not nodes)

    def _reached(self, progress: _Progress, node: Node) -> int | None:
        """The newest generation that ``node`` has, or None while it can not be serving this rollout at all."""
        owner = progress.history[-1].bundle.owner
        for each in reversed(progress.history):
            if node.holds(each.bundle):
                progress.taken[node] = max(each.number, progress.taken.get(node, 0))
                break
        if node in progress.taken:
            return progress.taken[node]
        if node.live and node.described:
            return 0
        # Its routes are on their way, one way or the other: what is programmed elsewhere stays so, nothing newer counts.
        return progress.programmed if node.live or node.was_sent_routes(owner) else None

    def _report(self, progress: _Progress, *, gone: bool) -> None:
        newest = progress.history[-1]
        if newest.table is None and (gone or progress.programmed == newest.number):
            self._progress.pop(newest.bundle.owner, None)
        current = self.programmed(progress.key)
        if current == progress.reported:
            return
        progress.reported = current
        for callback in self._callbacks:
            callback(progress.key)


def _services(table: TrafficTable | None) -> set[str]:
    return {backend.service.key for backend in table.backends if backend.service} if table else set()
