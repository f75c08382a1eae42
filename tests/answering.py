"""Versions that answer well or badly, and a judge that errs: comparisons as they may really come, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from controller.core.plan import Plan
from controller.core.shadow.comparison import Bin
from tests.comparing import ComparingRollout
from tests.virtual import rollout_of

Flags = npt.NDArray[np.bool_]

RECENT_SAMPLES = 25
"""As many as an interval without second answers may have; see ``shadowed.LONGEST``."""

INTERVAL = timedelta(seconds=15)

FAILING = 0.01
"""Share of the answers that fail, of every version."""


@dataclass(frozen=True)
class NoisyJudge:
    """Asked in both orders; what it says in one only is a tie.

    Attributes:
        random: Probability that a verdict has nothing to do with the answers.
        bias: Probability that such a verdict prefers the answer that is shown first.
    """

    random: float = 0.2
    bias: float = 0.7

    def loses(self, other_bad: Flags, stable_bad: Flags, random: np.random.Generator) -> tuple[Flags, Flags]:
        """Which comparisons the other side loses, and which it wins."""
        truth = other_bad.astype(int) - stable_bad.astype(int)
        said = [self._said(truth, first, random) for first in (1, -1)]
        return (said[0] == 1) & (said[1] == 1), (said[0] == -1) & (said[1] == -1)

    def _said(self, truth: npt.NDArray[np.int_], first: int, random: np.random.Generator) -> Any:
        """1 where stable's answer is preferred; ``first`` is 1 where it is shown first."""
        blind = random.random(truth.size) < self.random
        guess = np.where(random.random(truth.size) < self.bias, first, -first)
        return np.where(blind, guess, truth)


@dataclass
class AnsweringRollout(ComparingRollout):
    """Whether an answer is good is drawn for each answer; how probable that is, for each conversation.

    Attributes:
        judge: Who compares.
        worse: Share of the candidate's answers that are bad where stable's would not be.
        bad: How many answers are bad, of every version.
        scatter: Standard deviation of that over the conversations.
        longest: Conversations have 1 to so many requests; 1: requests are independent.
        spread: Share of answers in which the candidate differs from stable without being worse or better in sum.
    """

    judge: NoisyJudge = field(default_factory=NoisyJudge)
    worse: float = 0.0
    bad: float = 0.25
    scatter: float = 0.15
    longest: int = 1
    spread: float = 0.0

    def compare(self, requests: int) -> None:
        table = self.served
        if table is None or table.shadow is None or table.candidate is None or not requests:
            return
        conversation = self._conversations(requests)
        count = int(conversation[-1]) + 1
        # A beta distribution with this mean and standard deviation.
        size = self.bad * (1 - self.bad) / self.scatter**2 - 1
        chance = self.random.beta(self.bad * size, (1 - self.bad) * size, count)[conversation]
        noisy = (self.random.random(count) < table.shadow.noise_ppm / table.shadow.sampled_ppm)[conversation]
        stable, again, other = (self.random.random(requests) < chance for _ in range(3))
        other |= self.random.random(requests) < self.worse
        differs = self.random.random(requests) < self.spread
        stable, other = (
            np.where(differs, coin, each)
            for coin, each in zip(self._coins(requests), (stable, other), strict=True)
        )
        failed = self.random.random((3, requests)) < FAILING
        self.compared += requests
        self._judge(table.candidate.revision, other, stable, failed[1], failed[0])
        chosen = (again[noisy], stable[noisy], failed[2][noisy], failed[0][noisy])
        self._judge(table.stable.revision, *chosen)
        self._tell_of_judge(table.candidate.revision)

    def count(self, revision: str, requests: int, *, audience: bool = False) -> None:
        """In the shadow nobody reads what routers and agents count."""
        if self.served is None or self.served.shadow is None:
            super().count(revision, requests, audience=audience)

    def take_samples(self) -> None:
        """No interval needs more than the last few."""
        super().take_samples()
        for taken in self.pod_samples.values():
            del taken[:-RECENT_SAMPLES]

    def settle(self) -> Plan:
        """While a stage goes on, one look is enough."""
        decided = self.step()
        return decided if decided.rule == "hold" else super().settle()

    def _conversations(self, requests: int) -> npt.NDArray[np.int_]:
        """The number of the conversation that each request belongs to."""
        lengths = self.random.integers(1, self.longest + 1, requests)
        return np.repeat(np.arange(requests), lengths)[:requests]

    def _coins(self, requests: int) -> tuple[Flags, Flags]:
        coin = self.random.random(requests) < 0.5
        return coin, ~coin

    def _judge(self, revision: str, other: Flags, stable: Flags, failed: Flags, stable_failed: Flags) -> None:
        """Who fails to answer where the other did not has lost, without a judge."""
        loss, win = self.judge.loses(other, stable, self.random)
        both, answered = failed & stable_failed, ~(failed | stable_failed)
        loss, win = (loss & answered) | (failed & ~both), (win & answered) | (stable_failed & ~both)
        counts = {
            Bin.LOSS: int(loss.sum()),
            Bin.WIN: int(win.sum()),
            Bin.BOTH_ERROR: int(both.sum()),
            Bin.TIE: int((~(loss | win | both)).sum()),
        }
        self.tell(revision, counts)


def answering(
    *,
    per_interval: int,
    fraction: float = 0.2,
    seed: int,
    shadow: dict[str, Any],
    evidence: bool = False,
    **how: Any,
) -> AnsweringRollout:
    """A world on its way to a second version, which is in the shadow.

    Args:
        per_interval: Comparisons in each 15 s.
        fraction: Share of the conversations that are sampled.
        seed: Of everything random.
        shadow: ``spec.shadow``, but for the fraction.
        evidence: Whether the candidate has to be shown to be safe.
        how: Attributes of the world.
    """
    spec = {"fraction": f"{100 * fraction:g}%", "minDuration": "15s", **shadow}
    metrics = [{"name": "errors"}, {"name": "latency"}]
    analysis = {"interval": "15s", "advanceOn": "Evidence" if evidence else "Time", "metrics": metrics}
    world = AnsweringRollout(
        rollout_of(shadow=spec, analysis=analysis),
        per_second=per_interval / 15 / fraction,
        scrape=INTERVAL,
        seed=seed,
        **how,
    )
    world.settle()
    world.live(60)
    world.want("http://v2")
    world.settle()
    return world


@dataclass(frozen=True)
class Ending:
    """How a stay in the shadow ended.

    Attributes:
        reason: Why the candidate was taken back; empty if it was not.
        passed: Whether it went on to its first stage.
        comparisons: The candidate's that were judged until then.
        noisy: Whether stable was found to differ from itself meanwhile.
    """

    reason: str
    passed: bool
    comparisons: int
    noisy: bool = False


def in_shadow(world: AnsweringRollout, intervals: int) -> Ending:
    """Live until the candidate leaves the shadow, or for so many intervals."""
    judged, noisy = 0, False
    for _ in range(intervals):
        world.live(15)
        status = world.rollout.status
        said = [each for each in status.analysis if each.name == "shadow"]
        judged = max([judged, *(each.candidate.total for each in said)])
        noisy |= any(each.reason == "NoisyEvidence" for each in said)
        if not status.is_in_shadow:
            break
    status = world.rollout.status
    back = status.last_rollback
    ending = Ending("", status.stage is not None and not status.is_in_shadow, judged, noisy)
    return replace(ending, reason=back.reason.value) if back else ending
