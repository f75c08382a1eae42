"""Traffic follows status, and a cut does not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controller.api.agent import Agent
from controller.api.reasons import Reason
from controller.core.artifact import artifact_id
from controller.core.snapshot import Latch
from controller.core.traffic import Programmed, TrafficTable
from controller.reconcilers.grants import Grants
from controller.reconcilers.observed import hosts_of, observe_revision, observe_rollout
from controller.reconcilers.traffic import BY_HOST, BY_OWNER, TrafficPublisher
from controller.runtime.store import Store

Raw = dict[str, Any]
ID = {name: artifact_id(Agent.model_validate({"code": {"url": f"http://v{name}"}})) for name in "12"}


class RecordingRouter:
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.tables: dict[str, TrafficTable] = {}
        self.removed: list[str] = []

    def publish(self, table: TrafficTable) -> None:
        self.tables[table.key] = table

    def remove(self, key: str) -> None:
        self.removed.append(key)

    def programmed(self, key: str) -> Programmed:
        return Programmed(self.tables.get(key), None, 1)

    @property
    def routers(self) -> frozenset[str]:
        return frozenset({"router-0"})

    def on_change(self, callback: Callable[[str], None]) -> None:
        raise AssertionError("the publisher does not listen to the router")


def rollout(
    version: int,
    *,
    name: str = "agent",
    host: str = "agent.example",
    weight: str = "10%",
    candidate: str = "2",
) -> Raw:
    status: Raw = {
        "stable": {"revision": "agent-1", "artifactID": ID["1"]},
        "weight": weight,
        "stage": {"index": 0, "enteredAt": "2026-01-01T00:00:00Z"},
    }
    if candidate:
        status["candidate"] = {"revision": f"agent-{candidate}", "artifactID": ID[candidate], "attempt": 1}
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "resourceVersion": str(version),
            "creationTimestamp": f"2026-01-01T00:00:0{len(name) % 10}Z",
        },
        "spec": {
            "agent": {"code": {"url": "http://v2"}},
            "traffic": {"envoy": {"hosts": [host]}},
            "stages": [{"weight": "10%"}, {"weight": "100%"}],
        },
        "status": status,
    }


def revision(version: str, owner: str = "agent") -> Raw:
    return {
        "metadata": {"name": f"agent-{version}", "namespace": "shop", "resourceVersion": "1"},
        "spec": {
            "rollout": owner,
            "artifactID": ID[version],
            "agent": {"code": {"url": f"http://v{version}"}},
        },
    }


class World:
    def __init__(self) -> None:
        self.router = RecordingRouter()
        self.rollouts = Store(observe_rollout, indexers={BY_HOST: hosts_of})
        self.revisions = Store(observe_revision, indexers={BY_OWNER: lambda r: (r.owner,)})
        self.publisher = TrafficPublisher(self.router, self.rollouts, self.revisions)
        self.told: list[str] = []
        self.publisher.on_change(self.told.append)

    def see(self, raw: Raw) -> None:
        store = self.revisions if "artifactID" in raw["spec"] else self.rollouts
        store.applied(f"{raw['metadata']['namespace']}/{raw['metadata']['name']}", raw)

    @property
    def weight(self) -> int:
        return self.router.tables["shop/agent"].weight_ppm


@pytest.fixture
def world() -> World:
    world = World()
    for raw in (revision("1"), revision("2"), rollout(1)):
        world.see(raw)
    return world


def test_a_stored_status_becomes_traffic(world: World) -> None:
    assert world.weight == 100_000
    world.see(rollout(2, weight="50%"))
    assert world.weight == 500_000


def test_nothing_is_published_while_a_revision_is_missing() -> None:
    world = World()
    world.see(rollout(1))
    world.see(revision("1"))
    assert world.router.tables == {}
    world.see(revision("2"))
    assert world.weight == 100_000


def test_a_latch_cuts_at_once_and_holds_against_an_old_status(world: World) -> None:
    world.publisher.latch("shop/agent", Latch(ID["2"], 1, Reason.ANALYSIS_FAILED, "errors", "worse"))
    assert world.router.tables["shop/agent"].candidate is None
    world.see(rollout(2, weight="50%"))
    assert world.router.tables["shop/agent"].candidate is None


def test_the_latch_is_gone_once_status_shows_the_cut(world: World) -> None:
    world.publisher.latch("shop/agent", Latch(ID["2"], 1, Reason.ANALYSIS_FAILED, "errors", "worse"))
    world.see(rollout(2, weight="0%", candidate=""))
    assert world.publisher.latched("shop/agent") is None
    world.see(rollout(3, weight="10%"))
    assert world.weight == 100_000


def test_a_latch_that_the_decision_no_longer_wants_is_released(world: World) -> None:
    world.publisher.latch("shop/agent", Latch(ID["2"], 1))
    world.publisher.release("shop/agent")
    assert world.weight == 100_000
    world.publisher.release("shop/agent")


def test_a_deleted_rollout_is_removed_from_the_router(world: World) -> None:
    world.rollouts.deleted("shop/agent", rollout(9))
    assert world.router.removed == ["shop/agent"]


def test_of_two_rollouts_on_one_host_the_older_has_it_and_the_younger_takes_over(world: World) -> None:
    world.see(
        revision("1", owner="younger-agent")
        | {"metadata": {"name": "y-1", "namespace": "shop", "resourceVersion": "1"}}
    )
    younger = rollout(5, name="younger-agent", candidate="")
    younger["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    world.see(younger)
    assert world.publisher.owner_of("agent.example") == "shop/agent"
    observed = world.rollouts.get("shop/younger-agent")
    assert observed is not None
    assert world.publisher.owned(observed).spec.traffic.envoy.hosts == []
    world.told.clear()
    world.rollouts.deleted("shop/agent", rollout(9))
    assert "shop/younger-agent" in world.told
    assert world.publisher.owned(observed).spec.traffic.envoy.hosts == ["agent.example"]


def test_of_two_rollouts_of_one_age_the_name_decides_in_every_replica(world: World) -> None:
    twin = rollout(5, name="younger-agent", candidate="")
    twin["metadata"]["creationTimestamp"] = rollout(5)["metadata"]["creationTimestamp"]
    world.see(twin)
    assert world.publisher.owner_of("agent.example") == "shop/agent"
    before = rollout(6, name="a-agent", candidate="")
    before["metadata"]["creationTimestamp"] = rollout(5)["metadata"]["creationTimestamp"]
    world.see(before)
    assert world.publisher.owner_of("agent.example") == "shop/a-agent"


def test_whoever_may_not_claim_a_host_keeps_nobody_from_it(world: World) -> None:
    squatter = rollout(5, name="agent-of-others", candidate="")
    squatter["metadata"] |= {"namespace": "others", "creationTimestamp": "2020-01-01T00:00:00Z"}
    world.see(squatter)
    assert world.publisher.owner_of("agent.example") == "others/agent-of-others"
    world.publisher.claims = Grants.parse(["shop=*.example"])
    assert world.publisher.owner_of("agent.example") == "shop/agent"
    observed = world.rollouts.get("others/agent-of-others")
    assert observed is not None
    assert world.publisher.owned(observed).spec.traffic.envoy.hosts == []


def test_a_host_that_nobody_claims_has_no_owner(world: World) -> None:
    assert world.publisher.owner_of("other.example") is None


def test_a_revision_that_was_deleted_by_hand_keeps_no_cut_from_being_served(world: World) -> None:
    world.revisions.deleted(
        "shop/agent-1",
        revision("1") | {"metadata": {"name": "agent-1", "namespace": "shop", "resourceVersion": "7"}},
    )
    assert world.weight == 100_000, "what served goes on"
    world.publisher.latch("shop/agent", Latch(ID["2"], 1, Reason.ANALYSIS_FAILED, "errors", "worse"))
    assert world.router.tables["shop/agent"].candidate is None


def test_a_stored_cut_is_served_although_stables_revision_is_gone(world: World) -> None:
    world.revisions.deleted(
        "shop/agent-1",
        revision("1") | {"metadata": {"name": "agent-1", "namespace": "shop", "resourceVersion": "7"}},
    )
    world.see(rollout(2, weight="0%", candidate=""))
    assert world.router.tables["shop/agent"].candidate is None


def test_a_rollout_that_is_being_deleted_serves_its_candidate_to_nobody(world: World) -> None:
    raw = rollout(2)
    raw["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    world.see(raw)
    assert world.router.tables["shop/agent"].candidate is None


def test_a_status_with_unknown_words_still_decides(world: World) -> None:
    raw = rollout(2, weight="50%")
    raw["status"]["state"] = "Paused"
    world.see(raw)
    assert world.weight == 500_000


def test_a_rollout_that_cannot_be_understood_goes_on_serving_and_keeps_its_hosts(world: World) -> None:
    broken = rollout(2)
    broken["spec"]["stages"] = "none"
    world.see(broken)
    younger = rollout(5, name="younger-agent", candidate="")
    younger["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    world.see(younger)
    assert world.router.removed == []
    assert world.publisher.owner_of("agent.example") == "shop/agent"
    world.see(rollout(6, weight="50%"))
    assert world.weight == 500_000
    assert world.publisher.owner_of("agent.example") == "shop/agent"


def test_a_rollout_made_anew_under_its_name_is_younger_than_the_others(world: World) -> None:
    other = rollout(5, name="other-agent", candidate="")
    other["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    world.see(other)
    again = rollout(7)
    again["metadata"] |= {"uid": "another", "creationTimestamp": "2026-01-03T00:00:00Z"}
    world.told.clear()
    world.see(again)
    assert world.publisher.owner_of("agent.example") == "shop/other-agent"
    assert "shop/other-agent" in world.told
