"""Prometheus metrics about rollouts. Names are API: documented here, never renamed."""

from __future__ import annotations

from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from controller.api.action import ActionName, ActionPhase
from controller.api.status import RolloutStatus
from controller.core.traffic import WHOLE_PPM
from controller.reconcilers.evidence_metrics import EvidenceMetrics
from controller.runtime.clock import Clock

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class RolloutMetrics:
    """Counts decisions and times their way to the data plane; make one per process.

    Attributes:
        weight: The candidate's wanted share of ``rollout``, 0 to 1; there is no series while nothing is on its way.
        cuts: Times the candidate of ``rollout`` was taken off, by ``rule``.
        actions: RolloutActions about ``rollout`` that were decided, by ``action`` and ``phase``.
        cut_seconds: From pushing a cut to its acknowledgement by every connected router.
        evidence: What the evidence says of every candidate.
    """

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        """Register the metrics."""
        self._clock = clock
        self._pushed: dict[str, float] = {}
        self.evidence = EvidenceMetrics(registry, clock)
        self.weight = Gauge(
            "agentrollout_candidate_weight",
            "The candidate's wanted share of everyone outside the audiences, 0 to 1; absent without a candidate.",
            ["rollout"],
            registry=registry,
        )
        self.cuts = Counter(
            "agentrollout_cuts_total",
            "Times the candidate was taken off.",
            ["rollout", "rule"],
            registry=registry,
        )
        self.actions = Counter(
            "agentrollout_actions_total",
            "What became of RolloutActions; who asked, and why, is in the actions themselves, in events and in logs.",
            ["rollout", "action", "phase"],
            registry=registry,
        )
        self.cut_seconds = Histogram(
            "agentrollout_cut_acknowledged_seconds",
            "From pushing a cut to its acknowledgement by every connected router.",
            buckets=_SECONDS,
            registry=registry,
        )

    def observe(self, key: str, status: RolloutStatus) -> None:
        """Show the wanted weight while there is a candidate: thousands of idle rollouts need no series each."""
        self.evidence.observe(key, status)
        if status.candidate is None:
            self._show_no_weight(key)
        else:
            self.weight.labels(rollout=key).set(status.weight / WHOLE_PPM)

    def cut(self, key: str, rule: str) -> None:
        """A cut was pushed."""
        self._pushed[key] = self._clock.monotonic()
        self.cuts.labels(rollout=key, rule=rule).inc()

    def action(self, key: str, name: ActionName, phase: ActionPhase) -> None:
        """An action was decided."""
        self.actions.labels(rollout=key, action=name.value, phase=phase.value).inc()

    def cut_acknowledged(self, key: str) -> float | None:
        """The pushed cut is in force; seconds since it was pushed, None if none was."""
        pushed = self._pushed.pop(key, None)
        if pushed is None:
            return None
        seconds = self._clock.monotonic() - pushed
        self.cut_seconds.observe(seconds)
        return seconds

    def clear(self) -> None:
        """Another replica decides now: what is shown here would be old."""
        self._pushed.clear()
        self.weight.clear()
        self.evidence.clear()

    def forget(self, key: str) -> None:
        """The rollout is gone: so are its series."""
        self._pushed.pop(key, None)
        self._show_no_weight(key)
        self.evidence.forget(key)
        self.cuts.remove_by_labels({"rollout": key})
        self.actions.remove_by_labels({"rollout": key})

    def _show_no_weight(self, key: str) -> None:
        with suppress(KeyError):
            self.weight.remove(key)
