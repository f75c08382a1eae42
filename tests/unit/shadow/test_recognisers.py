"""Personal data and credentials are found in many spellings, and what only resembles them is left alone."""

from __future__ import annotations

import time

import pytest

from controller.core.shadow.recognisers import Found, Kind, built_in, luhn, merged, mod97, named
from tests.planted import ALL, IDENTIFIERS


def found(text: str) -> dict[str, str]:
    return {text[one.start : one.end]: one.kind for one in merged(built_in(text))}


@pytest.mark.parametrize(("kind", "value", "sentence"), ALL)
def test_every_planted_identifier_is_found_whole(kind: Kind, value: str, sentence: str) -> None:
    kept = sentence
    for one in reversed(merged(built_in(sentence))):
        kept = kept[: one.start] + f"<{one.kind}>" + kept[one.end :]
    assert value not in kept
    assert f"<{kind}>" in kept
    # Not half of it is left over either.
    assert kept.startswith(sentence[: sentence.index(value)][:8])


def test_the_corpus_is_large_enough_to_state_a_recall() -> None:
    assert len(IDENTIFIERS) >= 8
    assert sum(map(len, IDENTIFIERS.values())) >= 100


@pytest.mark.parametrize(
    "text",
    [
        "order 1234567890123456 of 2026-11-25T10:15:30Z",
        "version 1.2.3, build 2026.11.25, took 0.123456789 s",
        "std::string and Foo::Bar at 12:30:45",
        "std::vector<a::b> is not dead::beef's friend",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "total_tokens: 512, max_tokens=1024, token_count: 7",
        "the password is required",
        "basic functionality, bearer of news",
        "550e8400-e29b-41d4-a716-446655440000",
        "due on 01.02.2026 14 and 08/12/2026",
        "999.1.2.300 is no address",
        "an @ alone, and a@b",
        "4111 1111 1111 1112",
        "12345678A and 1234567Z",
        "DE00370400440532013000",
        '{"created": 1732500000, "token": null}',
    ],
)
def test_what_only_resembles_an_identifier_is_left_alone(text: str) -> None:
    assert found(text) == {}


def test_a_number_is_found_whatever_stands_around_it() -> None:
    assert found("room 22, 4111 1111 1111 1111 12/27")["4111 1111 1111 1111"] == Kind.CARD
    assert found("pay DE89 3704 0044 0532 0130 00 IN TIME")["DE89 3704 0044 0532 0130 00"] == Kind.IBAN


def test_a_key_whose_end_is_missing_is_taken_as_far_as_it_goes() -> None:
    assert found("-----BEGIN PRIVATE KEY-----\nMIIE/+=\nxyz") == {
        "-----BEGIN PRIVATE KEY-----\nMIIE/+=\nxyz": Kind.PRIVATE_KEY
    }


@pytest.mark.parametrize("filler", ["x", "\n"])
def test_a_key_reaches_from_its_beginning_to_its_end(filler: str) -> None:
    begin, end = "-----BEGIN RSA PRIVATE KEY-----\n", "\n-----END RSA PRIVATE KEY-----"
    whole = f"{begin}Proc-Type: 4,ENCRYPTED\n\nMIIE{end}"
    assert found(f"a {whole} b {whole} c {end}") == {whole: Kind.PRIVATE_KEY}
    far = filler * 20_000
    # Of what begins too far from the end only that is a key which looks like one.
    assert found(f"{begin}MII, {far} {whole} {end}").keys() >= {f"{begin}MII", whole}
    assert list(found(f"{begin}MII, {far} {end}")) == [f"{begin}MII"]


def test_check_digits() -> None:
    assert luhn("79927398713")
    assert not luhn("79927398710")
    assert mod97("GB82WEST12345698765432")
    assert not mod97("GB82WEST12345698765431")


def test_pieces_that_overlap_are_one_and_the_longest_names_it() -> None:
    assert merged([Found(5, 9, "B"), Found(0, 6, "A"), Found(12, 13, "C")]) == [
        Found(0, 9, "A"),
        Found(12, 13, "C"),
    ]
    assert merged([Found(0, 3, "A"), Found(2, 9, "B")]) == [Found(0, 9, "B")]


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("password", "x", Kind.SECRET),
        ("db_password", "correct horse", Kind.SECRET),
        ("apiKey", "abc", Kind.SECRET),
        ("x-auth-token", "abc", Kind.SECRET),
        ("mobile", "4155552671", Kind.PHONE),
        ("phone_number", "4155552671", Kind.PHONE),
        ("phone", "see below", None),
        ("tokens", "abc", None),
        ("password", "", None),
        ("title", "abc", None),
    ],
)
def test_a_name_gives_its_value_away(name: str, value: str, kind: Kind | None) -> None:
    assert named(name, value) == kind


@pytest.mark.parametrize(
    "piece",
    ["A", "a1", "1", "+1 ", "a.", "a@", "eyJ", ":", "password ", "bearer ", "a_", "4111 ", "4111-1111 ", "DE89 ",
     "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----.",
     "-----END PRIVATE KEY-----", "://a:", "::1 ", "password is "],
)  # fmt: skip
def test_no_text_takes_long_for_its_length(piece: str) -> None:
    """Sixteen times the text takes about sixteen times as long; a square would be 256 times."""

    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        began = time.process_time()
        list(built_in(text))
        return time.process_time() - began

    once = min(seconds(3_000) for _ in range(5))
    assert min(seconds(48_000) for _ in range(3)) < 40 * once + 0.02
