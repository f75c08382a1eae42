"""Traffic follows status: every change in the stores becomes a published table.

Raises go through status: the table is published when the stored status comes back. Cuts do not wait for that: they
are latched here, pushed at once, and the latch outlives 409s and an API server that is away, until status shows the
cut. What is served is never more than both status and latch allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from controller.adapters.ports import TrafficRouter
from controller.api.reasons import Reason
from controller.api.rollout import AgentRollout
from controller.core.snapshot import Latch, Switch
from controller.core.stages import table_of
from controller.core.traffic import TrafficTable
from controller.reconcilers.grants import Grants
from controller.reconcilers.observed import ObservedRevision, ObservedRollout, hosts_of
from controller.runtime.store import Store

BY_HOST = "host"
BY_OWNER = "owner"


class Kills(Protocol):
    """What kill switches ask for at this moment."""

    def switches(self, rollout: AgentRollout) -> tuple[Switch, ...]:
        """The switches that concern the rollout's candidate."""

    def latch_of(self, rollout: AgentRollout) -> Latch | None:
        """The cut of the rollout's candidate, if it is to have none."""

    def pushed(self, rollout: AgentRollout, latch: Latch) -> None:
        """That cut is in force from now on."""

    def features(self, rollout: AgentRollout) -> tuple[tuple[str, str], ...]:
        """Request headers for the agents, with their values."""


class TrafficPublisher:
    """Keeps the router at what the stores and latches say."""

    def __init__(
        self,
        router: TrafficRouter,
        rollouts: Store[ObservedRollout],
        revisions: Store[ObservedRevision],
        claims: Grants | None = None,
        kills: Kills | None = None,
    ) -> None:
        """Listen to the stores; every change is published before the stores' other listeners hear of it.

        Args:
            router: What carries the traffic.
            rollouts: Store of AgentRollouts.
            revisions: Store of AgentRevisions.
            claims: Which hosts which namespace may claim; left out or empty, every namespace may claim any.
            kills: What kill switches ask for; left out, there are none.
        """
        self._kills = kills
        self.claims = claims or Grants()
        self._router = router
        self._rollouts = rollouts
        self._revisions = revisions
        self._latches: dict[str, Latch] = {}
        self._published: dict[str, TrafficTable] = {}
        self._not_understood: dict[str, ObservedRollout] = {}
        self._withdrawn: set[str] = set()
        self._listeners: list[Callable[[str], None]] = []
        rollouts.on_change(self._rollout_changed)
        revisions.on_change(self._revision_changed)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call ``listener(key)`` for every rollout that may have to be planned anew."""
        self._listeners.append(listener)

    def owned(self, observed: ObservedRollout) -> AgentRollout:
        """The rollout with those of its hosts that it may claim and no older one does."""
        rollout = observed.rollout
        hosts = [
            host for host in rollout.spec.traffic.envoy.hosts if self.owner_of(host) == rollout.metadata.key
        ]
        if len(hosts) == len(rollout.spec.traffic.envoy.hosts):
            return rollout
        envoy = rollout.spec.traffic.envoy.model_copy(update={"hosts": hosts})
        traffic = rollout.spec.traffic.model_copy(update={"envoy": envoy})
        return rollout.model_copy(update={"spec": rollout.spec.model_copy(update={"traffic": traffic})})

    def owner_of(self, host: str) -> str | None:
        """Key of the oldest rollout that claims the host and may."""
        kept = (observed for observed in self._not_understood.values() if host in hosts_of(observed))
        claims = (observed.rollout.metadata for observed in (*self._rollouts.by_index(BY_HOST, host), *kept))
        allowed = (m for m in claims if not self.claims or self.claims.allow(m.namespace, host))
        oldest = min(
            allowed, key=lambda m: (m.creation_timestamp is None, m.creation_timestamp, m.key), default=None
        )
        return oldest.key if oldest else None

    def switches(self, rollout: AgentRollout) -> tuple[Switch, ...]:
        """The kill switches that concern the rollout's candidate."""
        return self._kills.switches(rollout) if self._kills else ()

    def look(self, key: str) -> None:
        """A kill switch, or a feature's flag, may have changed: serve what they ask for."""
        observed = self._rollouts.get(key)
        if observed is not None:
            self._kill(observed.rollout)
            self.publish(key)

    def latch(self, key: str, latch: Latch) -> None:
        """Serve the latched artifact to nobody from now on."""
        self._latches[key] = latch
        self.publish(key)

    def latched(self, key: str) -> Latch | None:
        """The cut that status does not show yet."""
        return self._latches.get(key)

    def latches(self) -> Mapping[str, Latch]:
        """All cuts that status does not show yet, by key."""
        return dict(self._latches)

    def release_without_reason(self) -> None:
        """Forget the cuts that follow from the spec alone: whoever leads now reads the same spec."""
        for key in [key for key, latch in self._latches.items() if latch.reason is None]:
            self.release(key)

    def release(self, key: str) -> None:
        """Forget the latch: status shows the cut, or the decision was taken anew."""
        if self._latches.pop(key, None):
            self.publish(key)

    def publish(self, key: str) -> None:
        """Send the wanted table to the router."""
        table = self.wanted(key)
        if table is not None:
            self._published[key] = table
            self._router.publish(table)

    def withdraw(self, key: str) -> None:
        """Take the routes of a rollout that is being deleted from the router, for good."""
        self._withdrawn.add(key)
        if self._published.pop(key, None) is not None:
            self._router.remove(key)
            self._tell(key)

    def is_withdrawn(self, key: str) -> bool:
        """Whether the routes were taken off although the rollout is still there."""
        return key in self._withdrawn

    def published(self, key: str) -> TrafficTable | None:
        """The table that was last sent to the router."""
        return self._published.get(key)

    def tables(self) -> Iterable[TrafficTable]:
        """All tables that were last sent to the router."""
        return self._published.values()

    def wanted(self, key: str) -> TrafficTable | None:
        """The traffic that status and latch ask for.

        While a revision that they name is not known (someone deleted it), what was published before goes on, but for
        the candidate if that is to go: nothing may keep a cut from being served. None before the first table.
        """
        observed = self._rollouts.get(key)
        if observed is None or key in self._withdrawn:
            return None
        revisions = [found.revision for found in self._revisions.by_index(BY_OWNER, key)]
        rollout = self.owned(observed)
        table = table_of(rollout, rollout.status, revisions) or self._published.get(key)
        if table is None:
            return None
        candidate, latch = rollout.status.candidate, self._latches.get(key)
        held = latch is not None and _concerns(latch, rollout)
        going = rollout.metadata.deletion_timestamp is not None
        killed = rollout.status.killed is not None or (
            held and latch and latch.reason is Reason.KILL_SWITCH_ON
        )
        gone = candidate is None or held or going or killed
        features = self._kills.features(rollout) if self._kills else ()
        table = table.without_candidate(killed=bool(killed)) if gone else table
        return replace(table, features=features)

    def _kill(self, rollout: AgentRollout) -> None:
        """Latch the cut that a kill switch asks for, over one without a reason that status could do without."""
        key = rollout.metadata.key
        known = self._latches.get(key)
        if self._kills is None:
            return
        latch = self._kills.latch_of(rollout)
        if latch is None or (known is not None and known.reason is not None and _concerns(known, rollout)):
            return
        self._latches[key] = latch
        self._kills.pushed(rollout, latch)

    def _rollout_changed(self, key: str, old: ObservedRollout | None, new: ObservedRollout | None) -> None:
        if new is None and self._rollouts.invalid(key) is not None:
            # It is there, but cannot be understood: what it served goes on, and nobody takes its hosts.
            if old is not None:
                self._not_understood[key] = old
            self._tell(key)
            return
        old = self._not_understood.pop(key, old)
        latch = self._latches.get(key)
        if latch and not (new and _concerns(latch, new.rollout)):
            del self._latches[key]
        if new is not None:
            self._kill(new.rollout)
        if new is None or new.rollout.metadata.deletion_timestamp is None:
            self._withdrawn.discard(key)
        if new is None:
            self._published.pop(key, None)
            self._router.remove(key)
        for affected in {key, *self._sharing_hosts(old, new)}:
            self._changed(affected)

    def _revision_changed(
        self, _key: str, old: ObservedRevision | None, new: ObservedRevision | None
    ) -> None:
        found = new or old
        if found:
            self._changed(found.owner)

    def _changed(self, key: str) -> None:
        self.publish(key)
        self._tell(key)

    def _tell(self, key: str) -> None:
        for listener in self._listeners:
            listener(key)

    def _sharing_hosts(self, old: ObservedRollout | None, new: ObservedRollout | None) -> set[str]:
        """Rollouts that may win or lose a host by this change."""
        before = set(hosts_of(old)) if old else set()
        after = set(hosts_of(new)) if new else set()
        # Made anew under the same name it is younger, and may lose hosts that it keeps claiming.
        same = old is not None and new is not None and old.rollout.metadata.uid == new.rollout.metadata.uid
        hosts = before ^ after if same else before | after
        return {
            other.rollout.metadata.key for host in hosts for other in self._rollouts.by_index(BY_HOST, host)
        }


def _concerns(latch: Latch, rollout: AgentRollout) -> bool:
    """Whether the latch is about the rollout's present candidate."""
    candidate = rollout.status.candidate
    return candidate is not None and (candidate.artifact_id, candidate.attempt) == (
        latch.artifact_id,
        latch.attempt,
    )
