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

from controller.adapters.envoy.naming import cluster_name
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import Resource, pack, resource
from controller.core.traffic import Backend, Endpoint, ServicePort, TrafficTable

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(table: TrafficTable, options: RouterOptions) -> tuple[Resource, ...]:
    """The clusters that the routes of ``table`` refer to.

    Audience stages have clusters of their own for both arms, so that internal users are compared with internal
    users. A promoted candidate keeps its cluster as stable: same name, same content, no new connections.
    """
    return tuple(_cluster(name, backend, options) for name, backend in _arms(table))


def assignments(
    table: TrafficTable, endpoints: Callable[[ServicePort], tuple[Endpoint, ...]]
) -> tuple[Resource, ...]:
    """The endpoints of those clusters of ``table`` that take theirs from a Service."""
    return tuple(
        resource(name, _assignment(name, endpoints(backend.service)))
        for name, backend in _arms(table)
        if backend.service is not None
    )


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
            yield cluster_name(table.key, backend.revision, audience), backend


def _cluster(name: str, backend: Backend, options: RouterOptions) -> Resource:
    thresholds = {
        "max_connections": {"value": options.max_connections},
        "max_pending_requests": {"value": options.max_pending},
        "max_requests": {"value": options.max_requests},
        "max_retries": {"value": 0},
    }
    # No outlier detection: a version is often one address, and ejecting it would hide the very errors that decide.
    cluster = cluster_pb2.Cluster(
        name=name,
        connect_timeout=options.connect_timeout,
        circuit_breakers={"thresholds": [thresholds]},
    )
    if backend.service is not None:
        cluster.type = cluster_pb2.Cluster.EDS
        cluster.eds_cluster_config.eds_config.ads.SetInParent()
        cluster.eds_cluster_config.eds_config.resource_api_version = config_source_pb2.V3
        # Answers of agents take from a moment to minutes; taking turns would pile the long ones up by chance.
        cluster.lb_policy = cluster_pb2.Cluster.LEAST_REQUEST
    else:
        cluster.type = cluster_pb2.Cluster.STATIC if is_ip(backend.host) else cluster_pb2.Cluster.STRICT_DNS
        cluster.dns_lookup_family = cluster_pb2.Cluster.V4_PREFERRED
        cluster.load_assignment.CopyFrom(_assignment(name, [Endpoint(backend.host, backend.port)]))
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(pack(_protocol()))
    if backend.tls:
        cluster.transport_socket.name = "envoy.transport_sockets.tls"
        cluster.transport_socket.typed_config.CopyFrom(pack(_tls(backend, options)))
    return resource(name, cluster)


def _assignment(name: str, endpoints: Iterable[Endpoint]) -> Any:
    addresses = [{"socket_address": {"address": each.address, "port_value": each.port}} for each in endpoints]
    hosts = [{"endpoint": {"address": address}} for address in addresses]
    return endpoint_pb2.ClusterLoadAssignment(cluster_name=name, endpoints=[{"lb_endpoints": hosts}])


def _protocol() -> Any:
    """HTTP/1.1, also behind TLS: every agent speaks it, and only there does Envoy count each broken answer."""
    message = http_protocol_options_pb2.HttpProtocolOptions()
    message.explicit_http_config.http_protocol_options.SetInParent()
    return message


def _tls(backend: Backend, options: RouterOptions) -> Any:
    """Verified against the bundle *and* the host: a certificate for another name must not pass."""
    kind = "IP_ADDRESS" if is_ip(backend.host) else "DNS"
    san = {"san_type": kind, "matcher": {"exact": backend.host}}
    validation = {"trusted_ca": {"filename": options.ca_file}, "match_typed_subject_alt_names": [san]}
    context = tls_pb2.UpstreamTlsContext(common_tls_context={"validation_context": validation})
    if kind == "DNS":
        context.sni = backend.host
    return context
