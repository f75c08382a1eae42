"""A whole delivery in virtual time, over and over."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache

from controller.adapters.envoy.metrics import LATENCY_EDGES_MS
from controller.api.agent import Agent
from controller.api.delivery import Stage
from controller.api.reasons import State
from controller.api.rollout import AgentRollout, Delivery
from controller.core.artifact import artifact_id, revision_name
from controller.core.catalogue import CounterTerm, LatencyDefinition, MetricDefinition
from controller.core.plan import Plan
from controller.core.snapshot import Revision, Samples
from controller.core.tally import Catalogue
from controller.core.traffic import Backend
from controller.simulation.scenario import Answers, Scenario
from controller.simulation.world import START, World

BEFORE = timedelta(minutes=5)
"""So long the stable version serves alone, and is looked at, before the candidate comes."""

PATIENCE = 3.0
"""A delivery that takes so many times its minDurations is given up as held."""

RECENT_SAMPLES = 4

CATALOGUE = Catalogue(
    liveness="live",
    override="overridden",
    label="version",
    slice_label="slice",
    value=lambda key, revision, audience: f"{key}/{revision}{'~audience' if audience else ''}",
    errors=MetricDefinition("errors", total=(CounterTerm("requests"),), bad=(CounterTerm("failed"),)),
    latency=LatencyDefinition(
        "latency", "answered", CounterTerm("answers"), (CounterTerm("lost"),), LATENCY_EDGES_MS
    ),
)


@dataclass(frozen=True, slots=True)
class Stay:
    """One stage of one delivery.

    Attributes:
        stage: Its title.
        took: How long the candidate was in it.
        requests: How many requests the candidate answered in it.
    """

    stage: str
    took: timedelta
    requests: int


@dataclass(frozen=True, slots=True)
class Run:
    """How one delivery went.

    Attributes:
        state: How it ended; anything but ``Stable`` and ``RolledBack`` is a delivery that was given up as held.
        took: From the new artifact to the end.
        stays: The stages that it was in.
        message: The words of the rollback, or of what it was last held for.
        fault_to_cut: From the fault's beginning to the rollback; None if there was no fault, or no rollback after it.
        failed: Requests that failed on the candidate.
    """

    state: State
    took: timedelta
    stays: tuple[Stay, ...]
    message: str
    fault_to_cut: timedelta | None
    failed: int


@dataclass
class SimulatedDelivery(World):
    """A world with a version that is followed by another."""

    catalogue: Catalogue = CATALOGUE
    scenario: Scenario = field(default_factory=lambda: Scenario(1.0, Answers(0.0), 0.0))
    first_request: datetime | None = None
    failed: int = 0
    answered: int = 0
    """Requests that the candidate got from those whom its stages are about."""

    def backend_of(self, agent: Agent) -> Backend:
        """Each artifact is somewhere else."""
        artifact = artifact_id(agent)
        name = revision_name(self.rollout.metadata.name, artifact)
        return Backend(name, artifact, name, 80)

    def behaviour_of(self, revision: Revision, *, audience: bool) -> Answers:  # noqa: ARG002  all users are served alike
        """The usual, or the fault once its time has come."""
        fault, candidate = self.scenario.fault, self.rollout.status.candidate
        if fault is None or candidate is None or revision.name != candidate.revision:
            return self.scenario.usual
        began = self.fault_began
        return _worse(self.scenario) if began and self.now >= began else self.scenario.usual

    def count(self, revision: str, requests: int, *, audience: bool = False) -> None:
        """Also notice the candidate's first request, and those that it fails."""
        candidate = self.rollout.status.candidate
        if candidate is None or revision != candidate.revision:
            super().count(revision, requests, audience=audience)
            return
        if requests and self.first_request is None:
            self.first_request = self.now
        if audience == self._is_audience_stage:
            self.answered += requests
        labels = self.labels(
            self.catalogue.errors.bad[0].metric,
            {self.catalogue.label: self.catalogue.value(self.rollout.metadata.key, revision, audience)},
        )
        before = self.counters[labels]
        super().count(revision, requests, audience=audience)
        self.failed += self.counters[labels] - before

    def settle(self) -> Plan:
        """While a stage goes on, one look is enough."""
        decided = self.step()
        return decided if decided.rule == "hold" else super().settle()

    def take_samples(self) -> None:
        """No interval needs more than the last few, once stable's past was read."""
        super().take_samples()
        if self.rollout.status.stage is not None:
            for taken in self.samples.values():
                del taken[:-RECENT_SAMPLES]

    def read(self) -> Samples:
        """As the operator asks: of histograms only the edges that were fixed."""
        answer, evidence = super().read(), self.rollout.status.evidence
        edges = {edge for metric in evidence.metrics for edge in metric.edges} if evidence else set()
        if self.rollout.status.stage is None or not edges:
            return answer
        wanted = {None, *(f"{edge:g}" for edge in edges)}
        return replace(answer, series=tuple(s for s in answer.series if s.labels.get("le") in wanted))

    @property
    def _is_audience_stage(self) -> bool:
        status = self.rollout.status
        return bool(status.stage and self.rollout.spec.stages[status.stage.index].audience)

    @property
    def fault_began(self) -> datetime | None:
        """When the fault began or will; None without one, and before the candidate's first request."""
        fault = self.scenario.fault
        return self.first_request + fault.after if fault and self.first_request else None


@lru_cache
def _worse(scenario: Scenario) -> Answers:
    assert scenario.fault is not None  # noqa: S101  asked only about those with one
    return scenario.usual.worse_by(scenario.fault)


def deliver(rollout: AgentRollout, scenario: Scenario, seed: int) -> Run:
    """Deliver the rollout's agent where another version serves, in virtual time."""
    rollout = _without_people(rollout)
    world = SimulatedDelivery(
        rollout=_with_agent(rollout, _predecessor(rollout.spec.agent)),
        per_second=scenario.per_second,
        scrape=rollout.spec.analysis.interval,
        internal=scenario.audience if any(s.audience for s in rollout.spec.stages) else 0.0,
        seed=seed,
        scenario=scenario,
    )
    world.settle()
    world.live(BEFORE.total_seconds())
    world.rollout = _with_agent(world.rollout, rollout.spec.agent, generation=2)
    began = world.now
    world.settle()
    stays = _live_through(world, began + PATIENCE * shortest(rollout.spec.stages))
    status = world.rollout.status
    promoted = status.state is State.STABLE
    back = status.last_rollback
    fault_began = world.fault_began
    caught = back is not None and fault_began is not None and back.at >= fault_began
    said = next((c.message for c in status.conditions if c.type == "Progressing"), "")
    return Run(
        state=status.state,
        took=world.now - began,
        stays=tuple(stays),
        message="" if promoted else back.message if back else said,
        fault_to_cut=back.at - fault_began if back and fault_began and caught else None,
        failed=world.failed,
    )


def _without_people(rollout: AgentRollout) -> AgentRollout:
    """The rollout whose approvals are given as soon as they are asked for."""
    stages = [stage.model_copy(update={"approval": None}) for stage in rollout.spec.stages]
    return rollout.model_copy(update={"spec": rollout.spec.model_copy(update={"stages": stages})})


def shortest(stages: list[Stage]) -> timedelta:
    """The sum of the minDurations: no delivery is faster."""
    return sum((stage.min_duration for stage in stages), timedelta(0))


def _live_through(world: SimulatedDelivery, deadline: datetime) -> list[Stay]:
    stays: list[Stay] = []
    entered, answered, before = world.now, 0, world.rollout.status.stage
    while world.now < deadline and world.rollout.status.candidate is not None:
        world.live(world.scrape.total_seconds())
        stage = world.rollout.status.stage
        if before and (stage is None or stage.index != before.index):
            stays.append(Stay(before.title, world.now - entered, world.answered - answered))
            entered, answered = world.now, world.answered
        before = stage
    if before is not None:
        stays.append(Stay(before.title, world.now - entered, world.answered - answered))
    return stays


def _predecessor(agent: Agent) -> Agent:
    """Any other artifact."""
    return agent.model_copy(update={"dependencies": {**agent.dependencies, "simulated": "stable"}})


def _with_agent(rollout: AgentRollout, agent: Agent, *, generation: int = 1) -> AgentRollout:
    """The rollout with another agent; whatever its delivery, the two are never taken for one."""
    agent = agent.model_copy(update={"prompts_from": {}}) if agent.prompts_from else agent
    return rollout.model_copy(
        update={
            "metadata": rollout.metadata.model_copy(
                update={"uid": "simulated", "generation": generation, "creation_timestamp": START}
            ),
            "spec": rollout.spec.model_copy(update={"agent": agent, "delivery": Delivery.HEADER}),
        }
    )
