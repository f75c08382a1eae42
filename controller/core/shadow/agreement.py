"""How far a judge and people say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from controller.core.shadow.comparison import Outcome


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of comparisons that both a judge and a person gave an outcome.

    Attributes:
        counts: ``(judge's, person's)`` outcomes and how often they met.
    """

    counts: dict[tuple[Outcome, Outcome], int]

    @classmethod
    def of(cls, pairs: Iterable[tuple[Outcome, Outcome]]) -> Agreement:
        """Of pairs of the judge's outcome and a person's."""
        return cls(dict(Counter(pairs)))

    @property
    def total(self) -> int:
        """How many comparisons both looked at."""
        return sum(self.counts.values())

    @property
    def same(self) -> int:
        """How often they said the same."""
        return sum(self.counts.get((outcome, outcome), 0) for outcome in Outcome)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (Cohen 1960): the agreement beyond that of chance, 1 if perfect, 0 if none.

        None where chance alone would always agree, or nothing was compared.
        """
        total = self.total
        if not total:
            return None
        expected = sum(
            sum(n for (judge, _), n in self.counts.items() if judge is outcome)
            * sum(n for (_, person), n in self.counts.items() if person is outcome)
            for outcome in Outcome
        ) / (total * total)
        return None if expected == 1 else (self.same / total - expected) / (1 - expected)
