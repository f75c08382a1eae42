"""What sources say becomes traffic at once, in every replica and without the leader."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.api.kill_switches import SwitchSource
from controller.api.reasons import Reason
from controller.api.rollout import AgentRollout
from controller.core.flags import FlagBook
from controller.core.snapshot import Latch, Switch
from controller.core.traffic import TrafficTable
from controller.reconcilers.kill_metrics import KillMetrics
from controller.reconcilers.kills import BY_FLAG, KillSwitches, flags_of
from controller.reconcilers.observed import hosts_of, observe_revision, observe_rollout
from controller.reconcilers.switch_maps import SWITCH_LABEL, SwitchMaps, observe_switches
from controller.reconcilers.traffic import BY_HOST, BY_OWNER, TrafficPublisher
from controller.runtime.store import Store
from tests.unit.reconcilers.test_traffic import ID, RecordingRouter, revision, rollout

Raw = dict[str, Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPS = {"name": "ops", "configMap": {"name": "flags", "key": "agent"}}
REMOTE = {"name": "remote", "ofrep": {"flag": "agent-off"}}
TOOL = {"name": "refund", "scope": "Feature", "flagd": {"flag": "refund-tool"}}


def named(raw: Raw, *switches: Raw) -> Raw:
    raw["spec"]["killSwitches"] = list(switches)
    return raw


class World:
    """One replica."""

    def __init__(self) -> None:
        self.router = RecordingRouter()
        self.rollouts = Store(observe_rollout, indexers={BY_HOST: hosts_of, BY_FLAG: flags_of})
        self.revisions = Store(observe_revision, indexers={BY_OWNER: lambda r: (r.owner,)})
        self.config_maps = Store(observe_switches)
        self.books = {SwitchSource.OFREP: FlagBook(), SwitchSource.FLAGD: FlagBook()}
        self.registry = CollectorRegistry()
        metrics = KillMetrics(self.registry)
        assert next(iter(metrics.collect())).samples == []
        self.kills = KillSwitches(
            self.rollouts, SwitchMaps(self.config_maps, "system", lambda: NOW), self.books, metrics
        )
        self.publisher = TrafficPublisher(self.router, self.rollouts, self.revisions, kills=self.kills)
        self.told: list[str] = []
        self.kills.on_change(self.publisher.look)
        self.kills.on_change(self.told.append)
        self.version = 10

    def see(self, raw: Raw) -> None:
        store = self.revisions if "artifactID" in raw["spec"] else self.rollouts
        store.applied(f"{raw['metadata']['namespace']}/{raw['metadata']['name']}", raw)

    def config_map(self, data: dict[str, str] | None, name: str = "flags", reach: str = "flags") -> None:
        """Apply a labelled ConfigMap as ``namespace/name``, or delete it."""
        namespace, _, name = name.rpartition("/")
        self.version += 1
        metadata = {"namespace": namespace or "shop", "name": name, "resourceVersion": str(self.version)}
        raw = {"metadata": {**metadata, "labels": {SWITCH_LABEL: reach}}, "data": data}
        key = f"{metadata['namespace']}/{name}"
        if data is None:
            self.config_maps.deleted(key, raw)
        else:
            self.config_maps.applied(key, raw)

    def say(self, source: SwitchSource, **values: Any) -> None:
        book = self.books[source]
        book.tell({name.replace("_", "-"): value for name, value in values.items()}, book.number(), NOW)

    @property
    def table(self) -> TrafficTable:
        return self.router.tables["shop/agent"]

    @property
    def features(self) -> dict[str, str]:
        return dict(self.table.features)

    @property
    def rollout(self) -> AgentRollout:
        observed = self.rollouts.get("shop/agent")
        assert observed is not None
        return observed.rollout

    @property
    def switches(self) -> tuple[Switch, ...]:
        return self.kills.switches(self.rollout)

    def series(self, name: str) -> dict[tuple[str, ...], float]:
        return {
            tuple(sample.labels.values()): sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name
        }


@pytest.fixture
def world() -> World:
    world = World()
    for raw in (revision("1"), revision("2"), named(rollout(1), OPS, REMOTE, TOOL)):
        world.see(raw)
    return world


def test_a_key_that_turns_true_cuts_at_once_and_back_again_gives_nothing_back(world: World) -> None:
    world.config_map({"agent": "false"})
    assert world.table.weight_ppm == 100_000
    world.told.clear()
    world.config_map({"agent": "true"})
    assert (world.table.candidate, world.told) == (None, ["shop/agent"])
    latch = world.publisher.latched("shop/agent")
    assert latch is not None
    assert (latch.artifact_id, latch.attempt, latch.reason) == (ID["2"], 1, Reason.KILL_SWITCH_ON)
    world.config_map({"agent": "false"})
    world.see(named(rollout(2, weight="50%"), OPS))
    assert world.table.candidate is None, "an older leader may still be raising it"


def test_another_artifact_that_someone_lets_in_is_cut_on_sight(world: World) -> None:
    world.config_map({"agent": "true"})
    world.see(named(rollout(2, candidate=""), OPS))
    assert world.publisher.latched("shop/agent") is None
    world.see(named(rollout(3, weight="50%"), OPS))
    assert world.table.candidate is None


@pytest.mark.parametrize(("source", "flag"), [(SwitchSource.OFREP, "agent_off"), (SwitchSource.FLAGD, "x")])
def test_a_flag_of_a_server_cuts_only_where_it_is_named(
    world: World, source: SwitchSource, flag: str
) -> None:
    world.say(source, **{flag: True})
    assert (world.table.candidate is None) is (source is SwitchSource.OFREP)


def test_what_status_calls_killed_is_served_to_nobody_by_a_replica_that_knows_of_no_switch(
    world: World,
) -> None:
    raw = rollout(2)
    raw["status"]["killed"] = {
        "switch": "ops",
        "source": "x",
        "since": "2026-01-01T00:00:00Z",
        "message": "on",
    }
    world.see(raw)
    assert world.table.candidate is None
    assert world.series("agentrollout_kills_total") == {("status",): 1}


def test_a_kill_takes_the_place_of_a_cut_without_a_reason_and_of_no_other(world: World) -> None:
    world.publisher.latch("shop/agent", Latch(ID["2"], 1))
    world.config_map({"agent": "true"})
    killed = world.publisher.latched("shop/agent")
    assert killed is not None
    assert killed.reason is Reason.KILL_SWITCH_ON
    world.publisher.release_without_reason()
    assert world.table.candidate is None
    failed = Latch(ID["2"], 1, Reason.ANALYSIS_FAILED, "errors", "worse")
    world.publisher.latch("shop/agent", failed)
    world.publisher.look("shop/agent")
    assert world.publisher.latched("shop/agent") == failed
    world.publisher.look("shop/nobody")


def test_switches_say_where_they_are_and_what_is_known_of_them(world: World) -> None:
    absent = "there is no such ConfigMap with the label agentrollout.dev/kill-switch, or it has no such key"
    assert world.switches == (
        Switch("ops", "ConfigMap flags, key agent", on=None, doubt="it has not answered yet"),
        Switch("remote", "OFREP flag agent-off", on=None, doubt="it has not answered yet"),
    )
    world.config_map({"other": "true"})
    assert world.switches[0].doubt == absent
    world.config_map({"agent": "True"})
    assert world.switches[0].doubt == "its value is 'True', which is neither true nor false"
    assert world.table.candidate is not None, "unknown is not on either"
    world.config_map({"agent": "false"})
    world.config_map(None)
    assert (world.switches[0].on, world.switches[0].doubt) == (
        False,
        "the source has nothing of it since 2026-01-01T00:00:00Z",
    )
    world.books[SwitchSource.OFREP].fail("refused", 1, NOW)
    assert world.told[-1] == "shop/agent"
    assert world.switches[1].doubt == "it has not answered yet: refused"


@pytest.mark.parametrize(
    ("name", "reach", "data", "concerns"),
    [
        ("shop/stop", "namespace", {"killed": "true"}, True),
        ("others/stop", "namespace", {"killed": "true"}, False),
        ("system/stop", "cluster", {"killed": "true"}, True),
        ("shop/stop", "cluster", {"killed": "true"}, False),
        ("shop/stop", "rollouts", {"agent": "true"}, True),
        ("shop/stop", "rollouts", {"other": "true"}, False),
        ("others/stop", "rollouts", {"agent": "true"}, False),
        ("shop/stop", "Namespace", {"killed": "true"}, False),
        ("shop/stop", "flags", {"killed": "true"}, False),
    ],
)
def test_a_labelled_config_map_stops_those_whom_it_concerns(
    world: World, name: str, reach: str, data: dict[str, str], concerns: bool
) -> None:
    world.config_map(data, name, reach)
    assert (world.table.candidate is None) is concerns
    assert len(world.switches) == 2 + concerns
    if concerns:
        (key,) = data
        assert world.switches[-1] == Switch(
            {"rollouts": "rollouts"}.get(reach, reach), f"ConfigMap {name}, key {key}", on=True
        )
        assert world.series("agentrollout_kills_total") == {("ConfigMap",): 1}


def test_a_wide_switch_without_a_word_is_unknown_and_goes_with_its_config_map(world: World) -> None:
    for data, on in (({}, None), ({"killed": "yes"}, None), ({"killed": "true"}, True)):
        world.config_map(data, "stop", "namespace")
        assert world.switches[-1].on is on
    world.config_map(None, "stop", "namespace")
    assert len(world.switches) == 2
    assert world.table.candidate is None, "what it has killed stays killed"


def test_a_feature_kills_nobody_and_goes_to_the_agents_of_both_versions(world: World) -> None:
    assert world.features == {}
    world.say(SwitchSource.FLAGD, refund_tool=True)
    assert world.table.candidate is not None
    assert world.features == {"x-agentrollout-flag-refund": "true"}
    world.say(SwitchSource.FLAGD, refund_tool="eu-only")
    assert world.features == {"x-agentrollout-flag-refund": "eu-only"}
    world.say(SwitchSource.FLAGD)
    assert len(world.features) == 1, "a source that is lost keeps its last word"
    world.say(SwitchSource.FLAGD, refund_tool="no\nheader")
    assert world.features == {}


def test_the_state_of_every_switch_is_shown(world: World) -> None:
    world.config_map({"agent": "false"})
    world.config_map({"killed": "false"}, "system/stop", "cluster")
    world.config_map({"agent": "false", "no-rollout": "false"}, "kill", "rollouts")
    world.say(SwitchSource.FLAGD)
    shown = world.series("agentrollout_kill_switch")
    assert shown == {
        ("shop/agent", "ops", "ConfigMap flags, key agent", "off"): 1,
        ("shop/agent", "remote", "OFREP flag agent-off", "unknown"): 1,
        ("", "cluster", "ConfigMap system/stop, key killed", "off"): 1,
        ("", "rollouts", "ConfigMap shop/kill, key agent", "off"): 1,
    }
    assert world.series("agentrollout_flags_answered_timestamp_seconds") == {("flagd",): NOW.timestamp()}


def test_words_of_config_maps_that_are_gone_are_kept_only_while_somebody_names_them(world: World) -> None:
    for number in range(3):
        world.config_map({"agent": "true", "killed": "false"}, name=f"preview-{number}")
        world.config_map(None, name=f"preview-{number}")
    world.config_map({"killed": "false"}, name="wide", reach="namespace")
    world.config_map({}, name="wide", reach="namespace")
    book = world.kills.books[SwitchSource.CONFIG_MAP]
    assert book.said("shop/preview-0/agent").value is None
    assert book.said("shop/wide/killed").on is False, "it is there, and what it said last counts"
    world.config_map({"agent": "true"})
    world.config_map(None)
    assert book.said("shop/flags/agent").on is True
    world.rollouts.deleted("shop/agent", rollout(99))
    assert book.said("shop/flags/agent").value is None
