"""The configuration that a router Envoy is started with; all else it learns from the operator."""

from __future__ import annotations

from typing import Any

LATENCY_EDGES_MS = (
    5, 6.2, 7.8, 9.8, 12, 15, 19, 24, 30, 37, 47, 58, 73, 91, 110, 140, 180, 220, 280, 350, 430, 540, 680, 850,
    1100, 1300, 1700, 2100, 2600, 3200, 4000, 5000, 6300, 7900, 9900, 12_000, 15_000, 19_000, 24_000, 30_000,
    37_000, 46_000, 58_000, 72_000, 90_000, 120_000,
)  # fmt: skip
"""Histogram edges in steps of about 1.25. Envoy keeps two significant digits of every sample, so an edge with more
digits would be counted at the wrong place; these have two. A sample equal to an edge counts as slower than it."""

_STATS_KEPT = (
    # The evidence: see controller/adapters/envoy/metrics.py.
    {"safe_regex": {"regex": r"cluster\..*\.upstream_(rq|cx)_.*"}},
    {"prefix": "server.live"},
    {"prefix": "server.uptime"},
    {"safe_regex": {"regex": r"http\.agentrollout\..*"}},
    {"prefix": "control_plane."},
    {"safe_regex": {"regex": r".*\.(update_success|update_rejected|update_attempt)"}},
)

_RECONNECT = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "2s"}}
"""Envoy's own default lets up to 30 s pass before a restarted operator can take a version back."""


def bootstrap(
    node_id: str,
    *,
    xds_host: str,
    xds_port: int,
    admin_port: int | None = None,
    admin_host: str = "127.0.0.1",
    max_connections: int = 50_000,
) -> dict[str, Any]:
    """The bootstrap of one router instance, as a dict that serialises to Envoy's JSON or YAML.

    Args:
        node_id: Name of this instance, unique among those that the operator serves.
        xds_host: DNS name or address of the operator.
        xds_port: Its xDS port.
        admin_port: Port of the admin interface, which also serves the Prometheus metrics; None leaves ``admin`` to
            the caller.
        admin_host: Address of the admin interface; anyone who reaches it can change the split.
        max_connections: Limit of user connections.
    """
    admin = {} if admin_port is None else {"admin": {"address": _address(admin_host, admin_port)}}
    return {
        "node": {"id": node_id, "cluster": "agentrollout"},
        **admin,
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {"envoy_grpc": {"cluster_name": "agentrollout-xds"}, "retry_policy": _RECONNECT}
                ],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [_xds_cluster(xds_host, xds_port)]},
        "stats_config": {
            "stats_matcher": {"inclusion_list": {"patterns": list(_STATS_KEPT)}},
            "histogram_bucket_settings": [
                {"match": {"suffix": "upstream_rq_time"}, "buckets": list(LATENCY_EDGES_MS)}
            ],
        },
        "stats_flush_on_admin": True,
        "overload_manager": {"resource_monitors": [_connection_limit(max_connections)]},
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _xds_cluster(host: str, port: int) -> dict[str, Any]:
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        # Pings find an operator that is gone without a word; until then Envoy would wait on a dead stream.
        "explicit_http_config": {
            "http2_protocol_options": {"connection_keepalive": {"interval": "10s", "timeout": "5s"}}
        },
    }
    return {
        "name": "agentrollout-xds",
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": {
            "cluster_name": "agentrollout-xds",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(host, port)}}]}],
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
