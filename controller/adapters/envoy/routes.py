"""The split itself: routes whose weighted clusters are chosen by a hash of the conversation.

The hash of a conversation falls on a fixed point of the ring ``0 … 1 000 000``. The candidate's arc always begins at 0
and stable has the rest, so a larger weight keeps everyone who was in a smaller one: 1 % ⊂ 10 % ⊂ 50 %, exactly. Stable's
control slices lie at the far end of the ring, where the candidate comes last.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2

from controller.adapters.envoy.access_log import FILTER, remember
from controller.adapters.envoy.clusters import is_ip
from controller.adapters.envoy.naming import (
    control_name,
    override_key,
    owner_name,
    scope_name,
    upstream_name,
)
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import Resource, resource
from controller.core.traffic import CONTROL_SLICES, WHOLE_PPM, AudienceSplit, Backend, TrafficTable

ARTIFACT_HEADER = "x-agentrollout-artifact"
"""Tells the agent which artifact it is answering as."""

_LATER = timedelta(seconds=1)

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
    everyone_on_stable = [_arm(upstream_name(table.key, table.stable), table.stable, WHOLE_PPM)]
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
    """One route for each way in which a conversation can be recognised, most telling first.

    Three routes instead of one list of hash policies: only so can each way have the artifact as salt (a cookie
    policy has no rewrite) and the last one hand out the cookie, which Envoy cannot do inside a weighted choice.
    """
    assert table.candidate is not None  # noqa: S101 - the caller has looked
    belongs: list[dict[str, Any]] = []
    weight = table.weight_ppm
    if audience is not None:
        exact = "|".join(re.escape(value) for value in audience.values)
        belongs = [{"name": audience.header, "string_match": {"safe_regex": {"regex": exact}}}]
        weight = audience.weight_ppm
    arms = _arms(table, weight, audience=audience is not None)
    salt = table.candidate.artifact_id.replace("\\", "\\\\")
    cookie = f"(?:.*;)?\\s*{re.escape(options.cookie)}=([^;]+).*"
    ways: list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]] = [
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
    routes = [_route(f"{label}-{way}", belongs + match, arms, policy, options) for way, match, policy in ways]
    value = f"{options.cookie}=%UNIQUE_ID%; Path=/; HttpOnly; SameSite=Lax"
    if audience is None and table.exposure is not None:
        routes[0].typed_per_filter_config[FILTER].CopyFrom(remember(table))
    routes[-1].response_headers_to_add.add(header={"key": "set-cookie", "value": value})
    return routes


def _hash_header(header: str, pattern: str, substitution: str) -> dict[str, Any]:
    rewrite = {"pattern": {"regex": pattern}, "substitution": substitution}
    return {"header": {"header_name": header, "regex_rewrite": rewrite}}


def _arms(table: TrafficTable, weight: int, *, audience: bool) -> list[dict[str, Any]]:
    """Candidate first, then stable, its slices last: the order is what nests the cohorts."""
    assert table.candidate is not None  # noqa: S101 - the caller has looked
    stable, size = table.stable, 0 if audience else table.control_slice_ppm
    shares = [(table.candidate, weight), (stable, WHOLE_PPM - weight - CONTROL_SLICES * size)]
    arms = [_arm(upstream_name(table.key, backend, audience), backend, share) for backend, share in shares]
    numbers = range(1, CONTROL_SLICES + 1) if size else ()
    return arms + [_arm(control_name(table.key, stable, number), stable, size) for number in numbers]


def _arm(cluster: str, backend: Backend, weight: int) -> dict[str, Any]:
    artifact = {"key": ARTIFACT_HEADER, "value": backend.artifact_id}
    arm: dict[str, Any] = {
        "name": cluster,
        "weight": {"value": weight},
        "request_headers_to_add": [{"header": artifact, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
    }
    if backend.tls and not is_ip(backend.host):
        # Behind TLS the name usually also selects the site; elsewhere agents see the host that users asked for.
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
