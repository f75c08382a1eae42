"""What holds for the resources of every traffic table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from envoy.config.route.v3 import route_pb2
from hypothesis import given
from hypothesis import strategies as st

from controller.adapters.envoy.naming import cluster_name, owner_of
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import CLUSTER, ROUTE
from controller.adapters.envoy.snapshot import bundle, snapshot
from controller.core.traffic import WHOLE_PPM, AudienceSplit, Backend, TrafficTable

OPTIONS = RouterOptions()
NAMES = st.from_regex(r"[a-z]([a-z0-9.-]{0,10}[a-z0-9])?", fullmatch=True)
WEIGHTS = st.integers(0, WHOLE_PPM)
HEADER_VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
BACKENDS = st.builds(
    Backend,
    revision=NAMES,
    artifact_id=NAMES.map("sha256:{}".format),
    host=st.sampled_from(["10.0.0.1", "::1", "agent.shop.svc"]),
    port=st.integers(1, 65_535),
    tls=st.booleans(),
)
AUDIENCES = st.builds(
    AudienceSplit,
    header=st.just("x-user-group"),
    values=st.lists(HEADER_VALUES, min_size=1, max_size=3).map(tuple),
    weight_ppm=WEIGHTS,
)


@st.composite
def tables(draw: st.DrawFn) -> TrafficTable:
    stable, candidate = draw(st.lists(BACKENDS, min_size=2, max_size=2, unique_by=lambda each: each.revision))
    return TrafficTable(
        key=f"shop/{draw(NAMES)}",
        hosts=tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))),
        affinity_header="x-session-id",
        stable=stable,
        candidate=draw(st.sampled_from([None, candidate])),
        weight_ppm=draw(WEIGHTS),
        audiences=tuple(draw(st.lists(AUDIENCES, max_size=2))),
    )


def routes(table: TrafficTable) -> list[Any]:
    (resource,) = bundle(table, OPTIONS).of_type(ROUTE)
    (host,) = route_pb2.RouteConfiguration.FromString(resource.value).virtual_hosts
    return list(host.routes)


@given(tables())
def test_the_weights_of_every_route_sum_to_the_whole(table: TrafficTable) -> None:
    for route in routes(table):
        assert sum(arm.weight.value for arm in route.route.weighted_clusters.clusters) == WHOLE_PPM


@given(tables())
def test_every_route_refers_to_clusters_of_the_same_bundle(table: TrafficTable) -> None:
    clusters = {each.name for each in bundle(table, OPTIONS).of_type(CLUSTER)}
    referred = {arm.name for route in routes(table) for arm in route.route.weighted_clusters.clusters}
    assert referred == clusters


@given(tables())
def test_the_last_route_of_a_table_takes_everyone(table: TrafficTable) -> None:
    last = routes(table)[-1]
    assert last.match.prefix == "/"
    assert not last.match.headers


@given(tables())
def test_without_a_candidate_nothing_refers_to_it(table: TrafficTable) -> None:
    alone = table.without_candidate()
    stable = cluster_name(table.key, table.stable.revision)
    assert {each.name for each in bundle(alone, OPTIONS).of_type(CLUSTER)} == {stable}
    assert [arm.name for route in routes(alone) for arm in route.route.weighted_clusters.clusters] == [stable]


@given(st.lists(tables(), min_size=2, max_size=4, unique_by=lambda each: each.key), WEIGHTS, BACKENDS)
def test_a_change_of_one_rollout_touches_its_own_resources_only(
    several: list[TrafficTable], weight: int, candidate: Backend
) -> None:
    first, *others = several
    changed = replace(first, candidate=candidate, weight_ppm=weight)
    before, after = snapshot(several, OPTIONS), snapshot([changed, *others], OPTIONS)

    differing = {owner for owner in after if before.get(owner) != after[owner]}
    assert differing <= {owner_of(each.name) for each in bundle(changed, OPTIONS).resources}


@given(tables())
def test_the_same_table_has_the_same_versions(table: TrafficTable) -> None:
    assert bundle(table, OPTIONS) == bundle(replace(table), OPTIONS)
