"""docs/reference/metrics.md names every metric that our processes show, with its type and labels, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from controller import shadow_wiring, wiring
from controller.adapters.envoy.bootstrap import bootstrap
from controller.adapters.envoy.metrics import ERRORS, LATENCY, LIVENESS_METRIC, OVERRIDE_METRIC
from controller.cli import app
from controller.runtime.manager import Manager
from controller.runtime.transport import KubernetesTransport
from tests.unit.docs.pages import Family
from tests.unit.docs.pages import metrics as documented

ANY_PORT = ("--http-address", "127.0.0.1:0")
"""The address is bound before anything runs."""

STANDARD = "process_"
"""The client library's own, the same in every program."""


def shown(registry: CollectorRegistry) -> dict[str, Family]:
    """Families as they are scraped. A collector of one's own describes them, others are what they describe."""
    found = {}
    for collector in set(registry._names_to_collectors.values()):
        for family in getattr(collector, "describe", collector.collect)():
            suffix = "_total" if family.type == "counter" else ""
            labels = getattr(collector, "_labelnames", getattr(family, "_labelnames", ()))
            if not family.name.startswith(STANDARD):
                found[family.name + suffix] = (family.type, frozenset(labels))
    return found


SCOPES = {
    "cluster_manager_cds_": ["cluster_manager.cds"],
    "cluster_grpc_": ["cluster.shop/agent/v1~h2.grpc"],
    "cluster_": ["cluster.shop/agent/v1", "cluster.shop/agent/v1~h2"],
    "listener_manager_lds_": ["listener_manager.lds"],
    "access_logs_grpc_access_log_": ["access_logs.grpc_access_log"],
    "http_": ["http.agentrollout"],
    "control_plane_": ["control_plane"],
    "runtime_": ["runtime"],
    "server_": ["server"],
}
"""How names of metrics begin, and those that Envoy has for the same; it writes a dot where it may as well be a line."""


class Nobody:
    """In place of a connection that is made before the parts are put together, and never used."""

    async def close(self) -> None: ...


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """What a command registers when it is started: it is put together as always, and ends instead of running."""

    async def ended(_self: Manager) -> None: ...

    async def connected(**_: Any) -> Nobody:
        return Nobody()

    registry = CollectorRegistry()
    for module in (wiring, shadow_wiring):
        monkeypatch.setattr(module, "CollectorRegistry", lambda: registry)
    monkeypatch.setattr(KubernetesTransport, "connect", connected)
    monkeypatch.setattr(Manager, "run", ended)
    return registry


def test_the_operators_metrics_are_documented(registry: CollectorRegistry) -> None:
    result = CliRunner().invoke(app, ["operator", "--prometheus-url", "http://127.0.0.1:9", *ANY_PORT])
    assert result.exit_code == 0, result.output
    assert documented("Both processes", "The operator") == shown(registry)


def test_the_shadow_processs_metrics_are_documented(registry: CollectorRegistry, tmp_path: Path) -> None:
    command = ["shadow", "serve", "--records", f"sqlite:///{tmp_path}/records.db", *ANY_PORT]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert documented("Both processes", "The shadow process") == shown(registry)


def kept() -> list[re.Pattern[str]]:
    """Of Envoy's statistics, by the names it has for them itself."""
    bootstrapped = bootstrap("router", operators=[("127.0.0.1", 1)])
    patterns = bootstrapped["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    return [
        re.compile(each["safe_regex"]["regex"] if "safe_regex" in each else re.escape(each["exact"]))
        for each in patterns
    ]


def own_names(metric: str) -> list[str]:
    """What Envoy calls a metric of the page itself; of clusters for one of each protocol."""
    name = metric.removeprefix("envoy_").replace("rq_xx", "rq_5xx")
    for scope, own in SCOPES.items():
        if name.startswith(scope):
            return [f"{each}.{name.removeprefix(scope)}" for each in own]
    raise AssertionError(f"no scope of Envoy's is known for {metric}")


@pytest.mark.parametrize("metric", documented("The routers"))
def test_what_is_documented_of_routers_is_kept_by_them(metric: str) -> None:
    assert any(each.fullmatch(name) for each in kept() for name in own_names(metric)), own_names(metric)


def test_what_is_read_of_routers_is_documented() -> None:
    terms = (*ERRORS.total, *ERRORS.bad, LATENCY.count, *LATENCY.lost)
    read = {term.metric for term in terms} | {LATENCY.buckets, LIVENESS_METRIC, OVERRIDE_METRIC}
    families = {re.sub("_(bucket|count)$", "", metric) for metric in read}
    assert families <= documented("The routers").keys()
