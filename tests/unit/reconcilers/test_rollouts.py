"""The order of effects, and what is left when one of them fails. The API server here fails on request."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from controller.adapters.ports import MetricSourceError, Question
from controller.api.action import ActionName
from controller.api.agent import SourceKind
from controller.api.policy import BINDING, NAME, POLICY
from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.rollout import AgentRollout
from controller.core.counts import Series
from controller.core.references import SecretKey
from controller.core.traffic import Programmed, TrafficTable
from controller.reconcilers.actions import BY_ROLLOUT, Actions, observe_action
from controller.reconcilers.backends import Backends
from controller.reconcilers.deletion import Deletion
from controller.reconcilers.fleet import Fleet, observe_report
from controller.reconcilers.gather import Gatherer
from controller.reconcilers.grants import Grants
from controller.reconcilers.images import PodImages
from controller.reconcilers.metrics import RolloutMetrics
from controller.reconcilers.observed import hosts_of, observe_revision, observe_rollout, references_of
from controller.reconcilers.references import References
from controller.reconcilers.rollouts import RolloutReconciler
from controller.reconcilers.services import BY_SERVICE, ServiceEndpoints, observe_service, observe_slice
from controller.reconcilers.sources import BY_SOURCE, Sources
from controller.reconcilers.teller import Teller
from controller.reconcilers.traffic import BY_HOST, BY_OWNER, TrafficPublisher
from controller.reconcilers.unreadable import UnreadableTeller
from controller.runtime.client import ResourceClient
from controller.runtime.errors import Conflict, Invalid, NotFound, Unavailable
from controller.runtime.recorder import EventType, ObjectReference, Recorder
from controller.runtime.store import Store
from controller.runtime.testing import FakeClock
from controller.runtime.workqueue import WorkQueue
from controller.runtime.writes import WriteThrough
from tests.virtual import CATALOGUE, Behaviour, VirtualRollout, rollout_of

Raw = dict[str, Any]
KEY = "shop/agent"


class Api:
    """Objects with resourceVersions, and a list of everything that was done to them."""

    def __init__(self, effects: list[str]) -> None:
        self.objects: dict[str, Raw] = {}
        self.effects = effects
        self.fail: dict[str, Exception] = {}
        self.lose: set[str] = set()
        self.version = 100

    def stored(self, key: str, raw: Raw) -> Raw:
        self.version += 1
        raw["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = raw
        return copy.deepcopy(raw)

    def _do(self, verb: str) -> None:
        if verb in self.fail:
            raise self.fail[verb]
        self.effects.append(verb)

    async def get(self, key: str) -> Raw:
        self._do("get")
        if key not in self.objects:
            raise NotFound(key)
        return copy.deepcopy(self.objects[key])

    async def apply(self, obj: Raw, *, force: bool) -> Raw:
        self._do("apply")
        key = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
        return self.stored(key, copy.deepcopy(obj))

    async def merge(self, key: str, changes: Mapping[str, Any], *, resource_version: str, uid: str) -> Raw:
        self._do("merge")
        current = self.objects[key]
        if (current["metadata"]["resourceVersion"], current["metadata"]["uid"]) != (resource_version, uid):
            raise Conflict("the object has been modified")
        return self.stored(key, {**current, "metadata": {**current["metadata"], **changes["metadata"]}})

    async def update_status(
        self, key: str, status: Mapping[str, Any], *, resource_version: str, uid: str
    ) -> Raw:
        self._do("status")
        current = self.objects[key]
        if current["metadata"]["resourceVersion"] != resource_version:
            raise Conflict("the object has been modified")
        stored = self.stored(key, {**current, "status": dict(status)})
        if "status" in self.lose:
            raise Unavailable("no answer within the deadline")
        return stored

    async def delete(self, key: str) -> Raw:
        self._do("delete")
        if key not in self.objects:
            raise NotFound(key)
        del self.objects[key]
        return {"kind": "Status"}


REQUESTS = frozenset({"get", "apply", "merge", "status", "delete"})
"""Effects that are requests to the API server; events are written by a task of their own."""


class Router:
    """Acknowledges everything at once."""

    def __init__(self, effects: list[str], clock: FakeClock) -> None:
        self.effects = effects
        self.clock = clock
        self.table: TrafficTable | None = None
        self.at: datetime | None = None

    def publish(self, table: TrafficTable) -> None:
        if table != self.table:
            self.table, self.at = table, self.clock.now()
            self.effects.append("cut" if not table.serves_candidate else "serve")

    def remove(self, key: str) -> None:
        self.effects.append("remove")
        self.table = None

    def programmed(self, key: str) -> Programmed:
        return Programmed(self.table, self.at, 1)

    @property
    def routers(self) -> frozenset[str]:
        return frozenset({"router-0"})

    def on_change(self, callback: Callable[[str], None]) -> None: ...


class World:
    """A reconciler with everything around it; users and counters come from the virtual rollout."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.clock = FakeClock()
        self.api, self.revision_api = Api(self.effects), Api(self.effects)
        self.router = Router(self.effects, self.clock)
        self.rollouts = Store(observe_rollout, indexers={BY_HOST: hosts_of, BY_SOURCE: references_of})
        self.revisions = Store(observe_revision, indexers={BY_OWNER: lambda r: (r.owner,)})
        self.publisher = TrafficPublisher(self.router, self.rollouts, self.revisions)
        self.reports = Store(observe_report)
        self.fleet = Fleet(self.router, self.publisher, self.reports, identity="this", clock=self.clock)
        self.users = VirtualRollout(rollout_of(), now=self.clock.now())
        self.queries: list[Question] = []
        self.asked: list[str] = []
        self.blind = ""
        self.deaf = ""
        self.hanging = False
        self.registry = CollectorRegistry()
        self.told: list[tuple[str, str, str]] = []
        self.uid = "1"
        client = WriteThrough(cast("ResourceClient", self.api), self.rollouts)
        self.config_maps, self.secrets = Api(self.effects), Api(self.effects)
        clients = {SourceKind.CONFIG_MAP: self.config_maps, SourceKind.SECRET: self.secrets}
        self.sources = Sources(
            cast("dict[SourceKind, ResourceClient]", clients), self.rollouts, SecretKey(b"k" * 32)
        )
        metrics = RolloutMetrics(self.registry, self.clock)
        self.reconciler = RolloutReconciler(
            rollouts=self.rollouts,
            revisions=self.revisions,
            rollout_client=client,
            revision_client=WriteThrough(cast("ResourceClient", self.revision_api), self.revisions),
            gatherer=Gatherer(
                revisions=self.revisions,
                publisher=self.publisher,
                fleet=self.fleet,
                backends=self._backends(Grants.parse(["v1", "v2", "v3"])),
                metrics=self,
                catalogue=CATALOGUE,
            ),
            references=References(cast("ResourceClient", self.api), self.sources),
            publisher=self.publisher,
            catalogue=CATALOGUE,
            clock=self.clock,
            metrics=metrics,
            teller=Teller(cast("Recorder", self)),
            deletion=Deletion(self.publisher, self.router, self.fleet, client, self.clock),
            unreadable=UnreadableTeller(client, cast("Recorder", self), self.clock),
            actions=self._actions(metrics),
        )

    def record(
        self, regarding: ObjectReference, *, event_type: EventType, reason: str, action: str, note: str
    ) -> None:
        assert (regarding.resource.kind, regarding.name, regarding.uid) == ("AgentRollout", "agent", self.uid)
        assert note
        self.effects.append("event")
        self.told.append((event_type.value, reason, action))

    def _actions(self, metrics: RolloutMetrics) -> Actions:
        """RolloutActions, and the policy in force."""
        self.action_api, self.policies, self.bindings = (Api(self.effects) for _ in range(3))
        self.actions = Store(observe_action, indexers={BY_ROLLOUT: lambda found: (found.rollout,)})
        for api, wanted in ((self.policies, POLICY), (self.bindings, BINDING)):
            api.objects[NAME] = copy.deepcopy(wanted)
            api.objects[NAME]["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
        return Actions(
            self.actions,
            WriteThrough(cast("ResourceClient", self.action_api), self.actions),
            cast("ResourceClient", self.policies),
            cast("ResourceClient", self.bindings),
            self.clock,
            metrics,
        )

    def ask(self, name: ActionName, artifact: str = "", by: str = "alice") -> str:
        """A person creates an action about the candidate, or another artifact; the key."""
        candidate = self.rollout.status.candidate
        number = len(self.action_api.objects) + 1
        key = f"shop/action-{number}"
        created = (self.clock.now()).isoformat()
        raw = {
            "metadata": {
                "name": f"action-{number}",
                "namespace": "shop",
                "uid": f"uid-{number}",
                "creationTimestamp": created,
            },
            "spec": {
                "rollout": "agent",
                "artifactID": artifact or (candidate.artifact_id if candidate else ""),
                "action": name.value,
                "reason": "the numbers are odd",
                "requestedBy": by,
            },
        }
        self.actions.applied(key, self.action_api.stored(key, raw))
        return key

    def became(self, key: str) -> Raw:
        """What an action shows of itself."""
        status: Raw = self.action_api.objects[key].get("status", {})
        return status

    def _backends(self, urls: Grants) -> Backends:
        """Without any Service, and so without anybody who lists pods."""
        services = ServiceEndpoints(
            Store(observe_service), Store(observe_slice, indexers={BY_SERVICE: lambda s: (s.service,)})
        )
        images = PodImages(services, WorkQueue("images", self.clock), lambda *_: cast("Any", None))
        return Backends(urls, services, images)

    async def read(self, question: Question) -> tuple[Series, ...]:
        self.queries.append(question)
        if self.blind:
            raise MetricSourceError(self.blind)
        return self.users.read().series

    async def values(self, query: str, at: datetime) -> tuple[float, ...]:
        self.asked.append(query)
        if self.hanging:
            await asyncio.Event().wait()
        if self.deaf:
            raise MetricSourceError(self.deaf)
        return (0.5,)

    def want(self, url: str, **spec: Any) -> None:
        """kubectl apply."""
        raw = self.api.objects.get(KEY)
        wanted = rollout_of(url, **spec)
        finalizers = raw["metadata"].get("finalizers", []) if raw else []
        generation = raw["metadata"]["generation"] + 1 if raw else 1
        body = {
            "metadata": {
                "name": "agent",
                "namespace": "shop",
                "uid": self.uid,
                "generation": generation,
                "finalizers": finalizers,
            },
            "spec": wanted.spec.to_json(),
            "status": raw["status"] if raw else {},
        }
        self.rollouts.applied(KEY, self.api.stored(KEY, body))

    async def reconcile(self, times: int = 8) -> None:
        for _ in range(times):
            await self.reconciler.reconcile(KEY)

    async def live(self, seconds: int) -> None:
        """Users, scrapes and reconciles."""
        for _ in range(seconds // 5):
            self.serve()
            await self.reconcile(3)

    def serve(self) -> None:
        self.clock.advance(5)
        self.users.now = self.clock.now()
        self.users.served = self.router.table
        self.users.revisions = {found.revision.name: found.revision for found in self.revisions.list()}
        self.users.serve(200)
        self.users.take_samples()

    @property
    def rollout(self) -> AgentRollout:
        return AgentRollout.model_validate(self.api.objects[KEY])


@pytest.fixture
async def world() -> World:
    world = World()
    world.want("http://v1")
    await world.reconcile()
    await world.live(20)
    return world


async def in_first_stage(world: World) -> World:
    world.users.behaviour["v2"] = Behaviour(errors=0.6)
    world.want("http://v2")
    await world.reconcile()
    assert world.rollout.status.weight == 100_000
    world.effects.clear()
    return world


async def test_the_first_artifact_is_kept_before_status_names_it() -> None:
    world = World()
    world.want("http://v1")
    await world.reconcile()
    assert world.effects[:4] == ["merge", "apply", "status", "cut"]
    assert world.rollout.status.state is State.STABLE
    (revision,) = world.revision_api.objects.values()
    assert revision["spec"]["agent"] == {"code": {"url": "http://v1"}, "prompts": {}, "dependencies": {}}
    assert revision["metadata"]["ownerReferences"][0]["uid"] == "1"


async def test_a_raise_is_stored_before_it_is_served(world: World) -> None:
    world.want("http://v2")
    world.effects.clear()
    await world.reconcile()
    assert world.effects.index("serve") > world.effects.index("status")


async def test_a_change_costs_three_requests_before_its_first_weight_and_one_after(world: World) -> None:
    world.want("http://v2")
    world.effects.clear()
    await world.reconcile()
    served = world.effects.index("serve")
    assert [each for each in world.effects[:served] if each in REQUESTS] == ["apply", "status", "status"]
    assert [each for each in world.effects[served:] if each in REQUESTS] == ["status"]


async def test_a_cut_is_pushed_before_anything_is_stored(world: World) -> None:
    await in_first_stage(world)
    await world.live(30)
    assert world.rollout.status.state is State.ROLLED_BACK
    cut = world.effects.index("cut")
    assert world.effects[cut + 1] == "status"
    assert (
        world.registry.get_sample_value("agentrollout_cuts_total", {"rollout": KEY, "rule": "rollback"}) == 1
    )


async def test_a_cut_holds_while_the_api_server_is_away_and_is_stored_with_its_verdict_later(
    world: World,
) -> None:
    await in_first_stage(world)
    world.api.fail["status"] = Unavailable("no answer")
    for _ in range(6):
        world.serve()
        try:
            await world.reconcile(1)
        except Unavailable:
            break
    assert world.router.table is not None
    assert world.router.table.candidate is None
    assert world.rollout.status.weight == 100_000, "the API server knows nothing yet"
    latch = world.publisher.latched(KEY)
    assert latch is not None
    world.users.behaviour["v2"] = Behaviour(errors=0.0)
    for _ in range(30):
        world.serve()
    del world.api.fail["status"]
    await world.reconcile()
    record = world.rollout.status.last_rollback
    assert record is not None
    assert record.message == latch.message
    assert world.publisher.latched(KEY) is None
    assert world.router.table.candidate is None


async def test_what_a_lost_write_stored_is_read_before_anything_is_decided_on_it(world: World) -> None:
    await in_first_stage(world)
    world.told.clear()
    world.api.lose = {"status"}
    for _ in range(8):
        world.serve()
        with suppress(Unavailable):
            await world.reconcile(1)
        if world.rollout.status.state is State.ROLLED_BACK:
            break
    world.api.lose = set()
    world.effects.clear()
    await world.reconcile(1)
    assert world.effects[0] == "get"
    assert "status" not in world.effects[: world.effects.index("event")], "it was stored already"
    assert world.told == [("Warning", "RolledBack", "RollBack")]
    assert (
        world.registry.get_sample_value("agentrollout_cuts_total", {"rollout": KEY, "rule": "rollback"}) == 1
    )


async def test_an_event_of_a_write_that_was_never_done_is_not_told(world: World) -> None:
    world.told.clear()
    world.api.fail["status"] = Unavailable("no answer within the deadline")
    world.want("http://v2")
    with pytest.raises(Unavailable):
        await world.reconcile(1)
    world.want("http://v1")
    del world.api.fail["status"]
    await world.reconcile()
    assert world.told == []


async def test_in_doubt_a_failing_candidate_is_cut_and_nothing_else_is_done(world: World) -> None:
    await in_first_stage(world)
    world.api.fail = {"status": Unavailable("no answer"), "get": Unavailable("no answer")}
    world.effects.clear()
    for _ in range(8):
        world.serve()
        with suppress(Unavailable):
            await world.reconcile(1)
    assert world.effects == ["cut"]
    world.want("http://v3")
    with pytest.raises(Unavailable):
        await world.reconcile(1)
    assert world.effects == ["cut"], "no revision, no status"


def spoil(world: World, **spec: Any) -> None:
    """Store what no API server would take any more."""
    raw = copy.deepcopy(world.api.objects[KEY])
    raw["metadata"]["generation"] += 1
    raw["spec"] |= spec
    world.rollouts.applied(KEY, world.api.stored(KEY, raw))


def accepted(world: World) -> tuple[str, str, str]:
    said = next(c for c in world.api.objects[KEY]["status"]["conditions"] if c["type"] == "Accepted")
    return said["status"], said["reason"], said["message"]


async def test_a_stored_spec_that_breaks_its_schema_is_refused_and_stable_goes_on(world: World) -> None:
    world.told.clear()
    stable, table = world.rollout.status.stable, world.router.table
    spoil(world, analysis={"interval": "soon"})
    await world.reconcile()
    assert accepted(world) == (
        "False",
        "Invalid",
        "spec.analysis.interval: 'soon' is not a duration: write 15s, 10m or 1h30m",
    )
    assert world.told == [("Warning", "Invalid", "Reject")]
    assert world.api.objects[KEY]["status"]["stable"]["revision"] == stable.revision if stable else False
    assert world.router.table == table


async def test_a_candidate_stays_watched_while_its_spec_cannot_be_read(world: World) -> None:
    await in_first_stage(world)
    spoil(world, agent="text", stages=[])
    await world.live(60)
    assert world.router.table is not None
    assert world.router.table.candidate is None
    assert "cut" in world.effects


async def test_an_object_that_cannot_be_read_says_why_once_and_what_it_served_goes_on(world: World) -> None:
    world.told.clear()
    world.effects.clear()
    table = world.router.table
    spoil(world, traffic={"envoy": {"hosts": []}})
    await world.reconcile()
    status = world.api.objects[KEY]["status"]
    assert accepted(world)[:2] == ("False", "Invalid")
    assert accepted(world)[2].startswith("spec.traffic.envoy.hosts: ")
    assert (status["state"], status["observedGeneration"]) == ("Rejected", 2)
    assert "stable" in status
    assert world.told == [("Warning", "Invalid", "Reject")]
    assert world.effects.count("status") == 1
    assert world.router.table == table
    world.want("http://v1")
    await world.reconcile()
    assert accepted(world)[0] == "True"
    assert world.rollout.status.state is State.STABLE


async def test_an_unreadable_object_whose_status_is_refused_too_still_gets_its_event(world: World) -> None:
    world.told.clear()
    world.api.fail["status"] = Invalid("status.weight: must be a string")
    spoil(world, traffic={"envoy": {"hosts": []}})
    await world.reconcile(1)
    assert world.told == [("Warning", "Invalid", "Reject")]


async def test_a_refused_spec_whose_status_cannot_be_stored_gets_its_event_once_and_no_retries(
    world: World,
) -> None:
    world.told.clear()
    refusal = Invalid("spec.agent: invalid data, expected a map evaluating rule")
    world.api.fail = {"status": refusal, "merge": refusal}
    spoil(world, agent="v1")
    table = world.router.table
    await world.reconcile()
    assert world.told == [("Warning", "Invalid", "Reject")]
    assert world.router.table == table
    world.api.fail = {}
    world.want("http://v1")
    await world.reconcile()
    assert world.rollout.status.state is State.STABLE


async def test_a_refused_write_of_a_good_spec_is_an_error(world: World) -> None:
    world.api.fail["status"] = Invalid("status.weight: must be a string")
    world.want("http://v2")
    with pytest.raises(Invalid):
        await world.reconcile()


async def test_an_unreadable_object_that_is_gone_by_the_time_is_left_alone(world: World) -> None:
    world.told.clear()
    spoil(world, traffic={"envoy": {"hosts": []}})
    world.api.fail["get"] = NotFound(KEY)
    await world.reconcile(1)
    assert world.told == []


async def test_a_story_is_told_in_events_one_per_transition(world: World) -> None:
    assert world.told == [("Normal", "Initialised", "Initialise")]
    world.told.clear()
    await in_first_stage(world)
    await world.live(60)
    await world.reconcile()
    assert world.told == [
        ("Normal", "NewArtifact", "Accept"),
        ("Normal", "StageStarted", "Begin"),
        ("Warning", "RolledBack", "RollBack"),
    ]


async def test_an_event_waits_until_status_is_stored_and_traffic_never_waits_for_it(world: World) -> None:
    await in_first_stage(world)
    world.told.clear()
    world.effects.clear()
    world.api.fail["status"] = Unavailable("no answer")
    for _ in range(6):
        world.serve()
        with suppress(Unavailable):
            await world.reconcile(1)
    assert "cut" in world.effects
    assert world.told == []
    del world.api.fail["status"]
    await world.reconcile()
    assert world.told == [("Warning", "RolledBack", "RollBack")]
    assert world.effects.index("event") > world.effects.index("status") > world.effects.index("cut")


async def test_refusals_and_their_end_are_told_in_events(world: World) -> None:
    world.told.clear()
    world.want("http://elsewhere")
    await world.reconcile()
    await world.live(20)
    world.want("http://v1")
    await world.reconcile()
    assert world.told == [("Warning", "BackendNotAllowed", "Reject"), ("Normal", "Accepted", "Settle")]


async def test_blindness_and_its_end_are_told_in_events(world: World) -> None:
    await in_first_stage(world)
    world.users.behaviour["v2"] = Behaviour()
    world.told.clear()
    world.blind = "Prometheus at http://p cannot be reached"
    world.clock.advance(15)
    await world.reconcile()
    world.blind = ""
    await world.live(20)
    assert world.told == [("Warning", "AnalysisBlind", "Hold"), ("Normal", "AwaitingEvidence", "Hold")]


async def test_a_promotion_and_a_cancellation_are_told_in_events(world: World) -> None:
    world.want("http://v2", stages=[{"weight": "100%", "minDuration": "10s"}])
    await world.reconcile()
    world.told.clear()
    await world.live(40)
    assert world.told == [("Normal", "Promoted", "Promote")]
    world.told.clear()
    world.want("http://v3")
    await world.reconcile()
    world.want("http://v2")
    await world.reconcile()
    assert world.told[-1] == ("Normal", "Cancelled", "Cancel")


async def test_a_decision_on_an_old_object_is_not_stored(world: World) -> None:
    await in_first_stage(world)
    before = world.rollout.status
    raw = world.api.objects[KEY]
    world.api.stored(KEY, {**raw, "metadata": {**raw["metadata"], "labels": {"team": "a"}}})
    world.serve()
    world.clock.advance(15)
    world.serve()
    with pytest.raises(Conflict):
        await world.reconcile(1)
    assert world.rollout.status == before


async def test_an_artifact_that_changed_since_is_not_accepted(world: World) -> None:
    world.want("http://v2")
    _changed_meanwhile(world)
    with pytest.raises(Conflict, match="has been modified"):
        await world.reconcile()
    assert world.rollout.status.candidate is None


async def test_a_lost_revision_is_not_made_anew_from_an_artifact_that_changed_since(world: World) -> None:
    for key, raw in list(world.revision_api.objects.items()):
        del world.revision_api.objects[key]
        world.revisions.deleted(key, raw)
    _changed_meanwhile(world)
    with pytest.raises(Conflict, match="has changed"):
        await world.reconcile(1)
    assert not world.revision_api.objects


def _changed_meanwhile(world: World) -> None:
    """The watch is yet to tell of it."""
    changed = copy.deepcopy(world.api.objects[KEY])
    changed["spec"]["agent"]["prompts"] = {"system": "changed meanwhile"}
    world.api.stored(KEY, changed)


async def test_a_superseded_candidate_is_cut_and_its_latch_does_not_outlive_the_wish(world: World) -> None:
    await in_first_stage(world)
    world.want("http://v3")
    world.api.fail["status"] = Unavailable("no answer")
    with pytest.raises(Unavailable):
        await world.reconcile(1)
    assert world.effects == ["cut"]
    world.want("http://v2")
    del world.api.fail["status"]
    await world.reconcile(1)
    assert world.publisher.latched(KEY) is None
    assert world.rollout.status.candidate is not None


async def test_evidence_is_read_only_when_it_is_due_and_for_the_compared_clusters_alone(world: World) -> None:
    await in_first_stage(world)
    world.queries.clear()
    await world.reconcile()
    assert world.queries == []
    world.clock.advance(15)
    await world.reconcile(1)
    (question,) = world.queries
    assert question.names == {"total", "bad"}
    assert question.edges == frozenset()
    status = world.rollout.status
    assert status.stable is not None
    assert status.candidate is not None
    assert question.values == {f"{KEY}/{status.candidate.revision}", f"{KEY}/{status.stable.revision}"}
    assert timedelta(seconds=15) < question.window < timedelta(seconds=200)


async def test_an_unreadable_source_is_told_in_its_words(world: World) -> None:
    await in_first_stage(world)
    world.blind = "Prometheus at http://p cannot be reached"
    world.clock.advance(15)
    await world.reconcile(1)
    condition = world.rollout.status.condition(ConditionType.PROGRESSING)
    assert condition is not None
    assert condition.reason is Reason.ANALYSIS_BLIND
    assert "http://p cannot be reached" in condition.message


async def test_for_latency_stables_past_is_read_before_the_first_stage(world: World) -> None:
    world.want("http://v2", analysis={"interval": "15s", "clustering": 1, "metrics": [{"name": "latency"}]})
    world.queries.clear()
    await world.reconcile()
    (question,) = world.queries
    assert question.names == {"bucket", "count", "lost"}
    assert question.edges is None
    assert len(question.values) == 1
    assert question.window == timedelta(minutes=30)
    assert world.rollout.status.weight == 100_000
    world.clock.advance(15)
    await world.reconcile(1)
    assert world.queries[-1].edges == frozenset({10.0, 100.0})


async def test_a_refused_backend_is_told_in_conditions(world: World) -> None:
    world.want("http://elsewhere")
    await world.reconcile()
    accepted = world.rollout.status.condition(ConditionType.ACCEPTED)
    assert accepted is not None
    assert accepted.reason is Reason.BACKEND_NOT_ALLOWED


async def test_a_taken_host_is_told_with_its_owner(world: World) -> None:
    older = copy.deepcopy(world.api.objects[KEY])
    older["metadata"] |= {"name": "older", "creationTimestamp": "2020-01-01T00:00:00Z"}
    world.rollouts.applied("shop/older", older)
    await world.reconcile()
    accepted = world.rollout.status.condition(ConditionType.ACCEPTED)
    assert accepted is not None
    assert accepted.reason is Reason.CONFLICTED
    assert "shop/older" in accepted.message


async def test_a_shadow_that_nobody_compares_is_refused_with_the_way_out(world: World) -> None:
    world.want("http://v2", shadow={})
    await world.reconcile()
    accepted = world.rollout.status.condition(ConditionType.ACCEPTED)
    assert accepted is not None
    assert (accepted.status, accepted.reason) == ("False", Reason.SHADOW_NOT_AVAILABLE)
    assert "spec.shadow: the operator was started without --shadow-address" in accepted.message
    assert world.rollout.status.candidate is None


async def test_revisions_beyond_the_history_are_deleted_even_if_someone_was_faster(world: World) -> None:
    for version in ("v2", "v3"):
        world.want(
            f"http://{version}", revisionHistoryLimit=0, stages=[{"weight": "100%", "minDuration": "10s"}]
        )
        await world.reconcile()
        if version == "v3":
            gone = next(
                k
                for k, r in world.revision_api.objects.items()
                if r["spec"]["agent"]["code"]["url"] == "http://v2"
            )
            del world.revision_api.objects[gone]
        await world.live(40)
    assert [r["spec"]["agent"]["code"]["url"] for r in world.revision_api.objects.values()] == ["http://v3"]


async def test_a_rollout_that_is_gone_or_going_is_left_alone(world: World) -> None:
    raw = copy.deepcopy(world.api.objects[KEY])
    raw["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.rollouts.applied(KEY, world.api.stored(KEY, raw))
    world.effects.clear()
    await world.reconcile()
    world.rollouts.deleted(KEY, world.api.objects[KEY])
    await world.reconcile()
    assert "status" not in world.effects
    assert world.registry.get_sample_value("agentrollout_candidate_weight", {"rollout": KEY}) is None


async def test_nothing_is_written_when_nothing_changed(world: World) -> None:
    world.effects.clear()
    await world.reconcile()
    assert world.effects == []


async def test_a_plain_cut_does_not_wait_for_the_metric_source(world: World) -> None:
    await in_first_stage(world)
    world.clock.advance(15)
    world.queries.clear()
    world.want("http://v1")
    await world.reconcile(1)
    assert world.effects[0] == "cut"
    assert world.queries == []


async def test_after_a_refused_write_the_object_is_read_again_at_once(world: World) -> None:
    await in_first_stage(world)
    raw = world.api.objects[KEY]
    world.api.stored(KEY, {**raw, "metadata": {**raw["metadata"], "labels": {"team": "a"}}})
    world.clock.advance(15)
    world.serve()
    with pytest.raises(Conflict):
        await world.reconcile(1)
    await world.reconcile(1)
    assert world.rollout.status.state is State.ROLLED_BACK


LONG = [{"weight": "10%", "minDuration": "1h", "minRequests": 10}, {"weight": "100%"}]


async def in_long_stage(world: World) -> World:
    """Long enough in it for the stored evidence to be renewed just now."""
    world.want("http://v2", stages=LONG)
    await world.reconcile()
    await world.live(45)
    assert world.rollout.status.verdict is Verdict.PASS
    world.effects.clear()
    while not world.effects:
        await world.live(5)
    world.effects.clear()
    world.queries.clear()
    return world


async def test_a_long_quiet_stage_is_written_once_a_minute_and_watched_every_interval(world: World) -> None:
    await in_long_stage(world)
    await world.live(600)
    assert len(world.queries) == 40
    assert world.effects == ["status"] * 10
    assert world.rollout.status.verdict is Verdict.PASS


async def test_news_is_written_at_once(world: World) -> None:
    await in_long_stage(world)
    await world.live(15)
    assert world.effects == []
    world.blind = "Prometheus at http://p cannot be reached"
    await world.live(15)
    assert world.effects == ["status", "event"]
    assert world.rollout.status.state is State.BLIND
    await world.live(30)
    assert world.effects == ["status", "event"], "still the same"


async def test_a_verdict_from_unsaved_evidence_is_stored_with_all_of_it(world: World) -> None:
    await in_long_stage(world)
    world.users.behaviour["v2"] = Behaviour(errors=0.15)
    stored = world.rollout.status.analysis[0].candidate
    await world.live(60)
    status = world.rollout.status
    assert status.state is State.ROLLED_BACK
    assert status.analysis[0].candidate.total > stored.total
    assert world.effects[world.effects.index("cut") :][:2] == ["cut", "status"]


async def test_a_change_by_others_voids_unsaved_evidence_and_its_span_is_read_again(world: World) -> None:
    await in_long_stage(world)
    await world.live(45)
    assert all(question.window < timedelta(seconds=40) for question in world.queries), "memory tells enough"
    counted = world.rollout.status.analysis[0].candidate.total
    raw = world.api.objects[KEY]
    labelled = {**raw, "metadata": {**raw["metadata"], "labels": {"team": "a"}}}
    world.rollouts.applied(KEY, world.api.stored(KEY, labelled))
    await world.live(15)
    assert world.effects == ["status"]
    assert max(question.window for question in world.queries) > timedelta(seconds=45 + 120)
    candidate = world.rollout.status.candidate
    assert candidate is not None
    total = world.users.labels("total", {"cluster": f"{KEY}/{candidate.revision}"})
    assert counted < world.rollout.status.analysis[0].candidate.total <= world.users.counters[total]


async def test_whoever_stops_leading_forgets_what_was_not_saved(world: World) -> None:
    await in_long_stage(world)
    await world.live(45)
    before = world.rollout
    world.reconciler.drop_unsaved()
    world.queries.clear()
    await world.live(5)
    assert [question.window > timedelta(seconds=45 + 120) for question in world.queries] == [True]
    assert world.rollout == before


async def test_unsaved_evidence_goes_on_while_the_api_server_is_away(world: World) -> None:
    await in_long_stage(world)
    world.api.fail["status"] = Unavailable("no answer")
    for _ in range(36):
        world.serve()
        with suppress(Unavailable):
            await world.reconcile(1)
    assert len(world.queries) == 12
    assert world.queries[-1].window < timedelta(seconds=15 + 125)
    del world.api.fail["status"]
    before = world.rollout.status.analysis[0].candidate.total
    await world.live(5)
    assert world.effects.count("status") == 1
    assert world.rollout.status.analysis[0].candidate.total > before


ASKED = {"name": "own", "query": "own{artifact='$artifact'}", "max": 0.4, "for": "30s", "action": "Hold"}


async def test_queries_of_guardrails_are_asked_about_both_versions_once_the_candidate_serves(
    world: World,
) -> None:
    world.want("http://v2", analysis={"interval": "15s", "clustering": 1, "guardrails": [ASKED]})
    await world.reconcile()
    assert world.asked == []
    await world.live(60)
    status = world.rollout.status
    assert status.candidate is not None
    assert status.stable is not None
    assert set(world.asked) == {
        f"own{{artifact='{version.artifact_id}'}}" for version in (status.candidate, status.stable)
    }
    assert [each.value for each in status.guardrails] == [0.5]
    world.deaf = "Prometheus at http://p answered HTTP Status Code 400"
    await world.live(20)
    (limit,) = world.rollout.status.guardrails
    assert (limit.verdict, limit.message) == (Verdict.ERROR, world.deaf)


async def test_a_query_that_hangs_holds_up_neither_a_cut_nor_the_next_evaluation(world: World) -> None:
    analysis = {"interval": "100ms", "clustering": 1, "metrics": [{"name": "errors"}], "guardrails": [ASKED]}
    stages = [{"weight": "50%", "minDuration": "1h"}, {"weight": "100%"}]
    world.hanging = True
    world.want("http://v2", analysis=analysis, stages=stages)
    await world.reconcile()
    await world.live(20)
    (limit,) = world.rollout.status.guardrails
    assert (limit.verdict, limit.message) == (Verdict.ERROR, "no answer within 0.05 s")
    world.users.behaviour["v3"] = Behaviour(errors=0.9)
    world.want("http://v3", analysis={**analysis, "interval": "100s"}, stages=stages)
    async with asyncio.timeout(20):  # half of the interval would be 50 seconds
        await world.reconcile()
        await world.live(110)
    assert world.rollout.status.state is State.ROLLED_BACK
