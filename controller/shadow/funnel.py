"""Counts where comparisons end. What it shows is read back from Prometheus as evidence."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from controller.core.shadow.comparison import COMPARISONS, Bin
from controller.core.shadow.exchange import Replayed, Side, Subject
from controller.core.shadow.replay import ReplayEnd
from controller.shadow.heard import Heard

PENDING = "agentrollout_shadow_pending"
"""Comparisons that have not ended, by ``where`` they are: ``pairing``, ``handing_over``, ``replaying``, ``queue``, ``judging``. What is judged is in the
queue, too, and what is replayed is among what is handed over."""

REPLAYS = "agentrollout_shadow_replays_total"
"""Runs of stable that were to be driven again with recorded tools, by ``rollout``, ``revision`` and ``outcome`` (``ReplayEnd``)."""
DIVERGED_STEP = "agentrollout_shadow_replay_diverged_step"
"""Histogram of the steps at which they diverged, from 1, by ``rollout`` and ``revision``."""
_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)

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
        self._replays = Counter(
            REPLAYS,
            "Runs driven again with recorded tools, by who was asked and how it ended.",
            ["rollout", "revision", "outcome"],
            registry=registry,
        )
        self._diverged = Histogram(
            DIVERGED_STEP,
            "Steps at which they diverged.",
            ["rollout", "revision"],
            buckets=_STEPS,
            registry=registry,
        )
        self._replaying: set[tuple[str, str]] = set()
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

    def know_replays(self, subject: Subject, side: Side) -> None:
        """Show all series of runs that this side may drive again."""
        key = subject.rollout, subject.revision(side)
        if key not in self._replaying:
            self._replaying.add(key)
            for each in ReplayEnd:
                self._replays.labels(*key, each.value)
            self._diverged.labels(*key)

    def replayed(self, subject: Subject, side: Side, how: ReplayEnd, progress: Replayed | None) -> None:
        """A run was to be driven again, and came so far."""
        self.know_replays(subject, side)
        key = subject.rollout, subject.revision(side)
        self._replays.labels(*key, how.value).inc()
        if progress is not None and progress.diverged:
            self._diverged.labels(*key).observe(progress.steps)

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
            if key in self._replaying:
                self._replaying.discard(key)
                self._diverged.remove(*key)
                for end in ReplayEnd:
                    self._replays.remove(*key, end.value)
