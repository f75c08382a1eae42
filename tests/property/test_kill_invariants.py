"""Kill switches over every interleaving of flips, stale answers, lost sources, lost writes and restarts.

1. Killed is never undone by anything but an explicit release: off, and a person's resume or the switch's autoResume.
2. Where a switch is known to be on, nobody is served the candidate, whatever status says.
3. No weight rises while it is not known whether a switch is on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from prometheus_client import CollectorRegistry

from controller.api.action import ActionName, ActionPhase
from controller.api.kill_switches import KillSwitch, SwitchSource
from controller.core.artifact import artifact_id
from controller.core.flags import FlagBook, Value
from controller.core.killing import held_by
from controller.core.plan import Plan
from controller.core.snapshot import Latch, Switch
from controller.core.stages import table_of
from controller.reconcilers.kill_metrics import KillMetrics
from controller.reconcilers.kills import KillSwitches
from controller.reconcilers.observed import observe_rollout
from controller.reconcilers.switch_maps import SwitchMaps, observe_switches
from controller.runtime.store import Store
from tests.virtual import VirtualRollout, rollout_of

SOURCES = (SwitchSource.OFREP, SwitchSource.FLAGD)
VALUES = st.sampled_from([True, False, False, "garbage", None])


class Replica:
    """What one process knows; it is lost when the process is."""

    def __init__(self, world: VirtualRollout) -> None:
        self.books = {source: FlagBook() for source in SOURCES}
        self.asked: list[tuple[SwitchSource, int, Value | None]] = []
        self.last: dict[SwitchSource, tuple[int, Value | None]] = {}
        maps = SwitchMaps(Store(observe_switches), "system", lambda: world.now)
        self.kills = KillSwitches(
            Store(observe_rollout, indexers={"flag": lambda _: ()}),
            maps,
            self.books,
            KillMetrics(CollectorRegistry()),
        )
        self.latch: Latch | None = None

    def tell(self, source: SwitchSource, number: int, value: Value | None, world: VirtualRollout) -> None:
        self.books[source].tell({} if value is None else {"f": value}, number, world.now)
        if number > self.last.get(source, (0, None))[0]:
            self.last[source] = (number, value)


class KillMachine(RuleBasedStateMachine):
    """Two replicas with sources of their own; the first one leads."""

    @initialize(auto=st.tuples(st.booleans(), st.booleans()))
    def start(self, auto: tuple[bool, bool]) -> None:
        stages = [{"weight": w, "minDuration": "10s", "minRequests": 10} for w in ("10%", "50%", "100%")]
        analysis = {"interval": "5s", "clustering": 1, "metrics": [{"name": "errors"}]}
        self.world = VirtualRollout(rollout_of(analysis=analysis, stages=stages))
        switches: list[dict[str, Any]] = [
            {"name": "one", "ofrep": {"flag": "f"}, "autoResume": auto[0]},
            {"name": "two", "flagd": {"flag": "f"}, "autoResume": auto[1]},
        ]
        self.world.change_spec(kill_switches=[KillSwitch.model_validate(each) for each in switches])
        self.replicas = [Replica(self.world), Replica(self.world)]
        self.released = False
        self.version = 1
        for source in SOURCES:
            self.hear(0, source, False)
        self.plan_on()
        self.want()

    @rule()
    def want(self) -> None:
        self.version += 1
        self.world.want(f"http://v{self.version}")

    @rule(who=st.integers(0, 1), source=st.sampled_from(SOURCES), value=VALUES)
    def hear(self, who: int, source: SwitchSource, value: Value | None) -> None:
        replica = self.replicas[who]
        replica.tell(source, replica.books[source].number(), value, self.world)
        self.look()

    @rule(who=st.integers(0, 1), source=st.sampled_from(SOURCES), value=VALUES)
    def ask(self, who: int, source: SwitchSource, value: Value | None) -> None:
        """The answer to a question is on its way, and may be overtaken."""
        replica = self.replicas[who]
        replica.asked.append((source, replica.books[source].number(), value))

    @rule(who=st.integers(0, 1), position=st.integers(0, 20))
    def answer(self, who: int, position: int) -> None:
        replica = self.replicas[who]
        if replica.asked:
            replica.tell(*replica.asked.pop(position % len(replica.asked)), self.world)
        self.look()

    @rule(who=st.integers(0, 1), source=st.sampled_from(SOURCES), times=st.integers(1, 3))
    def lose(self, who: int, source: SwitchSource, times: int) -> None:
        book = self.replicas[who].books[source]
        for _ in range(times):
            book.fail("refused", book.number(), self.world.now)
            self.world.now += timedelta(seconds=4)

    @rule(who=st.integers(0, 1))
    def restart(self, who: int) -> None:
        self.replicas[who] = Replica(self.world)
        self.look()

    @rule()
    def change_leader(self) -> None:
        self.replicas.reverse()

    @rule(ticks=st.integers(1, 8))
    def plan_on(self, ticks: int = 4) -> None:
        self.world.work(ticks, self.plan)

    @rule()
    def the_write_is_lost(self) -> None:
        before, asked = self.world.rollout, list(self.world.actions)
        self.step()
        self.world.rollout, self.world.actions = before, asked
        self.look()

    @rule()
    def resume(self) -> None:
        self.world.ask(ActionName.RESUME, artifact=artifact_id(self.world.rollout.spec.agent))

    @rule()
    def edit_the_switches(self) -> None:
        """Taking a switch away and putting it back is no release."""
        spec = self.world.rollout.spec.kill_switches
        self.world.change_spec(kill_switches=[])
        self.plan()
        self.world.change_spec(kill_switches=spec)

    def plan(self) -> None:
        before = self.world.rollout.status
        asked = [action for action in self.world.actions if not action.phase.is_final]
        decided = self.step()
        after = decided.status
        if before.killed is not None and after.killed is None:
            resumed = any(self.world.became(action)[0] is ActionPhase.APPLIED for action in asked)
            assert not held_by(before, self.switches(0))
            assert resumed or self.is_released_by_itself(before.killed.switch)
        if after.killed is not None:
            assert (after.weight, after.candidate, after.stage) == (0, None, None)
            assert decided.rule in ("rollback", "killed", "settled")
        if after.weight > before.weight or (after.stage and not before.stage) or decided.rule == "promote":
            assert all(switch.on is False for switch in self.switches(0))
        self.look()

    def step(self) -> Plan:
        """As the leader: what it knows itself, and the cuts that others report."""
        self.world.switches = self.switches(0)
        self.world.latch = next((r.latch for r in self.replicas if r.latch), None)
        return self.world.step()

    def look(self) -> None:
        """As every replica does on each change of a switch or of the stored status."""
        status = self.world.rollout.status
        for replica in self.replicas:
            known = replica.latch
            if known is not None and not _concerns(known, self.world):
                replica.latch = None
            if replica.latch is None:
                replica.latch = replica.kills.latch_of(self.world.rollout)
        assert status is self.world.rollout.status

    def switches(self, who: int) -> tuple[Switch, ...]:
        return self.replicas[who].kills.switches(self.world.rollout)

    def is_released_by_itself(self, name: str) -> bool:
        switches = self.switches(0)
        return all(s.on is False for s in switches) and any(s.auto_resume for s in switches if s.name == name)

    def served_by(self) -> Iterator[tuple[Replica, bool]]:
        rollout = self.world.rollout
        table = table_of(rollout, rollout.status, self.world.revisions.values())
        for replica in self.replicas:
            cut = replica.latch is not None or rollout.status.killed is not None
            yield replica, table is not None and table.serves_candidate and not cut

    @invariant()
    def nobody_is_served_by_a_replica_that_knows_of_a_switch_that_is_on(self) -> None:
        if not hasattr(self, "replicas"):
            return
        for replica, serves in self.served_by():
            assert not serves or not any(value is True for _, value in replica.last.values())

    @invariant()
    def what_was_said_last_counts(self) -> None:
        if not hasattr(self, "replicas"):
            return
        for replica in self.replicas:
            for source, (_, value) in replica.last.items():
                if isinstance(value, bool):
                    assert replica.books[source].said("f").on is value


def _concerns(latch: Latch, world: VirtualRollout) -> bool:
    candidate = world.rollout.status.candidate
    return candidate is not None and (candidate.artifact_id, candidate.attempt) == (
        latch.artifact_id,
        latch.attempt,
    )


KillMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestKill = KillMachine.TestCase
