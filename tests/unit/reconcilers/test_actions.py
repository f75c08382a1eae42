"""What people ask for becomes so in the right order, and is told, whatever fails in between."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from controller.api.action import ActionName
from controller.api.policy import NAME
from controller.api.reasons import Reason, State
from controller.core.snapshot import Latch
from controller.reconcilers import actions
from controller.runtime.errors import Conflict, Forbidden, Unavailable
from tests.unit.reconcilers.test_rollouts import KEY, World, in_first_stage
from tests.virtual import Behaviour


@pytest.fixture
async def world() -> World:
    world = World()
    world.want("http://v1")
    await world.reconcile()
    await world.live(20)
    await in_first_stage(world)
    world.users.behaviour["v2"] = Behaviour(errors=0.0)
    return world


def counted(world: World, action: str, phase: str) -> float | None:
    return world.registry.get_sample_value(
        "agentrollout_actions_total", {"rollout": KEY, "action": action, "phase": phase}
    )


async def test_an_abort_is_cut_before_anything_is_stored_and_then_told(world: World) -> None:
    key = world.ask(ActionName.ABORT)
    await world.reconcile(1)
    assert world.effects[:4] == ["get", "get", "cut", "status"], "the policy, the cut, the rollout"
    assert world.effects[-3:] == ["event", "event", "status"], "the action"
    assert world.rollout.status.state is State.ROLLED_BACK
    assert world.became(key) == {
        "phase": "Applied",
        "message": "the candidate is taken back",
        "at": world.became(key)["at"],
    }
    assert world.told[-2:] == [("Normal", "ActionApplied", "Abort"), ("Warning", "RolledBack", "RollBack")]
    assert counted(world, "Abort", "Applied") == 1
    await world.reconcile()
    assert world.rollout.status.actions == []


async def test_an_action_for_another_artifact_does_nothing_and_says_so(world: World) -> None:
    key = world.ask(ActionName.ABORT, artifact="sha256:" + "0" * 64)
    await world.reconcile()
    assert world.rollout.status.weight == 100_000
    assert world.became(key)["phase"] == "Expired"
    assert "is not the candidate" in world.became(key)["message"]
    assert ("Warning", "ActionExpired", "Abort") in world.told


async def test_without_the_policy_nothing_is_done(world: World) -> None:
    del world.policies.objects[NAME]
    key = world.ask(ActionName.ABORT)
    await world.reconcile()
    assert world.became(key)["phase"] == "Refused"
    assert world.became(key)["message"].startswith("PolicyMissing: ValidatingAdmissionPolicy ")
    assert world.rollout.status.weight == 100_000


async def test_a_policy_that_may_not_be_read_is_none(world: World) -> None:
    world.bindings.fail["get"] = Forbidden("not allowed")
    key = world.ask(ActionName.ABORT)
    await world.reconcile()
    assert "PolicyMissing: the operator may not read the policy of actions" in world.became(key)["message"]


async def test_a_policy_that_cannot_be_read_now_is_asked_for_again(world: World) -> None:
    world.policies.fail["get"] = Unavailable("no answer")
    key = world.ask(ActionName.ABORT)
    assert (await world.reconciler.reconcile(KEY)).requeue_after == actions.RETRY_SECONDS
    assert world.became(key) == {}
    del world.policies.fail["get"]
    await world.reconcile()
    assert world.became(key)["phase"] == "Applied"


async def test_an_api_server_that_hangs_keeps_no_failing_version_in_service(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_key: str) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(actions, "POLICY_SECONDS", 0.01)
    monkeypatch.setattr(world.policies, "get", hang)
    world.ask(ActionName.PAUSE)
    world.users.behaviour["v2"] = Behaviour(errors=0.6)
    await world.live(30)
    assert world.rollout.status.state is State.ROLLED_BACK


@pytest.mark.parametrize("guards", [False, True])
async def test_a_verdict_that_failed_does_not_wait_for_the_policy_of_what_people_ask(
    world: World, monkeypatch: pytest.MonkeyPatch, guards: bool
) -> None:
    async def hang(_key: str) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(actions, "POLICY_SECONDS", 3600)
    monkeypatch.setattr(world.policies, "get", hang)
    world.users.behaviour["v2"] = Behaviour(errors=0.9)
    for _ in range(6):
        world.serve()
    world.ask(ActionName.PAUSE)
    looking = asyncio.create_task(world.reconciler.guard(KEY) if guards else world.reconciler.reconcile(KEY))
    async with asyncio.timeout(10):
        while "cut" not in world.effects:  # noqa: ASYNC110  what is waited for happens in a task of the reconciler
            await asyncio.sleep(0)
    assert not looking.done()
    looking.cancel()
    latch = world.publisher.latched(KEY)
    assert latch is not None
    assert latch.reason is Reason.ANALYSIS_FAILED


async def test_an_abort_does_not_wait_for_evidence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_question: object) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(world, "read", hang)
    for _ in range(6):
        world.serve()
    world.ask(ActionName.ABORT)
    async with asyncio.timeout(10):
        await world.reconcile(1)
    assert world.rollout.status.state is State.ROLLED_BACK


async def test_what_was_done_is_told_later_if_it_could_not_be_told_at_once_and_not_done_again(
    world: World,
) -> None:
    key = world.ask(ActionName.PAUSE)
    world.action_api.fail["status"] = Conflict("changed")
    with pytest.raises(Conflict):
        await world.reconcile(1)
    assert world.rollout.status.pause is not None
    del world.action_api.fail["status"]
    resumed = world.ask(ActionName.RESUME)
    await world.reconcile()
    assert world.became(key)["phase"] == world.became(resumed)["phase"] == "Applied"
    after = world.rollout.status
    assert (after.pause, after.actions) == (None, [])


async def test_a_write_without_answer_is_not_done_twice(world: World) -> None:
    key = world.ask(ActionName.PAUSE)
    world.api.lose.add("status")
    with pytest.raises(Unavailable):
        await world.reconcile(1)
    world.api.lose.clear()
    assert world.became(key) == {}
    resumed = world.ask(ActionName.RESUME)
    await world.reconcile()
    assert world.rollout.status.pause is None, "the pause came first, and once"
    assert world.became(key)["phase"] == world.became(resumed)["phase"] == "Applied"
    assert world.told.count(("Normal", "ActionApplied", "Pause")) == 1


async def test_an_action_that_somebody_deleted_is_nobodys_trouble(world: World) -> None:
    key = world.ask(ActionName.PAUSE)
    world.action_api.fail["status"] = Conflict("changed")
    del world.action_api.objects[key]
    with pytest.raises(Conflict):
        await world.reconcile(1)
    assert world.rollout.status.pause is not None
    await world.reconcile()
    assert world.actions.get(key) is None


async def test_actions_beyond_the_history_limit_are_deleted(world: World) -> None:
    keys = []
    for _ in range(3):
        world.clock.advance(1)
        keys.append(world.ask(ActionName.PAUSE, artifact="sha256:" + "0" * 64))
    world.want("http://v2", actionHistoryLimit=1)
    await world.reconcile()
    assert list(world.action_api.objects) == keys[-1:]
    await world.reconcile()


async def test_actions_of_a_rollout_that_is_not_there_expire(world: World) -> None:
    key = world.ask(ActionName.PAUSE)
    raw = copy.deepcopy(world.action_api.objects[key])
    raw["spec"]["rollout"] = "other"
    world.actions.applied(key, world.action_api.stored(key, raw))
    await world.reconciler.reconcile("shop/other")
    assert world.became(key)["phase"] == "Expired"
    assert (
        world.became(key)["message"] == "there is no AgentRollout other in namespace shop; nothing was done"
    )


async def test_a_guard_cuts_what_a_person_aborts_and_the_next_leader_tells(world: World) -> None:
    key = world.ask(ActionName.ABORT)
    await world.reconciler.guard(KEY)
    assert world.effects[-1] == "cut"
    assert world.became(key) == {}
    latch = world.publisher.latched(KEY)
    assert isinstance(latch, Latch)
    assert latch.reason is Reason.ABORTED
    await world.reconcile()
    record = world.rollout.status.last_rollback
    assert record is not None
    assert record.reason is Reason.ABORTED
    assert world.became(key)["phase"] == "Applied"
