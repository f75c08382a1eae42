"""Static listeners that let others reach a few paths of Envoy's admin interface, which itself stays on loopback.

The admin interface can stop Envoy and shows everything, so nobody outside the host should reach it. Prometheus needs one page
of it, and whoever decides on sending users here whether Envoy is ready; a person who takes a version back when nothing else is alive needs to set one kind of runtime key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Endpoint = tuple[str, int]
"""Host and port."""

ADMIN_CLUSTER = "agentrollout-admin"

RUNTIME_PATH = "/runtime_modify"
METRICS_PATH = "/stats/prometheus"
READY_PATH = "/ready"

# One key, as naming.override_key makes it, set to 100 or removed. Envoy ignores the body where there is a query.
_OVERRIDE_ONLY = rf"{RUNTIME_PATH}\?agentrollout\.[a-z0-9-]+\.[a-z0-9.-]+\.stable_only=(100)?"

_TYPES = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """How the break-glass listener knows its callers, and they it; paths are on the router and read at its start.

    Attributes:
        address: Where it listens.
        cert_file: Its certificate chain, PEM.
        key_file: The certificate's key, PEM.
        ca_file: Who signed the certificates of those who may break the glass, PEM. Use a CA for this alone.
    """

    address: Endpoint
    cert_file: str
    key_file: str
    ca_file: str


def address(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as Envoy writes it."""
    host, port = endpoint
    return {"socket_address": {"address": host, "port_value": port}}


def metrics_listener(listen: Endpoint) -> dict[str, Any]:
    """A plain listener on which the Prometheus page and readiness can be read, and nothing else."""
    routes = [
        {"match": {"path": path, "headers": [_method("GET")]}, "route": {"cluster": ADMIN_CLUSTER}}
        for path in (METRICS_PATH, READY_PATH)
    ]
    return _listener("agentrollout-metrics", listen, routes)


def break_glass_listener(settings: BreakGlass) -> dict[str, Any]:
    """A listener with mutual TLS on which break-glass overrides can be set and removed, and nothing else."""
    path = {"name": ":path", "string_match": {"safe_regex": {"regex": _OVERRIDE_ONLY}}}
    route = {
        "match": {"path": RUNTIME_PATH, "headers": [_method("POST"), path]},
        "route": {"cluster": ADMIN_CLUSTER},
    }
    listener = _listener("agentrollout-break-glass", settings.address, [route])
    tls = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": settings.cert_file},
                    "private_key": {"filename": settings.key_file},
                }
            ],
            "validation_context": {"trusted_ca": {"filename": settings.ca_file}},
        },
    }
    listener["filter_chains"][0]["transport_socket"] = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": tls,
    }
    return listener


def admin_cluster(admin: Endpoint) -> dict[str, Any]:
    """The admin interface as an upstream."""
    endpoint = {"endpoint": {"address": address(admin)}}
    return {
        "name": ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": ADMIN_CLUSTER,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _method(name: str) -> dict[str, Any]:
    return {"name": ":method", "string_match": {"exact": name}}


def _listener(name: str, listen: Endpoint, routes: list[dict[str, Any]]) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "name": name,
        "address": address(listen),
        # Too many users must not shut out who comes to help them.
        "ignore_global_conn_limit": True,
        "filter_chains": [{"filters": filters}],
    }
