"""Trials of conversations as Prometheus metrics: evidence, which comes back from there as all other does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.core.agents import CONVERSATIONS
from controller.core.trials import TrialCounts


class TrialMetrics(Collector):
    """Shows the counts of every version that is watched, from 0 on: what is not there at all holds a rollout."""

    def __init__(self, registry: CollectorRegistry, counts: Callable[[], Iterable[TrialCounts]]) -> None:
        """Register with the registry.

        Args:
            registry: Where to show them.
            counts: What was judged up to now.
        """
        self._counts = counts
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """The family without samples; a registry asks for it to keep names apart."""
        return iter((_family(),))

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        family = _family()
        for each in self._counts():
            family.add_metric([each.rollout, each.revision, "good"], each.good)
            family.add_metric([each.rollout, each.revision, "bad"], each.bad)
        return iter((family,))


def _family() -> CounterMetricFamily:
    return CounterMetricFamily(
        CONVERSATIONS.removesuffix("_total"),
        "Conversations that were judged, each once and as a whole.",
        labels=["rollout", "revision", "outcome"],
    )
