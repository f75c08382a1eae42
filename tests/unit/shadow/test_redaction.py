"""What is taken out of a pair, wherever it stands, and what of it can still be compared."""

from __future__ import annotations

import bz2
import json
import time
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest

from controller.core.shadow.comparison import Case
from controller.core.shadow.exchange import Answer, Headers, Pair, Question, Side
from controller.core.shadow.recognisers import Found, Kind, built_in
from controller.core.shadow.redaction import Redaction, case_of
from tests.compared import SUBJECT
from tests.planted import ALL

JSON, SSE, FORM = "application/json", "text/event-stream; charset=utf-8", "application/x-www-form-urlencoded"


def typed(media: str) -> Headers:
    return (("content-type", media),) if media else ()


def case(
    question: str | bytes = "",
    stable: str | bytes = "",
    other: str | bytes = "",
    media: str = JSON,
    path: str = "/",
) -> Case:
    def body(text: str | bytes) -> bytes:
        return text.encode() if isinstance(text, str) else text

    def answer(text: str | bytes) -> Answer:
        return Answer(200, typed(media), body(text), complete=True, seconds=0.1)

    asked = Question("POST", path, typed(media), body(question))
    return case_of(Pair("1", Side.CANDIDATE, SUBJECT, asked, answer(stable), answer(other)), built_in, 7.0)


def events(*pieces: str) -> str:
    chunks = (json.dumps({"id": "c-1", "choices": [{"delta": {"content": piece}}]}) for piece in pieces)
    return "".join(f"data: {chunk}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def said(stream: str) -> str:
    lines = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: {")]
    return "".join(json.loads(line)["choices"][0]["delta"]["content"] for line in lines)


@pytest.mark.parametrize(("kind", "value", "sentence"), ALL)
def test_an_identifier_in_json_is_replaced_and_json_stays_json(kind: Kind, value: str, sentence: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": sentence}], "n": 1})
    content = json.loads(case(body).question)["messages"][0]["content"]
    assert value not in content
    assert f"<{kind}_1>" in content


@pytest.mark.parametrize(("kind", "value", "sentence"), ALL)
@pytest.mark.parametrize("size", [1, 5])
def test_an_identifier_that_is_streamed_in_pieces_is_replaced(
    kind: Kind, value: str, sentence: str, size: int
) -> None:
    pieces = [sentence[i : i + size] for i in range(0, len(sentence), size)]
    told = said(case(other=events(*pieces), media=SSE).other.text)
    assert value not in told
    assert f"<{kind}_1>" in told
    assert told.startswith(sentence[: sentence.index(value)][:8])


@pytest.mark.parametrize(("kind", "value", "sentence"), ALL)
def test_an_identifier_in_json_within_json_is_replaced(kind: Kind, value: str, sentence: str) -> None:
    arguments = json.dumps({"note": json.dumps({"text": sentence})})
    body = json.dumps({"tool_calls": [{"function": {"arguments": arguments}}]})
    text = case(other=body).other.text
    inner = json.loads(json.loads(json.loads(text)["tool_calls"][0]["function"]["arguments"])["note"])["text"]
    assert value not in inner
    assert f"<{kind}_1>" in inner


@pytest.mark.parametrize(("kind", "value", "sentence"), ALL)
def test_an_identifier_in_a_form_and_in_a_query_is_replaced(kind: Kind, value: str, sentence: str) -> None:
    encoded = urlencode({"q": sentence})
    redacted = case(encoded, media=FORM, path="/search/a%20b?" + encoded)
    for text in (redacted.question, redacted.path):
        assert quote(value) not in text
        assert value not in text
        assert f"<{kind}_1>" in text
    assert redacted.path.startswith("/search/a%20b?q=")


def test_the_same_person_is_the_same_placeholder_in_question_and_answers() -> None:
    redacted = case(
        '{"from": "ann@example.com", "to": "bob@example.com"}',
        "I wrote to BOB@example.com",
        "I wrote to ann@example.com and +1 415 555 2671, that is +14155552671",
        media="",
    )
    assert redacted.question == '{"from": "<EMAIL_1>", "to": "<EMAIL_2>"}'
    assert redacted.stable.text == "I wrote to <EMAIL_2>"
    assert redacted.other.text == "I wrote to <EMAIL_1> and <PHONE_1>, that is <PHONE_1>"


def test_an_identifier_behind_escapes_is_seen() -> None:
    assert case(r'{"to": "ann\u0040example.com"}').question == '{"to": "<EMAIL_1>"}'
    assert case('{"ann@example.com": "ü\\n"}').question == '{"<EMAIL_1>": "ü\\n"}'


def test_numbers_of_json_become_strings_of_json() -> None:
    body = '{"card": 4111111111111111, "phone": 4155552671, "created": 1732500000, "token": 123456789}'
    assert json.loads(case(body).question) == {
        "card": "<CARD_1>",
        "phone": "<PHONE_1>",
        "created": 1732500000,
        "token": "<SECRET_1>",
    }


def test_a_value_is_taken_out_whole_for_its_name() -> None:
    body = '{"password": "correct horse, battery", "hint": "none", "mobile": "4155552671"}'
    assert case(body).question == '{"password": "<SECRET_1>", "hint": "none", "mobile": "<PHONE_1>"}'
    assert case("user=x&password=a+b&a%40example.com=1&flag", media=FORM).question == (
        "user=x&password=<SECRET_1>&<EMAIL_1>=1&flag"
    )


def test_a_confidential_name_reaches_what_lies_within() -> None:
    body = '{"password": {"value": "correct horse", "x": ["]}", "battery", 1234567]}, "then": "staple"}'
    assert json.loads(case(body).question) == {
        "password": {"value": "<SECRET_1>", "x": ["<SECRET_2>", "<SECRET_3>", "<SECRET_4>"]},
        "then": "staple",
    }
    assert case('{"credentials": ["a b", "c d').question == '{"credentials": ["<SECRET_1>", "<SECRET_2>'
    # So do models stream what they say.
    said = '{"token": {"id": 464, "text": " Hello"}}'
    assert case(other=said).other.text == said


def test_a_string_that_does_not_end_is_one_all_the_same() -> None:
    assert case('{"password": "correct horse, batt').question == '{"password": "<SECRET_1>'
    assert case('{"text": "mail ann\\u0040example.com').question == '{"text": "mail <EMAIL_1>'
    assert case('say "a\nb, {"password": "c d"}').question == 'say "a\nb, {"password": "<SECRET_1>"}'


@pytest.mark.parametrize(
    "text",
    ['"\\' * 50_000, '"' + '\\"' * 50_000 + "\n", '{"password": {' * 20_000, '{"password": ["' * 20_000],
)
def test_json_that_is_none_takes_no_longer_than_its_length(text: str) -> None:
    def seconds(text: str) -> float:
        began = time.process_time()
        Redaction(lambda _: ()).text(text)
        return time.process_time() - began

    assert seconds(text) < 9 * min(seconds(text[: len(text) // 4]) for _ in range(3)) + 0.05


def test_parts_of_a_form_are_taken_out_for_their_names() -> None:
    def form(user: str, password: str) -> str:
        return (
            f'--b\r\nContent-Disposition: form-data; name="user"\r\n\r\n{user}\r\n'
            '--b\r\nContent-Disposition: form-data; name="password"\r\nContent-Type: text/plain\r\n\r\n'
            f"{password}\r\n--b--\r\n"
        )

    media = "multipart/form-data; boundary=b"
    asked = case(form("ann@example.com", "correct horse\r\nbattery"), media=media).question
    assert asked == form("<EMAIL_1>", "<SECRET_1>")
    cut = form("x", "y z").removesuffix("\r\n--b--\r\n")
    assert case(cut, media=media).question.endswith("\r\n\r\n<SECRET_1>")


def test_a_segment_of_a_path_and_a_field_of_a_query_are_taken_out_for_their_names() -> None:
    assert case(path="/reset/token/abc%20def/now?session=correct&page=2").path == (
        "/reset/token/<SECRET_1>/now?session=<SECRET_2>&page=2"
    )


@pytest.mark.parametrize("media", [SSE, "text/event-stream", "application/x-ndjson"])
@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
def test_strings_that_are_streamed_in_pieces_are_read_as_one(media: str, end: str) -> None:
    prefix = "" if "json" in media else "data: "
    stream = end.join(f'{prefix}"{piece}"' for piece in ("mail jo", "hn@exam", "ple.com now"))
    expected = end.join(f'{prefix}"{piece}"' for piece in ("mail <EMAIL_1>", "", " now"))
    assert case(other=stream, media=media).other.text == expected


def test_lines_that_begin_with_a_code_are_a_stream() -> None:
    stream = 'f:{"messageId":"m"}\n0:"jane"\ng:"I think"\n0:"@example"\n0:".com"\nd:{"finishReason":"stop"}\n'
    assert case(other=stream, media="text/plain; charset=utf-8").other.text == (
        'f:{"messageId":"m"}\n0:"<EMAIL_1>"\ng:"I think"\n0:""\n0:""\nd:{"finishReason":"stop"}\n'
    )


def test_what_needs_no_change_stays_as_it_was_written() -> None:
    body = '{\n  "a" : "\\u00e9\\/",  "a": 1.10, "n": 1234567 ,"e": []}'
    assert case(body).question == body
    stream = events("same", "same") + ": comment\r\nevent: x\r\ndata: plain\r\n\r\n"
    assert case(other=stream, media=SSE).other.text == stream


def test_plain_text_that_is_streamed_is_read_as_one() -> None:
    stream = "data: mail jo\n\ndata: hn@example.\n\ndata: com now\n\n"
    assert case(other=stream, media=SSE).other.text == "data: mail <EMAIL_1>\n\ndata: \n\ndata:  now\n\n"


def test_two_identifiers_that_meet_in_one_event_are_both_replaced() -> None:
    stream = events("a@example.com, b@exam", "ple.com, c@example.c", "om.")
    assert said(case(other=stream, media=SSE).other.text) == "<EMAIL_1>, <EMAIL_2>, <EMAIL_3>."


def test_a_half_surrogate_stays_an_escape() -> None:
    text = case(r'{"a": "\ud800 ann@example.com"}').question
    assert text == r'{"a": "\ud800 <EMAIL_1>"}'
    assert text.encode()


def test_json_that_lies_very_deep_is_still_looked_at() -> None:
    text = "write to ann@example.com"
    for _ in range(12):
        text = json.dumps(text)
    assert "ann@example.com" not in case(text).question


@pytest.mark.parametrize("body", [b"\x89PNG\r\n\x1a\n\x00\x01", b"a\x00b", "ü".encode("latin-1")])
def test_what_is_no_text_is_kept_as_size_and_digest(body: bytes) -> None:
    assert case(body, media="image/png").question.startswith(f"[{len(body)} bytes of image/png, sha256:")
    assert case(body, media="").question.startswith(f"[{len(body)} bytes of unknown type, sha256:")


def test_other_charsets_are_read() -> None:
    body = "für ann@example.com".encode("utf-16")
    assert case(body, media="text/plain; charset=UTF-16").question == "für <EMAIL_1>"
    assert case(b"plain", media="text/plain; charset=no-such").question == "plain"


@pytest.mark.parametrize(
    "charset", ["bz2", "zlib", "hex", "base64", "rot13", "utf-7", "unicode_escape", "idna"]
)
def test_a_charset_that_is_none_of_texts_unpacks_nothing(charset: str) -> None:
    body = b"+2AA- \\ud800 ann@example.com" if charset != "bz2" else bz2.compress(bytes(1 << 20))
    text = case(body, media=f"text/plain; charset={charset}").question
    assert len(text.encode()) <= 3 * len(body)
    assert "ann@example.com" not in text


@pytest.mark.parametrize(
    "charset",
    ["utf8", "US-ASCII", "ISO-8859-1", "latin1", "iso-8859-15", "windows-1252", "UTF-16LE", "utf-32", "Shift_JIS",
     "EUC-JP", "gb18030", "GBK", "Big5", "EUC-KR", "KOI8-R", "cp1251"],
)  # fmt: skip
def test_charsets_of_texts_are_read_by_their_usual_names(charset: str) -> None:
    body = "to ann@example.com".encode(charset)
    assert case(body, media=f'text/plain; charset="{charset}"').question == "to <EMAIL_1>"
    assert case(b"\xff\xfe\xff", media=f"text/plain; charset={charset}").question.encode()


def test_an_answer_that_was_cut_within_a_character_is_text() -> None:
    cut = Answer(200, (), "für ann@example.com ü".encode()[:-1], complete=False, seconds=1.0)
    silent = Answer(None, (), b"", complete=False, seconds=9.0)
    pair = Pair("1", Side.NOISE, SUBJECT, Question("GET", "/", (), b""), cut, silent)
    redacted = case_of(pair, built_in, 7.0)
    assert redacted.stable.text == "für <EMAIL_1> "
    assert (redacted.other.status, redacted.other.text, redacted.at) == (0, "", 7.0)


def test_recognisers_from_outside_have_kinds_of_their_own() -> None:
    def names(text: str) -> Iterator[Found]:
        if (start := text.find("Ann")) >= 0:
            yield Found(start, start + 3, "PERSON")

    assert Redaction(names).text("Ann and Ann") == "<PERSON_1> and Ann"
