"""Every server of the devkit starts for real."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import httpx
import pytest

from devkit.controlplane import ControlPlane
from devkit.credentials import User
from devkit.envoy import Envoy
from devkit.errors import DevkitError
from devkit.process import free_port, wait_until
from devkit.prometheus import Prometheus, ScrapeJob
from devkit.upstream import StaticUpstream


@pytest.fixture(scope="module")
def own() -> Iterator[ControlPlane]:
    """One for these tests alone: some of them kill its parts."""
    with ControlPlane(users=[User("alice", ("developers",))], controllers=True) as control_plane:
        yield control_plane


def test_the_api_server_knows_its_users_and_what_they_may_not_do(own: ControlPlane) -> None:
    alice = f"--kubeconfig={own.user_kubeconfig('alice')}"
    assert "developers" in own.kubectl("auth", "whoami", alice)
    with pytest.raises(DevkitError, match="forbidden"):
        own.kubectl("get", "namespaces", alice)


def test_an_unknown_user_is_told_how_to_become_known(own: ControlPlane) -> None:
    with pytest.raises(DevkitError, match=r"ControlPlane\(users="):
        own.user_kubeconfig("mallory")


def test_owned_objects_go_with_their_owner(own: ControlPlane) -> None:
    namespace = "default"
    own.kubectl("create", "configmap", "owner", "-n", namespace)
    uid = own.kubectl("get", "configmap", "owner", "-n", namespace, "-o", "jsonpath={.metadata.uid}")
    owned = f"""{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "owned", "namespace": "{namespace}",
        "ownerReferences": [{{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "{uid}"}}]}}}}"""
    own.kubectl("apply", "-f", "-", input=owned)
    own.kubectl("delete", "configmap", "owner", "-n", namespace)
    own.kubectl("wait", "--for=delete", "configmap/owned", "-n", namespace, "--timeout=30s")


def test_a_restarted_control_plane_keeps_address_and_objects() -> None:
    with ControlPlane() as control_plane:
        url = control_plane.url
        control_plane.kubectl("create", "namespace", "kept")
        control_plane.restart()
        assert control_plane.url == url
        assert "kept" in control_plane.kubectl("get", "namespaces")


def test_a_killed_api_server_comes_back_on_its_own_port(own: ControlPlane) -> None:
    own.api_server.kill()
    with pytest.raises(DevkitError, match="refused"):
        own.kubectl("get", "namespaces")
    own.api_server.start()
    own.wait_ready()
    assert "default" in own.kubectl("get", "namespaces")


def test_two_control_planes_do_not_see_each_other(own: ControlPlane) -> None:
    with ControlPlane(users=[User("carol")]) as other:
        other.kubectl("create", "namespace", "only-here")
        assert "only-here" not in own.kubectl("get", "namespaces")


def test_nothing_is_left_on_disk() -> None:
    with Prometheus() as prometheus:
        directory = prometheus.directory
        assert directory.exists()
    assert not directory.exists()


def test_prometheus_follows_targets_and_keeps_samples_over_a_restart(
    prometheus_factory: Callable[..., Prometheus], upstream_factory: Callable[..., StaticUpstream]
) -> None:
    agent = upstream_factory("agent")
    prometheus = prometheus_factory([ScrapeJob("agents", path="/stats/prometheus")], scrape_interval=0.2)
    assert prometheus.query("up") == []
    prometheus.set_targets("agents", [agent.admin_address], {"version": "a"})
    wait_until(lambda: bool(prometheus.query('up{version="a"} == 1')), timeout=15, what="a scrape")
    before = prometheus.query("count_over_time(up[1m])")
    prometheus.set_targets("agents", [])
    prometheus.restart()
    after = prometheus.query("count_over_time(up[1m])")
    assert int(after[0]["value"][1]) >= int(before[0]["value"][1]) > 0


def test_a_paused_prometheus_hangs_and_goes_on(prometheus_factory: Callable[..., Prometheus]) -> None:
    prometheus = prometheus_factory()
    prometheus.process.pause()
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{prometheus.url}/-/ready", timeout=0.3)
    prometheus.process.resume()
    assert httpx.get(f"{prometheus.url}/-/ready", timeout=5).is_success


def test_an_envoy_without_its_xds_server_starts_but_is_not_live(envoy_factory: Callable[..., Envoy]) -> None:
    nobody = {"socket_address": {"address": "127.0.0.1", "port_value": free_port()}}
    endpoints = {"endpoints": [{"lb_endpoints": [{"endpoint": {"address": nobody}}]}]}
    envoy = envoy_factory(
        {
            "node": {"id": "n", "cluster": "c"},
            "static_resources": {
                "clusters": [
                    {
                        "name": "xds",
                        "type": "STATIC",
                        "connect_timeout": "1s",
                        "load_assignment": {"cluster_name": "xds", **endpoints},
                        "typed_extension_protocol_options": {
                            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                                "explicit_http_config": {"http2_protocol_options": {}},
                            }
                        },
                    }
                ]
            },
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
                },
                "cds_config": {"ads": {}, "initial_fetch_timeout": "0s"},
                "lds_config": {"ads": {}, "initial_fetch_timeout": "0s"},
            },
        },
        wait_live=False,
    )
    assert not envoy.live
    with pytest.raises(DevkitError, match=r"Waited 0\.2 s for envoy to be ready"):
        envoy.wait_live(timeout=0.2)


def test_an_envoy_with_a_wrong_bootstrap_says_why() -> None:
    envoy = Envoy({"static_resource": {}})
    with pytest.raises(DevkitError, match="static_resource"), envoy:
        pass
    assert not envoy.directory.exists()


def test_an_upstream_fails_as_often_as_told(upstream_factory: Callable[..., StaticUpstream]) -> None:
    upstream = upstream_factory("candidate", body="hello", failure_status=503)
    with httpx.Client(base_url=upstream.url) as client:

        def failures_of(requests: int) -> int:
            return Counter(client.get("/chat").status_code for _ in range(requests))[503]

        answer = client.get("/chat")
        assert (answer.status_code, answer.text, answer.headers["x-upstream"]) == (200, "hello", "candidate")
        assert failures_of(200) == 0
        upstream.set_failures(0.2)
        assert 130 <= failures_of(1000) <= 270  # five and a half standard deviations
        upstream.set_failures(1)
        assert failures_of(50) == 50
        upstream.set_failures(0)
        assert failures_of(50) == 0


def test_an_upstream_is_as_slow_as_told(upstream_factory: Callable[..., StaticUpstream]) -> None:
    upstream = upstream_factory("candidate")
    with httpx.Client(base_url=upstream.url) as client:

        def seconds() -> float:
            began = monotonic()
            client.get("/")
            return monotonic() - began

        client.get("/")
        upstream.set_delay(0.25)
        assert seconds() >= 0.24  # Envoy counts in its own ticks
        upstream.set_delay(0)
        assert min(seconds() for _ in range(5)) < 0.2


def test_a_restarted_upstream_is_found_where_it_was(upstream_factory: Callable[..., StaticUpstream]) -> None:
    upstream = upstream_factory("stable")
    url = upstream.url
    upstream.process.kill()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    upstream.start()
    assert upstream.listener_address("upstream") == upstream.address
    assert httpx.get(url).is_success


def test_the_logs_are_in_the_servers_directory(tmp_path: Path) -> None:
    with StaticUpstream("a", directory=tmp_path / "a") as upstream:
        assert upstream.process.log.parent == upstream.directory
    assert upstream.directory.exists()
