"""What a judge says about a case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from controller.core.shadow.comparison import Case, Outcome


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and who gave it.

    Attributes:
        outcome: About the side that answered beside stable.
        reason: In a sentence.
        judge_artifact: ``sha256:…`` of what the judge is made of: checks, rubric, prompts, models, parameters.
        model: The model that answered, as it named itself; empty if none was asked.
        tokens: That were used.
        cost: In the currency of the judge's budget.
        agreed: Whether both orders of the answers led to the same; where not, the outcome is a tie.
    """

    outcome: Outcome
    reason: str
    judge_artifact: str
    model: str = ""
    tokens: int = 0
    cost: float = 0.0
    agreed: bool = True


class JudgeError(Exception):
    """No verdict was given, and none is made up; the message says why.

    Attributes:
        transient: Whether the same case may get one later.
        tokens: That were used all the same.
        cost: Of these.
    """

    def __init__(self, message: str, *, transient: bool = False, tokens: int = 0, cost: float = 0.0) -> None:
        """See the class."""
        super().__init__(message)
        self.transient = transient
        self.tokens = tokens
        self.cost = cost


class OverBudgetError(Exception):
    """The judge may not spend more now; the message says which budget.

    Attributes:
        tokens: That were used before.
        cost: Of these.
    """

    def __init__(self, message: str, *, tokens: int = 0, cost: float = 0.0) -> None:
        """See the class."""
        super().__init__(message)
        self.tokens = tokens
        self.cost = cost


class Judge(Protocol):
    """Compares two answers, blind and in both orders. It may raise ``JudgeError`` and ``OverBudgetError``."""

    @property
    def artifact_id(self) -> str:
        """``sha256:…`` of what it is made of."""

    async def judge(self, case: Case) -> Judgement:
        """Which answer is better."""
