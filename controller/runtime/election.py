"""Who leads, as a state machine without I/O over one Lease.

Safety rests on two things. The Lease is only ever written on the version that was seen, so two replicas cannot both
believe that they took it. And whoever leads stops by its own clock at ``renew_deadline`` after the last renewal was
*sent*, before anyone else may take over at ``lease_duration`` after the last change was *seen*: clocks need not agree,
they only have to run about equally fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from controller.runtime.resource import RawObject


class Role(StrEnum):
    """What this replica does now."""

    LEADING = "leading"
    """It holds the Lease: it decides and writes."""
    FOLLOWING = "following"
    """Another replica renews the Lease: this one only keeps its stores and routers up to date."""
    GUARDING = "guarding"
    """Nobody is seen to renew the Lease: this one may take away, but neither give nor write."""


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """Times of an election, seconds.

    Attributes:
        lease_duration: Others may take over so long after they saw the last renewal.
        renew_deadline: A leader that could not renew for so long stops leading.
        retry_period: Pause after an attempt that failed.
    """

    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    @property
    def renew_interval(self) -> float:
        """Pause between renewals that go well: two may fail before the deadline."""
        return self.renew_deadline / 3

    @property
    def suspect_after(self) -> float:
        """A leader not seen to renew for so long may be gone; generous to a renewal that was late on its way."""
        return 1.5 * self.renew_interval


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A Lease, reduced to what an election uses.

    Attributes:
        holder: Identity of the leader; ``""`` when it was released.
        renewed: ``spec.renewTime``; never compared with a clock of ours, only with itself.
        acquired: ``spec.acquireTime``.
        transitions: How often the leader changed.
        duration: What the holder promised, seconds.
        resource_version: Of the stored object.
    """

    holder: str
    renewed: str
    acquired: str
    transitions: int
    duration: float
    resource_version: str

    @classmethod
    def of(cls, raw: RawObject) -> LeaseRecord:
        """The record in a Lease from the API."""
        spec: Mapping[str, Any] = raw.get("spec") or {}
        return cls(
            holder=spec.get("holderIdentity") or "",
            renewed=spec.get("renewTime") or "",
            acquired=spec.get("acquireTime") or "",
            transitions=int(spec.get("leaseTransitions") or 0),
            duration=float(spec.get("leaseDurationSeconds") or 0),
            resource_version=raw["metadata"]["resourceVersion"],
        )


class Election:
    """What one replica knows about the Lease. Every ``now`` is monotonic, in seconds.

    Args:
        identity: Name of this replica, unique among all that run at the same time.
        settings: Times.
        now: The present; nobody is suspected before having had the time to renew.
    """

    def __init__(self, identity: str, settings: ElectionSettings, *, now: float) -> None:
        self.identity = identity
        self.settings = settings
        self._record: LeaseRecord | None = None
        self._changed_at = now
        self._renewed_at: float | None = None
        self._not_before = now

    @property
    def record(self) -> LeaseRecord | None:
        """The Lease as last seen; None while there is none."""
        return self._record

    def role(self, now: float) -> Role:
        """What this replica may do at this very moment, also if it has just been woken after a long pause."""
        if self._leads(now):
            return Role.LEADING
        other = self._record is not None and self._record.holder not in ("", self.identity)
        fresh = now - self._changed_at < self.settings.suspect_after
        return Role.FOLLOWING if other and fresh else Role.GUARDING

    def next_attempt(self, now: float) -> float:
        """Seconds until the Lease is to be written (acquired or renewed); 0 for at once."""
        if self._renewed_at is not None:
            due = self._renewed_at + self.settings.renew_interval
        elif self._record is None or self._record.holder in ("", self.identity):
            due = now
        else:
            due = self._changed_at + (self._record.duration or self.settings.lease_duration)
        return max(due - now, self._not_before - now, 0.0)

    def patience(self, now: float) -> float:
        """How long an attempt made now may take, seconds: a leader must know by its deadline."""
        patience = 2 * self.settings.retry_period
        if self._renewed_at is None:
            return patience
        return max(0.1, min(patience, self._renewed_at + self.settings.renew_deadline - now))

    def spec(self, wall: datetime) -> dict[str, Any]:
        """The ``spec`` to write in order to lead, or to go on leading."""
        instant = wall.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mine = self._record is not None and self._record.holder == self.identity
        transitions = self._record.transitions if self._record else 0
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": round(self.settings.lease_duration),
            "acquireTime": self._record.acquired if mine and self._record else instant,
            "renewTime": instant,
            "leaseTransitions": transitions + (0 if mine or self._record is None else 1),
        }

    def released(self, wall: datetime) -> dict[str, Any]:
        """The ``spec`` that lets another replica take over at once."""
        return {**self.spec(wall), "holderIdentity": "", "leaseDurationSeconds": 1}

    def saw(self, record: LeaseRecord | None, now: float) -> None:
        """The Lease was read, or came in by the watch; what is older than what is known changes nothing."""
        if record is not None and self._record is not None:
            if int(record.resource_version) <= int(self._record.resource_version):
                return
            if record.renewed != self._record.renewed or record.holder != self._record.holder:
                self._changed_at = now
        elif record != self._record:
            self._changed_at = now
        self._record = record
        if record is None or record.holder != self.identity:
            self._renewed_at = None

    def read(self, record: LeaseRecord | None, now: float) -> None:
        """The Lease was read after a refused write: this is how it is, also if its version lies before the known one.

        It does when the API server's storage was restored from a backup. Whoever led until then may not know yet, so
        nobody writes for a lease's duration, not even one whom the restored Lease names.
        """
        known = self._record
        if record and known and int(record.resource_version) < int(known.resource_version):
            self._record, self._changed_at = None, now
            self._renewed_at = None
            self._not_before = now + self.settings.lease_duration
        self.saw(record, now)

    def wrote(self, record: LeaseRecord, sent_at: float) -> None:
        """The attempt that was sent at ``sent_at`` went through: this replica leads from then."""
        self._record, self._changed_at = record, sent_at
        self._renewed_at = sent_at
        self._not_before = sent_at

    def failed(self, now: float, wait: float) -> None:
        """The attempt failed; nothing is written for ``wait`` seconds."""
        self._not_before = now + wait
        if self._renewed_at is not None and not self._leads(now):
            self._renewed_at = None

    def resign(self) -> None:
        """Lead no more."""
        self._renewed_at = None

    def _leads(self, now: float) -> bool:
        return self._renewed_at is not None and now - self._renewed_at < self.settings.renew_deadline
