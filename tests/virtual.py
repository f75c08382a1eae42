"""One rollout in virtual time, for tests: the real plan, a router and a metric source that are a few counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from controller.api.action import ActionName, ActionPhase, ActionSpec
from controller.api.agent import Agent, Code
from controller.api.rollout import AgentRollout
from controller.api.status import VersionRef
from controller.core.artifact import artifact_id, revision_name
from controller.core.catalogue import CounterTerm, LatencyDefinition, MetricDefinition
from controller.core.plan import Plan
from controller.core.snapshot import (
    Action,
    Endpoints,
    Latch,
    Opening,
    Problem,
    Revision,
    Samples,
    Snapshot,
    Switch,
)
from controller.core.tally import Catalogue
from controller.core.traffic import Backend, ServicePort
from controller.simulation.world import START, World

__all__ = ["CATALOGUE", "START", "Behaviour", "VirtualRollout", "rollout_of", "started"]

EDGES = (10.0, 100.0, 1000.0)

CATALOGUE = Catalogue(
    liveness="live",
    override="overridden",
    label="cluster",
    slice_label="slice",
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

    @property
    def within(self) -> tuple[float, ...]:
        """Nothing takes longer than the last edge."""
        return (1 - self.slow) * self.fast, 1 - self.slow, 1.0


@dataclass
class VirtualRollout(World):
    """A world whose versions behave as told, by host, and in which everything can go wrong."""

    catalogue: Catalogue = CATALOGUE
    behaviour: dict[str, Behaviour] = field(default_factory=dict)
    audience_behaviour: dict[str, Behaviour] = field(default_factory=dict)
    problem: Problem | None = None
    blind: str = ""
    latch: Latch | None = None
    switches: tuple[Switch, ...] = ()
    _control: int = 0
    overridden: bool = False
    split: float | None = None
    """The candidate's real share of every split, if the router does not do what it acknowledged."""
    slices: dict[int, Behaviour] = field(default_factory=dict)
    """How stable answers those in some of its control slices, if otherwise than everyone else."""
    pods: dict[str, tuple[int, int]] = field(default_factory=dict)
    """How many endpoints of each Service are ready, of how many; one of one unless said."""
    images: dict[str, frozenset[str] | None] = field(default_factory=dict)
    """What runs behind each Service; of one image that has its name unless said."""
    actions: list[Action] = field(default_factory=list)
    """What people have asked for."""
    window: Opening | None = None
    """What the calendar says."""

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
        status = self.rollout.status
        return replace(
            super().snapshot(),
            problem=self.problem,
            latch=self.latch,
            switches=self.switches,
            stable_endpoints=self._endpoints(status.stable),
            candidate_endpoints=self._endpoints(status.candidate),
            actions=tuple(self.actions),
            window=self.window,
        )

    def work(self, ticks: int, plan: Callable[[], object]) -> None:
        """Users, routers and Prometheus do their part for so many times five seconds, and all that can follow does.

        Args:
            ticks: How many times.
            plan: Plans once, as the test does.
        """
        for _ in range(ticks):
            self.now += timedelta(seconds=5)
            self.serve(400)
            self.take_samples()
            for _ in range(3):
                plan()
                self.program()

    def step(self) -> Plan:
        """Plan once, store what it says, and have actions show what became of them."""
        decided = super().step()
        self.show()
        return decided

    def ask(self, name: ActionName, by: str = "alice", *, artifact: str = "", problem: str = "") -> Action:
        """A person asks for something about an artifact, the candidate's unless said."""
        number, candidate = len(self.actions) + 1, self.rollout.status.candidate
        spec = ActionSpec(
            rollout="agent",
            artifact_id=artifact or (candidate.artifact_id if candidate else "sha256:" + "0" * 64),
            action=name,
            reason=f"reason {number}",
            requested_by=by,
        )
        asked = Action(f"uid-{number}", f"action-{number}", (self.now, number), spec, problem=problem)
        self.actions.append(asked)
        return asked

    def became(self, asked: Action) -> tuple[ActionPhase, str]:
        """What became of it, as it shows itself or as status says before."""
        record = next((r for r in self.rollout.status.actions if r.uid == asked.uid), None)
        if record is not None:
            return record.phase, record.message
        return next((a.phase, a.problem) for a in self.actions if a.uid == asked.uid)

    def show(self) -> None:
        """Actions show what status says became of them."""
        became = {record.uid: record.phase for record in self.rollout.status.actions}
        self.actions = [replace(a, phase=became.get(a.uid, a.phase)) for a in self.actions]

    def read(self) -> Samples:
        return Samples(self.now, problem=self.blind) if self.blind else super().read()

    def take_samples(self) -> None:
        gauge = self.samples[self.labels(self.catalogue.override)]
        gauge.append((self.now.timestamp(), float(self.overridden)))
        super().take_samples()

    def _count(self, revision: str, requests: int, *, audience: bool, control: int) -> None:
        self._control = control
        super()._count(revision, requests, audience=audience, control=control)

    def share_of(self, weight_ppm: int) -> float:
        return super().share_of(weight_ppm) if self.split is None else self.split

    def behaviour_of(self, revision: Revision, *, audience: bool) -> Behaviour:
        host = revision.backend.host
        behaviour = self.behaviour.get(host, Behaviour())
        if self._control in self.slices:
            return self.slices[self._control]
        return self.audience_behaviour.get(host, behaviour) if audience else behaviour

    def backend_of(self, agent: Agent) -> Backend:
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


def started(**kwargs: Any) -> VirtualRollout:
    """A world whose first artifact is stable and has served for a minute."""
    world = VirtualRollout(rollout_of(**kwargs.pop("spec", {})), **kwargs)
    world.settle()
    world.live(60)
    return world
