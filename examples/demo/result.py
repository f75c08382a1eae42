"""How an act ended, in figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from controller.api.status import MetricStatus
from examples.demo.acts import Act, Ending
from examples.demo.events import Event
from examples.demo.observations import VersionTotals


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The instants of a rollback.

    Attributes:
        sufficient_at: The first scrape after which the stored samples sufficed for the decision.
        decided_at: The evaluation that failed.
        acknowledged_at: When Envoy acknowledged that nobody gets the version any more.
    """

    sufficient_at: datetime
    decided_at: datetime
    acknowledged_at: datetime

    @property
    def seconds(self) -> float:
        """From sufficient evidence to weight 0 in force."""
        return (self.acknowledged_at - self.sufficient_at).total_seconds()

    @property
    def write_seconds(self) -> float:
        """From the decision to weight 0 in force."""
        return (self.acknowledged_at - self.decided_at).total_seconds()


@dataclass(frozen=True, slots=True)
class ActResult:
    """How an act ended.

    Attributes:
        act: What was played.
        began: When.
        ended: When it was over.
        ending: How the delivery ended; None if it did not.
        problem: What was not as it should be, as sentences; empty if all was.
        events: What happened.
        met: What the version did to users.
        requests: What all users asked in the act.
        failed: How many of these failed.
        taken_back: The instants of the rollback, if there was one.
        metric: The metric that decided on it.
        slow_seconds: What counted as slow; infinite if nothing did.
        compared: What was last said of the version's answers in the shadow; None if it was not there.
    """

    act: Act
    began: datetime
    ended: datetime
    ending: Ending | None
    problem: str
    events: tuple[Event, ...]
    met: VersionTotals
    requests: int
    failed: int
    taken_back: TakenBack | None = None
    metric: str = ""
    slow_seconds: float = math.inf
    compared: MetricStatus | None = None
