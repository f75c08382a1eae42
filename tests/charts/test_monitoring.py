"""Alerts and dashboard: real expressions, on metrics that exist, each alert with its page among the runbooks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry

from controller.core.shadow.comparison import COMPARISONS
from controller.reconcilers.kill_metrics import KillMetrics
from controller.reconcilers.metrics import RolloutMetrics
from controller.runtime.clock import SystemClock
from controller.runtime.metrics import RuntimeMetrics
from controller.shadow.funnel import Funnel
from devkit.process import LOOPBACK, free_port
from devkit.prometheus import Prometheus
from tests.charts.chart import CHART, Raw, objects
from tests.integration.envoy_lab import Agent, Lab, backend, eventually, fetch, table

MONITORING = CHART / "ci" / "monitoring-values.yaml"
RUNBOOKS = CHART.parents[1] / "docs" / "runbooks.md"

ALERTS: list[Raw] = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD: Raw = json.loads((CHART / "files" / "dashboard.json").read_text())

_METRIC = re.compile(
    r"\b(?:agentrollout|envoy|leader_election|workqueue)_[a-z0-9_]+(?=\{|\[|\)|\s|$)", re.MULTILINE
)


def expressions() -> Iterator[tuple[str, str]]:
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$rollout", ".*")
            yield panel["title"], expression


def metrics() -> set[str]:
    return {name for _, expression in expressions() for name in _METRIC.findall(expression)} - {
        "envoy_cluster_name",
        "envoy_response_code_class",
    }


def test_prometheus_understands_every_expression(prometheus_factory: Callable[..., Prometheus]) -> None:
    prometheus = prometheus_factory([])
    assert len(list(expressions())) > 15
    for _, expression in expressions():
        prometheus.query(expression)


def ours() -> set[str]:
    registry = CollectorRegistry()
    RuntimeMetrics(registry)
    RolloutMetrics(registry, SystemClock())
    Funnel(registry, lambda: 0.0)
    KillMetrics(registry)
    found = set()
    for family in registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(
            family.type, ("",)
        )
        found |= {f"{family.name}{suffix}" for suffix in suffixes}
    assert COMPARISONS in found
    return found


async def of_a_router() -> set[str]:
    port, admin = free_port(), free_port()
    access: dict[str, Any] = {"admin": (LOOPBACK, admin), "metrics": (LOOPBACK, port)}
    async with Agent("stable") as agent, Lab() as lab, httpx.AsyncClient() as client:
        await lab.start(table(backend("stable", agent.port)), access=access)
        await fetch(lab.user_port, "/503/x", headers=[("x-session-id", "someone")])

        async def names() -> set[str]:
            page = (await client.get(f"http://{LOOPBACK}:{port}/stats/prometheus")).text
            return set(re.findall(r"^(envoy_\w+)", page, re.MULTILINE))

        return await eventually(names, lambda found: "envoy_cluster_upstream_rq_time_bucket" in found)


async def test_every_metric_in_an_expression_exists() -> None:
    used = metrics()
    assert {name for name in used if not name.startswith("envoy_")} - ours() == set()
    # Envoy shows a class of statuses once there was one: here there is 2xx.
    assert {name for name in used if name.startswith("envoy_")} - await of_a_router() == set()


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_has_its_page_among_the_runbooks(alert: Raw) -> None:
    _, _, page = RUNBOOKS.read_text().partition(f"\n## {alert['alert']}\n")
    assert "**Do.**" in page.partition("\n## ")[0]
    assert alert["annotations"]["summary"].endswith(".")


def test_the_chart_links_each_alert_to_its_runbook() -> None:
    (rule,) = (each for each in objects(MONITORING) if each["kind"] == "PrometheusRule")
    links = [each["annotations"]["runbook_url"] for each in rule["spec"]["groups"][0]["rules"]]
    assert links == [f"https://runbooks.example.com/agentrollout#{each['alert'].lower()}" for each in ALERTS]
    # Helm did not take Prometheus' braces for its own.
    assert "{{ $labels.rollout }}" in json.dumps(rule)


def test_a_pod_monitor_selects_the_pods_of_each_role_by_a_port_that_they_have() -> None:
    monitors = [each for each in objects(MONITORING) if each["kind"] == "PodMonitor"]
    assert len(monitors) == 3
    for monitor in monitors:
        chosen = monitor["spec"]["selector"]["matchLabels"].items()
        (pod,) = (
            each["spec"]["template"]
            for each in objects(MONITORING)
            if each["kind"] == "Deployment"
            and chosen <= each["spec"]["template"]["metadata"]["labels"].items()
        )
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} <= ports
