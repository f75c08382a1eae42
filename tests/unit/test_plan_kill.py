"""Kill switches: on takes the candidate from everybody at once, and only a release gives it back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.api.action import ActionName, ActionPhase
from controller.api.kill_switches import KillSwitch
from controller.api.reasons import ConditionType, Reason, State
from controller.api.rollout import InFlight, InFlightAction
from controller.core.artifact import artifact_id
from controller.core.killing import held_by, latch_of
from controller.core.plan import plan
from controller.core.snapshot import Latch, Problem, Switch
from controller.core.stages import table_of
from controller.core.traffic import TrafficTable
from controller.reconcilers.transitions import transition
from tests.unit.test_plan import in_first_stage, message, reason
from tests.virtual import CATALOGUE, Behaviour, VirtualRollout, started

OFF = Switch("ops", "ConfigMap flags, key agent", on=False)
ON = replace(OFF, on=True)
UNKNOWN = Switch("ops", "OFREP flag agent", on=None, doubt="it has not answered yet")
KILLED = ConditionType.KILLED


def killed(world: VirtualRollout, *switches: Switch) -> VirtualRollout:
    world.switches = switches or (ON,)
    world.settle()
    return world


def resume(
    world: VirtualRollout, name: ActionName = ActionName.RESUME, artifact: str = ""
) -> tuple[ActionPhase, str]:
    """A person asks for it, of the artifact that the spec wants."""
    asked = world.ask(name, artifact=artifact or artifact_id(world.rollout.spec.agent))
    world.step()
    return world.became(asked)


def table(world: VirtualRollout) -> TrafficTable:
    found = table_of(world.rollout, world.rollout.status, world.revisions.values())
    assert found is not None
    return found


def has_begun(world: VirtualRollout) -> bool:
    return world.rollout.status.stage is not None


def test_a_switch_that_is_on_takes_the_candidate_back_in_the_very_plan() -> None:
    world = in_first_stage()
    before = world.rollout.status
    world.switches = (OFF, ON)
    decided = world.step()
    status = decided.status
    assert (decided.rule, decided.cut) == ("rollback", True)
    assert (status.weight, status.candidate, status.state) == (0, None, State.KILLED)
    assert status.killed is not None
    assert (status.killed.switch, status.killed.source, status.killed.since) == (
        ON.name,
        ON.source,
        world.now,
    )
    assert status.last_rollback is not None
    assert status.last_rollback.reason is Reason.KILL_SWITCH_ON
    assert (reason(world), reason(world, KILLED)) == (Reason.KILL_SWITCH_ON, Reason.KILL_SWITCH_ON)
    told = transition(before, decided)
    assert told is not None
    assert (told.reason, told.action, told.bad) == (Reason.KILL_SWITCH_ON, "Kill", True)
    assert told.message == (
        "kill switch ops (ConfigMap flags, key agent) was turned on; "
        "turn kill switch ops (ConfigMap flags, key agent) off first"
    )


def test_a_switch_is_asked_before_a_failed_verdict_and_although_the_spec_is_refused() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.9)})
    world.now += timedelta(seconds=60)
    world.serve(400)
    world.take_samples()
    world.switches = (ON,)
    assert world.step().status.last_rollback is not None
    record = world.rollout.status.last_rollback
    assert record is not None
    assert record.reason is Reason.KILL_SWITCH_ON


def test_while_a_switch_is_on_nothing_starts_whatever_the_spec_wants() -> None:
    world = killed(in_first_stage())
    for version in ("v2", "v3", "v4"):
        world.want(f"http://{version}")
        world.live(60)
        assert world.rollout.status.candidate is None
        assert "does not start: kill switch ops" in message(world)


def test_a_rollout_with_nothing_to_deliver_is_killed_as_well() -> None:
    world = killed(started())
    assert (world.rollout.status.state, reason(world, KILLED)) == (State.KILLED, Reason.KILL_SWITCH_ON)
    assert reason(world) is Reason.IDLE
    world.want("http://v2")
    world.settle()
    assert world.rollout.status.candidate is None


def test_the_first_artifact_is_stable_though_a_switch_is_on() -> None:
    world = started(switches=(ON,))
    assert world.rollout.status.stable is not None


@pytest.mark.parametrize("others", [(OFF,), (), (UNKNOWN,)])
def test_turning_it_off_or_removing_it_releases_nothing(others: tuple[Switch, ...]) -> None:
    world = killed(in_first_stage())
    world.switches = others
    world.live(300)
    status = world.rollout.status
    assert (status.state, status.candidate) == (State.KILLED, None)
    assert reason(world, KILLED) is Reason.KILL_SWITCH_ON


def test_after_off_and_resume_the_version_starts_anew_as_another_attempt() -> None:
    world = killed(in_first_stage())
    first = f"it is killed: turn kill switch ops ({ON.source}) off first"
    assert resume(world) == (ActionPhase.REFUSED, first)
    killed(world, OFF)
    assert "every switch is off: resume" in message(world, KILLED)
    assert resume(world, artifact="sha256:" + "1" * 64)[0] is ActionPhase.EXPIRED
    assert resume(world) == (ActionPhase.APPLIED, "the kill is released")
    world.settle()
    status = world.rollout.status
    assert status.candidate is not None
    assert status.candidate.attempt == 2
    assert status.stage is not None
    assert (status.stage.index, status.state) == (0, State.PROGRESSING)
    assert reason(world, KILLED) is Reason.RELEASED


def test_a_resume_waits_for_switches_of_which_nothing_is_known() -> None:
    world = killed(in_first_stage())
    world.switches = (OFF, UNKNOWN)
    assert "it is not known whether kill switch ops (OFREP flag agent) is off" in held_by(
        world.rollout.status, world.switches
    )
    assert held_by(started().rollout.status, (ON,)) == ""


def test_with_auto_resume_off_is_enough_and_is_told_once() -> None:
    auto = replace(ON, auto_resume=True)
    world = killed(in_first_stage(), auto)
    before = world.rollout.status
    world.switches = (replace(auto, on=False),)
    decided = world.step()
    assert (decided.rule, decided.status.killed, decided.status.candidate) == ("killed", None, None)
    told = transition(before, decided)
    assert told is not None
    assert (told.reason, told.action, told.bad) == (Reason.RELEASED, "Release", False)
    world.settle()
    assert world.rollout.status.candidate is not None
    assert world.rollout.status.candidate.attempt == 2


def test_auto_resume_of_one_switch_is_no_resume_for_another() -> None:
    auto = replace(ON, name="auto", auto_resume=True)
    world = killed(in_first_stage(), auto)
    since = world.rollout.status.killed
    killed(world, auto, ON)
    killed(world, replace(auto, on=False), OFF)
    status = world.rollout.status
    assert status.killed is not None
    assert since is not None
    assert (status.killed.switch, status.killed.since) == ("ops", since.since)


@pytest.mark.parametrize(
    ("name", "state"), [(ActionName.RESUME, State.ROLLED_BACK), (ActionName.RETRY, State.PROGRESSING)]
)
def test_what_evidence_took_back_before_is_not_given_back_by_a_resume_but_by_a_retry(
    name: ActionName, state: State
) -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.3)})
    world.live(60)
    killed(world)
    killed(world, OFF)
    assert resume(world, name) == (ActionPhase.APPLIED, "the kill is released")
    world.settle()
    assert world.rollout.status.state is state


def test_a_release_waits_until_it_is_known_what_the_spec_wants() -> None:
    world = killed(in_first_stage(), OFF, ON)
    world.switches = (OFF,)
    asked = world.ask(ActionName.RESUME, artifact=artifact_id(world.rollout.spec.agent))
    unresolved = replace(world.snapshot(), artifact_id="", problem=Problem(Reason.REF_NOT_FOUND, "not there"))
    decided = plan(unresolved, CATALOGUE, world.now)
    assert decided.status.killed is not None
    assert world.became(asked)[0] is ActionPhase.PENDING


@pytest.mark.parametrize("has_it", [True, False])
def test_a_cut_that_another_replica_made_for_a_switch_holds_here_as_well(has_it: bool) -> None:
    world = in_first_stage()
    latch = latch_of(world.rollout.status, (OFF, ON))
    assert latch is not None
    world.latch, world.switches = latch, (OFF,) if has_it else ()
    world.step()
    status = world.rollout.status
    assert status.killed is not None
    expected = (ON.name, ON.source) if has_it else ("", "another replica")
    assert (status.killed.switch, status.killed.source) == expected
    assert status.weight == 0


def test_a_replica_that_has_not_heard_of_a_release_does_not_undo_it() -> None:
    world = in_first_stage()
    late = latch_of(world.rollout.status, (ON,))
    killed(world)
    world.switches = (OFF,)
    assert resume(world)[0] is ActionPhase.APPLIED
    world.latch = late
    world.settle()
    assert world.rollout.status.killed is None
    assert has_begun(world)


def test_a_cut_for_another_reason_kills_nothing() -> None:
    world = in_first_stage()
    candidate = world.rollout.status.candidate
    assert candidate is not None
    world.latch = Latch(candidate.artifact_id, candidate.attempt, Reason.ANALYSIS_FAILED, "errors", "bad")
    world.step()
    assert world.rollout.status.killed is None


def test_what_is_latched_is_the_candidate_of_the_moment() -> None:
    world = in_first_stage()
    status = world.rollout.status
    assert latch_of(status, (OFF, UNKNOWN)) is None
    assert latch_of(started().rollout.status, (ON,)) is None
    kill = killed(in_first_stage()).rollout.status.killed
    found = latch_of(status.model_copy(update={"killed": kill}), ())
    assert found is not None
    assert found.reason is Reason.KILL_SWITCH_ON


def test_unknown_holds_every_raise_with_a_reason_of_its_own() -> None:
    world = started(switches=(UNKNOWN,))
    world.want("http://v2")
    world.live(60)
    assert not has_begun(world)
    assert reason(world) is Reason.KILL_SWITCH_UNKNOWN
    assert reason(world, KILLED) is Reason.KILL_SWITCH_UNKNOWN
    assert "ops (OFREP flag agent): it has not answered yet" in message(world)
    world.switches = (OFF,)
    world.settle()
    assert has_begun(world)
    assert reason(world, KILLED) is Reason.KILL_SWITCHES_OFF
    world.switches = (UNKNOWN,)
    world.live(300)
    assert world.rollout.status.weight == 100_000
    assert world.rollout.status.stalled is None


def test_a_candidate_that_fails_is_taken_back_while_a_switch_is_unknown() -> None:
    world = in_first_stage(behaviour={"v2": Behaviour(errors=0.3)})
    world.switches = (UNKNOWN,)
    world.live(60)
    assert world.rollout.status.state is State.ROLLED_BACK


def test_a_lost_source_that_said_off_holds_nothing_and_is_told() -> None:
    world = in_first_stage()
    before = world.rollout.status
    world.switches = (replace(OFF, doubt="no answer since 2026-01-01T00:00:00Z: refused"),)
    decided = world.step()
    assert reason(world, KILLED) is Reason.KILL_SWITCH_STALE
    assert "was off when last heard of: no answer since 2026-01-01T00:00:00Z" in message(world, KILLED)
    told = transition(before, decided)
    assert told is not None
    assert (told.reason, told.bad) == (Reason.KILL_SWITCH_STALE, True)
    world.live(400)
    assert world.rollout.status.state is State.STABLE


def test_without_switches_nothing_is_said_of_them() -> None:
    world = in_first_stage()
    assert world.rollout.status.condition(KILLED) is None
    killed(world, OFF)
    world.switches = ()
    world.settle()
    assert reason(world, KILLED) is Reason.KILL_SWITCHES_OFF


SWITCH = KillSwitch.model_validate({"name": "ops", "configMap": {"name": "flags", "key": "agent"}})
FEATURE = SWITCH.model_copy(update={"scope": "Feature"})


@pytest.mark.parametrize(
    ("spec", "on_kill", "on_rollback"),
    [
        ({}, False, False),
        ({"kill_switches": [SWITCH]}, True, False),
        ({"kill_switches": [FEATURE]}, False, False),
        ({"in_flight": InFlight(on_rollback=InFlightAction.CUT)}, True, True),
        ({"in_flight": InFlight(on_kill=InFlightAction.CUT)}, True, False),
        ({"kill_switches": [SWITCH], "in_flight": InFlight(on_kill=InFlightAction.DRAIN)}, False, False),
    ],
)
def test_a_kill_cuts_what_was_begun_where_there_is_a_switch_or_it_is_asked_for(
    spec: dict[str, Any], on_kill: bool, on_rollback: bool
) -> None:
    world = in_first_stage()
    world.change_spec(**spec)
    found = table(world)
    assert (found.cut_on_kill, found.cut_on_rollback) == (on_kill, on_rollback)


def test_what_a_rollback_drains_a_kill_cuts() -> None:
    for switches, is_cut in (((ON,), True), ((), False)):
        world = in_first_stage()
        world.change_spec(kill_switches=[SWITCH])
        candidate = world.rollout.status.candidate
        assert candidate is not None
        latched = table(world).without_candidate(killed=is_cut)
        world.want("http://v1")
        world.switches = switches
        world.settle()
        assert world.rollout.status.draining == ("" if is_cut else candidate.revision)
        assert table(world).draining == latched.draining
        world.switches = ()
        world.rollout = world.rollout.model_copy(
            update={"status": world.rollout.status.model_copy(update={"killed": None})}
        )
        world.want("http://v3")
        world.settle()
        assert table(world).draining == ("" if is_cut else candidate.revision), "until the next is taken off"


def test_a_promoted_version_does_not_drain() -> None:
    world = in_first_stage()
    world.change_spec(kill_switches=[SWITCH])
    world.live(400)
    assert world.rollout.status.state is State.STABLE
    assert world.rollout.status.draining == ""


def test_with_nothing_to_cut_nothing_is_said_to_drain() -> None:
    world = in_first_stage()
    world.want("http://v1")
    world.settle()
    assert world.rollout.status.draining == ""
