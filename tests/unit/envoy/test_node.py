"""Endpoints on one stream, step by step; tests/property/test_envoy_node.py has every interleaving."""

from __future__ import annotations

from dataclasses import replace

from controller.adapters.envoy.naming import control_name
from controller.adapters.envoy.node import Node, Update
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTE, SCOPE, Bundle
from controller.adapters.envoy.snapshot import bundle
from controller.core.traffic import Backend, Endpoint, ServicePort, TrafficTable

CLUSTER_NAME = "shop/agent/agent-1"
SERVICE = ServicePort("shop/agent", 80)
STABLE = Backend("agent-1", "sha256:1", "agent.shop.svc", 80, service=SERVICE)
BY_URL = Backend("agent-2", "sha256:2", "10.0.0.1", 80)


def wanted(backend: Backend, *addresses: str) -> Bundle:
    table = TrafficTable("shop/agent", ("agent.example",), "x-session-id", backend)
    return bundle(table, RouterOptions(), lambda _: tuple(Endpoint(each, 8080) for each in addresses))


class Stream:
    def __init__(self, first: Bundle) -> None:
        self.wanted = {"shop/agent": first}
        self.node = Node(self.wanted)
        self.node.subscribe(CLUSTER, (), (), {})

    def want(self, changed: Bundle) -> list[Update]:
        self.wanted["shop/agent"] = changed
        self.node.touch("shop/agent")
        return self.node.updates()

    def take(self, updates: list[Update]) -> list[Update]:
        for update in updates:
            self.node.acknowledge(update.nonce)
        return self.node.updates()

    def ask(self, *names: str) -> list[Update]:
        self.node.subscribe(ENDPOINTS, names, (), {})
        return self.node.updates()

    def serve(self) -> None:
        """Up to the routes."""
        self.take(self.node.updates())
        self.node.subscribe(SCOPE, (), (), {})
        self.node.subscribe(ROUTE, ["shop/agent"], (), {})
        updates = self.ask(CLUSTER_NAME)
        while updates:
            updates = self.take(updates)


def types(updates: list[Update]) -> list[str]:
    return [update.type_url for update in updates]


def test_nothing_is_routed_to_a_cluster_before_its_first_assignment_was_taken() -> None:
    stream = Stream(wanted(STABLE))
    clusters = stream.node.updates()
    stream.node.subscribe(SCOPE, (), (), {})
    stream.node.subscribe(ROUTE, ["shop/agent"], (), {})
    assert types(clusters) == [CLUSTER]
    assert stream.take(clusters) == []
    assignment = stream.ask(CLUSTER_NAME)
    assert types(assignment) == [ENDPOINTS], "though it is empty"
    assert types(stream.take(assignment)) == [SCOPE, ROUTE]


def test_a_change_of_pods_sends_the_endpoints_and_nothing_else() -> None:
    stream = Stream(wanted(STABLE, "10.1.0.1"))
    stream.serve()
    updates = stream.want(wanted(STABLE, "10.1.0.1", "10.1.0.2"))
    assert types(updates) == [ENDPOINTS]
    assert stream.node.holds(stream.wanted["shop/agent"]), "endpoints are no part of what is programmed"


def test_endpoints_that_envoy_asks_for_again_are_sent_again() -> None:
    stream = Stream(wanted(STABLE, "10.1.0.1"))
    stream.serve()
    assert types(stream.ask(CLUSTER_NAME)) == [ENDPOINTS]


def test_an_answer_about_the_cluster_of_before_says_nothing_about_the_one_that_is_to_come() -> None:
    stream = Stream(wanted(STABLE, "10.1.0.1"))
    stream.serve()
    stream.take(
        stream.take(stream.want(wanted(BY_URL))[:1])
    )  # the new cluster, and the routes that leave the old one
    late = stream.want(wanted(STABLE, "10.1.0.2"))
    assert types(late) == [CLUSTER, ENDPOINTS]
    again = stream.want(wanted(STABLE, "10.1.0.2"))
    assert again == []
    stream.node.subscribe(ENDPOINTS, (), [CLUSTER_NAME], {})  # sent when Envoy removed the old one
    assert ROUTE not in types(stream.take(late))
    assert types(stream.take(stream.ask(CLUSTER_NAME)))[-1] == ROUTE


def test_refused_endpoints_are_told_and_hold_back_the_routes_of_their_rollout_only() -> None:
    stream = Stream(wanted(STABLE, "10.1.0.1"))
    stream.take(stream.node.updates())
    (update,) = stream.ask(CLUSTER_NAME)
    stream.node.acknowledge(update.nonce, "no such port")
    stream.node.subscribe(SCOPE, (), (), {})
    assert [each.put for each in stream.node.updates()] == [()]
    assert stream.node.refusal(stream.wanted["shop/agent"]) == "no such port"


SPLIT = TrafficTable("shop/agent", ("agent.example",), "x-session-id", BY_URL, STABLE, 10_000)
TUNNEL = f"{CLUSTER_NAME}~tunnel"


def serving(table: TrafficTable, *asked: str) -> Stream:
    stream = Stream(bundle(table, RouterOptions()))
    stream.node.subscribe(LISTENER, (), (), {})
    stream.node.subscribe(SCOPE, (), (), {})
    stream.node.subscribe(ROUTE, ["shop/agent"], (), {})
    updates = stream.node.updates() + stream.ask(*asked)
    while updates:
        updates = stream.take(updates)
    return stream


def names(updates: list[Update]) -> list[tuple[str, list[str], list[str]]]:
    return [(each.type_url, [put.name for put in each.put], list(each.removed)) for each in updates]


def test_a_cluster_that_serves_leads_into_a_tunnel_only_when_all_of_it_was_taken() -> None:
    stream = serving(SPLIT, CLUSTER_NAME)
    assert stream.node.holds(bundle(SPLIT, RouterOptions()))
    tunnel = stream.want(bundle(replace(SPLIT, cut_on_rollback=True), RouterOptions()))
    assert names(tunnel)[0] == (CLUSTER, [TUNNEL], [])
    assert types(tunnel) == [CLUSTER, LISTENER]
    assert stream.take(tunnel) == []
    assert names(stream.take(stream.ask(TUNNEL))) == [(CLUSTER, [CLUSTER_NAME], [])]


def test_when_a_candidate_is_cut_its_listener_goes_after_the_routes_were_taken() -> None:
    split = replace(SPLIT, cut_on_rollback=True)
    stream = serving(split, TUNNEL)
    assert stream.node.holds(bundle(split, RouterOptions()))
    routes = stream.want(bundle(split.without_candidate(), RouterOptions()))
    assert types(routes) == [ROUTE]
    gone = stream.take(routes)
    controls = [control_name("shop/agent", BY_URL, number) for number in range(1, 9)]
    assert {(kind, *sorted(removed)) for kind, _, removed in names(gone)} == {
        (CLUSTER, CLUSTER_NAME, TUNNEL, *controls),
        (LISTENER, TUNNEL),
    }


def test_a_tunnel_that_is_refused_keeps_no_other_rollout_waiting() -> None:
    stream = Stream(bundle(replace(SPLIT, cut_on_rollback=True), RouterOptions()))
    other = bundle(replace(SPLIT, key="shop/other", stable=BY_URL, candidate=None), RouterOptions())
    stream.wanted["shop/other"] = other
    stream.node.subscribe(LISTENER, (), (), {})
    stream.node.subscribe(SCOPE, (), (), {})
    stream.node.subscribe(ROUTE, ["shop/agent", "shop/other"], (), {})
    updates = stream.node.updates() + stream.ask(TUNNEL)
    for _ in range(10):
        for update in updates:
            stream.node.acknowledge(update.nonce, "no" if update.type_url == LISTENER else "")
        updates = stream.node.updates()
    assert stream.node.holds(other)
    assert stream.node.refusal(stream.wanted["shop/agent"]) == "no"
