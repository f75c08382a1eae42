"""Prometheus understands the alerts of docs/runbooks.md."""

from __future__ import annotations

from collections.abc import Callable

from devkit.prometheus import Prometheus
from tests.unit.docs.pages import ROOT, blocks


def test_prometheus_reads_every_alert_and_an_empty_one_misses_the_operator(
    prometheus_factory: Callable[..., Prometheus],
) -> None:
    prometheus = prometheus_factory()
    queries = [block.text for block in blocks(ROOT / "docs" / "runbooks.md") if block.language == "promql"]
    firing = [query for query in queries if prometheus.query(query)]
    assert ["absent" in query for query in firing] == [True]
