"""The traffic table: which share of which users goes to which version.

A pure description of the wanted split of one rollout. Routers turn it into their own configuration; nothing in
here knows Envoy or Kubernetes. The arms of a split always sum to the whole, because only the candidate's
share is stored and stable, its control slices included, receives the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from controller.core.shadow.exchange import Subject

WHOLE_PPM = 1_000_000
"""A weight of 100 % in parts per million."""

CONTROL_SLICES = 8
"""Slices of stable's users that are counted apart, each as if it were another candidate."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Kubernetes Service.

    Attributes:
        key: ``namespace/name`` of the Service.
        port: The Service's port, not that of its pods.
    """

    key: str
    port: int

    @property
    def name(self) -> str:
        """Name of the Service, for people who know the namespace."""
        return self.key.rpartition("/")[2]


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One address behind a `ServicePort`.

    Attributes:
        address: IP address.
        port: TCP port.
    """

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Backend:
    """Where one artifact is served.

    Attributes:
        revision: Name of the AgentRevision, unique in the namespace.
        artifact_id: ``sha256:…``, sent to the agent as the ``x-agentrollout-artifact`` header.
        host: DNS name or IP address.
        port: TCP port.
        tls: Whether the router speaks TLS to the backend.
        service: The Service whose endpoints serve it; they come and go without a change of the backend. None if the
            router itself resolves the host.
        http2: Whether the router speaks HTTP/2 to the backend, as gRPC needs, instead of HTTP/1.1.
    """

    revision: str
    artifact_id: str
    host: str
    port: int
    tls: bool = False
    service: ServicePort | None = None
    http2: bool = False


@dataclass(frozen=True, slots=True)
class AudienceSplit:
    """The candidate's share of the requests whose ``header`` has one of ``values``.

    Attributes:
        header: Request header that names the audience, in lower case.
        values: Exact values that belong to the audience.
        weight_ppm: The candidate's share of the audience, 0 to 1 000 000.
    """

    header: str
    values: tuple[str, ...]
    weight_ppm: int


@dataclass(frozen=True, slots=True)
class ShadowSplit:
    """Requests that stable answers and others answer beside it, to nobody.

    Attributes:
        subject: Whose answers are compared, and by whom.
        sampled_ppm: The share of all conversations outside the audiences whose requests the candidate answers too, up to
            `most_sampled_ppm`.
        noise_ppm: The share of all of them whose requests stable answers a second time; part of the sampled ones.
        timeout: How long an answer to nobody may take.
        removed_headers: Request headers, in lower case, that reach nobody but stable, beside those that carry
            credentials by custom. What is kept of a request does not have them either.
        recorded_tools: Whether finished runs are driven again with recorded tools, by who answers beside stable.
    """

    subject: Subject
    sampled_ppm: int
    noise_ppm: int = 0
    timeout: timedelta = timedelta(seconds=60)
    removed_headers: tuple[str, ...] = ()
    recorded_tools: bool = False


@dataclass(frozen=True, slots=True)
class TrafficTable:
    """The wanted split of one rollout.

    Attributes:
        key: ``namespace/name`` of the rollout.
        hosts: Host names (``:authority`` without port) that this rollout serves.
        affinity_header: Request header that identifies the conversation, in lower case.
        stable: The version that everyone gets who is not in the candidate's cohort.
        candidate: The version on its way, if there is one.
        weight_ppm: The candidate's share of all conversations outside the audiences, 0 to 1 000 000.
        audiences: Audiences with a share of their own, matched in this order before the general split.
        attempt: Which try of the candidate this is; latches are bound to (artifact, attempt).
        cut_on_rollback: Whether the answers that a candidate has begun end when it is taken back.
        cut_on_kill: Whether they do when a kill switch takes it back.
        draining: The revision that was last taken off, if its answers could be cut and go on.
        features: Request headers that agents of every version get, with their values. They are no part of the split: tables
            that differ in nothing else are equal.
        exposure: For how long after their first request conversations are watched as trials; None if they are not.
        shadow: Which requests others answer beside stable; None if nobody does.
    """

    key: str
    hosts: tuple[str, ...]
    affinity_header: str
    stable: Backend
    candidate: Backend | None = None
    weight_ppm: int = 0
    audiences: tuple[AudienceSplit, ...] = ()
    attempt: int = 0
    cut_on_rollback: bool = False
    cut_on_kill: bool = False
    draining: str = ""
    exposure: timedelta | None = None
    shadow: ShadowSplit | None = None
    features: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)

    def without_candidate(self, *, killed: bool = False) -> TrafficTable:
        """The same table with everyone on stable."""
        cuts = self.cut_on_kill if killed else self.cut_on_rollback
        taken_off = self.candidate.revision if self.candidate else self.draining
        return replace(
            self,
            candidate=None,
            weight_ppm=0,
            audiences=(),
            exposure=None,
            shadow=None,
            draining=taken_off if self.can_cut and not cuts else "",
        )

    @property
    def can_cut(self) -> bool:
        """Whether the answers that a candidate has begun can be ended."""
        return self.cut_on_rollback or self.cut_on_kill

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The candidate, if there is one, and stable."""
        return (self.stable,) if self.candidate is None else (self.candidate, self.stable)

    @property
    def control_slice_ppm(self) -> int:
        """The share of all conversations outside the audiences in each control slice; 0 when there are none.

        As large as the candidate's share where that fits: then a slice differs as much from the rest of stable, by
        chance, as the candidate would if it were the same version. All of them together leave stable half of its
        users, and above 50 % there are none, so that the candidate never waits for them on its way to everybody.
        """
        if self.candidate is None or not has_control_slices(self.weight_ppm):
            return 0
        return min(self.weight_ppm, (WHOLE_PPM - self.weight_ppm) // 2 // CONTROL_SLICES)

    @property
    def sampled_ppm(self) -> int:
        """The share of all conversations outside the audiences that others answer too; 0 when nobody does."""
        return self.shadow.sampled_ppm if self.shadow and self.candidate else 0

    @property
    def noise_ppm(self) -> int:
        """The share of all of them that stable answers a second time; part of the sampled ones."""
        return self.shadow.noise_ppm if self.shadow and self.candidate else 0

    @property
    def serves_candidate(self) -> bool:
        """Whether any user can reach the candidate."""
        return self.candidate is not None and (
            self.weight_ppm > 0 or any(audience.weight_ppm > 0 for audience in self.audiences)
        )


def has_control_slices(weight_ppm: int) -> bool:
    """Whether stable has control slices beside a candidate with this share of everyone outside the audiences."""
    return 0 < weight_ppm <= WHOLE_PPM // 2


def most_sampled_ppm(weight_ppm: int) -> int:
    """How many of all conversations outside the audiences others may answer too, beside a candidate with this share of them.

    Sampled conversations are counted apart, so that what is compared is not what is captured. Stable therefore keeps
    half of its users while the candidate has none, and beside a candidate and the control slices a quarter, so
    that the shares of what is counted stay near the programmed ones; above 50 % nobody is sampled.
    """
    if weight_ppm == 0:
        return WHOLE_PPM // 2
    return (WHOLE_PPM - weight_ppm) // 4 if has_control_slices(weight_ppm) else 0


@dataclass(frozen=True, slots=True)
class Programmed:
    """What the data plane has acknowledged for one rollout.

    Attributes:
        table: The newest table that *every* connected router instance acknowledged; None before the first.
        acknowledged_at: When the last instance acknowledged that table.
        instances: Number of connected router instances.
        error: Why the newest table is not in force (a router's refusal in its own words); empty when it is not refused.
    """

    table: TrafficTable | None
    acknowledged_at: datetime | None
    instances: int
    error: str = ""

    def serves(self, table: TrafficTable | None) -> bool:
        """Whether some router instance is connected, and every connected one acknowledged just this table."""
        return self.instances > 0 and table is not None and self.table == table
