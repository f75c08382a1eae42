"""The one number that the answer to a query of a guardrail gives, or why it gives none."""

from __future__ import annotations

import math
from collections.abc import Mapping

from controller.api.reasons import Verdict
from controller.core.snapshot import Answer


class UnknownError(Exception):
    """There is no value; the message says why."""

    verdict = Verdict.ERROR


class NothingError(UnknownError):
    """There is none yet, as before the first event of a series."""

    verdict = Verdict.INSUFFICIENT


def value_of(answers: Mapping[str, Answer], query: str, what: str) -> float:
    """The finite number that a query gave.

    Args:
        answers: What the metric source said to each query.
        query: The query.
        what: What people call it.

    Raises:
        UnknownError: If it gave none.
    """
    answer = answers.get(query, Answer(problem=f"{what} was not asked yet"))
    if answer.problem:
        raise UnknownError(answer.problem)
    if len(answer.values) > 1:
        raise UnknownError(
            f"{what} gives {len(answer.values)} values, and must give one: put it into sum() or max()"
        )
    if not answer.values or math.isnan(answer.values[0]):
        raise NothingError(f"{what} gives {'no number' if answer.values else 'nothing'} yet")
    if math.isinf(answer.values[0]):
        raise UnknownError(f"{what} gives {answer.values[0]}, which is no number to compare")
    return answer.values[0]
