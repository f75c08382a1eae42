"""One rollout in virtual time: the real plan, a router and a metric source that are a few counters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from controller.api.agent import Agent, Code
from controller.api.rollout import AgentRollout
from controller.api.status import VersionRef
from controller.core.artifact import artifact_id, revision_name
from controller.core.catalogue import CounterTerm, LatencyDefinition, MetricDefinition
from controller.core.counts import Series
from controller.core.plan import Plan, plan
from controller.core.snapshot import Endpoints, Latch, Problem, Revision, Samples, Snapshot
from controller.core.stages import evaluation_due, table_of
from controller.core.tally import Catalogue
from controller.core.traffic import WHOLE_PPM, Backend, Programmed, ServicePort, TrafficTable

START = datetime(2026, 1, 1, tzinfo=UTC)
EDGES = (10.0, 100.0, 1000.0)

CATALOGUE = Catalogue(
    liveness="live",
    override="overridden",
    label="cluster",
    value=lambda key, revision, audience: f"{key}/{revision}{'~audience' if audience else ''}",
    errors=MetricDefinition(
        "errors", total=(CounterTerm("total"),), bad=(CounterTerm("bad", (("class", "5"),)),)
    ),
    latency=LatencyDefinition("latency", "bucket", CounterTerm("count"), (CounterTerm("lost"),), EDGES),
)


def code_of(address: str) -> dict[str, Any]:
    """``spec.agent.code`` for ``http://name`` or ``service://name``."""
    scheme, _, name = address.partition("://")
    return {"service": {"name": name, "port": 80}} if scheme == "service" else {"url": address}


def rollout_of(url: str = "http://v1", **spec: Any) -> AgentRollout:
    """A rollout with three stages of a minute each."""
    stages = [{"weight": w, "minDuration": "1m", "minRequests": 10} for w in ("10%", "50%", "100%")]
    analysis = {"interval": "15s", "clustering": 1, "metrics": [{"name": "errors"}]}
    return AgentRollout.model_validate(
        {
            "metadata": {
                "name": "agent",
                "namespace": "shop",
                "uid": "1",
                "generation": 1,
                "creationTimestamp": START,
            },
            "spec": {
                "agent": {"code": code_of(url)},
                "traffic": {"envoy": {"hosts": ["agent.example"]}},
                "stages": stages,
                "analysis": analysis,
                **spec,
            },
        }
    )


@dataclass(frozen=True)
class Behaviour:
    """How one version answers.

    Attributes:
        errors: Probability that a request fails.
        slow: Probability that it takes longer than the middle edge.
        fast: Probability that one that is not slow takes no longer than the lowest edge.
    """

    errors: float = 0.01
    slow: float = 0.02
    fast: float = 0.8


@dataclass
class VirtualRollout:
    """The world of one rollout; nothing in it happens by itself."""

    rollout: AgentRollout
    per_second: float = 30.0
    scrape: timedelta = timedelta(seconds=5)
    internal: float = 0.0
    behaviour: dict[str, Behaviour] = field(default_factory=dict)
    audience_behaviour: dict[str, Behaviour] = field(default_factory=dict)
    seed: int = 1
    now: datetime = START
    revisions: dict[str, Revision] = field(default_factory=dict)
    served: TrafficTable | None = None
    acknowledged_at: datetime | None = None
    instances: int = 1
    problem: Problem | None = None
    blind: str = ""
    latch: Latch | None = None
    overridden: bool = False
    pods: dict[str, tuple[int, int]] = field(default_factory=dict)
    """How many endpoints of each Service are ready, of how many; one of one unless said."""
    images: dict[str, frozenset[str] | None] = field(default_factory=dict)
    """What runs behind each Service; of one image that has its name unless said."""
    plans: list[Plan] = field(default_factory=list)
    samples: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    counters: dict[tuple[tuple[str, str], ...], int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def want(self, url: str) -> None:
        """Change spec.agent, which is a new artifact."""
        spec = self.rollout.spec
        code = Code.model_validate(code_of(url))
        self.change_spec(agent=spec.agent.model_copy(update={"code": code}))

    def change_spec(self, **changes: Any) -> None:
        """Any change of the spec."""
        generation = self.rollout.metadata.generation + 1
        self.rollout = self.rollout.model_copy(
            update={
                "metadata": self.rollout.metadata.model_copy(update={"generation": generation}),
                "spec": self.rollout.spec.model_copy(update=changes),
            }
        )

    def annotate(self, **annotations: str) -> None:
        """A person annotates the rollout."""
        metadata = self.rollout.metadata.model_copy(update={"annotations": annotations})
        self.rollout = self.rollout.model_copy(update={"metadata": metadata})

    def snapshot(self) -> Snapshot:
        """What gather would see now."""
        agent, status = self.rollout.spec.agent, self.rollout.status
        snapshot = Snapshot(
            rollout=self.rollout,
            artifact_id=artifact_id(agent),
            wanted_backend=self._backend(agent),
            problem=self.problem,
            revisions=tuple(self.revisions.values()),
            programmed=Programmed(self.served, self.acknowledged_at, self.instances),
            latch=self.latch,
            stable_endpoints=self._endpoints(status.stable),
            candidate_endpoints=self._endpoints(status.candidate),
        )
        due = evaluation_due(
            self.rollout.status,
            snapshot.stages,
            snapshot.analysis.interval,
            self.now,
            paused=self.rollout.spec.paused,
        )
        if due is None or due > self.now:
            return snapshot
        return replace(snapshot, samples=self.read())

    def read(self) -> Samples:
        """What the metric source answers now."""
        if self.blind:
            return Samples(self.now, problem=self.blind)
        return Samples(
            self.now, tuple(Series(dict(labels), tuple(taken)) for labels, taken in self.samples.items())
        )

    def step(self) -> Plan:
        """Plan once and store what it says; traffic does not follow yet."""
        decided = plan(self.snapshot(), CATALOGUE, self.now)
        self.plans.append(decided)
        if decided.create_revision:
            backend = self._backend(self.rollout.spec.agent)
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
            to_candidate = self._binomial(count, ppm / WHOLE_PPM) if table.candidate else 0
            if table.candidate:
                self.count(table.candidate.revision, to_candidate, audience=is_audience)
            self.count(table.stable.revision, count - to_candidate, audience=is_audience)

    def count(self, revision: str, requests: int, *, audience: bool = False) -> None:
        """A revision answers this many requests as it behaves."""
        backend = self.revisions[revision].backend
        behaviour = self.behaviour.get(backend.host, Behaviour())
        if audience:
            behaviour = self.audience_behaviour.get(backend.host, behaviour)
        failed = self._binomial(requests, behaviour.errors)
        slow = self._binomial(requests, behaviour.slow)
        fast = self._binomial(requests - slow, behaviour.fast)
        cluster = CATALOGUE.value(self.rollout.metadata.key, revision, audience)
        self._add(cluster, "total", requests)
        if failed:
            self._add(cluster, "bad", failed, {"class": "5"})
        self._add(cluster, "count", requests)
        for le, amount in (("10", fast), ("100", requests - slow), ("1000", requests), ("+Inf", requests)):
            self._add(cluster, "bucket", amount, {"le": le})

    def take_samples(self) -> None:
        """Prometheus scrapes the router."""
        at = self.now.timestamp()
        self.samples[self._labels("live", {})].append((at, 1.0))
        self.samples[self._labels("overridden", {})].append((at, float(self.overridden)))
        for labels, value in self.counters.items():
            self.samples[labels].append((at, float(value)))
        for taken in self.samples.values():
            del taken[:-30]

    def _add(self, cluster: str, name: str, amount: int, labels: Mapping[str, str] | None = None) -> None:
        self.counters[self._labels(name, {"cluster": cluster, **(labels or {})})] += amount

    @staticmethod
    def _labels(name: str, labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        return tuple({"__name__": name, "job": "envoy", "instance": "router-0", **labels}.items())

    def _backend(self, agent: Agent) -> Backend:
        artifact, service = artifact_id(agent), agent.code.service
        host = service.name if service else (agent.code.url or "").removeprefix("http://")
        behind = ServicePort(f"shop/{host}", 80) if service else None
        return Backend(revision_name("agent", artifact), artifact, host, 80, service=behind)

    def _endpoints(self, version: VersionRef | None) -> Endpoints | None:
        revision = self.revisions.get(version.revision) if version else None
        if revision is None or revision.backend.service is None:
            return None
        name = revision.backend.service.name
        images = self.images.get(name, frozenset({f"sha256:{name}"}))
        return Endpoints(name, *self.pods.get(name, (1, 1)), images)

    def _binomial(self, n: int, p: float) -> int:
        if p in (0.0, 1.0) or n <= 0:
            return max(0, n) if p == 1.0 else 0
        return int(self.random.binomial(n, p))


def started(**kwargs: Any) -> VirtualRollout:
    """A world whose first artifact is stable and has served for a minute."""
    world = VirtualRollout(rollout_of(**kwargs.pop("spec", {})), **kwargs)
    world.settle()
    world.live(60)
    return world
