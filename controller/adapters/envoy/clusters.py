"""One Envoy cluster per version that is served, and the endpoints of those that are Services."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from controller.adapters.envoy.naming import control_name, tunnel_name, upstream_name
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import Resource, pack, resource
from controller.core.traffic import CONTROL_SLICES, Backend, Endpoint, ServicePort, TrafficTable

_STREAMS_OF_A_CONNECTION = 100
"""HTTP/2 requests on one connection to an agent; more open another."""
_STREAM_WINDOW_BYTES = 65_536

_DEAD_PEERS = cluster_pb2.UpstreamConnectionOptions(
    tcp_keepalive={
        "keepalive_time": {"value": 30},
        "keepalive_interval": {"value": 10},
        "keepalive_probes": {"value": 3},
    }
)
"""TCP finds them, because gRPC servers end connections whose clients send HTTP/2 pings as often as would help."""

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
"""Under which a cluster has what is spoken with it."""


def clusters(table: TrafficTable, options: RouterOptions) -> tuple[Resource, ...]:
    """The clusters that the routes of ``table`` refer to.

    Audience stages have clusters of their own for both arms, so that internal users are compared with internal
    users. So have the control slices of stable. A promoted candidate keeps its cluster as stable: same name, same content, no new connections; unless its
    answers could be cut (tunnels.py), in which case new requests no longer take the way through the tunnel.
    """
    tunnel = _tunnel(table)
    direct = [_cluster(name, backend, options) for name, backend in _arms(table) if backend is not tunnel]
    if tunnel is None:
        return tuple(direct)
    name = tunnel_name(table.key, tunnel.revision)
    entrances = [_entrance(arm, name, tunnel, options) for arm, backend in _arms(table) if backend is tunnel]
    return (_exit(name, tunnel, options), *entrances, *direct)


def assignments(
    table: TrafficTable, endpoints: Callable[[ServicePort], tuple[Endpoint, ...]]
) -> tuple[Resource, ...]:
    """The endpoints of those clusters of ``table`` that take theirs from a Service."""
    return assign(_addressed(table), endpoints)


def assign(
    addressed: Iterable[tuple[str, Backend]], endpoints: Callable[[ServicePort], tuple[Endpoint, ...]]
) -> tuple[Resource, ...]:
    """The endpoints of those of the clusters that take theirs from a Service."""
    return tuple(
        resource(name, _assignment(name, endpoints(backend.service)))
        for name, backend in addressed
        if backend.service is not None
    )


def straight(name: str, backend: Backend, options: RouterOptions, protocol: Any) -> Any:
    """A cluster that leads straight to the agents, and what is spoken with them."""
    cluster = _limited(name, options)
    _find(cluster, backend)
    _speak(cluster, backend, options, protocol)
    return cluster


def is_ip(host: str) -> bool:
    """Whether ``host`` needs no DNS."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _arms(table: TrafficTable) -> Iterator[tuple[str, Backend]]:
    """The name and backend of every cluster of ``table``."""
    has_audience = table.candidate is not None and bool(table.audiences)
    for audience in (False, True) if has_audience else (False,):
        for backend in table.backends:
            yield upstream_name(table.key, backend, audience), backend
    if table.control_slice_ppm:
        for number in range(1, CONTROL_SLICES + 1):
            yield control_name(table.key, table.stable, number), table.stable


def _tunnel(table: TrafficTable) -> Backend | None:
    """The version that is reached through a tunnel."""
    return table.candidate if table.can_cut else None


def _addressed(table: TrafficTable) -> Iterator[tuple[str, Backend]]:
    """The clusters that know addresses of agents."""
    tunnel = _tunnel(table)
    if tunnel is not None:
        yield tunnel_name(table.key, tunnel.revision), tunnel
    yield from ((name, backend) for name, backend in _arms(table) if backend is not tunnel)


def _cluster(name: str, backend: Backend, options: RouterOptions) -> Resource:
    return resource(name, straight(name, backend, options, protocol_of(backend)))


def _entrance(name: str, tunnel: str, backend: Backend, options: RouterOptions) -> Resource:
    """To the agents through a listener of Envoy's own; all that is counted is counted here."""
    cluster = _limited(name, options)
    address = {"envoy_internal_address": {"server_listener_name": tunnel}}
    cluster.type = cluster_pb2.Cluster.STATIC
    cluster.load_assignment.CopyFrom(hosts(name, [address]))
    _speak(cluster, backend, options, protocol_of(backend, reuse=backend.service is None))
    return resource(name, cluster)


def _exit(name: str, backend: Backend, options: RouterOptions) -> Resource:
    """The far side of the tunnel: it passes on bytes, whatever they are."""
    cluster = _limited(name, options)
    _find(cluster, backend)
    return resource(name, cluster)


def _limited(name: str, options: RouterOptions) -> Any:
    thresholds = {
        "max_connections": {"value": options.max_connections},
        "max_pending_requests": {"value": options.max_pending},
        "max_requests": {"value": options.max_requests},
        "max_retries": {"value": 0},
    }
    # No outlier detection: a version is often one address, and ejecting it would hide the very errors that decide.
    return cluster_pb2.Cluster(
        name=name,
        connect_timeout=options.connect_timeout,
        circuit_breakers={"thresholds": [thresholds]},
    )


def _find(cluster: Any, backend: Backend) -> None:
    """Where the agents are."""
    if backend.service is not None:
        cluster.type = cluster_pb2.Cluster.EDS
        cluster.eds_cluster_config.eds_config.ads.SetInParent()
        cluster.eds_cluster_config.eds_config.resource_api_version = config_source_pb2.V3
        # Answers of agents take from a moment to minutes; taking turns would pile the long ones up by chance.
        cluster.lb_policy = cluster_pb2.Cluster.LEAST_REQUEST
    else:
        cluster.type = cluster_pb2.Cluster.STATIC if is_ip(backend.host) else cluster_pb2.Cluster.STRICT_DNS
        cluster.dns_lookup_family = cluster_pb2.Cluster.V4_PREFERRED
        cluster.load_assignment.CopyFrom(_assignment(cluster.name, [Endpoint(backend.host, backend.port)]))
    if backend.http2:
        # An HTTP/1.1 connection goes with the request that it leaves unanswered; this one would go on taking requests.
        cluster.upstream_connection_options.CopyFrom(_DEAD_PEERS)


def _speak(cluster: Any, backend: Backend, options: RouterOptions, protocol: Any) -> None:
    """What is spoken with them."""
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(pack(protocol))
    if backend.tls:
        cluster.transport_socket.name = "envoy.transport_sockets.tls"
        cluster.transport_socket.typed_config.CopyFrom(pack(_tls(backend, options)))


def _assignment(name: str, endpoints: Iterable[Endpoint]) -> Any:
    addresses = [{"socket_address": {"address": each.address, "port_value": each.port}} for each in endpoints]
    return hosts(name, addresses)


def hosts(name: str, addresses: Iterable[dict[str, Any]]) -> Any:
    """What a cluster consists of."""
    found = [{"endpoint": {"address": address}} for address in addresses]
    return endpoint_pb2.ClusterLoadAssignment(cluster_name=name, endpoints=[{"lb_endpoints": found}])


def protocol_of(backend: Backend, *, reuse: bool = True) -> Any:
    """What the version says it speaks, never what TLS would settle on: the counters that are evidence differ.

    Connections that are not to be reused are those whose far end Envoy cannot see: it would go on to use one to a pod
    that is no longer ready.
    """
    message = http_protocol_options_pb2.HttpProtocolOptions()
    explicit = message.explicit_http_config
    if backend.http2:
        options = explicit.http2_protocol_options
        options.max_concurrent_streams.value = _STREAMS_OF_A_CONNECTION
        options.initial_stream_window_size.value = _STREAM_WINDOW_BYTES
        # Users who do not read fill the windows of their own answers, never that of all.
        options.initial_connection_window_size.value = _STREAMS_OF_A_CONNECTION * _STREAM_WINDOW_BYTES
    else:
        explicit.http_protocol_options.SetInParent()
    if not reuse:
        message.common_http_protocol_options.max_requests_per_connection.value = 1
    return message


def _tls(backend: Backend, options: RouterOptions) -> Any:
    """Verified against the bundle *and* the host: a certificate for another name must not pass."""
    kind = "IP_ADDRESS" if is_ip(backend.host) else "DNS"
    san = {"san_type": kind, "matcher": {"exact": backend.host}}
    validation = {"trusted_ca": {"filename": options.ca_file}, "match_typed_subject_alt_names": [san]}
    context = tls_pb2.UpstreamTlsContext(common_tls_context={"validation_context": validation})
    if backend.http2:
        context.common_tls_context.alpn_protocols.append("h2")
    if kind == "DNS":
        context.sni = backend.host
    return context
