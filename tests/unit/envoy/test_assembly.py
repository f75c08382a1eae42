"""What becomes of the messages of one stream."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2

from controller.adapters.envoy.assembly import Assembly, Origin, Room
from controller.adapters.envoy.subjects import REPLAY_HEADER, decode_subject, encode_subject, encode_target
from controller.core.shadow.exchange import Exchange, Side, Subject, Target

pytestmark = pytest.mark.unit

SUBJECT = Subject("shop/agent", "b", "sha256:b", "a", "sha256:a", ("openai/gpt-x",), "default")
METADATA = (
    ("user-agent", "envoy"),
    ("x-agentrollout-subject", encode_subject(SUBJECT)),
    ("x-agentrollout-side", "stable"),
    ("x-agentrollout-timeout", "2.5"),
    ("x-agentrollout-noise", "1"),
    ("trace-bin", b"\0"),
)
LIMIT = 1000


def message(**parts: Any) -> Any:
    return external_processor_pb2.ProcessingRequest(**parts)


def headers(values: dict[str, str], *, end: bool = False) -> dict[str, Any]:
    found = [{"key": key, "raw_value": value.encode()} for key, value in values.items()]
    return {"headers": {"headers": found}, "end_of_stream": end}


ASKED = headers({":method": "POST", ":path": "/chat?q=1", "x-agentrollout-pair": "7", "accept": "*/*"})
GOOD = headers({":status": "200", "content-type": "text/plain"})


def body(content: bytes, end: bool = False) -> dict[str, Any]:
    return {"body": content, "end_of_stream": end}


class Stream:
    """An assembly that is fed with a second between messages."""

    def __init__(self, limit: int = LIMIT, room: int = 10_000) -> None:
        self.room = Room(room)
        self.now = 100.0
        self.assembly = Assembly(Origin.of(METADATA), limit, self.room, self.now)
        self.over: list[bool] = []

    def feed(self, **parts: Any) -> Stream:
        self.now += 1
        self.over.append(self.assembly.feed(message(**parts), self.now))
        return self

    @property
    def exchange(self) -> Exchange:
        found = self.assembly.exchange()
        assert found is not None
        return found


def asked(**room: int) -> Stream:
    stream = Stream(**room).feed(request_headers=ASKED)
    return stream.feed(request_body=body(b"Hel")).feed(request_body=body(b"lo", end=True))


def test_an_exchange_is_what_passed() -> None:
    stream = asked().feed(response_headers=GOOD)
    stream.feed(response_body=body(b"Good ")).feed(response_body=body(b"day", end=True))

    found = stream.exchange
    assert stream.over == [False] * 5 + [True]
    assert (found.pair, found.side, found.subject) == ("7", Side.STABLE, SUBJECT)
    assert (found.timeout, found.noise_due, found.oversized) == (2.5, True, False)
    assert (found.question.method, found.question.path, found.question.body) == (
        "POST",
        "/chat?q=1",
        b"Hello",
    )
    assert found.question.headers == (("accept", "*/*"),)
    assert (found.answer.status, found.answer.body, found.answer.complete) == (200, b"Good day", True)
    assert found.answer.headers == (("content-type", "text/plain"),)
    assert found.answer.seconds == 3
    assert not found.answer.failed


def test_trailers_end_an_answer_and_belong_to_it() -> None:
    trailers = {"trailers": {"headers": [{"key": "grpc-status", "value": "0"}]}}
    stream = asked().feed(response_headers=GOOD).feed(response_trailers=trailers)

    assert stream.over[-1]
    assert stream.exchange.answer.complete
    assert ("grpc-status", "0") in stream.exchange.answer.headers


def test_an_answer_without_a_body_ends_with_its_headers() -> None:
    stream = Stream().feed(request_headers={**ASKED, "end_of_stream": True})
    stream.feed(response_headers=headers({":status": "204"}, end=True))

    assert stream.over == [False, True]
    assert stream.exchange.answer.status == 204


def test_what_breaks_off_is_not_complete() -> None:
    silent = asked().exchange.answer
    assert (silent.status, silent.complete, silent.failed) == (None, False, True)
    broken = asked().feed(response_headers=GOOD).feed(response_body=body(b"Goo")).exchange.answer
    assert (broken.status, broken.body, broken.complete, broken.failed) == (200, b"Goo", False, True)


def test_messages_of_kinds_to_come_are_passed_over() -> None:
    assert Stream().feed().over == [False]


@pytest.mark.parametrize("encoding", ["gzip", ""])
def test_a_body_beyond_the_limit_makes_the_exchange_oversized_and_leaves_no_part_of_it(encoding: str) -> None:
    content = gzip.compress(bytes(LIMIT + 1)) if encoding else bytes(LIMIT + 1)
    stream = asked().feed(response_headers=headers({":status": "200", "content-encoding": encoding}))
    stream.feed(response_body=body(content, end=True))

    found = stream.exchange
    assert stream.over[-1]
    assert found.oversized
    assert (found.question.body, found.answer.body) == (b"", b"")


def test_what_cannot_be_read_cannot_be_redacted_and_is_not_kept() -> None:
    unknown = headers({":status": "200", "content-encoding": "compress"})
    assert asked().feed(response_headers=unknown).feed(response_body=body(b"(/", end=True)).exchange.oversized
    packed = {**ASKED, "headers": {"headers": [*ASKED["headers"]["headers"], _header("gzip")]}}
    stream = Stream().feed(request_headers=packed).feed(request_body=body(b"no gzip", end=True))
    assert stream.exchange.oversized


def _header(encoding: str) -> dict[str, Any]:
    return {"key": "content-encoding", "raw_value": encoding.encode()}


def test_an_answer_that_is_not_packed_as_it_says_has_failed() -> None:
    stream = asked().feed(response_headers=headers({":status": "200", "content-encoding": "gzip"}))
    stream.feed(response_body=body(b"no gzip at all", end=True))

    assert stream.exchange.answer.failed
    assert not stream.exchange.oversized


def test_memory_is_shared_and_given_back() -> None:
    stream = asked(room=10)
    assert stream.room.free == 5
    stream.feed(response_headers=GOOD).feed(response_body=body(b"too much", end=True))
    assert stream.exchange.oversized
    stream.assembly.release()
    assert stream.room.free == 10


def test_without_the_key_of_a_pair_there_is_no_exchange() -> None:
    stream = Stream().feed(request_headers=headers({":method": "GET"}))
    assert stream.assembly.exchange() is None


def test_a_stream_that_no_router_of_ours_opened_is_told_so() -> None:
    for missing in ("subject", "side", "timeout"):
        with pytest.raises(ValueError, match=f"the stream has no x-agentrollout-{missing}"):
            Origin.of(each for each in METADATA if not each[0].endswith(missing))
    for name, value in (("subject", "e30="), ("subject", "?"), ("side", "left"), ("timeout", "soon")):
        other = ((key, value if key.endswith(name) else was) for key, was in METADATA)
        with pytest.raises(ValueError):  # noqa: PT011  the words are Python's own
            Origin.of(other)


def test_a_subject_survives_the_way() -> None:
    assert decode_subject(encode_subject(SUBJECT)) == SUBJECT


def test_where_a_version_can_be_asked_once_more_goes_with_its_half() -> None:
    metadata = (*METADATA, (REPLAY_HEADER, encode_target("http://10.0.0.2:8080", "a.example")))
    assert Origin.of(metadata).target == Target("http://10.0.0.2:8080", "a.example", 2.5)
    assert Origin.of(METADATA).target is None


@pytest.mark.parametrize("value", ["", "!", "W10=", "e30="])
def test_a_place_that_no_router_sends_is_none(value: str) -> None:
    with pytest.raises(ValueError, match="x-agentrollout-replay"):
        Origin.of((*METADATA, (REPLAY_HEADER, value)))
