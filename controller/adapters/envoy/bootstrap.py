"""The configuration that a router Envoy is started with; all else it learns from the operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controller.adapters.envoy.doors import (
    BreakGlass,
    Endpoint,
    address,
    admin_cluster,
    break_glass_listener,
    metrics_listener,
)
from controller.adapters.envoy.metrics import GRPC_ERRORS, LATENCY_EDGES_MS, PROTOCOL_LABEL, SLICE_LABEL
from controller.adapters.envoy.mutual_tls import XdsTls, transport_socket
from controller.adapters.envoy.naming import (
    AUDIENCE_SUFFIX,
    CAPTURE_KEY,
    CONTROL_SUFFIX,
    HTTP2,
    HTTP2_SUFFIX,
    OPERATORS,
)

_CONNECTIONS_BROKEN = r"protocol_error|destroy_(remote|local)_with_active_rq"
"""Of HTTP/1.1 only, where a connection has one request at a time."""

_SLICE = f"{CONTROL_SUFFIX}[0-9]"

_STATS_KEPT = (
    # Rollouts have no dots in their cluster names, which keeps the copies that Envoy makes per origin out.
    {
        "safe_regex": {
            "regex": r"cluster\.[^.]+\.upstream_"
            r"(rq_(completed|total|active|time|[1-5]xx|per_try_idle_timeout|pending_failure_eject"
            r"|pending_overflow|cancelled)|cx_active)"
        }
    },
    {
        "safe_regex": {
            "regex": rf"cluster\.[^.~]+(?:{AUDIENCE_SUFFIX}|{_SLICE})?\.upstream_cx_({_CONNECTIONS_BROKEN})"
        }
    },
    {"safe_regex": {"regex": rf"cluster\.[^.]+{HTTP2_SUFFIX}\.upstream_rq_[rt]x_reset"}},
    {"safe_regex": {"regex": rf"cluster\.[^.]+{HTTP2_SUFFIX}\.grpc\.({'|'.join(GRPC_ERRORS)})"}},
    {
        "safe_regex": {
            "regex": r"http\.agentrollout\.(downstream_(rq_(total|active|[1-5]xx)|cx_active)|no_route)"
        }
    },
    {"safe_regex": {"regex": r"(listener_manager\.lds|cluster_manager\.cds)\.update_(success|rejected)"}},
    {"exact": "control_plane.connected_state"},
    {"exact": "runtime.admin_overrides_active"},
    {"safe_regex": {"regex": r"access_logs\.grpc_access_log\.logs_(written|dropped)"}},
    {"safe_regex": {"regex": r"server\.(live|uptime|memory_allocated)"}},
)
"""The evidence (metrics.py) and a few for people: each series costs memory in every Envoy, for every version."""

_TAGS = (
    {"tag_name": "envoy.response_code_class"},
    {"tag_name": "envoy.http_conn_manager_prefix"},
    # Protocol and slice leave the name and become labels of their own, so that questions need not know them: what is
    # asked about stable is asked about all of it.
    {"tag_name": "envoy.cluster_name", "regex": rf"^cluster\.(([^.]+?)(?:{_SLICE})?(?:{HTTP2_SUFFIX})?\.)"},
    {"tag_name": PROTOCOL_LABEL.replace("_", "."), "regex": rf"^cluster\.[^.]+(~({HTTP2}))\."},
    {"tag_name": SLICE_LABEL.replace("_", "."), "regex": rf"^cluster\.[^.]+?({CONTROL_SUFFIX}([0-9]))[.~]"},
)
"""Envoy takes a rule for a name that it has one for only when its own are off; nothing that is kept has other tags."""

_RECONNECT = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "2s"}}
"""Envoy's own default lets up to 30 s pass before a restarted operator can take a version back."""

_KEEPALIVE = {"interval": "2s", "timeout": "3s"}
"""Pings end the connection to an operator that hangs or is gone without a word; its gRPC answers them however busy it is."""

_HEALTH_CHECK = {
    "interval": "1s",
    "no_traffic_interval": "1s",
    "timeout": "1s",
    "unhealthy_threshold": 2,
    "healthy_threshold": 1,
    "grpc_health_check": {},
}
"""Tells which replica to go to: one that hangs still takes connections. It ends none: Envoy would let streams go on."""

_INTERNAL_LISTENER = "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"


def bootstrap(  # noqa: PLR0913  each is an interface of its own
    node_id: str,
    *,
    operators: Sequence[Endpoint],
    admin: Endpoint | None = None,
    metrics: Endpoint | None = None,
    break_glass: BreakGlass | None = None,
    xds_tls: XdsTls | None = None,
    max_connections: int = 50_000,
    stats_flush_seconds: float = 1.0,
) -> dict[str, Any]:
    """The bootstrap of one router instance, as a dict that serialises to Envoy's JSON or YAML.

    Args:
        node_id: Name of this instance, unique among those that the operator serves.
        operators: Where the replicas of the operator serve xDS, one or several; a host may be a DNS name with an
            address for each replica.
        admin: The admin interface; anyone who reaches it can change the split. None leaves ``admin`` to the caller.
        metrics: Where the Prometheus page can be read without reaching the admin interface; None for nowhere else.
        break_glass: Where a person can take a version back when nothing else is alive; None for nowhere.
        xds_tls: How to speak to the operators; None in clear. The router then needs the files of `mutual_tls.secrets`.
        max_connections: Limit of user connections.
        stats_flush_seconds: How old the histograms may be when they are scraped.

    Raises:
        ValueError: If there is no operator, or a listener has no admin interface to lead to.
    """
    if not operators:
        raise ValueError("a router needs the address of at least one operator")
    if admin is None and (metrics or break_glass):
        raise ValueError("metrics and break_glass lead to the admin interface: give its address")
    listeners = [metrics_listener(metrics)] if metrics else []
    listeners += [break_glass_listener(break_glass)] if break_glass else []
    clusters = [_xds_cluster(operators, xds_tls)]
    clusters += [admin_cluster(admin)] if admin and listeners else []
    return {
        "node": {"id": node_id, "cluster": "agentrollout"},
        **({"admin": {"address": address(admin)}} if admin else {}),
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": OPERATORS}, "retry_policy": _RECONNECT}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"listeners": listeners, "clusters": clusters},
        # Lets a rollout cut its candidate's answers (tunnels.py).
        "bootstrap_extensions": [
            {"name": "envoy.bootstrap.internal_listener", "typed_config": {"@type": _INTERNAL_LISTENER}}
        ],
        "layered_runtime": {
            "layers": [
                # The values of an audience are one expression; Envoy's own limit is reached by two long ones.
                {"name": "limits", "static_layer": {"re2.max_program_size.error_level": 1_000_000}},
                # Who records must never hold up who is recorded; and Envoy 1.40 dies of it in the filters of a cluster.
                {
                    "name": "capture",
                    "static_layer": {
                        "envoy.reloadable_features.grpc_side_stream_flow_control": False,
                        CAPTURE_KEY: 100,
                    },
                },
                # Lets a person take a version back through the admin interface when nothing else is alive.
                {"name": "break-glass", "admin_layer": {}},
            ]
        },
        "stats_config": {
            "use_all_default_tags": False,
            "stats_tags": list(_TAGS),
            "stats_matcher": {"inclusion_list": {"patterns": list(_STATS_KEPT)}},
            "histogram_bucket_settings": [
                {"match": {"suffix": "upstream_rq_time"}, "buckets": list(LATENCY_EDGES_MS)}
            ],
        },
        # Flushing on a scrape instead would show each histogram as it was at the scrape before, counters as they are.
        "stats_flush_interval": f"{stats_flush_seconds}s",
        "overload_manager": {"resource_monitors": [_connection_limit(max_connections)]},
    }


def _xds_cluster(operators: Sequence[Endpoint], tls: XdsTls | None) -> dict[str, Any]:
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {"connection_keepalive": _KEEPALIVE}},
    }
    return {
        "name": OPERATORS,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        **({"transport_socket": transport_socket(tls)} if tls else {}),
        "health_checks": [_HEALTH_CHECK],
        # Where none is healthy, trying one that hangs only takes longer than waiting for one that is.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": {
            "cluster_name": OPERATORS,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(operator)}} for operator in operators]}
            ],
        },
    }


def _connection_limit(connections: int) -> dict[str, Any]:
    return {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3"
            ".DownstreamConnectionsConfig",
            "max_active_downstream_connections": connections,
        },
    }
