"""One rollout in virtual time: the real plan; the router and the metric source are a few counters."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np

from controller.api.agent import Agent
from controller.api.rollout import AgentRollout
from controller.core.artifact import artifact_id
from controller.core.counts import Series
from controller.core.plan import Plan, plan
from controller.core.snapshot import Revision, Samples, Snapshot
from controller.core.stages import evaluation_due, table_of
from controller.core.tally import Catalogue
from controller.core.traffic import CONTROL_SLICES, WHOLE_PPM, Backend, Programmed, TrafficTable

START = datetime(2026, 1, 1, tzinfo=UTC)

KEPT_SAMPLES = 30
"""Of each series; no question looks further back than a few intervals."""

Labels = tuple[tuple[str, str], ...]


class Behaviour(Protocol):
    """How one version answers at one time."""

    @property
    def errors(self) -> float:
        """Probability that a request fails."""

    @property
    def within(self) -> tuple[float, ...]:
        """For each edge of the latency histogram the share of requests that are answered by then."""


@dataclass
class World:
    """The world of one rollout; nothing in it happens by itself.

    Attributes:
        rollout: The object as the API server has it.
        catalogue: Names of the counters.
        per_second: Requests of all users.
        scrape: Time between two samples of each counter.
        internal: Share of the requests that come from the audience.
        seed: Of everything random.
        now: The virtual time.
        instances: How many routers are connected.
    """

    rollout: AgentRollout
    catalogue: Catalogue
    per_second: float = 30.0
    scrape: timedelta = timedelta(seconds=5)
    internal: float = 0.0
    seed: int = 1
    now: datetime = START
    instances: int = 1
    revisions: dict[str, Revision] = field(default_factory=dict)
    served: TrafficTable | None = None
    acknowledged_at: datetime | None = None
    plans: list[Plan] = field(default_factory=list)
    samples: dict[Labels, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    counters: dict[Labels, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        """The random numbers of this world are its own."""
        self.random = np.random.default_rng(self.seed)

    @abstractmethod
    def behaviour_of(self, revision: Revision, *, audience: bool) -> Behaviour:
        """How the revision answers now."""

    @abstractmethod
    def backend_of(self, agent: Agent) -> Backend:
        """Where the agent is served."""

    def snapshot(self) -> Snapshot:
        """What the operator would gather now."""
        agent = self.rollout.spec.agent
        snapshot = Snapshot(
            rollout=self.rollout,
            artifact_id=artifact_id(agent),
            wanted_backend=self.backend_of(agent),
            problem=None,
            revisions=tuple(self.revisions.values()),
            programmed=Programmed(self.served, self.acknowledged_at, self.instances),
        )
        due = evaluation_due(
            self.rollout.status,
            snapshot.stages,
            snapshot.analysis.interval,
            self.now,
            paused=self.rollout.is_paused,
        )
        if due is None or due > self.now:
            return snapshot
        return replace(snapshot, samples=self.read())

    def read(self) -> Samples:
        """What the metric source answers now."""
        return Samples(
            self.now, tuple(Series(dict(labels), tuple(taken)) for labels, taken in self.samples.items())
        )

    def step(self) -> Plan:
        """Plan once and store what it says; traffic does not follow yet."""
        decided = plan(self.snapshot(), self.catalogue, self.now)
        self.plans.append(decided)
        if decided.create_revision:
            backend = self.backend_of(self.rollout.spec.agent)
            name, created = backend.revision, float(len(self.revisions))
            self.revisions.setdefault(name, Revision(name, backend.artifact_id, backend, created))
        for name in decided.delete_revisions:
            self.revisions.pop(name, None)
        self.rollout = self.rollout.model_copy(update={"status": decided.status})
        return decided

    def program(self) -> None:
        """The router acknowledges what status asks for."""
        wanted = table_of(self.rollout, self.rollout.status, self.revisions.values())
        if self.instances and wanted is not None and wanted != self.served:
            self.served, self.acknowledged_at = wanted, self.now

    def settle(self) -> Plan:
        """Plan and acknowledge until nothing changes any more."""
        for _ in range(50):
            before = self.rollout.status, self.served
            decided = self.step()
            self.program()
            if (self.rollout.status, self.served) == before and decided.requeue_after != timedelta(0):
                return decided
        raise AssertionError(f"never settles: {[p.rule for p in self.plans[-10:]]}")

    def live(self, seconds: float) -> None:
        """Serve users, scrape and reconcile for a while."""
        end = self.now + timedelta(seconds=seconds)
        while self.now < end:
            self.now += self.scrape
            self.serve(self.per_second * self.scrape.total_seconds())
            self.take_samples()
            self.settle()

    def serve(self, requests: float) -> None:
        """Users send this many requests through what is programmed."""
        table = self.served
        if table is None:
            return
        internal = round(requests * self.internal)
        weights = [
            (round(requests) - internal, table.weight_ppm, False),
            *((internal, audience.weight_ppm, True) for audience in table.audiences[:1]),
        ]
        for count, ppm, is_audience in weights:
            to_candidate = self._binomial(count, self.share_of(ppm)) if table.candidate else 0
            if table.candidate:
                self.count(table.candidate.revision, to_candidate, audience=is_audience)
            rest = count - to_candidate
            sampled = 0 if is_audience else self._binomial(rest, self._sampled_share(table))
            self.count(table.stable.revision, rest - sampled, audience=is_audience)
            self.compare(sampled)

    def compare(self, requests: int) -> None:
        """Stable answered so many requests that others answer too; the router counts them apart."""

    @staticmethod
    def _sampled_share(table: TrafficTable) -> float:
        """Of stable's requests."""
        left = WHOLE_PPM - table.weight_ppm
        return table.sampled_ppm / left if left else 0.0

    def share_of(self, weight_ppm: int) -> float:
        """The share of a split's requests that the candidate gets; a router does as it is told."""
        return weight_ppm / WHOLE_PPM

    def count(self, revision: str, requests: int, *, audience: bool = False) -> None:
        """A revision answers this many requests as it behaves."""
        for control, part in enumerate(self._parts(revision, requests, audience=audience)):
            self._count(revision, part, audience=audience, control=control)

    def _parts(self, revision: str, requests: int, *, audience: bool) -> list[int]:
        """A revision's requests outside of control slices; then those in each, if it is stable and there are slices."""
        table = self.served
        if table is None or revision != table.stable.revision or audience or not table.control_slice_ppm:
            return [requests]
        share = table.control_slice_ppm / (WHOLE_PPM - table.weight_ppm)
        shares = [1 - CONTROL_SLICES * share, *[share] * CONTROL_SLICES]
        return [int(each) for each in self.random.multinomial(requests, shares)]

    def _count(self, revision: str, requests: int, *, audience: bool, control: int) -> None:
        behaviour = self.behaviour_of(self.revisions[revision], audience=audience)
        failed = self._binomial(requests, behaviour.errors)
        answered, left, share = [], requests, 1.0
        for within in reversed(behaviour.within):
            left = self._binomial(left, within / share if share else 0.0)
            answered.append(left)
            share = within
        of = self.catalogue
        whose = {of.label: of.value(self.rollout.metadata.key, revision, audience)}
        if control:
            whose[of.slice_label] = str(control)
        self._add(whose, of.errors.total[0].metric, requests)
        if failed:
            (bad,) = of.errors.bad
            self._add(whose, bad.metric, failed, dict(bad.labels))
        self._add(whose, of.latency.count.metric, requests)
        for edge, amount in zip(of.latency.edges, reversed(answered), strict=True):
            self._add(whose, of.latency.buckets, amount, {"le": f"{edge:g}"})
        self._add(whose, of.latency.buckets, requests, {"le": "+Inf"})

    def take_samples(self) -> None:
        """Prometheus scrapes the router."""
        at = self.now.timestamp()
        self.samples[self.labels(self.catalogue.liveness)].append((at, 1.0))
        for labels, value in self.counters.items():
            self.samples[labels].append((at, float(value)))
        for taken in self.samples.values():
            del taken[:-KEPT_SAMPLES]

    def labels(self, name: str, labels: Mapping[str, str] | None = None) -> Labels:
        """All labels of one series of the one router."""
        return tuple({"__name__": name, "job": "envoy", "instance": "router-0", **(labels or {})}.items())

    def _add(
        self, whose: Mapping[str, str], name: str, amount: int, labels: Mapping[str, str] | None = None
    ) -> None:
        self.counters[self.labels(name, {**whose, **(labels or {})})] += amount

    def _binomial(self, n: int, p: float) -> int:
        if p in (0.0, 1.0) or n <= 0:
            return max(0, n) if p == 1.0 else 0
        return int(self.random.binomial(n, p))
