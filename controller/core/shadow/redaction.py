"""Takes personal data and credentials out of a pair, before anything of it is stored, logged, queued or judged.

A value has one placeholder, such as ``<EMAIL_1>``, in the question and in both answers, so that who compares the answers
still sees that they name the same person. JSON stays JSON: strings are looked at without their escapes, also where JSON
stands in a string, as the arguments of a tool call do. In a stream of events an identifier may be spread over
many of them, a token each; it is looked for in what the events say together.
"""

from __future__ import annotations

import codecs
import encodings
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from encodings.aliases import aliases
from urllib.parse import unquote, unquote_plus

from controller.core.shadow.comparison import Case, CaseAnswer
from controller.core.shadow.exchange import Answer, Pair, media_of
from controller.core.shadow.recognisers import Kind, Recogniser, confides_all, merged, named

MAX_DEPTH = 8
"""Of JSON within strings of JSON; what lies deeper is looked at as it stands."""

STREAMS = frozenset(
    {"text/event-stream", "application/x-ndjson", "application/jsonl", "application/json-lines"}
)
"""Media types of which each line, or event, is a part of what is said."""

FORM = "application/x-www-form-urlencoded"
PARTS = "multipart/form-data"

CHARSETS = frozenset(
    {
        *(
            "utf_8",
            "utf_8_sig",
            "utf_16",
            "utf_16_be",
            "utf_16_le",
            "utf_32",
            "utf_32_be",
            "utf_32_le",
            "ascii",
        ),
        *("latin_1", *(f"iso8859_{part}" for part in (*range(2, 12), *range(13, 17)))),
        *(f"cp{page}" for page in (874, 932, 949, 950, *range(1250, 1259))),
        *("koi8_r", "koi8_u", "tis_620", "shift_jis", "euc_jp", "gb2312", "gbk", "gb18030", "big5", "euc_kr"),
    }
)
"""By the names of Python's codecs. Its others unpack archives, or read escapes that are half of a character."""

# A string that does not end is one as far as it goes: it is not begun again at each of its quotes.
_TOKEN = re.compile(
    r'"(?P<string>(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+)(?:"(?P<key>\s{0,64}:(?P<nest>\s{0,64}[\[{])?)?)?'
    r"|(?<=[:,\[\s])-?(?P<number>\d{6,})(?=\s{0,64}[,\]}])"
)
_BRACKET = re.compile(r'"(?:[^"\\]++|\\[\s\S])*+"?|[\[{]|(?P<closing>[\]}])')
# Of the Vercel AI SDK's data stream protocol: a letter or digit says what kind of part the JSON after it is.
_CODED_LINES = re.compile(r'[0-9a-z]:["\[{]')
_LINE = re.compile(r"(?:\A|(?<=[\r\n]))(?P<prefix>data: ?|[0-9a-z]:(?=[\"\[{]))?(?P<data>[^\r\n]*)")
_PART = re.compile(
    r"^content-disposition:[^\r\n]{0,256}?\bname=\"(?P<name>[^\"\r\n]{0,80})\"[^\r\n]{0,512}\r?\n"
    r"(?:[^\r\n]{1,512}\r?\n){0,8}\r?\n",
    re.IGNORECASE | re.MULTILINE,
)
_LETTERS_AND_DIGITS = re.compile(r"[\W_]+")
_SPELT_IN_GROUPS = frozenset({Kind.PHONE, Kind.CARD, Kind.IBAN, Kind.NATIONAL_ID})


def case_of(pair: Pair, recognise: Recogniser, at: float) -> Case:
    """The pair without personal data.

    Args:
        pair: As it was captured.
        recognise: Finds what is to be taken out.
        at: Unix seconds.

    Raises:
        Exception: Whatever ``recognise`` raises; nothing of the pair may be kept then.
    """
    redaction = Redaction(recognise)
    question = pair.question
    path = redaction.path(question.path)
    asked = redaction.body(question.body, *media_of(question.headers))
    return Case(
        id=pair.id,
        side=pair.side,
        subject=pair.subject,
        method=question.method,
        path=path,
        question=asked,
        stable=_answer(redaction, pair.stable),
        other=_answer(redaction, pair.other),
        at=at,
        replayed=pair.replayed,
    )


def _answer(redaction: Redaction, answer: Answer) -> CaseAnswer:
    media, charset = media_of(answer.headers)
    return CaseAnswer(
        status=answer.status or 0,
        content_type=media,
        text=redaction.body(answer.body, media, charset, complete=answer.complete),
        seconds=answer.seconds,
    )


def _decoded(body: bytes, charset: str, *, complete: bool) -> str:
    """The text of a body; of one in a charset that is not read, what UTF-8 makes of it.

    Raises:
        ValueError: It is no text in this charset.
    """
    name = encodings.normalize_encoding(charset).lower()
    name = aliases.get(name, name)  # codecs.lookup() would remember every name that a user can think of
    if name not in CHARSETS:
        return body.decode("utf-8", "replace")
    # Of a body that was cut short, half a character at its end is no reason to call it binary.
    return codecs.getincrementaldecoder(name)().decode(body, final=complete)


@dataclass(frozen=True, slots=True)
class _Token:
    """A string or number of JSON: where it stands in the text, what it says, and the name it has in an object."""

    start: int
    end: int
    value: str
    name: str
    is_string: bool


class Redaction:
    """Takes personal data out of the texts of one pair; the same value gets the same placeholder in all of them."""

    def __init__(self, recognise: Recogniser) -> None:
        """See ``case_of``."""
        self._recognise = recognise
        self._numbers: dict[tuple[str, str], int] = {}
        self._counts: dict[str, int] = {}

    def body(self, body: bytes, media: str, charset: str, *, complete: bool = True) -> str:
        """The redacted text of a body; of one that is no text its size and digest, which can still be compared."""
        try:
            text = _decoded(body, charset, complete=complete)
        except ValueError:
            text = "\0"
        if "\0" in text:
            return (
                f"[{len(body)} bytes of {media or 'unknown type'}, sha256:{hashlib.sha256(body).hexdigest()}]"
            )
        if media == FORM:
            return self._form(text)
        if media == PARTS:
            text = "".join(_replaced(text, self._in_parts(text)))
        return self.stream(text) if media in STREAMS or _CODED_LINES.match(text) else self.text(text)

    def path(self, path: str) -> str:
        """A request's path and query."""
        plain, separator, query = path.partition("?")
        decoded = unquote(plain)
        redacted = self.text("/".join(self._segments(decoded.split("/"))))
        return (plain if redacted == decoded else redacted) + separator + self._form(query)

    def _segments(self, segments: list[str]) -> Iterator[str]:
        """As in ``/reset/token/abc123``."""
        for name, value in zip(["", *segments], segments, strict=False):
            kind = named(name, value)
            yield self._placeholder(kind, value) if kind else value

    def text(self, text: str, *, depth: int = 0) -> str:
        """A text, which may be JSON, or have JSON in it."""
        inside = "".join(_replaced(text, self._in_json(text, depth)))
        return self._plain(inside)

    def stream(self, text: str) -> str:
        """Events, or lines of JSON, that say something together."""
        parts: dict[str, list[_Token]] = {}
        for token in _of_lines(text):
            parts.setdefault(token.name, []).append(token)
        changes: list[tuple[int, int, str]] = []
        for tokens in parts.values():
            # What every event repeats (an id, the model) is not said in parts.
            if len({token.value for token in tokens}) > 1:
                changes += self._across(tokens)
        return self.text("".join(_replaced(text, sorted(changes))))

    def _across(self, tokens: list[_Token]) -> Iterator[tuple[int, int, str]]:
        """Replacements of what is found in the tokens' values one after the other: all but its first part is left out."""
        whole = "".join(token.value for token in tokens)
        found = iter(merged(self._recognise(whole)))
        one, start = next(found, None), 0
        for token in tokens:
            end, kept, position = start + len(token.value), "", start
            while one is not None and one.start < end:
                kept += whole[position : max(one.start, position)]
                if one.start >= start:
                    kept += self._placeholder(one.kind, whole[one.start : one.end])
                position = min(one.end, end)
                if one.end > end:
                    break
                one = next(found, None)
            kept += whole[position:end]
            if kept != token.value:
                yield token.start, token.end, _encoded(kept) if token.is_string else kept
            start = end

    def _form(self, text: str) -> str:
        if not text:
            return text
        return "&".join(self._field(field) for field in text.split("&"))

    def _field(self, field: str) -> str:
        name, separator, value = field.partition("=")
        plain_name, plain = unquote_plus(name), unquote_plus(value)
        kind = named(plain_name, plain)
        redacted_name = self.text(plain_name)
        redacted = self._placeholder(kind, plain) if kind else self.text(plain)
        return (
            (name if redacted_name == plain_name else redacted_name)
            + separator
            + (value if redacted == plain else redacted)
        )

    def _in_parts(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Replacements of parts that are confidential by their names."""
        position = 0
        while part := _PART.search(text, position):
            position = part.end()
            end = text.find("\n--", position - 1)
            value = text[position : end if end >= 0 else len(text)].removesuffix("\r")
            if kind := named(part["name"], value):
                yield position, position + len(value), self._placeholder(kind, value)
                position += len(value)

    def _in_json(self, text: str, depth: int) -> Iterator[tuple[int, int, str]]:
        """Replacements of what can only be seen without JSON's escapes, or by its name, or must stay a value of JSON."""
        for token in _tokens(text):
            kind = named(token.name, token.value)
            if kind:
                redacted = self._placeholder(kind, token.value)
            elif not token.is_string or depth >= MAX_DEPTH:
                redacted = self._plain(token.value)
            elif "\\" in text[token.start : token.end]:
                redacted = self.text(token.value, depth=depth + 1)
            else:
                continue  # it is looked at with the text around it
            if redacted != token.value:
                yield token.start, token.end, _encoded(redacted) if token.is_string else f'"{redacted}"'

    def _plain(self, text: str) -> str:
        pieces = (
            (one.start, one.end, self._placeholder(one.kind, text[one.start : one.end]))
            for one in merged(self._recognise(text))
        )
        return "".join(_replaced(text, pieces))

    def _placeholder(self, kind: str, value: str) -> str:
        if kind in _SPELT_IN_GROUPS:
            value = _LETTERS_AND_DIGITS.sub("", value)
        key = kind, value.casefold() if kind in _SPELT_IN_GROUPS or kind == Kind.EMAIL else value
        if key not in self._numbers:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._numbers[key] = self._counts[kind]
        return f"<{kind}_{self._numbers[key]}>"


def _replaced(text: str, changes: Iterable[tuple[int, int, str]]) -> Iterator[str]:
    position = 0
    for start, end, replacement in changes:
        yield text[position:start]
        yield replacement
        position = end
    yield text[position:]


def _tokens(text: str) -> Iterator[_Token]:
    """The strings and long numbers of JSON in a text. A string's place is that between its quotes."""
    name, confided, until = "", "", 0
    for match in _TOKEN.finditer(text):
        within = confided if match.start() < until else ""
        if match["string"] is None:
            yield _Token(*match.span(), match.group(), within or name, is_string=False)
            name = ""
            continue
        raw = match["string"]
        value = json.loads(f'"{raw}"') if "\\" in raw else raw
        is_key = match["key"] is not None
        yield _Token(*match.span("string"), value, "" if is_key else within or name, is_string=True)
        name = value if is_key else ""
        if match["nest"] and not within and confides_all(value):
            confided, until = value, _closing(text, match.end())


def _closing(text: str, start: int) -> int:
    """Where the object or array ends of which the first character is the one before."""
    depth = 1
    for match in _BRACKET.finditer(text, start):
        if match.group()[0] != '"':
            depth += -1 if match["closing"] else 1
        if not depth:
            return match.start()
    return len(text)


def _of_lines(text: str) -> Iterator[_Token]:
    """What the lines of a stream say, line by line: the named strings of JSON, one string of JSON, or the whole of the data."""
    for match in _LINE.finditer(text):
        data, start, prefix = match["data"], match.start("data"), match["prefix"]
        if data.startswith(("{", "[")):
            for token in _tokens(data):
                if token.name and token.is_string:
                    yield _Token(
                        start + token.start, start + token.end, token.value, token.name, is_string=True
                    )
        elif (string := _TOKEN.fullmatch(data)) and string["string"] is not None:
            (token,) = _tokens(data)
            yield _Token(
                start + token.start, start + token.end, token.value, f'{prefix or ""}"', is_string=True
            )
        elif prefix:
            yield _Token(start, match.end(), data, "", is_string=False)


def _encoded(value: str) -> str:
    """As it stands between the quotes of a JSON string."""
    lone = any("\ud800" <= c <= "\udfff" for c in value)  # half a surrogate pair has no bytes, only an escape
    return json.dumps(value, ensure_ascii=lone)[1:-1]
