"""What the capture says of streams that led to no half."""

from __future__ import annotations

from types import SimpleNamespace

from prometheus_client import CollectorRegistry

from controller.shadow.captured import IGNORED, LOST, STREAMS, CaptureMetrics


def test_what_the_capture_counts_is_shown_as_it_is_at_each_scrape() -> None:
    registry, capture = CollectorRegistry(), SimpleNamespace(open_streams=0, lost=0, ignored=0)
    CaptureMetrics(registry, capture)
    names = (STREAMS, LOST, IGNORED)
    assert [registry.get_sample_value(name) for name in names] == [0, 0, 0]
    capture.open_streams, capture.lost, capture.ignored = 3, 2, 1
    assert [registry.get_sample_value(name) for name in names] == [3, 2, 1]
