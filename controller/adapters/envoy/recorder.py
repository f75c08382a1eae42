"""The cluster of the process that compares answers: found fast to be away, so that nothing piles up for it."""

from __future__ import annotations

from datetime import timedelta

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from controller.adapters.envoy.clusters import HTTP_OPTIONS, hosts, is_ip
from controller.adapters.envoy.naming import RECORDER
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import Bundle, pack, resource

_SECOND = timedelta(seconds=1)

_STREAMS = 4096
"""Captures under way to it from one router, of all rollouts; those beyond are not captured."""

_HEALTH_CHECK = {
    "interval": _SECOND,
    "no_traffic_interval": _SECOND,
    "timeout": _SECOND,
    "unhealthy_threshold": {"value": 2},
    "healthy_threshold": {"value": 1},
    "grpc_health_check": {},
}
"""A process that hangs still takes connections; while it does not answer this, no stream is opened to it."""

_UNFELT_BYTES = 256 << 20
"""Below it nothing that waits for the process slows down a user; what the limits above let wait is less."""

_KEEPALIVE = {"interval": _SECOND, "timeout": 2 * _SECOND}
"""Ends the streams to a process that hangs, and with them what is kept for it."""


def recorder(options: RouterOptions) -> tuple[Bundle, ...]:
    """The cluster as an owner of its own, which depends on the options alone; nothing if there is no such process."""
    if options.shadow_address is None:
        return ()
    host, port = options.shadow_address
    protocol = http_protocol_options_pb2.HttpProtocolOptions(
        explicit_http_config={
            "http2_protocol_options": {
                "connection_keepalive": _KEEPALIVE,
                "initial_stream_window_size": {"value": _UNFELT_BYTES},
                "initial_connection_window_size": {"value": _UNFELT_BYTES},
            }
        }
    )
    message = cluster_pb2.Cluster(
        name=RECORDER,
        type=cluster_pb2.Cluster.STATIC if is_ip(host) else cluster_pb2.Cluster.STRICT_DNS,
        connect_timeout=_SECOND,
        per_connection_buffer_limit_bytes={"value": _UNFELT_BYTES},
        load_assignment=hosts(RECORDER, [{"socket_address": {"address": host, "port_value": port}}]),
        health_checks=[_HEALTH_CHECK],
        close_connections_on_host_health_failure=True,
        # Otherwise the only one there is would be used although it is known to be away.
        common_lb_config={"healthy_panic_threshold": {}},
        circuit_breakers={
            "thresholds": [{"max_requests": {"value": _STREAMS}, "max_pending_requests": {"value": _STREAMS}}]
        },
        typed_extension_protocol_options={HTTP_OPTIONS: pack(protocol)},
    )
    return (Bundle(RECORDER, (resource(RECORDER, message),)),)
