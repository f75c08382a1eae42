"""The one listener: takes user traffic, cleans its headers and finds the rollout by host."""

from __future__ import annotations

from typing import Any

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.grpc_stats.v3 import config_pb2 as grpc_stats_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2

from controller.adapters.envoy.access_log import FILTER, access_log
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import Bundle, Resource, pack, resource

LISTENER_NAME = "agentrollout"

_BUFFER_BYTES = 65_536

_STREAMS_OF_A_CONNECTION = 100
"""HTTP/2 requests that one user connection may have in flight; with the windows it bounds what a user can make Envoy hold."""
_CONNECTION_WINDOW_BYTES = 1_048_576

_ADS = {"ads": {}, "resource_api_version": "V3"}

_PRIVATE_PREFIXES = (
    "x-agentrollout-",
    # What lets a client change retries, timeouts or the name that its request is counted under.
    "x-envoy-retry-",
    "x-envoy-retriable-",
    "x-envoy-max-retries",
    "x-envoy-hedge-",
    "x-envoy-upstream-",
)


def listener(options: RouterOptions) -> Bundle:
    """The listener, which depends on the options alone: no rollout ever changes it.

    It takes HTTP/1.1 and HTTP/2: behind TLS whichever the client prefers, in clear whichever it begins with.
    """
    address = {"socket_address": {"address": options.listen_address, "port_value": options.listen_port}}
    manager = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": pack(_manager(options)),
    }
    message = listener_pb2.Listener(
        name=LISTENER_NAME,
        address=address,
        per_connection_buffer_limit_bytes={"value": _BUFFER_BYTES},
        filter_chains=[{"filters": [manager]}],
    )
    if not options.tls_cert_file:
        return Bundle(LISTENER_NAME, (resource(LISTENER_NAME, message),))
    tls = message.filter_chains[0].transport_socket
    tls.name = "envoy.transport_sockets.tls"
    tls.typed_config.CopyFrom(pack(_tls()))
    return Bundle(LISTENER_NAME, (resource(LISTENER_NAME, message), _certificate(options)))


def _tls() -> Any:
    secret = {"name": LISTENER_NAME, "sds_config": _ADS}
    common = {"tls_certificate_sds_secret_configs": [secret], "alpn_protocols": ["h2", "http/1.1"]}
    return tls_pb2.DownstreamTlsContext(common_tls_context=common)


def _certificate(options: RouterOptions) -> Resource:
    """Names of files only: keys never leave the router, which reads the files again when they are replaced."""
    files = {
        "certificate_chain": {"filename": options.tls_cert_file},
        "private_key": {"filename": options.tls_key_file},
    }
    return resource(LISTENER_NAME, secret_pb2.Secret(name=LISTENER_NAME, tls_certificate=files))


def _manager(options: RouterOptions) -> Any:
    scoped = {
        "name": LISTENER_NAME,
        "scope_key_builder": {
            "fragments": [
                {"header_value_extractor": {"name": ":authority", "element_separator": ":", "index": 0}}
            ]
        },
        "rds_config_source": _ADS,
        "scoped_rds": {"scoped_rds_config_source": _ADS},
    }
    return http_connection_manager_pb2.HttpConnectionManager(
        stat_prefix=LISTENER_NAME,
        scoped_routes=scoped,
        http_filters=[
            {"name": "envoy.filters.http.grpc_stats", "typed_config": pack(grpc_stats_pb2.FilterConfig())},
            # Does nothing but on the routes that tell it what to remember.
            {"name": FILTER, "typed_config": pack(set_filter_state_pb2.Config())},
            {"name": "envoy.filters.http.router", "typed_config": pack(router_pb2.Router())},
        ],
        http2_protocol_options={
            "max_concurrent_streams": {"value": _STREAMS_OF_A_CONNECTION},
            "initial_stream_window_size": {"value": _BUFFER_BYTES},
            "initial_connection_window_size": {"value": _CONNECTION_WINDOW_BYTES},
        },
        use_remote_address={"value": True},
        xff_num_trusted_hops=options.trusted_hops,
        normalize_path={"value": True},
        server_header_transformation="PASS_THROUGH",
        upgrade_configs=[{"upgrade_type": "websocket"}],
        early_header_mutation_extensions=[_strip_private_headers()],
        local_reply_config={"mappers": [_no_rollout_reply()]},
        access_log=[access_log()],
    )


def _strip_private_headers() -> dict[str, Any]:
    removals = [
        {"remove_on_match": {"key_matcher": {"prefix": prefix, "ignore_case": True}}}
        for prefix in _PRIVATE_PREFIXES
    ]
    mutation = header_mutation_pb2.HeaderMutation(mutations=removals)
    return {"name": "envoy.http.early_header_mutation.header_mutation", "typed_config": pack(mutation)}


def _no_rollout_reply() -> dict[str, Any]:
    """Envoy's own 404 has an empty body; a person should learn from it what is missing."""
    body = {"inline_string": "agentrollout: no rollout serves this host\n"}
    return {"filter": {"response_flag_filter": {"flags": ["NR"]}}, "body": body}
