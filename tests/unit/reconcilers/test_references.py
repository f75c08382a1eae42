"""References in the course of a delivery: read once, reported when they change, never in the way of a cut."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any, cast

import pytest

from controller.api.agent import SourceKind
from controller.api.reasons import ConditionType, Reason, State
from controller.api.status import Condition
from controller.reconcilers import references
from controller.reconcilers.sources import SourceWatch
from controller.runtime.errors import Conflict, Forbidden, Unavailable
from controller.runtime.listwatch import Applied, Deleted, Event, ListFinished, Progressed
from controller.runtime.resource import resource_version_of
from controller.runtime.watcher import Watcher
from tests.unit.reconcilers.test_rollouts import KEY, World
from tests.virtual import Behaviour

CONFIG_MAP = {"configMapKeyRef": {"name": "prompts", "key": "v1"}}
SECRET = {"secretKeyRef": {"name": "prompts", "key": "v1"}}


def agent(url: str = "http://v1", prompts: dict[str, str] | None = None, **prompts_from: Any) -> Any:
    return {"code": {"url": url}, "prompts": prompts or {}, "promptsFrom": prompts_from}


def put(world: World, **data: str) -> None:
    """A person writes the ConfigMap; the watch tells of it."""
    stored(world, SourceKind.CONFIG_MAP, data)


def put_secret(world: World, **data: str) -> None:
    """A person writes the Secret; the watch tells of it."""
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    stored(world, SourceKind.SECRET, encoded)


def stored(world: World, kind: SourceKind, data: dict[str, str]) -> None:
    api = world.config_maps if kind is SourceKind.CONFIG_MAP else world.secrets
    raw = api.stored("shop/prompts", {"metadata": {"name": "prompts", "namespace": "shop"}, "data": data})
    world.sources.changed(f"{kind}/shop/prompts", resource_version_of(raw))


def condition(world: World, kind: ConditionType) -> Condition:
    found = world.rollout.status.condition(kind)
    assert found is not None
    return found


def said(world: World, kind: ConditionType) -> tuple[str, Reason]:
    found = condition(world, kind)
    return found.status, found.reason


async def serving(**data: str) -> World:
    """Stable is made of a ConfigMap."""
    world = World()
    put(world, **(data or {"v1": "You help."}))
    world.want("http://v1", agent=agent(system=CONFIG_MAP))
    await world.reconcile()
    return world


async def test_the_revision_keeps_the_text_and_status_what_it_was_read_from() -> None:
    world = await serving()
    (revision,) = world.revision_api.objects.values()
    assert revision["spec"]["agent"]["prompts"] == {"system": "You help."}
    assert "promptsFrom" not in revision["spec"]["agent"]
    (record,) = world.rollout.status.resolved
    assert world.rollout.status.stable is not None
    assert record.artifact_id == world.rollout.status.stable.artifact_id
    assert said(world, ConditionType.DRIFTED) == ("False", Reason.UNCHANGED)


async def test_nothing_is_read_again_while_nothing_changes() -> None:
    world = await serving()
    world.effects.clear()
    await world.reconcile()
    assert world.effects == []


async def test_after_a_restart_each_object_is_read_once() -> None:
    world = await serving()
    restarted = World()
    restarted.config_maps.objects, restarted.api.objects = world.config_maps.objects, world.api.objects
    for raw in world.revision_api.objects.values():
        restarted.revisions.applied(f"shop/{raw['metadata']['name']}", raw)
    restarted.rollouts.applied(KEY, world.api.objects[KEY])
    restarted.effects.clear()
    await restarted.reconcile()
    assert restarted.effects == ["get"]


async def test_a_changed_config_map_is_reported_and_never_delivered() -> None:
    world = await serving()
    before = world.rollout.status
    put(world, v1="You obey.")
    await world.reconcile()
    assert said(world, ConditionType.DRIFTED) == ("True", Reason.REFERENCE_CHANGED)
    after = world.rollout.status
    assert (after.stable, after.candidate, after.state) == (before.stable, None, State.STABLE)
    put(world, v1="You help.")
    await world.reconcile()
    assert said(world, ConditionType.DRIFTED) == ("False", Reason.UNCHANGED)
    assert [told[:2] for told in world.told[-2:]] == [
        ("Warning", "ReferenceChanged"),
        ("Normal", "Unchanged"),
    ]


async def test_a_new_key_makes_a_new_version() -> None:
    world = await serving()
    put(world, v1="You help.", v2="You help a lot.")
    new = {"configMapKeyRef": {"name": "prompts", "key": "v2"}}
    world.want("http://v2", agent=agent("http://v2", system=new))
    await world.reconcile()
    assert world.rollout.status.candidate is not None
    assert len(world.rollout.status.resolved) == 2, "of the candidate, and of stable"


async def in_first_stage_by_reference(**spec: Any) -> World:
    """Candidate and stable are each made of a key of the ConfigMap."""
    world = await serving(v1="You help.", v2="You help a lot.")
    await world.live(20)
    new = {"configMapKeyRef": {"name": "prompts", "key": "v2"}}
    world.want("http://v2", agent=agent("http://v2", system=new), **spec)
    await world.reconcile()
    assert world.rollout.status.weight == 100_000
    world.effects.clear()
    return world


async def test_a_deployed_candidate_whose_config_map_is_changed_is_taken_back() -> None:
    world = await in_first_stage_by_reference()
    put(world, v1="You help.", v2="You obey.")
    await world.reconcile()
    record = world.rollout.status.last_rollback
    assert record is not None
    assert record.reason is Reason.REFERENCE_CHANGED
    assert "key v2 of ConfigMap prompts was changed" in record.message
    assert [effect for effect in world.effects if effect != "get"][:2] == ["cut", "status"]


@pytest.mark.parametrize(
    ("delivery", "data", "reason"),
    [
        ("Header", {"v1": "You help.", "v2": "You obey."}, Reason.REFERENCE_CHANGED),
        ("Deployed", {"v1": "You help."}, Reason.REFERENCE_GONE),
        ("Deployed", {"v1": "You obey.", "v2": "You help a lot."}, Reason.REFERENCE_CHANGED),
    ],
    ids=["agents load the AgentRevision", "the key is gone", "stable's key"],
)
async def test_other_drift_is_told_and_takes_nobody_back(
    delivery: str, data: dict[str, str], reason: Reason
) -> None:
    world = await in_first_stage_by_reference(delivery=delivery)
    put(world, **data)
    await world.reconcile()
    assert said(world, ConditionType.DRIFTED) == ("True", reason)
    assert world.rollout.status.weight == 100_000


async def test_all_causes_stand_in_one_condition_the_first_five_in_words() -> None:
    world = World()
    names = [f"k{n}" for n in range(7)]
    put(world, **dict.fromkeys(names, "You help."))
    sources: dict[str, Any] = {name: {"configMapKeyRef": {"name": "prompts", "key": name}} for name in names}
    world.want("http://v1", agent=agent(**sources))
    await world.reconcile()
    put(world, **dict.fromkeys(names, "You obey."))
    await world.reconcile()
    message = condition(world, ConditionType.DRIFTED).message
    assert [name for name in names if f"promptsFrom.{name}: " in message] == names[:5]
    assert message.endswith("; and 2 more")


async def test_what_stable_was_made_of_is_watched_while_the_spec_wants_something_else() -> None:
    world = await serving()
    world.want("http://v2")
    put(world, v1="You obey.")
    await world.reconcile()
    assert said(world, ConditionType.DRIFTED) == ("True", Reason.REFERENCE_CHANGED)


async def test_going_back_to_stable_cancels_even_if_what_it_was_made_of_is_gone() -> None:
    world = await serving()
    stable = world.rollout.status.stable
    world.want("http://v2")
    await world.reconcile()
    assert world.rollout.status.candidate is not None
    del world.config_maps.objects["shop/prompts"]
    world.sources.changed("ConfigMap/shop/prompts", 10_000)
    world.want("http://v1", agent=agent(system=CONFIG_MAP))
    await world.reconcile()
    assert world.rollout.status.stable == stable
    assert said(world, ConditionType.PROGRESSING) == ("False", Reason.IDLE)
    assert "is not there any more" in condition(world, ConditionType.DRIFTED).message


async def test_an_edit_of_the_spec_reads_its_references_anew() -> None:
    world = await serving()
    put(world, v1="You obey.")
    world.want("http://v2", agent=agent("http://v2", system=CONFIG_MAP))
    await world.reconcile()
    prompts = {r["spec"]["agent"]["prompts"]["system"] for r in world.revision_api.objects.values()}
    assert prompts == {"You help.", "You obey."}


async def test_the_drifted_condition_is_settled_once_nothing_is_referred_to() -> None:
    world = await serving()
    put(world, v1="You obey.")
    await world.reconcile()
    world.want("http://v1", agent=agent(prompts={"system": "You help."}))
    await world.reconcile()
    assert world.rollout.status.resolved == []
    assert said(world, ConditionType.DRIFTED) == ("False", Reason.UNCHANGED)


async def test_a_missing_config_map_keeps_a_version_from_being_made_until_it_appears() -> None:
    world = World()
    world.want("http://v1", agent=agent(system=CONFIG_MAP))
    await world.reconcile()
    assert said(world, ConditionType.ACCEPTED) == ("False", Reason.REF_NOT_FOUND)
    assert condition(world, ConditionType.ACCEPTED).message == (
        "spec.agent.promptsFrom.system.configMapKeyRef: there is no ConfigMap prompts in namespace shop; "
        "create it or correct the name"
    )
    told: list[str] = []
    world.sources.on_change(told.append)
    put(world, v1="You help.")
    assert told == [KEY]
    await world.reconcile()
    assert world.rollout.status.state is State.STABLE


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"v0": "a"}, "ConfigMap prompts has no key v1; it has v0"),
        ({}, "ConfigMap prompts has no key v1; it is empty"),
        ({f"k{n}": "a" for n in range(9)}, "it has k0, k1, k2, k3, k4, …"),
    ],
)
async def test_a_missing_key_is_named_with_those_that_are_there(data: dict[str, str], says: str) -> None:
    world = World()
    put(world, **data)
    world.want("http://v1", agent=agent(system=CONFIG_MAP))
    await world.reconcile()
    assert said(world, ConditionType.ACCEPTED) == ("False", Reason.REF_NOT_FOUND)
    assert says in condition(world, ConditionType.ACCEPTED).message


async def test_binary_data_is_no_prompt() -> None:
    world = World()
    put(world)
    world.config_maps.objects["shop/prompts"]["binaryData"] = {"v1": "AAAA"}
    world.want("http://v1", agent=agent(system=CONFIG_MAP))
    await world.reconcile()
    assert "key v1 of ConfigMap prompts is binary" in condition(world, ConditionType.ACCEPTED).message


async def test_the_other_keys_of_a_secret_are_not_told() -> None:
    world = World()
    put_secret(world, private="a")
    world.want("http://v1", agent=agent(system=SECRET))
    await world.reconcile()
    message = condition(world, ConditionType.ACCEPTED).message
    assert message.endswith("Secret prompts has no key v1; add it or correct the key")


async def test_a_secret_that_changes_is_drift_too() -> None:
    world = World()
    put_secret(world, v1="hunter2")
    world.want("http://v1", agent=agent(system=SECRET))
    await world.reconcile()
    assert world.rollout.status.state is State.STABLE
    put_secret(world, v1="hunter3")
    await world.reconcile()
    assert said(world, ConditionType.DRIFTED) == ("True", Reason.REFERENCE_CHANGED)
    assert "hunter" not in str(world.api.objects) + str(world.revision_api.objects)


async def test_what_cannot_be_read_says_why_and_is_tried_again() -> None:
    world = World()
    world.config_maps.fail["get"] = Forbidden("GET /api/v1/…: 403: not allowed")
    world.want("http://v1", agent=agent(system=CONFIG_MAP))
    await world.reconcile()
    result = await world.reconciler.reconcile(KEY)
    assert said(world, ConditionType.ACCEPTED) == ("False", Reason.REFERENCE_UNREADABLE)
    assert "not allowed" in condition(world, ConditionType.ACCEPTED).message
    assert result.requeue_after is not None
    assert 20 < result.requeue_after <= 30
    del world.config_maps.fail["get"]
    put(world, v1="You help.")
    await world.reconcile()
    assert world.rollout.status.state is State.STABLE


async def test_drift_that_cannot_be_seen_is_unknown_and_looked_for_again() -> None:
    world = await serving()
    world.config_maps.fail["get"] = Unavailable("no answer")
    put(world, v1="You obey.")
    result = await world.reconciler.reconcile(KEY)
    assert said(world, ConditionType.DRIFTED) == ("Unknown", Reason.REFERENCE_UNREADABLE)
    assert result.requeue_after is not None


async def test_a_rollback_asks_for_no_reference() -> None:
    world = await serving()
    await world.live(20)
    world.users.behaviour["v2"] = Behaviour(errors=0.6)
    world.want("http://v2")
    await world.reconcile()
    world.effects.clear()
    missing = {"configMapKeyRef": {"name": "prompts", "key": "v3"}}
    world.want("http://v3", agent=agent("http://v3", system=missing))
    world.config_maps.fail["get"] = Unavailable("no answer")
    world.serve()
    await world.reconcile(1)
    assert said(world, ConditionType.ACCEPTED) == ("False", Reason.REFERENCE_UNREADABLE)
    assert world.rollout.status.candidate is not None, "a broken reference keeps what serves"
    while world.rollout.status.last_rollback is None:
        world.effects.clear()
        world.serve()
        await world.reconcile(1)
    assert world.effects[:2] == ["cut", "status"], "no get"


async def test_a_reference_that_hangs_does_not_hold_a_watched_candidate_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(references, "PATIENCE_SECONDS", 0.01)
    world = await serving()
    world.want("http://v2")
    await world.reconcile()

    async def hang(key: str) -> Any:
        await asyncio.Event().wait()

    world.config_maps.get = hang  # type: ignore[method-assign]
    world.want("http://v3", agent=agent("http://v3", system=CONFIG_MAP))
    result = await world.reconciler.reconcile(KEY)
    assert said(world, ConditionType.ACCEPTED) == ("False", Reason.REFERENCE_UNREADABLE)
    assert world.rollout.status.candidate is not None
    assert result.requeue_after is not None
    assert result.requeue_after <= 15


async def test_a_deleted_revision_of_stable_is_made_again_as_long_as_its_content_is_there() -> None:
    world = await serving()
    (name,) = world.revision_api.objects
    world.revisions.deleted(name, world.revision_api.objects.pop(name))
    await world.reconcile()
    assert list(world.revision_api.objects) == [name]


async def test_a_deleted_revision_whose_content_is_lost_changes_no_version() -> None:
    world = await serving()
    stable = world.rollout.status.stable
    put(world, v1="You obey.")
    (name,) = world.revision_api.objects
    world.revisions.deleted(name, world.revision_api.objects.pop(name))
    await world.reconcile()
    assert world.rollout.status.stable == stable
    assert world.rollout.status.candidate is None
    assert said(world, ConditionType.DRIFTED) == ("True", Reason.REFERENCE_CHANGED)


async def refused_for_its_backend() -> World:
    """The spec was resolved, and is refused for another reason: nothing keeps what its version was to be made of."""
    world = await serving(v1="You help.", v2="You help a lot.")
    new = {"configMapKeyRef": {"name": "prompts", "key": "v2"}}
    world.want("http://v1", agent=agent(system=new))
    await world.reconcile()
    assert said(world, ConditionType.ACCEPTED) == ("False", Reason.SAME_BACKEND)
    return world


async def accept_by_header(world: World) -> None:
    new = {"configMapKeyRef": {"name": "prompts", "key": "v2"}}
    world.want("http://v1", agent=agent(system=new), delivery="Header")
    await world.reconcile()


async def test_what_was_never_made_a_version_is_read_anew_when_it_becomes_one() -> None:
    world = await refused_for_its_backend()
    put(world, v1="You help.", v2="You help even more.")
    await accept_by_header(world)
    assert world.rollout.status.candidate is not None
    revision = world.revision_api.objects[f"shop/{world.rollout.status.candidate.revision}"]
    assert revision["spec"]["agent"]["prompts"] == {"system": "You help even more."}
    assert revision["spec"]["artifactID"] == world.rollout.status.candidate.artifact_id


async def test_what_was_never_made_a_version_and_is_gone_is_not_found() -> None:
    world = await refused_for_its_backend()
    put(world, v1="You help.")
    await accept_by_header(world)
    assert said(world, ConditionType.ACCEPTED) == ("False", Reason.REF_NOT_FOUND)
    assert len(world.revision_api.objects) == 1


async def test_a_spec_that_has_changed_unseen_is_decided_on_when_it_is_seen() -> None:
    world = await serving()
    put(world, v1="You help.", v2="You help a lot.")
    new = {"configMapKeyRef": {"name": "prompts", "key": "v2"}}
    world.want("http://v2", agent=agent("http://v2", system=new))
    unseen = world.api.objects[KEY]
    changed = {**unseen["spec"], "agent": agent("http://v3", system=new)}
    world.api.objects[KEY] = {**unseen, "spec": changed}
    with pytest.raises(Conflict, match=r"spec\.agent of shop/agent has changed since it was seen"):
        await world.reconcile()
    assert len(world.revision_api.objects) == 1


async def test_a_secret_that_is_not_in_base64_is_told_without_a_word_of_it() -> None:
    world = World()
    stored(world, SourceKind.SECRET, {"v1": "hunter2!"})
    world.want("http://v1", agent=agent(system=SECRET))
    await world.reconcile()
    message = condition(world, ConditionType.ACCEPTED).message
    assert message.endswith("key v1 of Secret prompts is not in base64")


class Told:
    """A watch of metadata, fed by hand."""

    def __init__(self) -> None:
        self.followers: list[Callable[[Event], None]] = []

    async def run(self, emit: Callable[[Event], None]) -> None:
        self.followers.append(emit)
        await asyncio.Event().wait()


async def test_a_kind_is_followed_from_the_first_reference_to_it_on() -> None:
    world, told = World(), Told()
    watch = SourceWatch(SourceKind.CONFIG_MAP, cast("Watcher", told), world.sources, world.rollouts)
    following = asyncio.create_task(watch.run())
    put_secret(world, v1="You help.")
    put(world, v1="You help.")
    world.want("http://v1", agent=agent(system=SECRET))
    await world.reconcile()
    assert told.followers == []
    world.want("http://v1", agent=agent(system=CONFIG_MAP))
    await world.reconcile()
    (emit,) = told.followers
    keys: list[str] = []
    world.sources.on_change(keys.append)
    newer = {"metadata": {"name": "prompts", "namespace": "shop", "resourceVersion": "100000"}}
    emit(Progressed(100_000))
    emit(ListFinished(frozenset({"shop/prompts"}), 100_000))
    assert keys == []
    emit(Applied("shop/prompts", newer))
    assert keys == [KEY]
    await world.reconcile()
    emit(ListFinished(frozenset(), 100_001))
    emit(Deleted("shop/prompts", newer))
    assert keys == [KEY] * 3
    following.cancel()


async def test_a_change_that_is_told_while_the_old_answer_is_on_its_way_is_not_missed() -> None:
    world = await serving()
    put(world, v1="You obey.")
    answering = world.config_maps.get

    async def slow(key: str) -> Any:
        answer = await answering(key)
        put(world, v1="You rule.")
        world.config_maps.get = answering  # type: ignore[method-assign]
        return answer

    world.config_maps.get = slow  # type: ignore[method-assign]
    await world.reconcile(1)
    world.effects.clear()
    await world.reconcile(1)
    assert world.effects[0] == "get", "the answer was older than the change"


async def test_an_object_that_vanished_unseen_is_found_by_the_next_list() -> None:
    world = await serving()
    told: list[str] = []
    world.sources.on_change(told.append)
    world.sources.listed(SourceKind.CONFIG_MAP, ["shop/prompts", "shop/other"], 10_000)
    assert told == []
    world.sources.listed(SourceKind.CONFIG_MAP, ["shop/other"], 10_000)
    assert told == [KEY]


async def test_what_nobody_refers_to_is_neither_told_nor_kept() -> None:
    world = await serving()
    told: list[str] = []
    world.sources.on_change(told.append)
    world.sources.changed("ConfigMap/shop/other", 10_000)
    world.rollouts.deleted(KEY, world.api.objects[KEY])
    world.sources.changed("ConfigMap/shop/prompts", 10_000)
    await asyncio.sleep(0)
    assert (told, world.sources._known) == ([], {})
