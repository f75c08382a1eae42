"""The split itself: routes whose weighted clusters are chosen by a hash of the conversation.

The hash of a conversation falls on a fixed point of the ring ``0 … 1 000 000``. The candidate's arc always begins at 0
and stable has the rest, so a larger weight keeps everyone who was in a smaller one: 1 % ⊂ 10 % ⊂ 50 %, exactly. Stable's
control slices lie at the far end of the ring, where the candidate comes last, and sampled conversations in front of them.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2

from controller.adapters.envoy.access_log import FILTER, remember
from controller.adapters.envoy.mirrors import (
    FIT_TO_MIRROR,
    mirrored_shares,
    named_by_host,
    unmirrored_shares,
)
from controller.adapters.envoy.naming import (
    ARTIFACT_HEADER,
    CAPTURE_KEY,
    control_name,
    override_key,
    owner_name,
    sampled_name,
    scope_name,
    upstream_name,
)
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import Resource, overwriting, resource
from controller.adapters.envoy.subjects import PAIR_HEADER
from controller.core.traffic import CONTROL_SLICES, WHOLE_PPM, AudienceSplit, Backend, TrafficTable

_LATER = timedelta(seconds=1)

_MIRRORED = "-mirrored"

_ANYTHING: dict[str, Any] = {"safe_regex": {"regex": ".+"}}


def scopes(table: TrafficTable) -> tuple[Resource, ...]:
    """One scope per host name; each points to the rollout's one route configuration."""
    return tuple(
        resource(
            name,
            scoped_route_pb2.ScopedRouteConfiguration(
                name=name,
                route_configuration_name=owner_name(table.key),
                key={"fragments": [{"string_key": host}]},
            ),
        )
        for host, name in ((host, scope_name(table.key, host)) for host in table.hosts)
    )


def route_configuration(table: TrafficTable, options: RouterOptions) -> Resource:
    """The route configuration of one rollout: audiences in their order, then everyone.

    In front of a split stands the route of break-glass, which matches nobody until its runtime key is set. One key for
    everything, rather than Envoy's keys for each weight: it needs no names of versions, it holds for whatever split is
    pushed while it is set, and no combination of keys can leave a request without a version.
    """
    everyone_on_stable = [_arm(upstream_name(table.key, table.stable), table.stable, WHOLE_PPM, table)]
    if table.candidate is None:
        routes = [_route("everyone", [], everyone_on_stable, [], options)]
    else:
        routes = [_route("break-glass", [], everyone_on_stable, [], options)]
        routes[0].match.runtime_fraction.runtime_key = override_key(table.key)
        routes[0].match.runtime_fraction.default_value.numerator = 0
        for index, audience in enumerate(table.audiences):
            routes += _split(f"audience-{index}", table, options, audience)
        routes += _split("everyone", table, options, None)
    name = owner_name(table.key)
    # The scope has chosen by host already.
    host = route_components_pb2.VirtualHost(name=name, domains=["*"], routes=routes)
    return resource(name, route_pb2.RouteConfiguration(name=name, virtual_hosts=[host]))


def _split(
    label: str, table: TrafficTable, options: RouterOptions, audience: AudienceSplit | None
) -> list[Any]:
    """Routes for each way in which a conversation can be recognised, most telling first.

    Three ways instead of one list of hash policies: only so can each way have the artifact as salt (a cookie
    policy has no rewrite) and the last one hand out the cookie, which Envoy cannot do inside a weighted choice.
    Where requests are mirrored, each way has a route for those that may be and one for those that may not.
    """
    belongs: list[dict[str, Any]] = []
    weight = table.weight_ppm
    if audience is not None:
        exact = "|".join(re.escape(value) for value in audience.values)
        belongs = [{"name": audience.header, "string_match": {"safe_regex": {"regex": exact}}}]
        weight = audience.weight_ppm
    kinds: list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]] = [
        ("", [], _arms(table, weight, audience=audience is not None, mirrored=False))
    ]
    if audience is None and table.sampled_ppm:
        kinds.insert(0, (_MIRRORED, [*FIT_TO_MIRROR], _arms(table, weight, audience=False, mirrored=True)))
    routes = []
    for way, match, policy in _ways(table, options):
        for kind, fit, arms in kinds:
            route = _route(f"{label}-{way}{kind}", [*belongs, *match, *fit], arms, policy, options)
            if kind == _MIRRORED:
                route.match.runtime_fraction.runtime_key = CAPTURE_KEY
                route.match.runtime_fraction.default_value.numerator = 0
            if way == "header" and audience is None and table.exposure is not None:
                route.typed_per_filter_config[FILTER].CopyFrom(remember(table))
            if way == "address":
                value = f"{options.cookie}=%UNIQUE_ID%; Path=/; HttpOnly; SameSite=Lax"
                route.response_headers_to_add.add(header={"key": "set-cookie", "value": value})
            routes.append(route)
    return routes


def _ways(
    table: TrafficTable, options: RouterOptions
) -> list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]:
    """How conversations are recognised: what a request must have for it, and what is hashed then."""
    assert table.candidate is not None  # noqa: S101 - the caller has looked
    salt = table.candidate.artifact_id.replace("\\", "\\\\")
    cookie = f"(?:.*;)?\\s*{re.escape(options.cookie)}=([^;]+).*"
    return [
        (
            "header",
            [{"name": table.affinity_header, "string_match": _ANYTHING}],
            [_hash_header(table.affinity_header, "^", f"{salt}|")],
        ),
        (
            "cookie",
            [{"name": "cookie", "string_match": {"safe_regex": {"regex": cookie}}}],
            [_hash_header("cookie", f"^{cookie}$", f"{salt}|\\1")],
        ),
        (
            "address",
            [],
            # Every request has an authority, so rewriting all of it puts a constant of the artifact into the hash.
            [_hash_header(":authority", "^.*$", salt), {"connection_properties": {"source_ip": True}}],
        ),
    ]


def _hash_header(header: str, pattern: str, substitution: str) -> dict[str, Any]:
    rewrite = {"pattern": {"regex": pattern}, "substitution": substitution}
    return {"header": {"header_name": header, "regex_rewrite": rewrite}}


def _arms(table: TrafficTable, weight: int, *, audience: bool, mirrored: bool) -> list[dict[str, Any]]:
    """Candidate first, then stable, its slices last: the order is what nests the cohorts."""
    assert table.candidate is not None  # noqa: S101 - the caller has looked
    stable, size = table.stable, 0 if audience else table.control_slice_ppm
    sampled = [] if audience else _sampled_arms(table, mirrored=mirrored)
    rest = WHOLE_PPM - weight - CONTROL_SLICES * size - sum(arm["weight"]["value"] for arm in sampled)
    shares = [(table.candidate, weight), (stable, rest)]
    arms = [
        _arm(upstream_name(table.key, backend, audience), backend, share, table) for backend, share in shares
    ]
    numbers = range(1, CONTROL_SLICES + 1) if size else ()
    controls = [_arm(control_name(table.key, stable, number), stable, size, table) for number in numbers]
    return [*arms, *sampled, *controls]


def _sampled_arms(table: TrafficTable, *, mirrored: bool) -> list[dict[str, Any]]:
    shares = mirrored_shares(table) if mirrored else unmirrored_shares(table)
    arms = [
        _arm(sampled_name(table.key, table.stable, how), table.stable, share, table) for how, share in shares
    ]
    for arm in arms if mirrored else ():
        arm["request_headers_to_add"].append(overwriting(PAIR_HEADER, "%UNIQUE_ID%"))
    return arms


def _arm(cluster: str, backend: Backend, weight: int, table: TrafficTable) -> dict[str, Any]:
    # Envoy would take a percent sign for the beginning of a command.
    features = [overwriting(name, value.replace("%", "%%")) for name, value in table.features]
    arm: dict[str, Any] = {
        "name": cluster,
        "weight": {"value": weight},
        "request_headers_to_add": [overwriting(ARTIFACT_HEADER, backend.artifact_id), *features],
    }
    if named_by_host(backend):
        # Elsewhere agents see the host that users asked for.
        arm["host_rewrite_literal"] = backend.host
    return arm


def _route(
    name: str,
    match: list[dict[str, Any]],
    arms: list[dict[str, Any]],
    hash_policy: list[dict[str, Any]],
    options: RouterOptions,
) -> Any:
    """A route with the limits of all routes.

    Only the limit of a try has a counter of the version, and it runs only while the agent is the one to speak; the
    limit of the stream, a little longer, is then left to end what users abandon. Never a retry: it would hide what
    it repeats.
    """
    weighted = {"clusters": arms, "use_hash_policy": {"value": bool(hash_policy)}}
    return route_components_pb2.Route(
        name=name,
        match={"prefix": "/", "headers": match},
        route={
            "weighted_clusters": weighted,
            "hash_policy": hash_policy,
            "timeout": timedelta(0),
            "idle_timeout": options.idle_timeout + _LATER,
            "retry_policy": {"num_retries": {"value": 0}, "per_try_idle_timeout": options.idle_timeout},
        },
    )
