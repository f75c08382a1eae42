"""What users met: the only view of the rollout that does not come from the product itself."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

WINDOW = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Answer:
    """One request as its user saw it.

    Attributes:
        at: When the answer was complete, or given up.
        conversation: The conversation's ID.
        internal: Whether the user works for the shop.
        status: HTTP status; 0 if there was no answer.
        seconds: How long the user waited.
        version: The version that answered; empty if none did.
    """

    at: datetime
    conversation: str
    internal: bool
    status: int
    seconds: float
    version: str

    @property
    def failed(self) -> bool:
        """Whether the user got nothing useful."""
        return not 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class VersionTotals:
    """All that one version did to users.

    Attributes:
        requests: Answers, failed ones included.
        failed: Failed answers.
        slow: Answers slower than what was called slow when they arrived.
        last_at: When its last answer arrived.
        first_failed_at: When its first failed answer arrived.
        first_slow_at: When its first slow answer arrived.
    """

    requests: int = 0
    failed: int = 0
    slow: int = 0
    last_at: datetime | None = None
    first_failed_at: datetime | None = None
    first_slow_at: datetime | None = None

    def plus(self, answer: Answer, slow: bool) -> VersionTotals:
        """The totals with one more answer."""
        return VersionTotals(
            requests=self.requests + 1,
            failed=self.failed + answer.failed,
            slow=self.slow + slow,
            last_at=answer.at,
            first_failed_at=self.first_failed_at or (answer.at if answer.failed else None),
            first_slow_at=self.first_slow_at or (answer.at if slow else None),
        )


@dataclass(frozen=True, slots=True)
class Recent:
    """The last seconds, as users saw them.

    Attributes:
        requests_per_second: How many answers arrived.
        failed: How many of them failed.
        median_seconds: Median waiting time.
        shares: Share of each version in the answers to everyone but internal users.
        internal_shares: Share of each version in the answers to internal users.
    """

    requests_per_second: float
    failed: int
    median_seconds: float
    shares: dict[str, float]
    internal_shares: dict[str, float]


class Observations:
    """Keeps totals for ever and single answers for a few seconds only, so that a kept demo does not grow.

    Attributes:
        slow_seconds: What is called slow from now on.
        requests: All answers.
        failed: Failed answers.
    """

    def __init__(self) -> None:
        self._recent: deque[Answer] = deque()
        self._totals: dict[str, VersionTotals] = {}
        self.requests = 0
        self.failed = 0
        self.slow_seconds = math.inf

    def add(self, answer: Answer) -> None:
        """Take one answer in."""
        self.requests += 1
        self.failed += answer.failed
        slow = not answer.failed and answer.seconds > self.slow_seconds
        self._totals[answer.version] = self.of(answer.version).plus(answer, slow)
        self._recent.append(answer)
        self._forget(answer.at)

    def of(self, version: str) -> VersionTotals:
        """Totals of one version."""
        return self._totals.get(version, VersionTotals())

    def recent(self, now: datetime) -> Recent:
        """The window that ends now."""
        self._forget(now)
        waits = sorted(answer.seconds for answer in self._recent)
        return Recent(
            requests_per_second=len(self._recent) / WINDOW.total_seconds(),
            failed=sum(answer.failed for answer in self._recent),
            median_seconds=waits[len(waits) // 2] if waits else 0.0,
            shares=_shares(answer for answer in self._recent if not answer.internal),
            internal_shares=_shares(answer for answer in self._recent if answer.internal),
        )

    def _forget(self, now: datetime) -> None:
        while self._recent and self._recent[0].at < now - WINDOW:
            self._recent.popleft()


def _shares(answers: Iterable[Answer]) -> dict[str, float]:
    counts = Counter(answer.version for answer in answers if answer.version)
    return {version: count / counts.total() for version, count in counts.items()}
