"""What sources say of flags: old words change nothing, lost sources keep their last one, odd values are no word at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controller.core.flags import NEVER, FlagBook, Value, header_value, read_text

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


class Heard:
    """A book and what its listeners were told."""

    def __init__(self) -> None:
        self.book = FlagBook()
        self.told: list[frozenset[str] | None] = []
        self.book.on_change(self.told.append)

    def says(self, value: Value | None, number: int | None = None, at: datetime = NOW) -> None:
        values = {} if value is None else {"ops": value}
        self.book.tell(values, self.book.number() if number is None else number, at)

    @property
    def on(self) -> bool | None:
        return self.book.said("ops").on

    @property
    def doubt(self) -> str:
        return self.book.said("ops").doubt


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_a_source_that_never_answered_is_unknown(heard: Heard) -> None:
    assert (heard.on, heard.doubt, heard.book.is_heard) == (None, NEVER, False)
    heard.book.fail("refused", heard.book.number(), NOW)
    assert (heard.on, heard.doubt, heard.book.is_heard) == (None, f"{NEVER}: refused", True)
    assert heard.told == [None]


@pytest.mark.parametrize("value", [True, False])
def test_a_switch_is_what_its_source_says(heard: Heard, value: bool) -> None:
    heard.says(value)
    assert (heard.on, heard.doubt) == (value, "")


def test_an_answer_to_an_older_question_changes_nothing(heard: Heard) -> None:
    asked_before = heard.book.number()
    heard.says(True)
    heard.says(False, asked_before)
    heard.book.fail("refused", asked_before, NOW)
    assert (heard.on, heard.doubt) == (True, "")


def test_a_correction_that_was_overtaken_changes_nothing(heard: Heard) -> None:
    number = heard.book.number()
    heard.says(True)
    heard.book.correct({"ops": False}, number, LATER)
    assert heard.on is True


def test_a_flag_that_the_source_does_not_have_is_unknown(heard: Heard) -> None:
    heard.says(None)
    assert (heard.on, heard.doubt) == (None, "the source does not have it")


@pytest.mark.parametrize("last", [True, False])
def test_a_flag_that_went_away_keeps_its_last_value_and_says_since_when(heard: Heard, last: bool) -> None:
    heard.says(last)
    heard.says(None, at=LATER)
    heard.says(None, at=LATER + timedelta(minutes=1))
    assert (heard.on, heard.doubt) == (last, "the source has nothing of it since 2026-01-01T00:01:00Z")
    heard.says(last)
    assert heard.doubt == ""


@pytest.mark.parametrize("last", [True, False])
def test_a_lost_source_keeps_its_last_value_and_says_how_old_it_is(heard: Heard, last: bool) -> None:
    heard.says(last)
    heard.told.clear()
    heard.book.fail("refused", heard.book.number(), LATER)
    heard.book.fail("refused", heard.book.number(), LATER + timedelta(seconds=4))
    assert (heard.doubt, heard.told) == ("", []), "a question that fails now and then is no news"
    for seconds in (5, 6):
        heard.book.fail("refused", heard.book.number(), LATER + timedelta(seconds=seconds))
    assert (heard.on, heard.doubt) == (last, "no answer since 2026-01-01T00:00:00Z: refused")
    assert heard.told == [None]
    heard.says(last, at=LATER)
    assert (heard.doubt, heard.told) == ("", [None, None])


@pytest.mark.parametrize("odd", ["yes", 1, 0.5, "True"])
def test_another_value_is_unknown_and_named_and_never_off(heard: Heard, odd: Value) -> None:
    on = []
    for said in (odd, False, odd, True, odd, False):
        heard.says(said)
        on.append(heard.on)
    assert on == [None, False, None, True, True, False]
    heard.says(odd)
    assert heard.doubt == f"its value is {odd!r}, which is neither true nor false"


def test_a_lost_source_is_told_of_once_however_often_its_problem_has_other_words(heard: Heard) -> None:
    heard.says(False)
    for seconds in range(0, 20, 2):
        heard.book.fail(f"request {seconds} failed", heard.book.number(), LATER + timedelta(seconds=seconds))
    assert heard.told.count(None) == 2
    assert heard.doubt.endswith(": request 18 failed")


def test_only_what_has_changed_is_told(heard: Heard) -> None:
    heard.says(False)
    assert heard.told == [None, frozenset({"ops"})]
    heard.says(False, at=LATER)
    heard.book.correct({"ops": False, "other": True}, heard.book.number(), LATER)
    heard.book.correct({"other": None}, heard.book.number(), LATER)
    assert heard.told[2:] == [frozenset({"other"}), frozenset({"other"})]
    assert heard.book.answered_at == LATER


def test_a_text_is_a_switch_only_as_true_or_false() -> None:
    assert [read_text(text) for text in ("true", "false", "True", "on")] == [True, False, "True", "on"]
    assert read_text("true\n") is True, "as from a file, or a block of YAML"


@pytest.mark.parametrize(
    ("value", "header"),
    [
        (True, "true"),
        (False, "false"),
        (3, "3"),
        ("eu-only", "eu-only"),
        (" padded", None),
        ("ä", None),
        ("a\nb", None),
        ("x" * 129, None),
    ],
)
def test_a_header_carries_only_what_it_can(value: Value, header: str | None) -> None:
    assert header_value(value) == header
