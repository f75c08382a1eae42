"""Many deliveries of one kind, and what they come to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from statistics import quantiles

from controller.api.reasons import State
from controller.api.rollout import AgentRollout
from controller.core.sums import upper_bound
from controller.simulation.delivery import Run, deliver
from controller.simulation.scenario import Scenario

CONFIDENCE = 0.95
"""Of the bound on a share of which few or none were seen."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some values and the value that one in ten exceeds."""

    p50: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None of no values."""
        if not values:
            return None
        if len(values) == 1:
            return cls(values[0], values[0])
        tenths = quantiles(values, n=10, method="inclusive")
        return cls(tenths[4], tenths[8])


@dataclass(frozen=True, slots=True)
class StageSummary:
    """One stage over all deliveries that came to it.

    Attributes:
        title: The stage.
        reached: How many deliveries came to it.
        seconds: How long they stayed.
        requests: How many requests the candidate answered in it.
    """

    title: str
    reached: int
    seconds: Spread
    requests: Spread


@dataclass(frozen=True, slots=True)
class Summary:
    """What the deliveries of one scenario came to.

    Attributes:
        scenario: What was simulated.
        runs: How many deliveries.
        promoted: How many got through.
        rolled_back: How many were taken back.
        seconds_to_promote: From the new artifact to the end, of those that got through.
        seconds_to_catch: From the beginning of the fault to the rollback, of those taken back for it.
        failed: Requests that failed on the candidate.
        stages: Each stage.
        held: The most frequent words of those that neither got through nor were taken back; empty if there are none.
    """

    scenario: Scenario
    runs: int
    promoted: int
    rolled_back: int
    seconds_to_promote: Spread | None
    seconds_to_catch: Spread | None
    failed: Spread
    stages: tuple[StageSummary, ...]
    held: str

    @classmethod
    def of(cls, scenario: Scenario, runs: Sequence[Run]) -> Summary:
        """Of at least one run."""
        through = [run for run in runs if run.state is State.STABLE]
        back = [run for run in runs if run.state is State.ROLLED_BACK]
        stuck = Counter(run.message for run in runs if run not in through and run not in back)
        failed = Spread.of([float(run.failed) for run in runs])
        assert failed is not None  # noqa: S101  there is a run
        return cls(
            scenario=scenario,
            runs=len(runs),
            promoted=len(through),
            rolled_back=len(back),
            seconds_to_promote=Spread.of([run.took.total_seconds() for run in through]),
            seconds_to_catch=Spread.of(
                [run.fault_to_cut.total_seconds() for run in back if run.fault_to_cut]
            ),
            failed=failed,
            stages=tuple(_stages(runs)),
            held=next((words for words, _ in stuck.most_common(1)), ""),
        )

    @property
    def at_most(self) -> float:
        """The upper 95 % confidence bound on the share that is taken back (Clopper & Pearson 1934)."""
        return upper_bound(self.rolled_back, self.runs, CONFIDENCE)


def simulate(
    rollout: AgentRollout, scenario: Scenario, runs: int, seed: int, done: Callable[[], None]
) -> Summary:
    """Deliver the same rollout many times, on all processors.

    Args:
        rollout: What is delivered.
        scenario: Under which circumstances.
        runs: How often, at least once.
        seed: Seed of the first run; the others have the following ones.
        done: Called after each run.
    """
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415  the operator has no use for it
    from multiprocessing import get_context  # noqa: PLC0415  likewise

    found = []
    # Spawned, not forked: the caller may have threads, as one that shows progress has.
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as workers:
        for run in workers.map(partial(deliver, rollout, scenario), range(seed, seed + runs)):
            found.append(run)
            done()
    return Summary.of(scenario, found)


def _stages(runs: Sequence[Run]) -> list[StageSummary]:
    titles = dict.fromkeys(stay.stage for run in runs for stay in run.stays)

    found = []
    for title in titles:
        stays = [stay for run in runs for stay in run.stays if stay.stage == title]
        seconds = Spread.of([stay.took / timedelta(seconds=1) for stay in stays])
        requests = Spread.of([float(stay.requests) for stay in stays])
        if seconds and requests:
            found.append(StageSummary(title, len(stays), seconds, requests))
    return found
