from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_pb2, scoped_route_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from controller.adapters.envoy.access_log import FILTER
from controller.adapters.envoy.naming import (
    cluster_name,
    control_name,
    override_key,
    owner_name,
    owner_of,
    version_of,
)
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import CLUSTER, LISTENER, ROUTE, SCOPE, Bundle
from controller.adapters.envoy.snapshot import bundle, snapshot
from controller.core.traffic import AudienceSplit, Backend, Endpoint, ServicePort, TrafficTable

pytestmark = pytest.mark.unit

STABLE = Backend("agent-1", "sha256:aaaa", "10.0.0.1", 8080)
CANDIDATE = Backend("agent-2", "sha256:bbbb", "agent-2.shop.svc", 8080)
INTERNAL = AudienceSplit("x-user-group", ("internal",), 1_000_000)
TABLE = TrafficTable("shop/agent", ("a.example", "b.example"), "x-session-id", STABLE)
SPLIT = replace(TABLE, candidate=CANDIDATE, weight_ppm=10_000)
CONTROLS = [f"shop/agent/agent-1~control{number}" for number in range(1, 9)]
OPTIONS = RouterOptions()


def all_routes(table: TrafficTable) -> list[Any]:
    (resource,) = bundle(table, OPTIONS).of_type(ROUTE)
    (host,) = route_pb2.RouteConfiguration.FromString(resource.value).virtual_hosts
    return list(host.routes)


def routes(table: TrafficTable) -> list[Any]:
    """The routes of the split, without that of break-glass."""
    return [route for route in all_routes(table) if route.name != "break-glass"]


def clusters(table: TrafficTable) -> dict[str, Any]:
    return {
        each.name: cluster_pb2.Cluster.FromString(each.value)
        for each in bundle(table, OPTIONS).of_type(CLUSTER)
    }


def tunnel(cluster: Any) -> str:
    """The internal listener that a cluster leads to, if it leads to one."""
    hosts = cluster.load_assignment.endpoints[0].lb_endpoints
    return str(hosts[0].endpoint.address.envoy_internal_address.server_listener_name)


def arms(route: Any) -> list[tuple[str, int]]:
    return [(arm.name, arm.weight.value) for arm in route.route.weighted_clusters.clusters]


def versions(built: Bundle) -> dict[tuple[str, str], str]:
    return {(each.type_url, each.name): each.version for each in built.resources}


def test_without_a_candidate_everyone_goes_to_stable_and_no_cookie_is_set() -> None:
    (route,) = routes(TABLE)

    assert arms(route) == [("shop/agent/agent-1", 1_000_000)]
    assert not route.response_headers_to_add


def test_the_candidate_comes_first_so_that_cohorts_nest() -> None:
    for route in routes(SPLIT):
        assert arms(route)[:2] == [("shop/agent/agent-2", 10_000), ("shop/agent/agent-1", 910_000)]
        assert route.route.weighted_clusters.use_hash_policy.value


def test_the_control_slices_come_last_and_are_clusters_of_stable() -> None:
    for route in routes(SPLIT):
        assert arms(route)[2:] == [(name, 10_000) for name in CONTROLS]
        (*_, header) = (
            arm.request_headers_to_add[0].header for arm in route.route.weighted_clusters.clusters
        )
        assert header.value == "sha256:aaaa"
    found = clusters(replace(SPLIT, stable=replace(STABLE, http2=True), cut_on_rollback=True))
    for number in range(1, 9):
        control = found[control_name("shop/agent", replace(STABLE, http2=True), number)]
        control.name = control.load_assignment.cluster_name = "shop/agent/agent-1~h2"
        assert control == found["shop/agent/agent-1~h2"]


@pytest.mark.parametrize("weight", [0, 500_001, 1_000_000])
def test_without_control_slices_stable_is_one_cluster(weight: int) -> None:
    table = replace(SPLIT, weight_ppm=weight)

    assert set(clusters(table)) == {"shop/agent/agent-1", "shop/agent/agent-2"}
    assert arms(routes(table)[0])[1:] == [("shop/agent/agent-1", 1_000_000 - weight)]


def test_the_endpoints_of_stable_are_those_of_its_control_slices() -> None:
    behind = replace(STABLE, service=ServicePort("shop/agent", 80))
    built = bundle(replace(SPLIT, stable=behind), OPTIONS, lambda _: (Endpoint("10.1.0.1", 8080),))

    assert [each.name for each in built.endpoints] == ["shop/agent/agent-1", *CONTROLS]


def test_conversations_are_recognised_by_header_then_cookie_then_address() -> None:
    by_header, by_cookie, by_address = routes(SPLIT)

    assert [each.name for each in by_header.match.headers] == ["x-session-id"]
    assert [each.name for each in by_cookie.match.headers] == ["cookie"]
    assert not by_address.match.headers
    assert by_address.response_headers_to_add[0].header.key == "set-cookie"


def test_every_way_of_recognising_is_salted_with_the_candidate_artifact() -> None:
    for route in routes(SPLIT):
        policy = route.route.hash_policy[0].header
        assert "sha256:bbbb" in policy.regex_rewrite.substitution


def test_audiences_are_matched_first_and_have_clusters_of_their_own() -> None:
    table = replace(SPLIT, audiences=(INTERNAL,))

    found = routes(table)

    assert [route.match.headers[0].name for route in found[:3]] == ["x-user-group"] * 3
    assert arms(found[0]) == [("shop/agent/agent-2~audience", 1_000_000), ("shop/agent/agent-1~audience", 0)]
    assert set(clusters(table)) == {
        *CONTROLS,
        *(
            cluster_name("shop/agent", revision, audience)
            for revision in ("agent-1", "agent-2")
            for audience in (False, True)
        ),
    }


def test_the_values_of_an_audience_are_taken_literally() -> None:
    table = replace(SPLIT, audiences=(replace(INTERNAL, values=("a.b", "c|d")),))

    assert routes(table)[0].match.headers[0].string_match.safe_regex.regex == r"a\.b|c\|d"


def test_in_front_of_a_split_stands_what_break_glass_switches_on_and_it_knows_stable_only() -> None:
    found = all_routes(replace(SPLIT, audiences=(INTERNAL,)))

    assert [route.name for route in found].index("break-glass") == 0
    assert found[0].match.runtime_fraction.runtime_key == override_key("shop/agent")
    assert found[0].match.runtime_fraction.default_value.numerator == 0
    assert arms(found[0]) == [("shop/agent/agent-1", 1_000_000)]
    assert [route.name for route in all_routes(TABLE)] == ["everyone"]


def test_each_version_is_told_which_artifact_it_is() -> None:
    for arm in routes(SPLIT)[0].route.weighted_clusters.clusters:
        (header,) = arm.request_headers_to_add
        assert header.header.key == "x-agentrollout-artifact"
        assert header.append_action == header.OVERWRITE_IF_EXISTS_OR_ADD


def test_features_go_to_the_agents_of_every_version_whatever_users_send() -> None:
    features = (("x-agentrollout-flag-refund", "50%"),)
    for table in (TABLE, replace(SPLIT, audiences=(INTERNAL,))):
        for route in all_routes(replace(table, features=features)):
            for arm in route.route.weighted_clusters.clusters:
                _, feature = arm.request_headers_to_add
                assert (feature.header.key, feature.header.value) == ("x-agentrollout-flag-refund", "50%%")
                assert feature.append_action == feature.OVERWRITE_IF_EXISTS_OR_ADD


def test_a_candidate_that_is_killed_loses_the_listener_that_it_keeps_when_it_drains() -> None:
    split = replace(SPLIT, cut_on_kill=True)

    def listeners(table: TrafficTable) -> list[str]:
        return [each.name for each in bundle(table, OPTIONS).of_type(LISTENER)]

    candidate, stable = "shop/agent/agent-2~tunnel", "shop/agent/agent-1~tunnel"
    assert sorted(listeners(split)) == [stable, candidate]
    assert listeners(split.without_candidate(killed=True)) == [stable]
    drained = split.without_candidate()
    assert sorted(listeners(drained)) == [stable, candidate]
    again = replace(split, draining=drained.draining)
    assert sorted(listeners(again)) == [stable, candidate], "once, although it drains as well"


def test_a_promoted_candidate_keeps_its_cluster_unchanged() -> None:
    before = versions(bundle(SPLIT, OPTIONS))
    after = versions(bundle(replace(TABLE, stable=CANDIDATE), OPTIONS))

    assert before[CLUSTER, "shop/agent/agent-2"] == after[CLUSTER, "shop/agent/agent-2"]


def test_a_candidate_that_can_be_cut_is_reached_through_a_listener_and_stable_is_not() -> None:
    table = replace(SPLIT, audiences=(INTERNAL,), cut_on_rollback=True)

    found, built = clusters(table), bundle(table, OPTIONS)

    assert set(found) == {*clusters(replace(table, cut_on_rollback=False)), "shop/agent/agent-2~tunnel"}
    assert {name: tunnel(cluster) for name, cluster in found.items() if tunnel(cluster)} == {
        "shop/agent/agent-2": "shop/agent/agent-2~tunnel",
        "shop/agent/agent-2~audience": "shop/agent/agent-2~tunnel",
    }
    assert "shop/agent/agent-2~tunnel" in {each.name for each in built.resources if each.type_url == LISTENER}
    assert arms(routes(table)[-1]) == arms(routes(SPLIT)[-1])


def test_a_promoted_candidate_that_could_be_cut_keeps_its_listener_and_no_new_request_takes_it() -> None:
    split = replace(SPLIT, cut_on_rollback=True)
    promoted = replace(split.without_candidate(), stable=CANDIDATE)
    before, after = bundle(split, OPTIONS), bundle(promoted, OPTIONS)

    (listener,) = (each for each in before.resources if each.type_url == LISTENER)
    assert listener in after.retained
    assert not any(tunnel(cluster) for cluster in clusters(promoted).values())


def test_taken_back_a_candidate_that_can_be_cut_loses_its_listener() -> None:
    built = bundle(replace(SPLIT, cut_on_rollback=True).without_candidate(), OPTIONS)

    assert [each.name for each in built.of_type(LISTENER)] == ["shop/agent/agent-1~tunnel"]


def test_the_endpoints_of_a_candidate_that_can_be_cut_are_those_of_its_tunnel() -> None:
    behind = replace(CANDIDATE, service=ServicePort("shop/agent", 80))
    built = bundle(
        replace(SPLIT, candidate=behind, cut_on_rollback=True),
        OPTIONS,
        lambda _: (Endpoint("10.1.0.1", 8080),),
    )

    assert [each.name for each in built.endpoints] == ["shop/agent/agent-2~tunnel"]


def test_another_weight_changes_the_route_configuration_only() -> None:
    before = versions(bundle(SPLIT, OPTIONS))
    after = versions(bundle(replace(SPLIT, weight_ppm=100_000), OPTIONS))

    assert {name for name in after if before.get(name) != after[name]} == {(ROUTE, "shop/agent")}


def test_each_host_leads_to_the_route_configuration_of_its_rollout() -> None:
    found = [
        scoped_route_pb2.ScopedRouteConfiguration.FromString(each.value)
        for each in bundle(TABLE, OPTIONS).of_type(SCOPE)
    ]

    assert [(each.key.fragments[0].string_key, each.route_configuration_name) for each in found] == [
        ("a.example", "shop/agent"),
        ("b.example", "shop/agent"),
    ]


def test_only_names_need_dns() -> None:
    found = clusters(SPLIT)

    assert found["shop/agent/agent-1"].type == cluster_pb2.Cluster.STATIC
    assert found["shop/agent/agent-2"].type == cluster_pb2.Cluster.STRICT_DNS


def test_tls_is_verified_against_the_name_of_the_backend() -> None:
    found = clusters(replace(TABLE, stable=replace(STABLE, host="agent.example", tls=True)))

    socket = found["shop/agent/agent-1"].transport_socket
    assert socket.name == "envoy.transport_sockets.tls"
    assert b"agent.example" in socket.typed_config.value


def test_an_agent_is_spoken_to_as_its_version_says_and_http2_is_in_the_name_of_its_clusters() -> None:
    table = replace(SPLIT, candidate=replace(CANDIDATE, http2=True), audiences=(INTERNAL,))
    found = clusters(table)
    options = {
        name: http_protocol_options_pb2.HttpProtocolOptions.FromString(value.value).explicit_http_config
        for name, cluster in found.items()
        for value in cluster.typed_extension_protocol_options.values()
    }

    assert {name: each.WhichOneof("protocol_config") for name, each in options.items()} == {
        "shop/agent/agent-2~h2": "http2_protocol_options",
        "shop/agent/agent-1": "http_protocol_options",
        "shop/agent/agent-2~audience~h2": "http2_protocol_options",
        "shop/agent/agent-1~audience": "http_protocol_options",
        **dict.fromkeys(CONTROLS, "http_protocol_options"),
    }
    assert found["shop/agent/agent-2~h2"].HasField("upstream_connection_options")
    assert {name for route in routes(table) for name, _ in arms(route)} == set(found)


def test_users_who_do_not_read_cannot_fill_the_window_of_all() -> None:
    found = clusters(replace(TABLE, stable=replace(STABLE, http2=True)))
    (value,) = found["shop/agent/agent-1~h2"].typed_extension_protocol_options.values()
    parsed = http_protocol_options_pb2.HttpProtocolOptions.FromString(value.value)
    options = parsed.explicit_http_config.http2_protocol_options

    filled = options.max_concurrent_streams.value * options.initial_stream_window_size.value
    assert filled <= options.initial_connection_window_size.value


def test_http2_behind_tls_is_agreed_on_by_alpn() -> None:
    for http2, offered in ((True, ["h2"]), (False, [])):
        secure = replace(STABLE, host="agent.example", tls=True, http2=http2)
        (cluster,) = clusters(replace(TABLE, stable=secure)).values()
        context = tls_pb2.UpstreamTlsContext.FromString(cluster.transport_socket.typed_config.value)
        assert list(context.common_tls_context.alpn_protocols) == offered


def test_dots_in_names_do_not_reach_the_prometheus_label() -> None:
    assert cluster_name("shop/my.agent", "my.agent-1", audience=True) == "shop/my_agent/my_agent-1~audience"


def test_the_owner_is_read_from_any_resource_name() -> None:
    table = replace(SPLIT, key="shop/my.agent", audiences=(INTERNAL,))

    owners = {owner_of(each.name) for each in bundle(table, OPTIONS).resources}

    assert owners == {owner_name("shop/my.agent")}


def test_a_snapshot_has_the_listener_and_every_rollout() -> None:
    assert set(snapshot([TABLE, replace(TABLE, key="shop/other", hosts=("c.example",))], OPTIONS)) == {
        "agentrollout",
        "shop/agent",
        "shop/other",
    }


def test_only_routes_of_conversations_known_by_header_remember_them_and_only_where_they_count() -> None:
    counted = replace(SPLIT, exposure=timedelta(minutes=1), audiences=(INTERNAL,))
    remembering = [route.name for route in all_routes(counted) if FILTER in route.typed_per_filter_config]
    assert remembering == ["everyone-header"]
    assert not any(route.typed_per_filter_config for route in all_routes(SPLIT))


@pytest.mark.parametrize("control", ["", "~control3"])
@pytest.mark.parametrize("protocol", ["", "~h2"])
def test_a_cluster_says_which_version_it_is_of_dots_and_all(control: str, protocol: str) -> None:
    name = cluster_name("shop/my.agent", "my.agent-0123456789")
    assert version_of(f"{name}{control}{protocol}") == ("shop/my.agent", "my.agent-0123456789")
