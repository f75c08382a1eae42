"""How a comparison ends. Every sampled request ends in exactly one bin for each side that answers beside stable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from controller.core.shadow.exchange import Pair, Replayed, Side, Subject

COMPARISONS = "agentrollout_shadow_comparisons_total"
"""Counts ends by ``rollout``, ``revision`` (who answered beside stable: the candidate, or stable itself) and ``bin``."""


class Bin(StrEnum):
    """Where a comparison ended; the label ``bin`` of ``COMPARISONS``, which is API."""

    UNPAIRED = "unpaired"
    """One half never arrived."""
    TOO_LARGE = "too_large"
    """A body was larger than what is kept."""
    REDACTION_FAILED = "redaction_failed"
    """Personal data could not be taken out, so that nothing was kept."""
    SHED = "shed"
    """The queue was full."""
    OVER_BUDGET = "over_budget"
    """The judge's budget was used up."""
    JUDGE_ERROR = "judge_error"
    """No judge gave a verdict, or the judge is not fit to."""
    DEAD_LETTER = "dead_letter"
    """It was tried too often."""
    DIVERGED = "diverged"
    """Driven again with recorded tools, the other side called one that stable's run did not call at that point."""
    BOTH_ERROR = "both_error"
    """Neither side answered."""
    WIN = "win"
    """The other side's answer is better than stable's."""
    TIE = "tie"
    """Neither is better, or the judge does not agree with itself."""
    LOSS = "loss"
    """The other side's answer is worse than stable's."""


JUDGED = (Bin.WIN, Bin.TIE, Bin.LOSS)
"""The bins that are evidence."""


class Outcome(StrEnum):
    """What a comparison says about the side that answered beside stable."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"

    @property
    def mirrored(self) -> Outcome:
        """The same said about stable."""
        return {Outcome.WIN: Outcome.LOSS, Outcome.LOSS: Outcome.WIN}.get(self, self)

    @property
    def bin(self) -> Bin:
        """Where it is counted."""
        return Bin(self.value)


@dataclass(frozen=True, slots=True)
class CaseAnswer:
    """An answer as judges and people see it.

    Attributes:
        status: HTTP status.
        content_type: Media type without parameters.
        text: The redacted body.
        seconds: How long it took.
    """

    status: int
    content_type: str
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Case:
    """A pair without personal data, as it is queued, judged and stored.

    Attributes:
        id: Of the pair.
        side: Who answered beside stable.
        subject: Whose answers are compared.
        method: HTTP method.
        path: With the query, redacted.
        question: The redacted body of the request.
        stable: Stable's answer.
        other: The other side's.
        at: Unix seconds at which the pair was complete.
        replayed: Of what ``other`` is the last answer, if it is not the answer to the mirrored request.
    """

    id: str
    side: Side
    subject: Subject
    method: str
    path: str
    question: str
    stable: CaseAnswer
    other: CaseAnswer
    at: float
    replayed: Replayed | None = None


def without_judge(pair: Pair) -> Bin | None:
    """Where a pair ends that no judge is asked about: a side failed to answer, or a run diverged; None if both answered.

    A version that fails where stable answers has lost: left out, its failures would flatter it.
    """
    if pair.stable.failed and pair.other.failed:
        return Bin.BOTH_ERROR
    if pair.other.failed:
        return Bin.LOSS
    if pair.stable.failed:
        return Bin.WIN
    return Bin.DIVERGED if pair.replayed and pair.replayed.diverged else None
