"""What personal data and credentials look like: the recognisers that need no library and no model.

Every pattern is bounded and begins where a run of its characters begins, so that what a text takes grows no faster than
its length, whatever it says.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What was found; it is the placeholder's name, so that judges and people know what stood there."""

    EMAIL = "EMAIL"
    PHONE = "PHONE"
    CARD = "CARD"
    IBAN = "IBAN"
    IP = "IP"
    NATIONAL_ID = "NATIONAL_ID"
    """US SSN, British NINO, Spanish DNI and NIE."""
    API_KEY = "API_KEY"
    """With the prefix that its issuer gives it."""
    JWT = "JWT"
    PRIVATE_KEY = "PRIVATE_KEY"
    SECRET = "SECRET"  # noqa: S105  a name
    """What is called a password, a token or the like, or stands in an ``Authorization`` header or a URL."""


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of a text that is to be taken out.

    Attributes:
        start: Its first character.
        end: The one after its last.
        kind: Upper case, as in the placeholder; recognisers from outside have kinds of their own.
    """

    start: int
    end: int
    kind: str


Recogniser = Callable[[str], Iterable[Found]]
"""Finds what is to be taken out of a text. Whatever it raises, nothing of the text is kept."""


_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""The sum of the digits of twice a digit."""


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    values = list(map(int, digits))
    return (sum(values[-1::-2]) + sum(map(_DOUBLED.__getitem__, values[-2::-2]))) % 10 == 0


def mod97(iban: str) -> bool:
    """Whether the check digits of an IBAN, upper case and without spaces, are right (ISO 13616)."""
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
# Matched ahead, so that each group of digits may begin one: "room 22, 4111 1111 1111 1111".
_CARD = re.compile(r"(?<![A-Za-z0-9.])(?=([2-6]\d(?:[ -]?\d){11,17}))")
_GAPS = re.compile(r"[ -]")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)")
_IPV6 = re.compile(
    r"(?<![\w:.])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:(?<=:)\d+(?:\.\d+){3})?(?![\w:])", re.IGNORECASE
)
_NATIONAL_ID = (
    re.compile(r"(?<![\w-])(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])"),
    re.compile(
        r"(?<!\w)(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D](?!\w)"
    ),
)
_DNI = re.compile(r"(?<!\w)([XYZ]?)-?(\d{7,8})-?([A-Z])(?!\w)")
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"  # Real Decreto 1553/2005: the number modulo 23

# + and up to 15 digits (E.164), however they are grouped; North America's form; a trunk 0 and groups.
_PHONE = re.compile(
    r"""(?<![\w.+/-])(?:
      \+\d(?:[ .()/-]{0,3}\d){6,14}
    | (?:1[ .-])?(?:\([2-9]\d{2}\)[ .-]?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}
    | \(?0\d{1,5}\)?(?:[ ./-]{1,3}\d{2,8}){1,5}
    )(?!\d)""",
    re.VERBOSE,
)
_DATE = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{2,4}(?!\1?\d)")

_API_KEY = re.compile(
    r"""(?<![\w-])(?:
      (?:AKIA|ASIA|AIDA|AROA|AGPA|ANPA)[A-Z0-9]{16}
    | sk-[\w-]{16,256}
    | [srp]k_(?:live|test)_\w{16,256}
    | gh[pousr]_\w{30,256} | github_pat_\w{22,256} | glpat-[\w-]{20,256}
    | xox[abeprs]-[\w-]{10,256}
    | AIza[\w-]{35} | ya29\.[\w-]{20,512}
    | hf_\w{30,256} | npm_\w{36} | pypi-[\w-]{50,512} | dop_v1_\w{64}
    | SG\.[\w-]{16,64}\.[\w-]{16,64}
    )""",
    re.VERBOSE,
)
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,8192}(?:\.[\w-]{0,8192}){1,4}")
_PRIVATE_KEY = re.compile(
    r"-----(?:BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?P<run>[\w+/=\s]{0,16384})"
    r"|END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----)"
)
_LONGEST_PRIVATE_KEY = 16384

_CONFIDES_ALL = r"pass(?:word|wd|phrase)|pwd|secret|api[_-]?key|access[_-]?key|private[_-]?key|credentials?|authorization|cookie"
_CONFIDENTIAL = rf"(?:{_CONFIDES_ALL}|token|session[_-]?id)"
_SECRETS = (
    re.compile(r"(?<!\w)(?:bearer|basic)\s{1,8}(?=[A-Z._~+/=-]{0,64}\d)([\w.~+/=-]{12,4096})", re.IGNORECASE),
    re.compile(
        rf"""(?<![^\W_])(?:\w{{0,40}}[_-])?{_CONFIDENTIAL}["']?\s{{0,8}}[:=]\s{{0,8}}["']?"""
        r"""(?!(?:bearer|basic|null|true|false)\b|[\[(])([^\s"',;&<>{}\\]{4,4096})""",
        re.IGNORECASE,
    ),
    re.compile(
        r"""(?<!\w)pass(?:word|phrase|wd)\s{1,8}is\s{1,8}["']?(?=[^\s\d!#$%^*_]{0,64}[\d!#$%^*_])([^\s"'<>]{4,128})""",
        re.IGNORECASE,
    ),
    re.compile(r"(?<=://)([^\s/@:]{1,256}:[^\s/@]{1,256})(?=@)"),
)
_NAMES_A_SECRET = re.compile(rf"(?:.*[_-])?(?:{_CONFIDENTIAL}|session)", re.IGNORECASE)
_NAMES_SECRETS = re.compile(rf"(?:.*[_-])?(?:{_CONFIDES_ALL})s?", re.IGNORECASE)
_NAMES_A_PHONE = re.compile(
    r"(?:.*[_-])?(?:phone|mobile|telephone|tel|fax)(?:[_-]?(?:number|no))?", re.IGNORECASE
)


def named(name: str, value: str) -> str | None:
    """The kind of a value that its name in a JSON object or a form gives away."""
    if not value:
        return None
    if _NAMES_A_SECRET.fullmatch(name[-80:]):
        return Kind.SECRET
    digits = sum(c.isdigit() for c in value)
    if 6 <= digits <= 15 and len(value) <= 32 and _NAMES_A_PHONE.fullmatch(name[-80:]):
        return Kind.PHONE
    return None


def confides_all(name: str) -> bool:
    """Whether all that lies within an object or array of that name is confidential; a ``token`` may be a word that a model says."""
    return _NAMES_SECRETS.fullmatch(name[-80:]) is not None


def built_in(text: str) -> Iterator[Found]:
    """All that the recognisers of this module find; pieces may overlap."""
    yield from _private_keys(text) if "PRIVATE KEY" in text else ()
    for match in _EMAIL.finditer(text) if "@" in text else ():
        yield Found(*match.span(), Kind.EMAIL)
    for match in _JWT.finditer(text) if "eyJ" in text else ():
        yield Found(*match.span(), Kind.JWT)
    for match in _API_KEY.finditer(text):
        yield Found(*match.span(), Kind.API_KEY)
    for pattern in _SECRETS:
        for match in pattern.finditer(text):
            yield Found(*match.span(1), Kind.SECRET)
    yield from _numbers(text)


def _private_keys(text: str) -> Iterator[Found]:
    """From the first beginning to an end; without one as far as it looks like a key."""
    begun: list[int] = []
    for match in _PRIVATE_KEY.finditer(text):
        if match["run"] is not None:
            begun.append(match.start())
            yield Found(*match.span(), Kind.PRIVATE_KEY)
            continue
        first = next((start for start in begun if match.start() - start <= _LONGEST_PRIVATE_KEY), None)
        if first is not None:
            yield Found(first, match.end(), Kind.PRIVATE_KEY)
        begun.clear()


def _numbers(text: str) -> Iterator[Found]:
    for match in _CARD.finditer(text):
        if end := _end(text, match.start(1), match.end(1), 13, luhn):
            yield Found(match.start(1), end, Kind.CARD)
    for match in _IBAN.finditer(text):
        if end := _end(text, match.start(), match.end(), 15, mod97):
            yield Found(match.start(), end, Kind.IBAN)
    yield from _national_ids(text)
    for match in _PHONE.finditer(text):
        if 8 <= sum(map(str.isdigit, match.group())) <= 15 and not _DATE.match(match.group()):
            yield Found(*match.span(), Kind.PHONE)
    yield from _addresses(text)


def _national_ids(text: str) -> Iterator[Found]:
    for pattern in _NATIONAL_ID:
        for match in pattern.finditer(text):
            yield Found(*match.span(), Kind.NATIONAL_ID)
    for match in _DNI.finditer(text):
        if _is_dni(*match.groups()):
            yield Found(*match.span(), Kind.NATIONAL_ID)


def _end(text: str, start: int, end: int, least: int, valid: Callable[[str], bool]) -> int:
    """Where a number with check digits ends that begins at ``start`` and may have swallowed what follows; 0 if there is none."""
    for after in range(end, start + least - 1, -1):
        # It ends between a letter or digit and something else.
        if text[after - 1].isalnum() and not text[after : after + 1].isalnum():
            compact = _GAPS.sub("", text[start:after])
            if len(compact) >= least and valid(compact.upper()):
                return after
    return 0


def _is_dni(prefix: str, digits: str, letter: str) -> bool:
    if len(digits) != (7 if prefix else 8):
        return False
    number = int(str("XYZ".index(prefix)) + digits) if prefix else int(digits)
    return _DNI_LETTERS[number % 23] == letter


def _addresses(text: str) -> Iterator[Found]:
    for match in _IPV4.finditer(text):
        if all(int(part) < 256 for part in match.group().split(".")):
            yield Found(*match.span(), Kind.IP)
    for match in _IPV6.finditer(text) if "::" in text or text.count(":") >= 7 else ():
        if _is_ipv6(match.group()):
            yield Found(*match.span(), Kind.IP)


def _is_ipv6(candidate: str) -> bool:
    """Whether it is an address rather than code: ``a::b`` is a name in several languages."""
    groups = [group for group in candidate.split(":") if group]
    if not any(c.isdigit() for c in candidate) or (len(groups) < 3 and max(map(len, groups), default=0) < 3):
        return False
    try:
        ipaddress.IPv6Address(candidate)
    except ValueError:
        return False
    return True


def merged(found: Iterable[Found]) -> list[Found]:
    """The pieces in order, those that overlap as one, so that nothing of either remains; its kind is the longest's."""
    result: list[Found] = []
    longest = 0
    for one in sorted(found, key=lambda each: (each.start, -each.end)):
        length = one.end - one.start
        if result and one.start < result[-1].end:
            last = result[-1]
            kind = one.kind if length > longest else last.kind
            result[-1] = Found(last.start, max(last.end, one.end), kind)
            longest = max(longest, length)
        else:
            result.append(one)
            longest = length
    return result
