"""What the capture itself says as Prometheus metrics: streams of routers of which no comparison tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

STREAMS = "agentrollout_shadow_capture_streams"
"""Streams of captures that are under way; a router opens one for each side of a sampled request."""
LOST = "agentrollout_shadow_capture_lost_total"
"""Streams whose end was not seen, so that nobody knows what became of the request; its comparison ends as ``unpaired``."""
IGNORED = "agentrollout_shadow_capture_ignored_total"
"""Streams that no router of this version opened, or that did not say which request they belong to."""


class Captures(Protocol):
    """What there is to show; see ``controller.adapters.envoy.capture.Capture``."""

    open_streams: int
    lost: int
    ignored: int


class CaptureMetrics(Collector):
    """Shows them from 0 on."""

    def __init__(self, registry: CollectorRegistry, captures: Captures) -> None:
        """Register with the registry."""
        self._captures = captures
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """The families; a registry asks for them to keep names apart."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        yield GaugeMetricFamily(STREAMS, "Streams under way.", value=self._captures.open_streams)
        yield CounterMetricFamily(LOST, "Streams whose end was not seen.", value=self._captures.lost)
        yield CounterMetricFamily(IGNORED, "Streams that are not understood.", value=self._captures.ignored)
