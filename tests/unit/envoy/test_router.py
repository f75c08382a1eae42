"""When a table counts as programmed, with Envoys that are played by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.adapters.envoy.node import Node, Update
from controller.adapters.envoy.resources import CLUSTER, LISTENER, ROUTE, SCOPE
from controller.adapters.envoy.router import EnvoyRouter
from controller.adapters.envoy.xds import _brief, _Stream
from controller.core.traffic import Backend, Endpoint, ServicePort, TrafficTable

KEY = "shop/agent"
FIRST = TrafficTable(KEY, ("a.example",), "x-session-id", Backend("one", "sha256:1", "10.0.0.1", 80))
SECOND = replace(FIRST, candidate=Backend("two", "sha256:2", "10.0.0.2", 80), weight_ppm=10_000)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Played:
    """An Envoy that takes updates when the test says so."""

    def __init__(
        self, router: EnvoyRouter, name: str, known: dict[str, dict[str, str]] | None = None
    ) -> None:
        self.server = router._server
        self.node = Node(self.server._wanted)
        self.server._streams.append(_Stream(self.node))
        self.node.name = name
        for type_url in (CLUSTER, LISTENER, SCOPE, ROUTE):
            names = ["shop/agent"] if type_url == ROUTE else []
            self.node.subscribe(type_url, names, (), (known or {}).get(type_url, {}))
        self.server._on_nodes()

    def take(self, refusal: str = "") -> None:
        while updates := self.node.updates():
            for update in updates:
                self.answer(update, refusal)

    def answer(self, update: Update, refusal: str = "") -> None:
        self.server._on_answer(self.node.acknowledge(update.nonce, refusal))

    def leave(self) -> None:
        self.server._streams = [each for each in self.server._streams if each.node is not self.node]
        self.server._on_nodes()

    def holding(self) -> dict[str, dict[str, str]]:
        acked = self.node._holdings["shop/agent"].acked
        return {
            kind: {name: version for (held, name), version in acked.items() if held == kind}
            for kind in (CLUSTER, SCOPE, ROUTE)
        }


@pytest.fixture
def times() -> list[datetime]:
    return [NOON]


@pytest.fixture
def router(times: list[datetime]) -> EnvoyRouter:
    return EnvoyRouter(now=lambda: times[-1])


async def test_nothing_is_programmed_while_no_envoy_is_there(router: EnvoyRouter) -> None:
    router.publish(FIRST)

    assert router.programmed(KEY).table is None
    assert router.programmed(KEY).instances == 0


async def test_the_acknowledgement_has_the_time_of_the_clock(
    router: EnvoyRouter, times: list[datetime]
) -> None:
    envoy = Played(router, "one")
    router.publish(FIRST)
    times.append(NOON + timedelta(seconds=3))
    envoy.take()

    assert router.programmed(KEY).acknowledged_at == NOON + timedelta(seconds=3)


async def test_the_last_of_several_envoys_decides(router: EnvoyRouter) -> None:
    one, two = Played(router, "one"), Played(router, "two")
    router.publish(FIRST)
    one.take()
    two.take()
    router.publish(SECOND)
    one.take()
    assert router.programmed(KEY).table == FIRST
    two.take()
    assert router.programmed(KEY).table == SECOND


async def test_an_envoy_that_left_is_not_waited_for(router: EnvoyRouter) -> None:
    one, two = Played(router, "one"), Played(router, "two")
    router.publish(FIRST)
    one.take()
    two.take()
    router.publish(SECOND)
    one.take()
    two.leave()

    assert router.programmed(KEY).table == SECOND


async def test_a_fresh_envoy_does_not_unsettle_what_is_programmed(router: EnvoyRouter) -> None:
    one = Played(router, "one")
    router.publish(FIRST)
    one.take()
    fresh = Played(router, "fresh")
    assert router.programmed(KEY).table == FIRST
    clusters = fresh.node.updates()
    assert router.programmed(KEY).table == FIRST
    for update in clusters:
        fresh.answer(update)
    fresh.take()
    assert router.programmed(KEY).table == FIRST


async def test_an_envoy_that_is_being_given_its_first_routes_holds_up_newer_tables(
    router: EnvoyRouter,
) -> None:
    one = Played(router, "one")
    router.publish(FIRST)
    one.take()
    fresh = Played(router, "fresh")
    for update in fresh.node.updates():
        fresh.answer(update)
    # Routes and scopes are on their way, not yet acknowledged.
    assert any(update.type_url == ROUTE for update in fresh.node.updates())
    router.publish(SECOND)
    one.take()
    assert router.programmed(KEY).table == FIRST


async def test_an_envoy_that_comes_back_with_an_old_split_is_told_of(router: EnvoyRouter) -> None:
    one = Played(router, "one")
    router.publish(FIRST)
    one.take()
    old = one.holding()
    one.leave()
    two = Played(router, "two")
    router.publish(SECOND)
    two.take()
    assert router.programmed(KEY).table == SECOND

    back = Played(router, "one", old)
    router.on_change(lambda _: None)
    assert router.programmed(KEY).table is None
    back.take()
    assert router.programmed(KEY).table == SECOND


async def test_a_refused_table_leaves_the_one_before_and_gives_the_reason(router: EnvoyRouter) -> None:
    envoy = Played(router, "one")
    router.publish(FIRST)
    envoy.take()
    router.publish(SECOND)
    envoy.take("no such thing")

    assert router.programmed(KEY).table == FIRST
    assert router.programmed(KEY).error == "one: no such thing"


async def test_publishing_the_same_again_sends_nothing(router: EnvoyRouter) -> None:
    envoy = Played(router, "one")
    router.publish(FIRST)
    envoy.take()
    router.publish(replace(FIRST))

    assert envoy.node.updates() == []


async def test_a_table_that_changes_nothing_in_envoy_is_programmed_at_once(router: EnvoyRouter) -> None:
    envoy = Played(router, "one")
    router.publish(FIRST)
    envoy.take()
    router.publish(replace(FIRST, attempt=1))

    assert envoy.node.updates() == []
    assert router.programmed(KEY).table == replace(FIRST, attempt=1)


async def test_callers_are_told_of_every_change(router: EnvoyRouter) -> None:
    told: list[str] = []
    router.on_change(told.append)
    envoy = Played(router, "one")
    router.publish(FIRST)
    told.clear()
    envoy.take()
    assert told == [KEY]


async def test_removing_what_is_unknown_is_nothing(router: EnvoyRouter) -> None:
    router.remove("shop/unknown")

    assert router.programmed("shop/unknown").table is None


async def test_a_rollout_that_is_removed_without_envoys_is_forgotten(router: EnvoyRouter) -> None:
    router.publish(FIRST)
    router.remove(KEY)

    assert router._progress == {}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("plain\n  words", "plain words"),
        ("goo.gle/debugstr name: x (A: bad | caused by B.C: too long)", "B.C: too long"),
        ("", "Envoy refused it without a reason"),
        (
            "goo.gle/debugonly name: x ...(truncated)",
            "Envoy refused it and cut its own message off before the reason: goo.gle/debugonly name: x ...(truncated)",
        ),
    ],
)
def test_envoys_words_are_brief(words: str, reason: str) -> None:
    assert _brief(words) == reason


class Pods:
    """The endpoints of Services, as they are told to be."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[Endpoint, ...]] = {}
        self.tell: Callable[[str], None] = lambda _: None

    def endpoints(self, service: ServicePort) -> tuple[Endpoint, ...]:
        return self.found.get(service.key, ())

    def on_change(self, callback: Callable[[str], None]) -> None:
        self.tell = callback


async def test_endpoints_reach_the_rollouts_that_refer_to_their_service_for_as_long_as_they_do() -> None:
    pods = Pods()
    router = EnvoyRouter(now=lambda: NOON, endpoints=pods)
    behind = replace(FIRST.stable, service=ServicePort("shop/one", 80))
    router.publish(replace(FIRST, stable=behind))
    router.publish(replace(FIRST, key="shop/other", hosts=("other.example",)))
    before = dict(router._wanted)
    pods.found["shop/one"] = (Endpoint("10.1.0.1", 8080),)
    pods.tell("shop/one")
    changed = {owner for owner, wanted in router._wanted.items() if wanted != before[owner]}
    assert changed == {KEY}
    assert router._wanted[KEY].resources == before[KEY].resources
    router.publish(FIRST)
    assert router._wanted[KEY].endpoints == ()
    router.remove(KEY)
    pods.tell("shop/one")
    assert router._owners == {}


async def test_another_feature_is_brought_to_the_envoys_and_is_no_other_split(router: EnvoyRouter) -> None:
    envoy = Played(router, "one")
    router.publish(FIRST)
    envoy.take()
    before = envoy.holding()
    router.publish(replace(FIRST, features=(("x-agentrollout-flag-refund", "false"),)))
    assert router.programmed(KEY).serves(FIRST), "what is programmed stays so meanwhile"
    envoy.take()
    assert router.programmed(KEY).serves(FIRST)
    assert envoy.holding()[ROUTE] != before[ROUTE]
