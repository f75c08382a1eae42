"""The routers of all replicas as one data plane.

An Envoy is connected to one replica, which alone sees what it acknowledged. Only the leader decides, so the others tell
it, in a Lease of their own each: which routers they have, which splits these acknowledged, and which cuts they hold
that status does not show (a leader may have lost its Lease before it could store one).

What has just changed needs a yes: a split with a candidate, and for a minute the table that a cut left, count as
acknowledged only where a report says so. What stays as it is needs a no: of tables without a candidate, by far the most,
a report names only those that are not acknowledged yet.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from controller.adapters.ports import DataPlane, Programmed
from controller.api.reasons import Reason
from controller.core.snapshot import Latch
from controller.core.traffic import TrafficTable
from controller.reconcilers.recent import RecentCandidates
from controller.reconcilers.traffic import TrafficPublisher
from controller.runtime.clock import Clock
from controller.runtime.resource import RawObject
from controller.runtime.store import Store

REPLICA_LABEL = "agentrollout.dev/part"
"""Label of the Leases in which replicas report, with the value ``replica``."""
REPORT = "agentrollout.dev/report"
"""Annotation that holds the report, as JSON."""

VALID_SECONDS = 30.0
"""A report that was not renewed for so long is void: its replica is gone, and so are its connections."""
CUT_SECONDS = 60.0
"""So long after a cut only a yes counts; a report that was written before it would be silent too."""
FORGOTTEN_SECONDS = 600.0
"""After so long the Lease of a replica that is gone is removed."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one replica says of its routers.

    Attributes:
        replica: Identity of the replica.
        renewed: When it said so, on its own clock; only compared with itself.
        routers: Names of the Envoys that are connected to it.
        acknowledged: Digests of the tables that all its routers acknowledged: those with a candidate, and those that
            lost theirs not long ago.
        pending: Keys of rollouts without a candidate whose table, or whose removal, its routers have not acknowledged yet.
        many_pending: Whether those are too many to be named: then it may be any.
        latches: Cuts for a reason that it serves and status did not show.
    """

    replica: str
    renewed: str
    routers: frozenset[str] = frozenset()
    acknowledged: frozenset[str] = frozenset()
    pending: frozenset[str] = frozenset()
    many_pending: bool = False
    latches: Mapping[str, Latch] = field(default_factory=dict)

    def serves(self, table: TrafficTable, *, changed: bool) -> bool:
        """Whether all its routers acknowledged the table; of one that has not ``changed`` silence says yes."""
        return digest(table) in self.acknowledged if changed else not self.may_lack(table.key)

    def may_lack(self, key: str) -> bool:
        """Whether its routers may not have acknowledged what is wanted of a rollout without a candidate."""
        return self.many_pending or key in self.pending

    def to_json(self) -> str:
        """The report as ``observe_report`` reads it."""
        latches = [
            {
                "key": key,
                "artifactID": latch.artifact_id,
                "attempt": latch.attempt,
                "reason": latch.reason,
                "metric": latch.metric,
                "message": latch.message,
            }
            for key, latch in sorted(self.latches.items())
        ]
        content = {
            "routers": sorted(self.routers),
            "acknowledged": sorted(self.acknowledged),
            "pending": sorted(self.pending),
            "manyPending": self.many_pending,
            "latches": latches,
        }
        return json.dumps({name: value for name, value in content.items() if value}, separators=(",", ":"))


def digest(table: TrafficTable) -> str:
    """Eight characters that stand for a table; equal in every replica of one version."""
    return base64.urlsafe_b64encode(hashlib.blake2b(repr(table).encode(), digest_size=6).digest()).decode()


def observe_report(raw: RawObject) -> Report:
    """The report in a replica's Lease.

    Raises:
        ValueError, LookupError, TypeError: If it is not one that this version understands.
    """
    spec = raw.get("spec") or {}
    said = json.loads((raw["metadata"].get("annotations") or {}).get(REPORT) or "{}")
    return Report(
        replica=spec["holderIdentity"],
        renewed=spec["renewTime"],
        routers=frozenset(said.get("routers", ())),
        acknowledged=frozenset(said.get("acknowledged", ())),
        pending=frozenset(said.get("pending", ())),
        many_pending=bool(said.get("manyPending")),
        latches={
            each["key"]: Latch(
                each["artifactID"],
                each["attempt"],
                _reason(each["reason"]),
                each["metric"],
                each["message"],
            )
            for each in said.get("latches", ())
        },
    )


def _reason(text: str) -> Reason:
    """A newer replica may know reasons that this one does not; its cut counts all the same."""
    try:
        return Reason(text)
    except ValueError:
        return Reason.ANALYSIS_FAILED


class Fleet:
    """What all routers acknowledged, and all cuts: those of this replica and those that the others report."""

    def __init__(
        self,
        own: DataPlane,
        publisher: TrafficPublisher,
        reports: Store[Report],
        *,
        identity: str,
        clock: Clock,
    ) -> None:
        """Listen to the reports.

        Args:
            own: The routers that are connected to this replica.
            publisher: What is wanted, and this replica's cuts.
            reports: The reports of all replicas; this one's own is ignored.
            identity: Name of this replica.
            clock: Tells how old a report is.
        """
        self._own = own
        self._publisher = publisher
        self._reports = reports
        self._identity = identity
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._agreed: dict[str, Programmed] = {}
        self._recent = RecentCandidates(clock, CUT_SECONDS)
        self._awaited: set[str] = set()
        self._listeners: list[Callable[[str], None]] = []
        reports.on_change(self._report_changed)
        publisher.on_change(self._published)

    @property
    def routers(self) -> frozenset[str]:
        """Names of all connected routers."""
        return self._own.routers.union(*(report.routers for report in self._others()))

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call ``listener(key)`` when a report may have changed ``programmed(key)`` or ``latched(key)``."""
        self._listeners.append(listener)

    def programmed(self, key: str) -> Programmed:
        """What every router of every replica acknowledged for the rollout."""
        own, others = self._own.programmed(key), self._others()
        wanted = self._publisher.published(key)
        changed = self._recent.note(key, wanted)
        if not others:
            self._agreed.pop(key, None)
            return own
        instances = len(self._own.routers.union(*(report.routers for report in others)))
        agreed = self._agreed.get(key)
        acknowledged_here = own.table == wanted or not own.instances
        if wanted and acknowledged_here and all(r.serves(wanted, changed=changed) for r in others):
            if agreed is None or agreed.table != wanted:
                agreed = self._agreed[key] = Programmed(wanted, self._clock.now(), instances)
        elif agreed is None:
            agreed = Programmed(None, None, instances)
        return replace(agreed, instances=instances, error=own.error)

    def is_removed(self, key: str) -> bool:
        """Whether no router serves a rollout any more whose routes were taken off."""
        return self._own.programmed(key).table is None and not any(r.may_lack(key) for r in self._others())

    def latched(self, key: str) -> Latch | None:
        """A cut of any replica that status does not show yet; this replica's own first."""
        if own := self._publisher.latched(key):
            return own
        reported = (report.latches.get(key) for report in self._others(also_connected_here=True))
        return next((latch for latch in reported if latch), None)

    def forgotten(self) -> tuple[str, ...]:
        """Keys of the Leases whose replicas have been gone for long."""
        now = self._clock.monotonic()
        return tuple(key for key, at in self._heard.items() if now - at >= FORGOTTEN_SECONDS)

    def _published(self, key: str) -> None:
        """Notice cuts also while another replica leads: this one may have to very soon."""
        self._recent.note(key, self._publisher.published(key))
        self._await_silence(key)

    def _await_silence(self, key: str) -> None:
        """A replica that started after a cut has nothing to acknowledge; in the end its silence says yes."""
        left = self._recent.left(key)
        if left and key not in self._awaited:
            self._awaited.add(key)
            self._clock.call_later(left + 0.1, lambda: self._silence_counts(key))

    def _silence_counts(self, key: str) -> None:
        self._awaited.discard(key)
        self._await_silence(key)  # there may have been another cut since
        self._tell(key)

    def _others(self, *, also_connected_here: bool = False) -> list[Report]:
        """The valid reports of other replicas; of those whose routers are all connected here by now only if asked for."""
        now = self._clock.monotonic()
        valid = (
            report
            for key, at in self._heard.items()
            if now - at < VALID_SECONDS and (report := self._reports.get(key)) is not None
        )
        return [
            report
            for report in valid
            if report.replica != self._identity
            and (also_connected_here or not report.routers <= self._own.routers)
        ]

    def _report_changed(self, key: str, old: Report | None, new: Report | None) -> None:
        if new is None:
            self._heard.pop(key, None)
        elif old is None or old.renewed != new.renewed:
            self._heard[key] = self._clock.monotonic()
            # Whoever waits for a replica that is gone goes on when its report is void; a renewed one is not.
            self._clock.call_later(VALID_SECONDS + 0.1, lambda: self._void(key))
        self._agreed = {
            each: agreed for each, agreed in self._agreed.items() if self._publisher.published(each)
        }
        for changed in self._concerned(old, new):
            self._tell(changed)

    def _void(self, key: str) -> None:
        report = self._reports.get(key)
        if report is not None and self._clock.monotonic() - self._heard.get(key, 0.0) >= VALID_SECONDS:
            for changed in self._concerned(report, None):
                self._tell(changed)

    def _tell(self, key: str) -> None:
        for listener in self._listeners:
            listener(key)

    def _concerned(self, old: Report | None, new: Report | None) -> Iterable[str]:
        """Keys of which the two reports say different things."""
        before, after = old or Report("", ""), new or Report("", "")
        if replace(before, renewed="") == replace(after, renewed=""):
            return ()
        changed = set(before.pending ^ after.pending) | (before.latches.keys() ^ after.latches.keys())
        same = (before.routers, before.many_pending) == (after.routers, after.many_pending)
        differing = before.acknowledged ^ after.acknowledged
        for table in self._publisher.tables():
            # With other routers everything may stand differently, if only that there are some at all.
            if not same or (self._recent.note(table.key, table) and digest(table) in differing):
                changed.add(table.key)
        return sorted(changed)
