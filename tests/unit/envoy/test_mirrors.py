"""What becomes of a traffic table whose requests are answered by others too."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_pb2
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from controller.adapters.envoy.access_log import AccessLog
from controller.adapters.envoy.bootstrap import bootstrap
from controller.adapters.envoy.clusters import HTTP_OPTIONS
from controller.adapters.envoy.mirrors import CREDENTIALS
from controller.adapters.envoy.naming import is_sampled, version_of
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import CLUSTER, ROUTE
from controller.adapters.envoy.snapshot import bundle, snapshot
from controller.adapters.envoy.subjects import REPLAY_HEADER, decode_subject, decode_target
from controller.core.shadow.exchange import Subject, Target
from controller.core.traffic import AudienceSplit, Backend, Endpoint, ServicePort, ShadowSplit, TrafficTable

pytestmark = pytest.mark.unit

SUBJECT = Subject("shop/agent", "agent-2", "sha256:bbbb", "agent-1", "sha256:aaaa", (), "default")
STABLE = Backend("agent-1", "sha256:aaaa", "10.0.0.1", 8080)
CANDIDATE = Backend("agent-2", "sha256:bbbb", "10.0.0.2", 8080)
SPLIT = ShadowSplit(SUBJECT, 200_000, 50_000, timedelta(seconds=30), ("x-tenant", "accept"))
TABLE = TrafficTable(
    "shop/agent", ("a.example",), "x-session-id", STABLE, CANDIDATE, weight_ppm=10_000, shadow=SPLIT
)
OPTIONS = RouterOptions(shadow_address=("shadow.agents", 18_001))
EVERYONE = ["header", "cookie", "address"]


def clusters(table: TrafficTable, options: RouterOptions = OPTIONS) -> dict[str, Any]:
    return {
        each.name.removeprefix("shop/agent/"): cluster_pb2.Cluster.FromString(each.value)
        for each in bundle(table, options).of_type(CLUSTER)
    }


def routes(table: TrafficTable) -> dict[str, Any]:
    (resource,) = bundle(table, OPTIONS).of_type(ROUTE)
    (host,) = route_pb2.RouteConfiguration.FromString(resource.value).virtual_hosts
    return {each.name: each for each in host.routes}


def arms(route: Any) -> dict[str, int]:
    found = route.route.weighted_clusters.clusters
    return {arm.name.removeprefix("shop/agent/"): arm.weight.value for arm in found}


def protocol(cluster: Any) -> Any:
    found = http_protocol_options_pb2.HttpProtocolOptions()
    assert cluster.typed_extension_protocol_options[HTTP_OPTIONS].Unpack(found)
    return found


def filters(cluster: Any) -> list[str]:
    return [each.name.rpartition(".")[2] for each in protocol(cluster).http_filters]


def capture(cluster: Any) -> Any:
    (found,) = (each for each in protocol(cluster).http_filters if each.name.endswith("ext_proc"))
    settings = ext_proc_pb2.ExternalProcessor()
    assert found.typed_config.Unpack(settings)
    return settings


def test_sampled_conversations_lie_between_stable_and_its_control_slices() -> None:
    for way in EVERYONE:
        mirrored, others = routes(TABLE)[f"everyone-{way}-mirrored"], routes(TABLE)[f"everyone-{way}"]
        first, *rest = list(arms(mirrored).items())
        assert first == ("agent-2", 10_000)
        assert rest[:3] == [
            ("agent-1", 710_000),
            ("agent-1~sampled", 150_000),
            ("agent-1~sampled-noise", 50_000),
        ]
        assert list(arms(others).items())[1:3] == [
            ("agent-1", 710_000),
            ("agent-1~sampled-unmirrored", 200_000),
        ]
        assert sum(arms(mirrored).values()) == sum(arms(others).values()) == 1_000_000


def test_a_request_that_may_be_mirrored_meets_its_route_first() -> None:
    names = [name for name in routes(TABLE) if name.startswith("everyone")]
    assert names == [f"everyone-{way}{kind}" for way in EVERYONE for kind in ("-mirrored", "")]


def test_nothing_is_mirrored_by_a_router_whose_bootstrap_is_not_made_for_it() -> None:
    for name, route in routes(TABLE).items():
        key = "agentrollout.capture" if name.endswith("-mirrored") else ""
        if name != "break-glass":
            assert route.match.runtime_fraction.runtime_key == key
            assert route.match.runtime_fraction.default_value.numerator == 0
    layers = bootstrap("router-0", operators=[("localhost", 18_000)])["layered_runtime"]["layers"]
    assert [each["static_layer"]["agentrollout.capture"] for each in layers if each["name"] == "capture"] == [
        100
    ]


def test_only_sampled_requests_get_the_key_of_a_pair() -> None:
    for name, route in routes(TABLE).items():
        for arm in route.route.weighted_clusters.clusters:
            added = [each.header.key for each in arm.request_headers_to_add]
            is_mirrored = name.endswith("-mirrored") and is_sampled(arm.name)
            assert ("x-agentrollout-pair" in added) is is_mirrored


def test_audiences_are_not_sampled() -> None:
    audience = AudienceSplit("x-user-group", ("internal",), 500_000)
    found = routes(replace(TABLE, audiences=(audience,)))
    for way in EVERYONE:
        assert set(arms(found[f"audience-0-{way}"])) == {"agent-1~audience", "agent-2~audience"}
        assert f"audience-0-{way}-mirrored" not in found


def test_without_a_candidate_or_someone_who_records_nobody_is_sampled() -> None:
    alone = replace(TABLE, candidate=None)
    assert (alone.sampled_ppm, alone.noise_ppm) == (0, 0)
    assert set(clusters(alone)) == {"agent-1"}
    assert bundle(TABLE, RouterOptions()) == bundle(replace(TABLE, shadow=None), RouterOptions())
    assert set(snapshot([], RouterOptions())) == {"agentrollout"}


def test_mirrors_come_before_what_mirrors_to_them_and_each_is_bounded() -> None:
    found = clusters(TABLE)
    names = [name for name in found if "~" in name and "control" not in name]
    assert names == [
        "agent-2~shadow",
        "agent-1~noise",
        "agent-1~sampled",
        "agent-1~sampled-noise",
        "agent-1~sampled-unmirrored",
    ]
    for name in ("agent-2~shadow", "agent-1~noise"):
        assert filters(found[name]) == ["buffer", "ext_proc", "header_mutation", "upstream_codec"]
        duration = protocol(found[name]).common_http_protocol_options.max_stream_duration
        assert duration.ToTimedelta() == timedelta(seconds=30)
        assert found[name].circuit_breakers.thresholds[0].max_requests.value == 512
        assert not protocol(found[name]).request_mirror_policies
    for name in ("agent-1~sampled", "agent-1~sampled-noise"):
        assert filters(found[name]) == ["ext_proc", "header_mutation", "upstream_codec"]
        assert not protocol(found[name]).common_http_protocol_options.HasField("max_stream_duration")
    assert filters(found["agent-1~sampled-unmirrored"]) == []


def test_requests_are_mirrored_to_the_candidate_and_some_to_stable_once_more() -> None:
    def to(name: str) -> list[str]:
        return [each.cluster for each in protocol(clusters(TABLE)[name]).request_mirror_policies]

    assert to("agent-1~sampled") == ["shop/agent/agent-2~shadow"]
    assert to("agent-1~sampled-noise") == ["shop/agent/agent-2~shadow", "shop/agent/agent-1~noise"]
    assert to("agent-1~sampled-unmirrored") == to("agent-1") == []


def test_each_capture_says_whose_it_is_and_tells_only_what_is_harmless() -> None:
    found = {name: each for name, each in clusters(TABLE).items() if "ext_proc" in filters(each)}
    sides = {}
    for name, cluster in found.items():
        settings = capture(cluster)
        told = {each.key: each.value for each in settings.grpc_service.initial_metadata}
        assert decode_subject(told["x-agentrollout-subject"]) == SUBJECT
        assert told["x-agentrollout-timeout"] == "30"
        sides[name] = (told["x-agentrollout-side"], "x-agentrollout-noise" in told)
        assert settings.observability_mode
        assert settings.failure_mode_allow
        kept = {each.exact for each in settings.forward_rules.allowed_headers.patterns}
        assert not [name for name in kept if re.fullmatch(CREDENTIALS, name)]
        assert "accept" not in kept
    assert sides == {
        "agent-2~shadow": ("candidate", False),
        "agent-1~noise": ("noise", False),
        "agent-1~sampled": ("stable", False),
        "agent-1~sampled-noise": ("stable", True),
    }


@pytest.mark.parametrize(
    "name",
    [
        *(
            "authorization",
            "proxy-authorization",
            "cookie",
            "x-api-key",
            "api-key",
            "apikey",
            "x-goog-api-key",
        ),
        *("x-auth-token", "x-access-token", "x-amz-security-token", "x-csrf-token", "x-auth-key"),
        *("ocp-apim-subscription-key", "x-forwarded-client-cert", "x-goog-iap-jwt-assertion"),
        *("x-hub-signature-256", "client_secret", "x-password", "x-passwd", "x-secretkey", "x-functions-key"),
        *("x-amzn-oidc-accesstoken", "x-amzn-oidc-data", "x-amzn-oidc-identity"),
        *("x-ms-client-principal", "x-ms-client-principal-id", "x-ms-client-principal-name"),
        *("x-ms-token-aad-id-token", "x-ms-token-google-access-token", "x-session-token", "x-accesstoken"),
        *("x-auth", "x-authtoken", "x-authentication", "authentication", "x-bearer", "x-apikey"),
    ],
)
def test_headers_that_carry_credentials_by_custom_are_known(name: str) -> None:
    assert re.fullmatch(CREDENTIALS, name)


@pytest.mark.parametrize(
    "name",
    [
        "content-type",
        "x-max-tokens",
        "x-session-id",
        "x-request-id",
        "traceparent",
        "user-agent",
        "x-author",
        "keep-alive",
        "x-keyboard",
        "x-user-id",
        "x-forwarded-for",
    ],
)
def test_others_reach_the_mirror(name: str) -> None:
    assert not re.fullmatch(CREDENTIALS, name)


@pytest.mark.parametrize("affinity", ["x-session-id", "x-session", "x-conversation"])
def test_a_session_is_a_credential_unless_it_is_what_names_the_conversation(affinity: str) -> None:
    found = clusters(replace(TABLE, affinity_header=affinity))["agent-1~sampled-noise"]
    names = {"session", "session-id", "sessionid", "x-session", "x-session-id", "x-sessionid"}
    for policy in protocol(found).request_mirror_policies:
        removed = {each.remove for each in policy.request_headers_mutations}
        assert names - removed == names & {affinity}
        assert "x-tenant" in removed


def test_a_mirror_behind_tls_is_asked_for_by_its_own_name() -> None:
    secure = replace(CANDIDATE, host="agent-2.example", tls=True)

    def hosts(table: TrafficTable) -> list[str]:
        policies = protocol(clusters(table)["agent-1~sampled-noise"]).request_mirror_policies
        return [each.host_rewrite_literal for each in policies]

    assert hosts(TABLE) == ["", ""]
    assert hosts(replace(TABLE, candidate=secure)) == ["agent-2.example", ""]
    own = replace(STABLE, host="agent-1.example", tls=True)
    assert hosts(replace(TABLE, stable=own)) == ["a.example", "agent-1.example"]


def test_the_pods_of_a_service_are_those_of_its_mirror() -> None:
    table = replace(TABLE, candidate=replace(CANDIDATE, service=ServicePort("shop/agent", 80)))
    built = bundle(table, OPTIONS, lambda _: (Endpoint("10.1.0.1", 8080),))
    assert [each.name for each in built.endpoints] == ["shop/agent/agent-2", "shop/agent/agent-2~shadow"]
    without = bundle(table, RouterOptions(), lambda _: (Endpoint("10.1.0.1", 8080),))
    assert [each.name for each in without.endpoints] == ["shop/agent/agent-2"]


def test_a_mirror_never_leads_through_the_tunnel_of_a_candidate_that_can_be_cut() -> None:
    found = clusters(replace(TABLE, cut_on_rollback=True))
    (hosts,) = found["agent-2~shadow"].load_assignment.endpoints
    assert hosts.lb_endpoints[0].endpoint.address.socket_address.address == "10.0.0.2"


def test_the_recorder_is_a_cluster_that_all_rollouts_share() -> None:
    (resource,) = snapshot([TABLE], OPTIONS)["agentrollout-shadow"].resources
    recorder = cluster_pb2.Cluster.FromString(resource.value)
    assert recorder.name == "agentrollout-shadow"
    assert recorder.type == cluster_pb2.Cluster.STRICT_DNS
    assert recorder.common_lb_config.HasField("healthy_panic_threshold")
    (here,) = snapshot([], RouterOptions(shadow_address=("::1", 1)))["agentrollout-shadow"].resources
    assert cluster_pb2.Cluster.FromString(here.value).type == cluster_pb2.Cluster.STATIC


def test_sampled_clusters_belong_to_stable_and_can_be_told() -> None:
    for name in ("agent-1~sampled", "agent-1~sampled-noise", "agent-1~sampled-unmirrored"):
        assert is_sampled(f"shop/agent/{name}")
        assert version_of(f"shop/agent/{name}") == ("shop/agent", "agent-1")
    for name in ("agent-1", "agent-1~control1", "agent-2~shadow", "agent-1~noise"):
        assert not is_sampled(f"shop/agent/{name}")


@pytest.mark.parametrize(
    ("cluster", "split"), [("agent-1", "abcd"), ("agent-1~control3", "abcd"), ("agent-1~sampled-noise", "")]
)
def test_a_sampled_conversation_was_there_but_is_no_trial(cluster: str, split: str) -> None:
    remembered = AnyMessage()
    remembered.Pack(StringValue(value="abcd|conversation-1"))
    entry = accesslog_pb2.HTTPAccessLogEntry(
        common_properties={
            "upstream_cluster": f"shop/agent/{cluster}",
            "filter_state_objects": {"agentrollout.conversation": remembered},
        }
    )

    found = AccessLog()._request(entry)
    assert found is not None
    rollout, request = found
    assert (rollout, request.revision, request.split) == ("shop/agent", "agent-1", split)


REPLAYED = replace(TABLE, shadow=replace(SPLIT, recorded_tools=True))


def replay_targets(table: TrafficTable) -> dict[str, Target]:
    """Where routers say that versions may be asked once more, by the cluster whose captures say so."""
    found = {}
    for name, cluster in clusters(table).items():
        if any(each.name.endswith("ext_proc") for each in protocol(cluster).http_filters):
            metadata = {each.key: each.value for each in capture(cluster).grpc_service.initial_metadata}
            if REPLAY_HEADER in metadata:
                found[name] = decode_target(metadata[REPLAY_HEADER], 1)
    return found


def test_mirrors_say_where_they_lead_if_runs_are_to_be_driven_again() -> None:
    assert replay_targets(TABLE) == {}
    assert replay_targets(REPLAYED) == {
        "agent-2~shadow": Target("http://10.0.0.2:8080", "a.example", 1),
        "agent-1~noise": Target("http://10.0.0.1:8080", "a.example", 1),
    }


@pytest.mark.parametrize(
    ("candidate", "target"),
    [
        (replace(CANDIDATE, host="fd00::2"), Target("http://[fd00::2]:8080", "a.example", 1)),
        (
            replace(CANDIDATE, host="b.example", port=443, tls=True),
            Target("https://b.example:443", "b.example", 1),
        ),
        (replace(CANDIDATE, http2=True), None),
    ],
)
def test_a_version_is_asked_once_more_as_its_mirror_is(candidate: Backend, target: Target | None) -> None:
    assert replay_targets(replace(REPLAYED, candidate=candidate)).get("agent-2~shadow") == target
