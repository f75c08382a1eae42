"""What a router captured: requests that stable answered, and that another version answered beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

Headers = tuple[tuple[str, str], ...]
"""Names in lower case, in their order, with their values."""


class Side(StrEnum):
    """Who answered."""

    STABLE = "stable"
    """Stable, to the user. What the others say is compared with it."""
    CANDIDATE = "candidate"
    """The candidate, to nobody."""
    NOISE = "noise"
    """Stable once more, to nobody: how much does it differ from itself?"""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose answers are compared, and by whom. It travels with every capture, so that who compares needs nothing else.

    Attributes:
        rollout: ``namespace/name``.
        candidate: Name of the candidate's AgentRevision.
        candidate_artifact: Its artifact ID.
        stable: Name of stable's AgentRevision.
        stable_artifact: Its artifact ID.
        models: ``provider/name`` of the models of both versions, which may not judge themselves.
        judge: Name of the judge, as the shadow process knows it.
    """

    rollout: str
    candidate: str
    candidate_artifact: str
    stable: str
    stable_artifact: str
    models: tuple[str, ...]
    judge: str

    def revision(self, side: Side) -> str:
        """The AgentRevision that answered as this side."""
        return self.candidate if side is Side.CANDIDATE else self.stable

    def artifact(self, side: Side) -> str:
        """The artifact ID of the version that answered as this side."""
        return self.candidate_artifact if side is Side.CANDIDATE else self.stable_artifact


@dataclass(frozen=True, slots=True)
class Question:
    """A request as the router passed it on.

    Attributes:
        method: HTTP method.
        path: With the query.
        headers: Those that may be kept.
        body: Decompressed.
    """

    method: str
    path: str
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What one side made of it.

    Attributes:
        status: HTTP status; None if none arrived.
        headers: Those that may be kept.
        body: Decompressed; of a stream all events.
        complete: Whether it came to its end; an answer that was reset or took too long did not.
        seconds: From the request's last byte to the answer's.
    """

    status: int | None
    headers: Headers
    body: bytes
    complete: bool
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether the version failed to answer, as ``errors`` counts it: 5xx, a break, silence."""
        return self.status is None or self.status >= 500 or not self.complete


@dataclass(frozen=True, slots=True)
class Target:
    """Where whoever answers beside stable can be asked once more.

    Attributes:
        url: ``http://host:port`` or ``https://host:port``.
        host: The ``host`` header of what is mirrored to it.
        seconds: That an answer may take.
    """

    url: str
    host: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """How far a run of stable was driven again, with the results that its tools had.

    Attributes:
        steps: Answers that were given.
        calls: Tool calls that were answered from the recording.
        recorded: Tool calls that the recording has.
        diverged: Whether the last answer calls a tool of which the recording has no result at that point.
    """

    steps: int
    calls: int
    recorded: int
    diverged: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """One half of a pair.

    Attributes:
        pair: The router's key of the request, equal on all sides; clients cannot choose it.
        side: Who answered.
        subject: Whose answers are compared.
        question: The request as this side got it.
        answer: What it made of it.
        oversized: Whether a body was larger than what is kept, or packed in a way that is not understood; bodies are
            empty then.
        noise_due: Of stable's half, whether a half of the noise arm belongs to it.
        timeout: Seconds that an answer may take, on every side: whichever half comes first, the others have ended by
            then.
        target: Where this side can be asked once more; None if it is not to be.
    """

    pair: str
    side: Side
    subject: Subject
    question: Question
    answer: Answer
    oversized: bool = False
    noise_due: bool = False
    timeout: float = 60.0
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one request.

    Attributes:
        id: The router's key; with ``/noise`` after it for the noise arm.
        side: Who answered beside stable: the candidate, or stable once more.
        subject: Whose answers are compared.
        question: The request as stable got it.
        stable: Stable's answer.
        other: The other side's.
        target: Where the other side can be asked once more; None if it is not to be.
        replayed: Of what ``other`` is the last answer, if it is not the answer to the mirrored request.
    """

    id: str
    side: Side
    subject: Subject
    question: Question
    stable: Answer
    other: Answer
    target: Target | None = None
    replayed: Replayed | None = None


def media_of(headers: Headers) -> tuple[str, str]:
    """Media type, in lower case and without parameters, and charset."""
    value = next((value for name, value in headers if name == "content-type"), "")
    media, _, parameters = value.partition(";")
    found = re.search(r'charset="?([\w.:-]+)', parameters, re.IGNORECASE)
    return media.strip().lower(), found.group(1) if found else "utf-8"
