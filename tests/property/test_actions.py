"""Invariants of actions over every interleaving of people, faults, lost writes and restarts.

1. Each action is done at most once, and what became of it never changes.
2. What was taken back stays so but for a Retry, each of which makes one attempt more.
3. What a person paused stays paused until a person resumes it, or its candidate goes.
4. A stage that asks for approvals is not entered with fewer different people than it asks for.
5. Outside of the windows nothing rises.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from controller.api.action import ActionName, ActionPhase
from controller.api.status import RolloutStatus
from controller.core.plan import Plan
from controller.core.snapshot import Latch, Opening
from tests.virtual import Behaviour, VirtualRollout, rollout_of

VERSIONS = ["v1", "v2", "v3"]
PEOPLE = ["alice", "bob", "carol"]
ABSENT = "sha256:" + "0" * 64


class ActionMachine(RuleBasedStateMachine):
    """People ask for anything at any time; writes of status, and of what became of actions, are lost."""

    @initialize(seed=st.integers(0, 1000), required=st.integers(1, 3))
    def start(self, seed: int, required: int) -> None:
        stages = [
            {"weight": "10%", "minDuration": "20s", "minRequests": 10},
            {"weight": "50%", "minDuration": "20s", "minRequests": 10, "approval": {"required": required}},
            {"weight": "100%", "minDuration": "20s", "minRequests": 10},
        ]
        self.required = required
        self.world = VirtualRollout(rollout_of("http://v1", stages=stages), seed=seed)
        self.became: dict[str, tuple[ActionPhase, str]] = {}
        self.attempts: dict[str, int] = {}
        self.world.settle()
        self.world.live(30)
        self.want("v2")

    @rule(version=st.sampled_from(VERSIONS))
    def want(self, version: str) -> None:
        self.world.want(f"http://{version}")

    @rule(
        name=st.sampled_from(ActionName),
        by=st.sampled_from(PEOPLE),
        which=st.sampled_from(["candidate", "wanted", "absent"]),
        checked=st.sampled_from([True, True, True, False]),
    )
    def somebody_asks(self, name: ActionName, by: str, which: str, checked: bool) -> None:
        artifact = {"wanted": self.world.snapshot().artifact_id, "absent": ABSENT}.get(which, "")
        self.world.ask(name, by, artifact=artifact, problem="" if checked else "PolicyMissing")

    @rule(version=st.sampled_from(VERSIONS[1:]), errors=st.sampled_from([0.0, 0.5]))
    def behave(self, version: str, errors: float) -> None:
        self.world.behaviour[version] = Behaviour(errors)

    @rule(paused=st.booleans())
    def the_spec_pauses(self, paused: bool) -> None:
        self.world.change_spec(paused=paused)

    @rule(is_open=st.booleans())
    def a_window_opens_or_closes(self, is_open: bool) -> None:
        self.world.window = Opening(is_open, None if is_open else self.world.now + timedelta(hours=1))

    @rule(blind=st.booleans())
    def metrics_come_and_go(self, blind: bool) -> None:
        self.world.blind = "Prometheus is away" if blind else ""

    @rule(ticks=st.integers(1, 12))
    def everything_works_for_a_while(self, ticks: int) -> None:
        self.world.work(ticks, self.plan)

    @rule()
    def the_status_write_is_lost(self) -> None:
        """Nothing of the decision is stored; a cut was pushed all the same."""
        before, shown = self.world.rollout, list(self.world.actions)
        decided = self.world.step()
        candidate, back = before.status.candidate, decided.status.last_rollback
        if decided.cut and decided.rule == "rollback" and candidate and back:
            self.world.latch = Latch(
                candidate.artifact_id, candidate.attempt, back.reason, back.metric, back.message
            )
        self.world.rollout, self.world.actions = before, shown

    @rule()
    def telling_the_actions_fails(self) -> None:
        """Status is stored, and the actions do not show it."""
        shown = {each.uid: each.phase for each in self.world.actions}
        self.plan()
        self.world.actions = [replace(each, phase=shown[each.uid]) for each in self.world.actions]

    @rule()
    def the_actions_are_seen_late(self) -> None:
        """A new leader's watch of actions is behind."""
        seen, self.world.actions = self.world.actions, []
        self.plan()
        self.world.actions = seen

    def plan(self) -> Plan:
        before = self.world.rollout.status
        decided = self.world.step()
        self.each_action_is_done_once(decided)
        self.what_was_taken_back_stays_so(before, decided)
        self.pauses_hold(before, decided)
        self.approvals_and_windows_hold(before, decided)
        if self.world.latch and decided.status.candidate is None:
            self.world.latch = None
        return decided

    def each_action_is_done_once(self, decided: Plan) -> None:
        records = decided.status.actions
        assert len({record.uid for record in records}) == len(records)
        for record in records:
            known = self.became.setdefault(record.uid, (record.phase, record.message))
            assert known == (record.phase, record.message)
        for action in self.world.actions:
            assert not action.problem or action.phase is not ActionPhase.APPLIED

    def what_was_taken_back_stays_so(self, before: RolloutStatus, decided: Plan) -> None:
        after = decided.status
        if decided.rule == "rollback" and before.candidate:
            self.attempts[before.candidate.artifact_id] = before.candidate.attempt
        if after.candidate is None or before.candidate == after.candidate:
            return
        last = self.attempts.get(after.candidate.artifact_id)
        if after.candidate.artifact_id in before.rolled_back:
            assert last is not None
            assert after.candidate.attempt == last + 1
            assert any(r.action is ActionName.RETRY and r.phase is ActionPhase.APPLIED for r in after.actions)

    def pauses_hold(self, before: RolloutStatus, decided: Plan) -> None:
        after = decided.status
        if before.pause is None or after.candidate is None:
            return
        known = {record.uid for record in before.actions}
        new = {record.action for record in after.actions if record.uid not in known}
        assert after.pause == before.pause or ActionName.RESUME in new
        if after.pause is not None:
            assert after.weight <= before.weight

    def approvals_and_windows_hold(self, before: RolloutStatus, decided: Plan) -> None:
        after = decided.status
        if after.weight <= before.weight:
            return
        assert self.world.window is None or self.world.window.is_open
        assert after.stage is not None
        if after.stage.index == 1:
            assert len({each.by for each in after.approvals if each.stage == 1}) >= self.required


ActionMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestActions = ActionMachine.TestCase
