"""What the evidence says of every candidate, as Prometheus metrics. Names are API: documented here, never renamed.

They are made when Prometheus asks, from the status that was decided last: an evaluation costs no more for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.api.status import RolloutStatus
from controller.runtime.clock import Clock

CANDIDATE_INFO = "agentrollout_candidate_info"
"""1 for the candidate of ``rollout``: its ``revision``, and the ``stage`` that it is in by its title."""
E_VALUE = "agentrollout_evidence_e_value"
"""E-value of the harm test of ``metric`` of ``rollout``."""
E_VALUE_THRESHOLD = "agentrollout_evidence_e_value_threshold"
"""The e-value that alone is enough to fail."""
EVENTS = "agentrollout_evidence_events"
"""Events of the stage so far, of ``version`` candidate or baseline, by ``kind`` bad or all."""
VERDICT = "agentrollout_evidence_verdict"
"""1 for the ``verdict`` of ``metric``: Pass, Fail, Insufficient or Error."""

SHOWN_AFTERWARDS = timedelta(minutes=10)
"""How long the evidence that decided stays after a rollback: several scrapes."""

VERSIONS = ("candidate", "baseline")
KINDS = ("bad", "all")


class EvidenceMetrics(Collector):
    """Shows the evidence of each candidate, and for a while that of one that was taken back."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        """Register with the registry."""
        self._clock = clock
        self._shown: dict[str, RolloutStatus] = {}
        registry.register(self)

    def observe(self, key: str, status: RolloutStatus) -> None:
        """Show the status of the rollout ``namespace/name``; thousands of idle ones need no series each."""
        if status.candidate or status.analysis:
            self._shown[key] = status
        else:
            self._shown.pop(key, None)

    def forget(self, key: str) -> None:
        """The rollout is gone: so are its series."""
        self._shown.pop(key, None)

    def clear(self) -> None:
        """Another replica decides now: what is shown here would be old."""
        self._shown.clear()

    def describe(self) -> Iterator[Metric]:
        """The families without samples; a registry asks for them to keep names apart."""
        return iter(_families())

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        self._drop_old()
        info, e_value, threshold, events, verdict = families = _families()
        for key, status in self._shown.items():
            if status.candidate:
                title = status.stage.title if status.stage else ""
                info.add_metric([key, status.candidate.revision, title], 1)
            for metric in status.analysis:
                e_value.add_metric([key, metric.name], metric.evidence)
                threshold.add_metric([key, metric.name], metric.threshold)
                verdict.add_metric([key, metric.name, metric.verdict.value], 1)
                for version, counts in zip(VERSIONS, (metric.candidate, metric.baseline), strict=True):
                    for kind, count in zip(KINDS, (counts.bad, counts.total), strict=True):
                        events.add_metric([key, metric.name, version, kind], count)
        return iter(families)

    def _drop_old(self) -> None:
        """Whoever asks has seen by now what decided; thousands that were once taken back need no series each."""
        oldest = self._clock.now() - SHOWN_AFTERWARDS
        for key in [
            key
            for key, status in self._shown.items()
            if not status.candidate and (status.last_rollback is None or status.last_rollback.at < oldest)
        ]:
            del self._shown[key]


def _families() -> tuple[GaugeMetricFamily, ...]:
    by_metric = ["rollout", "metric"]
    return (
        GaugeMetricFamily(
            CANDIDATE_INFO,
            "The candidate and the stage that it is in.",
            labels=["rollout", "revision", "stage"],
        ),
        GaugeMetricFamily(E_VALUE, "E-value of the harm test.", labels=by_metric),
        GaugeMetricFamily(E_VALUE_THRESHOLD, "The e-value that alone is enough to fail.", labels=by_metric),
        GaugeMetricFamily(EVENTS, "Events of the stage so far.", labels=[*by_metric, "version", "kind"]),
        GaugeMetricFamily(VERDICT, "1 for the verdict of the metric.", labels=[*by_metric, "verdict"]),
    )
