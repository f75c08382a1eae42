"""What the shadow process needs from the outside: a queue between capture and judges, and a store of what they said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.core.shadow.comparison import Bin, Case, Outcome
from controller.core.shadow.exchange import Answer, Question, Target

MAX_ATTEMPTS = 5
"""Deliveries of one comparison; after these it is a dead letter."""


class QueueFullError(Exception):
    """The queue takes no more now."""


class TooLargeError(Exception):
    """It is larger than what is taken: a message by the queue, an answer of an agent by us."""


class UnreachableError(Exception):
    """There was no connection to an agent; the message is the kind of error."""


class Agents(Protocol):
    """Agents that are asked once more, to nobody, beside what routers mirror to them."""

    async def ask(self, target: Target, artifact: str, question: Question) -> Answer:
        """What the agent makes of the question within its time, as the routers would have captured it.

        Args:
            target: Where it is.
            artifact: Its artifact ID.
            question: Of its headers only those go on that say how to answer.

        Raises:
            UnreachableError: There is no connection to it.
            TooLargeError: The answer is larger than what is kept.
        """

    async def close(self) -> None:
        """Let go of the connections."""


class Delivery(Protocol):
    """A message that a worker has alone until it says what became of it. Silence for too long gives it to another."""

    @property
    def payload(self) -> bytes:
        """As it was put.

        Raises:
            ValueError: Somebody else has put it, in no form that is read here.
        """

    @property
    def attempt(self) -> int:
        """Counts from 1, also those of workers that have died."""

    async def working(self) -> None:
        """Say that it is being worked on; to be called more often than every ``Queue.patience`` seconds."""

    async def done(self) -> None:
        """It is dealt with and leaves the queue."""

    async def again(self, seconds: float) -> None:
        """Deliver it once more, to anybody, not before ``seconds``."""


class Queue(Protocol):
    """At least once: what was put is delivered until somebody is done with it."""

    patience: float
    """Seconds of silence after which a delivery goes to another worker."""

    async def put(self, key: str, payload: bytes) -> None:
        """Return once the message is as safe as the queue makes it; a key put twice within minutes is one message.

        It waits while the queue is out of reach.

        Raises:
            QueueFullError: It takes no more now.
            TooLargeError: It never takes a message of this size.
        """

    async def get(self) -> Delivery:
        """The next message; waits for one."""

    @property
    def waiting(self) -> int:
        """Messages that nobody is done with, as far as is known without asking."""

    @property
    def problem(self) -> str:
        """Why it cannot be reached, a sentence; empty while all is well."""

    async def close(self) -> int:
        """Let go of it; says how many messages are lost with it."""


@dataclass(frozen=True, slots=True)
class Record:
    """How a comparison ended.

    Attributes:
        case: Both answers, without personal data.
        bin: Where it ended.
        reason: Why, in a sentence.
        at: Unix seconds of its end.
        judge_artifact: ``sha256:…`` of what the judge is made of; empty if none was asked.
        model: The model that answered, as it named itself.
        tokens: That the judge used for what came to this end; of attempts before it ``Records.spend`` tells.
        cost: In the currency of the judge's budget.
        seconds: That judging took.
    """

    case: Case
    bin: Bin
    reason: str
    at: float
    judge_artifact: str = ""
    model: str = ""
    tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Label:
    """What a person says about a comparison.

    Attributes:
        comparison: The pair's ID.
        outcome: About the side that answered beside stable.
        by: Who says so.
        reason: Why; may be empty.
        at: Unix seconds.
    """

    comparison: str
    outcome: Outcome
    by: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What a judge used for one rollout."""

    rollout: str
    judge: str
    tokens: int
    cost: float


@dataclass(frozen=True, slots=True)
class Labelled:
    """A judge's outcome beside a person's.

    Attributes:
        judge_artifact: Which judge.
        judged: What it said.
        labelled: What the person said last.
    """

    judge_artifact: str
    judged: Outcome
    labelled: Outcome


class RecordsError(Exception):
    """The store cannot be reached or does not answer; the message says why, without what was to be stored."""


class Records(Protocol):
    """Records are added and, when they are old, removed; none is changed. Calls block. All may raise ``RecordsError``."""

    def has(self, comparison: str) -> bool:
        """Whether the comparison has ended."""

    def add(self, record: Record) -> bool:
        """Store how a comparison ended; False if that is stored already, which stays."""

    def get(self, comparison: str) -> Record | None:
        """How the comparison ended."""

    def beginning(self, prefix: str, limit: int) -> Sequence[Record]:
        """How comparisons ended whose IDs begin with this."""

    def knows(self, rollout: str) -> bool:
        """Whether a comparison of the rollout has ended."""

    def last(self, rollout: str, where: Bin, limit: int) -> Sequence[Record]:
        """The candidates' last comparisons that ended there, newest first."""

    def spend(self, spent: Spent, at: float) -> None:
        """Store what was spent without a comparison coming to an end, at Unix seconds."""

    def label(self, label: Label) -> None:
        """Store what a person says; what they said before stays, and no longer counts."""

    def labels(self, comparison: str) -> Sequence[Label]:
        """What people said about the comparison, in that order."""

    def labelled(self, rollout: str | None) -> Sequence[Labelled]:
        """Comparisons that both a judge and a person gave an outcome, of one rollout or of all; one for each person."""

    def spent(self, since: float) -> Sequence[Spent]:
        """What judges used at or after this time, Unix seconds, whether or not a comparison came to an end."""

    def remove_before(self, at: float) -> int:
        """Remove comparisons that ended before this time, Unix seconds, their labels, and what was spent; says how many."""

    def close(self) -> None:
        """Let go of the store."""
