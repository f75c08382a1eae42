from __future__ import annotations

import itertools
import json
import re

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.extensions.bootstrap.internal_listener.v3 import internal_listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from controller.adapters.envoy.bootstrap import bootstrap
from controller.adapters.envoy.doors import BreakGlass
from controller.adapters.envoy.metrics import (
    CLUSTER_LABEL,
    ERRORS,
    LATENCY,
    LATENCY_EDGES_MS,
    PROTOCOL_LABEL,
    SLICE_LABEL,
)
from controller.adapters.envoy.mutual_tls import TlsFiles, XdsTls, secrets
from controller.core.catalogue import CounterTerm

# The types that the bootstrap carries inside Any messages must be known to be parsed.
CARRIED = (
    downstream_connections_pb2,
    http_protocol_options_pb2,
    http_connection_manager_pb2,
    internal_listener_pb2,
    router_pb2,
    tls_pb2,
)
OPERATORS = [("operator", 18000)]
ADMIN = ("127.0.0.1", 9901)


def test_it_is_a_valid_bootstrap() -> None:
    door = BreakGlass(("0.0.0.0", 9903), "router.crt", "router.key", "people.crt")
    config = bootstrap(
        "router-1", operators=OPERATORS, admin=ADMIN, metrics=("0.0.0.0", 9902), break_glass=door
    )

    message = json_format.ParseDict(json.loads(json.dumps(config)), bootstrap_pb2.Bootstrap())

    assert message.node.id == "router-1"
    assert message.admin.address.socket_address.address == "127.0.0.1"
    assert len(message.static_resources.listeners) == 2


def test_with_tls_it_names_the_files_that_lead_to_the_certificates() -> None:
    tls = XdsTls(TlsFiles("/tls/tls.crt", "/tls/tls.key", "/tls/ca.crt"), "operators", "/etc/envoy")
    config = bootstrap("router-1", operators=OPERATORS, xds_tls=tls)

    json_format.ParseDict(json.loads(json.dumps(config)), bootstrap_pb2.Bootstrap())
    files = secrets(tls)
    assert set(re.findall(r"/etc/envoy/([a-z-]+\.json)", json.dumps(config))) == set(files)
    for content in files.values():
        message = json_format.ParseDict(content, discovery_pb2.DiscoveryResponse())
        assert len(message.resources) == 1


def test_admin_may_be_left_to_the_caller() -> None:
    assert "admin" not in bootstrap("router-1", operators=OPERATORS)


def test_what_leads_to_the_admin_interface_needs_to_know_it() -> None:
    with pytest.raises(ValueError, match="give its address"):
        bootstrap("router-1", operators=OPERATORS, metrics=("0.0.0.0", 9902))


def test_a_router_needs_an_operator() -> None:
    with pytest.raises(ValueError, match="at least one operator"):
        bootstrap("router-1", operators=[])


def test_all_replicas_of_the_operator_are_upstreams() -> None:
    config = bootstrap("router-1", operators=[("one", 1), ("two", 2)])
    (cluster,) = config["static_resources"]["clusters"]
    (locality,) = cluster["load_assignment"]["endpoints"]

    assert [
        each["endpoint"]["address"]["socket_address"]["address"] for each in locality["lb_endpoints"]
    ] == ["one", "two"]


def test_edges_rise_by_about_a_quarter_and_have_two_digits() -> None:
    for lower, upper in itertools.pairwise(LATENCY_EDGES_MS):
        assert 1.15 <= upper / lower <= 1.34
    for edge in LATENCY_EDGES_MS:
        assert len(str(edge).rstrip("0")) <= 2


@pytest.mark.parametrize("term", [*ERRORS.total, *ERRORS.bad, *LATENCY.lost, LATENCY.count])
def test_what_the_queries_read_is_kept(term: CounterTerm) -> None:
    stat = term.metric.removeprefix("envoy_cluster_").removesuffix("_count").replace("rq_xx", "rq_5xx")
    stat = stat.replace("grpc_", "grpc.")
    kept = bootstrap("router-1", operators=OPERATORS)["stats_config"]["stats_matcher"]
    patterns = [
        each["safe_regex"]["regex"] for each in kept["inclusion_list"]["patterns"] if "safe_regex" in each
    ]

    def is_kept(name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in patterns)

    for suffix in ("", "~audience", "~control8"):
        arm = f"cluster.shop/agent/agent-1{suffix}"
        of_http2 = stat.startswith("grpc.") or stat.endswith("x_reset")
        of_http1 = "_cx_" in stat
        assert is_kept(f"{arm}.{stat}") is not of_http2
        assert is_kept(f"{arm}~h2.{stat}") is not of_http1
        assert not is_kept(f"{arm}.external.{stat}")
        assert not is_kept(f"{arm}~h2.external.{stat}")


@pytest.mark.parametrize("arm", ["shop/agent/agent-1", "shop/agent/agent-1~audience"])
@pytest.mark.parametrize(("suffix", "protocol"), [("", None), ("~h2", "h2")])
@pytest.mark.parametrize(("control", "number"), [("", None), ("~control1", "1"), ("~control8", "8")])
def test_protocol_and_slice_of_a_cluster_are_labels_of_their_own(
    arm: str, control: str, number: str | None, suffix: str, protocol: str | None
) -> None:
    tags = bootstrap("router-1", operators=OPERATORS)["stats_config"]["stats_tags"]
    rules = {tag["tag_name"]: tag["regex"] for tag in tags if "regex" in tag}
    found = {
        name: re.search(rule, f"cluster.{arm}{control}{suffix}.upstream_rq_total")
        for name, rule in rules.items()
    }

    labels = {name.replace(".", "_"): match and match[2] for name, match in found.items()}
    assert labels == {CLUSTER_LABEL: arm, PROTOCOL_LABEL: protocol, SLICE_LABEL: number}
