"""Invariants of the plan over every interleaving that hypothesis can think of.

1. The candidate's weight never rises without fresh, sufficient, passing evidence of the current stage.
2. After a trigger the desired weight is 0 in the same plan, and stays 0 for that artifact.
3. Stable is never changed except by promotion, and promotion happens only from the last stage.
4. In the shadow a candidate serves nobody, and requests are mirrored nowhere but to a candidate that is there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.api.reasons import Reason, Verdict
from controller.api.rollout import DeadlineAction
from controller.api.status import RolloutStatus
from controller.core.assess import assess
from controller.core.plan import Plan
from controller.core.snapshot import Latch, Problem
from controller.core.stages import table_of
from controller.core.traffic import TrafficTable
from tests.comparing import ComparingRollout, Ends
from tests.virtual import CATALOGUE, Behaviour, rollout_of

VERSIONS = [f"v{n}" for n in range(1, 5)]
METRICS = [{"name": "errors"}, {"name": "latency"}]
SHADOW = {"fraction": "50%", "noise": "20%", "minDuration": "20s", "minComparisons": 10, "clustering": 1}


class PlanMachine(RuleBasedStateMachine):
    """Users, faults, lost writes, slow routers and changing wishes, in any order."""

    @initialize(
        latency=st.booleans(),
        service=st.booleans(),
        seed=st.integers(0, 1000),
        shadow=st.sampled_from(
            [None, {}, {"onRegression": "Hold"}, {"alsoInStages": True}, {"noise": "0%", "maxDuration": "1m"}]
        ),
        on_insufficient=st.sampled_from(["Hold", "Rollback"]),
    )
    def start(
        self,
        latency: bool,
        service: bool,
        seed: int,
        shadow: dict[str, Any] | None,
        on_insufficient: str,
    ) -> None:
        analysis = {"interval": "15s", "clustering": 1, "metrics": METRICS if latency else METRICS[:1]}
        stages = [{"weight": w, "minDuration": "20s", "minRequests": 10} for w in ("10%", "50%", "100%")]
        self.scheme = "service" if service else "http"
        first = f"{self.scheme}://v1"
        how = {} if shadow is None else {"shadow": {**SHADOW, "onInsufficient": on_insufficient, **shadow}}
        self.world = ComparingRollout(rollout_of(first, analysis=analysis, stages=stages, **how), seed=seed)
        self.taken_back: set[str] = set()
        self.everything_works_for_a_while(4)
        self.want("v2")

    @rule(version=st.sampled_from(VERSIONS))
    def want(self, version: str) -> None:
        self.world.want(f"{self.scheme}://{version}")

    @rule(version=st.sampled_from(VERSIONS), ready=st.integers(0, 2))
    def pods_come_and_go(self, version: str, ready: int) -> None:
        self.world.pods[version] = (ready, 2)

    @rule(version=st.sampled_from(VERSIONS), images=st.sampled_from(["", "a", "b", "ab", None]))
    def someone_deploys_other_images(self, version: str, images: str | None) -> None:
        self.world.images[version] = None if images is None else frozenset(images)

    @rule(
        version=st.sampled_from(VERSIONS[1:]),
        errors=st.sampled_from([0.01, 0.4]),
        slow=st.sampled_from([0.02, 0.6]),
    )
    def behave(self, version: str, errors: float, slow: float) -> None:
        self.world.behaviour[version] = Behaviour(errors, slow)

    @rule(
        version=st.sampled_from(VERSIONS), loss=st.sampled_from([0.1, 0.7]), unjudged=st.sampled_from([0, 1])
    )
    def answer(self, version: str, loss: float, unjudged: float) -> None:
        self.world.ends[version] = Ends(loss, 0.1, unjudged)

    @rule(fit=st.sampled_from([True, True, False]))
    def the_judge_is_looked_at(self, fit: bool) -> None:
        self.world.fit = fit

    @rule(seconds=st.integers(1, 40), requests=st.sampled_from([0, 5, 400]))
    def time_goes_on(self, seconds: int, requests: int) -> None:
        for _ in range(seconds // 5):
            self.world.now += timedelta(seconds=5)
            self.world.serve(requests)
            self.world.take_samples()
        self.world.now += timedelta(seconds=seconds % 5)

    @rule(ticks=st.integers(1, 12))
    def everything_works_for_a_while(self, ticks: int) -> None:
        """Without this hardly any interleaving would get beyond the first stage."""
        self.world.work(ticks, self.plan)

    @rule(back=st.integers(1, 100))
    def the_clock_is_set_back(self, back: int) -> None:
        self.world.now -= timedelta(seconds=back)

    @rule(blind=st.booleans())
    def metrics_come_and_go(self, blind: bool) -> None:
        self.world.blind = "Prometheus is away" if blind else ""

    @rule(instances=st.integers(0, 2))
    def routers_come_and_go(self, instances: int) -> None:
        self.world.instances = instances

    @rule(refused=st.booleans())
    def the_spec_is_refused_or_not(self, refused: bool) -> None:
        self.world.problem = Problem(Reason.CONFLICTED, "the host is taken") if refused else None

    @rule(paused=st.booleans())
    def someone_pauses_or_goes_on(self, paused: bool) -> None:
        self.world.change_spec(paused=paused)

    @rule(action=st.sampled_from(DeadlineAction), seconds=st.integers(1, 300))
    def the_deadline_is_changed(self, action: DeadlineAction, seconds: int) -> None:
        self.world.change_spec(progress_deadline=timedelta(seconds=seconds), on_progress_deadline=action)

    @rule()
    def the_router_acknowledges(self) -> None:
        self.world.program()

    @rule(times=st.integers(1, 6))
    def reconcile(self, times: int) -> None:
        for _ in range(times):
            self.plan()

    @rule()
    def reconcile_with_an_acknowledging_router(self) -> None:
        for _ in range(6):
            self.plan()
            self.world.program()

    @rule()
    def the_status_write_is_lost(self) -> None:
        """As after a 409 or a crash: the decision was made, a cut was pushed, and status knows nothing of it."""
        before, known = self.world.rollout, set(self.taken_back)
        decided = self.plan()
        candidate = before.status.candidate
        if not decided.cut:
            self.taken_back = known  # it served nobody: nothing was pushed, and nobody knows of the decision
        if decided.rule == "rollback" and decided.cut and candidate and decided.status.last_rollback:
            record = decided.status.last_rollback
            self.world.latch = Latch(
                candidate.artifact_id, candidate.attempt, record.reason, record.metric, record.message
            )
        self.world.rollout = before

    def plan(self) -> Plan:
        before, lost = self.world.rollout.status, self.is_deserted() or self.is_another()
        decided = self.world.step()
        self.check(before, decided)
        assert decided.rule == "rollback" or not lost
        if self.world.latch and decided.status.candidate is None:
            self.world.latch = None
        return decided

    def check(self, before: RolloutStatus, decided: Plan) -> None:
        after = decided.status
        if after.stage is not None and self.world.instances and self.world.served == self.wanted():
            assert decided.requeue_after is not None, "whoever is served is watched"
            assert decided.requeue_after <= timedelta(seconds=15)
        if decided.rule == "begin":
            assert not self.is_deserted()
            assert not self.is_another()
        if self.world.rollout.spec.paused:
            assert after.weight <= before.weight
            assert _stage(after) <= _stage(before)
            assert before.stable is None or (
                after.stable is not None and after.stable.artifact_id == before.stable.artifact_id
            )
        if after.weight > before.weight or _stage(after) > max(_stage(before), 0):
            assert decided.rule in ("begin", "advance")
            if decided.rule == "advance":
                self.evidence_passed(before, decided)
        self.check_shadow(before, decided)
        if decided.rule == "rollback":
            assert before.candidate is not None
            assert (after.weight, after.candidate, after.stage) == (0, None, None)
            self.taken_back.add(before.candidate.artifact_id)
            assert after.last_rollback is not None
            if after.last_rollback.reason is Reason.PROGRESS_DEADLINE_EXCEEDED and self.world.latch is None:
                assert self.world.rollout.spec.on_progress_deadline is DeadlineAction.ROLLBACK
                assert not self.world.rollout.spec.paused
        if (
            before.stable is not None
            and after.stable
            and after.stable.artifact_id != before.stable.artifact_id
        ):
            assert decided.rule == "promote"
            assert before.stage is not None
            assert before.candidate is not None
            assert before.frozen is not None
            assert before.stage.index == len(before.frozen.stages) - 1
            assert after.stable.artifact_id == before.candidate.artifact_id
            assert after.stable.images == before.candidate.images, "what users get is what was watched"
            self.evidence_passed(before, decided)

    def check_shadow(self, before: RolloutStatus, decided: Plan) -> None:
        after, back = decided.status, decided.status.last_rollback
        table = table_of(self.world.rollout, after, self.world.revisions.values())
        if table is not None and table.shadow is not None:
            assert table.candidate is not None
            assert table.shadow.subject.candidate == table.candidate.revision
        if table is not None and after.is_in_shadow:
            assert after.weight == 0
            assert not table.serves_candidate
            assert table.shadow is not None
        if before.stage is not None and before.stage.regression and before.is_in_shadow:
            assert not after.weight
            assert after.stage is None or after.is_in_shadow
        if decided.rule == "rollback" and back is not None and self.world.latch is None:
            only_there = (Reason.SHADOW_REGRESSION, Reason.SHADOW_INCONCLUSIVE)
            assert before.is_in_shadow or back.reason not in only_there
            assert not before.is_in_shadow or back.reason is not Reason.ANALYSIS_FAILED

    def is_deserted(self) -> bool:
        """Whether users are sent to a Service with nothing ready behind it."""
        endpoints, stage = self.world.snapshot().candidate_endpoints, self.world.rollout.status.stage
        return stage is not None and endpoints is not None and endpoints.ready == 0

    def is_another(self) -> bool:
        """Whether users are sent to images that were not there when the first of them was."""
        endpoints, status = self.world.snapshot().candidate_endpoints, self.world.rollout.status
        if status.stage is None or endpoints is None or status.candidate is None:
            return False
        frozen = status.candidate.images
        return frozen is not None and bool((endpoints.images or frozenset()) - set(frozen))

    def wanted(self) -> TrafficTable | None:
        return table_of(self.world.rollout, self.world.rollout.status, self.world.revisions.values())

    def evidence_passed(self, before: RolloutStatus, decided: Plan) -> None:
        """The verdicts that this very plan read, of the stage that is left."""
        stored = self.world.rollout
        self.world.rollout = stored.model_copy(update={"status": before})
        snapshot = self.world.snapshot()
        self.world.rollout = stored
        assert snapshot.samples is not None
        assessed = assess(snapshot, CATALOGUE, self.world.now)
        assert assessed.verdict is Verdict.PASS
        assert before.stage is not None
        assert before.stage.programmed_at is not None
        assert assessed.stage is not None
        if before.is_in_shadow:
            (comparisons,) = assessed.analysis
            assert 10 <= comparisons.candidate.total <= self.world.compared
        else:
            assert 10 <= assessed.stage.requests <= self.served_to_candidate(before)
        assert self.world.now >= before.stage.programmed_at + timedelta(seconds=20)
        assert decided.cut is False

    def served_to_candidate(self, before: RolloutStatus) -> int:
        """What the router itself counted, however long ago."""
        assert before.candidate is not None
        cluster = CATALOGUE.value("shop/agent", before.candidate.revision, False)
        return self.world.counters[self.world.labels("total", {"cluster": cluster})]

    @invariant()
    def a_taken_back_artifact_stays_at_0(self) -> None:
        if not hasattr(self, "world"):
            return
        status = self.world.rollout.status
        if status.candidate is not None and self.world.latch is None:
            assert status.candidate.artifact_id not in self.taken_back
        if status.candidate is None:
            assert status.weight == 0

    @invariant()
    def a_failed_verdict_never_waits(self) -> None:
        if not hasattr(self, "world") or self.world.rollout.status.candidate is None:
            return
        status = self.world.rollout.status
        assert status.verdict is not Verdict.FAIL or (status.stage is not None and status.stage.regression)


def _stage(status: RolloutStatus) -> int:
    return status.stage.index if status.stage else -1


PlanMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPlan = PlanMachine.TestCase
