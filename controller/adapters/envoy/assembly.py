"""Puts together what a router tells of one request: its messages come in, an exchange comes out. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from controller.adapters.envoy.subjects import (
    NOISE_HEADER,
    PAIR_HEADER,
    REPLAY_HEADER,
    SIDE_HEADER,
    SUBJECT_HEADER,
    TIMEOUT_HEADER,
    decode_subject,
    decode_target,
)
from controller.adapters.envoy.unpacking import BrokenBodyError, TooLargeError, UnknownEncodingError, unpack
from controller.core.shadow.exchange import Answer, Exchange, Headers, Question, Side, Subject, Target

_NO_HEADERS: Headers = ()


@dataclass(slots=True)
class Room:
    """Memory that all assemblies share.

    Attributes:
        free: Bytes that are left of it.
    """

    free: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What a stream says before its first message.

    Attributes:
        subject: Whose answers are compared.
        side: Who answers.
        timeout: Seconds that the answer may take.
        noise_due: Whether a half of the noise arm belongs to it.
        target: Where who answers can be asked once more; None if that is not wanted.
    """

    subject: Subject
    side: Side
    timeout: float
    noise_due: bool
    target: Target | None = None

    @classmethod
    def of(cls, metadata: Iterable[tuple[str, Any]]) -> Origin:
        """Read the headers of a stream.

        Raises:
            ValueError: If they are not those of a router of ours.
        """
        found = {name: value for name, value in metadata if isinstance(value, str)}
        try:
            subject, side = decode_subject(found[SUBJECT_HEADER]), Side(found[SIDE_HEADER])
            timeout, replay = float(found[TIMEOUT_HEADER]), found.get(REPLAY_HEADER)
            return cls(
                subject=subject,
                side=side,
                timeout=timeout,
                noise_due=NOISE_HEADER in found,
                target=None if replay is None else decode_target(replay, timeout),
            )
        except KeyError as error:
            raise ValueError(f"the stream has no {error.args[0]}") from error


@dataclass(slots=True)
class _Message:
    """A request or an answer as far as it has arrived."""

    headers: Headers = _NO_HEADERS
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False


class Assembly:
    """What has arrived of one exchange. Instants are seconds of a clock that never goes back."""

    def __init__(self, origin: Origin, limit: int, room: Room, now: float) -> None:
        """Nothing has arrived yet.

        Args:
            origin: What the stream said.
            limit: Bytes of each body.
            room: Memory for the bodies; it is given back by ``release``.
            now: The present.
        """
        self._origin = origin
        self._limit = limit
        self._room = room
        self._began = self._last = now
        self._request = _Message()
        self._answer = _Message()
        self._oversized = False

    def feed(self, message: Any, now: float) -> bool:
        """Take in a ``ProcessingRequest``.

        Returns:
            Whether nothing that follows would change the exchange.
        """
        self._last = now
        kind = message.WhichOneof("request")
        if kind is None:
            return False
        part = self._request if kind.startswith("request_") else self._answer
        content = getattr(message, kind)
        if kind.endswith("_headers"):
            # Of hints before the answer only the answer stays.
            part.headers = _headers(content.headers)
            part.whole = content.end_of_stream
        elif kind.endswith("_body"):
            self._add(part, content.body)
            part.whole = content.end_of_stream
        else:
            part.headers += _headers(content.trailers)
            part.whole = True
        if part is self._request and part.whole:
            # A mirror's request comes in one piece once the user has sent all of it.
            self._began = now
        return self._oversized or self._answer.whole

    def exchange(self) -> Exchange | None:
        """What there is, once nothing more comes; None if it does not say which request it belongs to."""
        request = dict(self._request.headers)
        if PAIR_HEADER not in request:
            return None
        answer = self._answered()
        question = self._asked(request)
        if self._oversized:
            question, answer = _without_body(question, answer)
        return Exchange(
            pair=request[PAIR_HEADER],
            side=self._origin.side,
            subject=self._origin.subject,
            question=question,
            answer=answer,
            oversized=self._oversized,
            noise_due=self._origin.noise_due,
            timeout=self._origin.timeout,
            target=self._origin.target,
        )

    def release(self) -> None:
        """Give back the memory; nothing can be asked afterwards."""
        self._room.free += len(self._request.body) + len(self._answer.body)
        self._request, self._answer = _Message(), _Message()

    def _add(self, part: _Message, body: bytes) -> None:
        if self._oversized:
            return
        if len(part.body) + len(body) > self._limit or len(body) > self._room.free:
            self._oversized = True
            return
        part.body += body
        self._room.free -= len(body)

    def _asked(self, headers: dict[str, str]) -> Question:
        method, path = headers.get(":method", ""), headers.get(":path", "")
        body = b""
        try:
            body = unpack(bytes(self._request.body), headers.get("content-encoding", ""), self._limit)
        except BrokenBodyError as error:
            # What the user sent is no fault of a version, and what cannot be read cannot be redacted.
            self._oversized, body = self._request.whole, error.readable
        except (TooLargeError, UnknownEncodingError):
            self._oversized = True
        return Question(method, path, _kept(self._request.headers), body)

    def _answered(self) -> Answer:
        headers = dict(self._answer.headers)
        status, complete, body = headers.get(":status", ""), self._answer.whole, b""
        try:
            body = unpack(bytes(self._answer.body), headers.get("content-encoding", ""), self._limit)
        except BrokenBodyError as error:
            body, complete = error.readable, False
        except (TooLargeError, UnknownEncodingError):
            self._oversized = True
        return Answer(
            status=int(status) if status.isdecimal() else None,
            headers=_kept(self._answer.headers),
            body=body,
            complete=complete,
            seconds=self._last - self._began,
        )


def _headers(message: Any) -> Headers:
    return tuple((each.key, _value(each)) for each in message.headers)


def _value(header: Any) -> str:
    raw: bytes = header.raw_value
    return raw.decode("utf-8", "replace") if raw else str(header.value)


def _kept(headers: Headers) -> Headers:
    """Those that say something to whoever compares."""
    return tuple(each for each in headers if not each[0].startswith((":", "x-agentrollout-")))


def _without_body(question: Question, answer: Answer) -> tuple[Question, Answer]:
    return (
        Question(question.method, question.path, question.headers, b""),
        Answer(answer.status, answer.headers, b"", answer.complete, answer.seconds),
    )
