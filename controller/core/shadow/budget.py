"""What a judge may spend, by rollout and day: reserved before anything is sent, settled once it is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from controller.core.shadow.judgement import OverBudgetError


class Spend(NamedTuple):
    """Tokens and money.

    Attributes:
        tokens: In and out.
        cost: In whatever currency the prices are in.
    """

    tokens: int = 0
    cost: float = 0.0

    def plus(self, other: Spend) -> Spend:
        """Both together."""
        return Spend(self.tokens + other.tokens, self.cost + other.cost)

    def minus(self, other: Spend) -> Spend:
        """What is left of it."""
        return Spend(self.tokens - other.tokens, self.cost - other.cost)


@dataclass(frozen=True, slots=True)
class Limit:
    """Of a rollout and day in UTC.

    Attributes:
        tokens: At most.
        cost: At most; None if only tokens are limited.
    """

    tokens: int
    cost: float | None = None


class Reservation(NamedTuple):
    """What was set aside for one request."""

    rollout: str
    day: date
    spend: Spend


@dataclass(slots=True)
class Ledger:
    """What was spent and what is set aside; together they never exceed the limit.

    Attributes:
        limit: Of each rollout and day.
    """

    limit: Limit
    _used: dict[tuple[str, date], Spend] = field(default_factory=dict)

    def used(self, rollout: str, day: date) -> Spend:
        """What was spent and is set aside."""
        return self._used.get((rollout, day), Spend())

    def restore(self, rollout: str, day: date, spend: Spend) -> None:
        """What was spent before this process began."""
        self._used[rollout, day] = self.used(rollout, day).plus(spend)

    def reserve(self, rollout: str, day: date, most: Spend) -> Reservation:
        """Set aside what a request costs at most.

        Raises:
            OverBudgetError: If that is more than is left; nothing is set aside then.
        """
        used = self.used(rollout, day)
        wanted = used.plus(most)
        if wanted.tokens > self.limit.tokens:
            raise OverBudgetError(
                f"the judge has used {used.tokens} of {self.limit.tokens} tokens for {rollout} on {day}, and a request "
                f"may need {most.tokens}"
            )
        if self.limit.cost is not None and wanted.cost > self.limit.cost:
            raise OverBudgetError(
                f"the judge has spent {used.cost:.4f} of {self.limit.cost:.4f} for {rollout} on {day}, and a request may "
                f"cost {most.cost:.4f}"
            )
        if (rollout, day) not in self._used:
            self._used = {key: spend for key, spend in self._used.items() if (day - key[1]).days <= 1}
        self._used[rollout, day] = wanted
        return Reservation(rollout, day, most)

    def settle(self, reservation: Reservation, spend: Spend) -> None:
        """Put what it did cost in place of what was set aside."""
        rollout, day, most = reservation
        self._used[rollout, day] = self.used(rollout, day).minus(most).plus(spend)
