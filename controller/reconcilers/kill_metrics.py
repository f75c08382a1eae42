"""Kill switches as Prometheus metrics. Names are API: documented here, never renamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.core.snapshot import Switch


class Shown(Protocol):
    """What is shown of kill switches."""

    def all_switches(self) -> Iterable[tuple[str, Switch]]:
        """Every switch, with the key of the rollout that names it; empty for one that nobody names."""

    def spoken(self) -> Mapping[str, datetime]:
        """When each server of flags last spoke; those that never did are left out."""


class KillMetrics(Collector):
    """Every replica's own view of the switches, as ``agentrollout_kill_switch`` and ``agentrollout_flags_answered_timestamp_seconds``.

    Attributes:
        kills: ``agentrollout_kills_total``: candidates that this replica took off for a kill switch, by ``source``.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register with the registry; there is nothing to see before ``show``."""
        self._shown: Shown | None = None
        self.kills = Counter(
            "agentrollout_kills_total",
            "Candidates that this replica took off for a kill switch.",
            ["source"],
            registry=registry,
        )
        registry.register(self)

    def show(self, shown: Shown) -> None:
        """Show these from now on."""
        self._shown = shown

    def describe(self) -> Iterator[Metric]:
        """The families without samples; a registry asks for them to keep names apart."""
        return iter((_state(), _spoken()))

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        state, spoken = _state(), _spoken()
        if self._shown is not None:
            for rollout, switch in self._shown.all_switches():
                state.add_metric([rollout, switch.name, switch.source, _word(switch)], 1)
            for source, at in self._shown.spoken().items():
                spoken.add_metric([source], at.timestamp())
        return iter((state, spoken))


def _word(switch: Switch) -> str:
    if switch.on is None:
        return "unknown"
    return "on" if switch.on else "off"


def _state() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "agentrollout_kill_switch",
        "1 for the state in which this replica sees a kill switch: on, off or unknown.",
        labels=["rollout", "switch", "source", "state"],
    )


def _spoken() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "agentrollout_flags_answered_timestamp_seconds",
        "When a server of flags last answered, in unix seconds; absent before it has.",
        labels=["source"],
    )
