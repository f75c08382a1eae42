"""Counts where comparisons end. What it shows is read back from Prometheus as evidence."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from controller.core.shadow.comparison import COMPARISONS, Bin
from controller.core.shadow.exchange import Side, Subject
from controller.shadow.heard import Heard

PENDING = "agentrollout_shadow_pending"
"""Comparisons that have not ended, by ``where`` they are: ``pairing``, ``handing_over``, ``queue``, ``judging``. What is judged is in the
queue, too."""

JUDGE_TOKENS = "agentrollout_shadow_judge_tokens_total"
"""Tokens that judges used, by ``rollout`` and ``judge``."""
JUDGE_COST = "agentrollout_shadow_judge_cost_total"
"""What they cost, in the currency of the budget, by ``rollout`` and ``judge``."""

FORGOTTEN_AFTER_SECONDS = 86_400.0
"""Series of a rollout's revision that nothing was heard of for so long are no longer shown."""


class Funnel:
    """Every comparison ends in exactly one bin.

    Args:
        registry: Where to show it.
        monotonic: Seconds that never go backwards.
    """

    def __init__(self, registry: CollectorRegistry, monotonic: Callable[[], float]) -> None:
        """All series of a rollout begin at 0 with the first that is heard of it."""
        self._ends = Counter(
            COMPARISONS,
            "Comparisons by who answered beside stable and where they ended.",
            ["rollout", "revision", "bin"],
            registry=registry,
        )
        self._pending = Gauge(PENDING, "Comparisons that have not ended.", ["where"], registry=registry)
        self._tokens = Counter(
            JUDGE_TOKENS, "Tokens that judges used.", ["rollout", "judge"], registry=registry
        )
        self._cost = Counter(JUDGE_COST, "Cost of judges.", ["rollout", "judge"], registry=registry)
        self._heard = Heard[tuple[str, str]](monotonic)

    def know(self, subject: Subject) -> None:
        """Show all series of the subject."""
        for revision in (subject.candidate, subject.stable):
            key = subject.rollout, revision
            if self._heard.note(key):
                for each in Bin:
                    self._ends.labels(*key, each.value)

    def end(self, subject: Subject, side: Side, where: Bin) -> None:
        """A comparison has ended."""
        self.know(subject)
        self._ends.labels(subject.rollout, subject.revision(side), where.value).inc()

    def spent(self, subject: Subject, tokens: int, cost: float) -> None:
        """A judge has used this much."""
        self._tokens.labels(subject.rollout, subject.judge).inc(tokens)
        self._cost.labels(subject.rollout, subject.judge).inc(cost)

    def pending(self, where: str, count: Callable[[], float]) -> None:
        """Show how many comparisons are there."""
        self._pending.labels(where).set_function(count)

    def forget_old(self) -> None:
        """No longer show what nothing was heard of for a day: revisions come and go, and a process may run for months."""
        for key in self._heard.forget(FORGOTTEN_AFTER_SECONDS):
            for each in Bin:
                self._ends.remove(*key, each.value)
