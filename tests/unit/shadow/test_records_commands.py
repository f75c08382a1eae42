"""What people see of records in a terminal of 100 columns, and what they are told if they mistype."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from controller.adapters.records import SqlRecords
from controller.adapters.shadow_ports import Label, Record
from controller.cli import app
from controller.core.shadow.comparison import Bin, Case, CaseAnswer, Outcome
from controller.core.shadow.exchange import Replayed, Side, Subject

SUBJECT = Subject(
    "shop/agent", "agent-b", "sha256:" + "b" * 64, "agent-a", "sha256:" + "a" * 64, (), "default"
)
CASE = Case(
    id="0a1b2c3d-0000-4000-8000-000000000001",
    side=Side.CANDIDATE,
    subject=SUBJECT,
    method="POST",
    path="/chat",
    question='{"ask": "What is due?"}',
    stable=CaseAnswer(200, "application/json", '{"due": 12}', 0.5),
    other=CaseAnswer(200, "text/plain", "Nothing\x1b[2J is due [bold]at all[/bold].", 0.25),
    at=1000.0,
)
LOST = Record(CASE, Bin.LOSS, "The sum is missing.", 1001.0, "sha256:" + "j" * 64, "gpt-x", 12)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    records = SqlRecords(url)
    records.add(LOST)
    records.add(replace(LOST, case=replace(CASE, id="noise", side=Side.NOISE), bin=Bin.TIE))
    records.close()
    return url


def shadow(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(app, ["shadow", *arguments])


def test_losses_are_listed(url: str) -> None:
    told = shadow("losses", "agent", "-n", "shop", "--records", url)
    assert told.exit_code == 0
    assert CASE.id in told.output
    assert "200 / 200" in told.output
    assert "The sum is missing." in told.output
    assert max(map(len, told.output.splitlines())) <= 100


def test_where_nothing_was_lost_it_says_so(url: str) -> None:
    records = SqlRecords(url)
    records.add(replace(LOST, case=replace(CASE, id="won"), bin=Bin.WIN))
    rollout = replace(SUBJECT, rollout="shop/better")
    records.add(replace(LOST, case=replace(CASE, id="better", subject=rollout), bin=Bin.WIN))
    records.close()
    told = shadow("losses", "better", "-n", "shop", "--records", url)
    assert told.output == "No losses of shop/better are recorded.\n"
    nothing = shadow("losses", "other", "--records", url)
    assert nothing.output == "Nothing is recorded of default/other yet.\n"


def test_how_an_id_begins_is_enough(url: str) -> None:
    other = "0a1b2c3d-0000-4000-8000-000000000002"
    records = SqlRecords(url)
    records.add(replace(LOST, case=replace(CASE, id=other), bin=Bin.TIE))
    records.add(replace(LOST, case=replace(CASE, id=f"{other}/noise", side=Side.NOISE)))
    records.close()
    assert "loss: The sum is missing." in shadow("show", CASE.id, "--records", url).output
    assert "tie: The sum is missing." in shadow("show", other, "--records", url).output
    assert shadow("label", CASE.id[:-2], "loss", "--by", "ann", "--records", url).exit_code == 2
    labelled = shadow("label", f"{other}/", "loss", "--by", "ann", "--records", url)
    assert labelled.output == f"{other}/noise: ann says loss, the record says loss.\n"
    several = shadow("show", CASE.id[:8], "--records", url)
    assert (several.exit_code, "more than one comparison begins with 0a1b2c3d" in several.output) == (2, True)
    short = shadow("show", CASE.id[:7], "--records", url)
    assert (short.exit_code, "no comparison 0a1b2c3 is recorded" in short.output) == (1, True)


def test_both_answers_stand_side_by_side_and_command_no_terminal(url: str) -> None:
    told = shadow("show", CASE.id, "--records", url)
    assert told.exit_code == 0
    assert "\x1b" not in told.output
    assert "[bold]at" in told.output
    assert '"ask": "What is due?"' in told.output
    assert "loss: The sum is missing." in told.output
    assert [line for line in told.output.splitlines() if "HTTP 200" in line and line.count("HTTP 200") == 2]
    assert max(map(len, told.output.splitlines())) <= 100


def test_the_noise_arm_is_called_what_it_is(url: str) -> None:
    assert "stable once more beside stable" in shadow("show", "noise", "--records", url).output


def test_a_label_is_stored_shown_and_compared(url: str) -> None:
    told = shadow("label", CASE.id, "loss", "--by", "ann", "--reason", "Wrong sum.", "--records", url)
    assert told.output == f"{CASE.id}: ann says loss, the record says loss.\n"
    assert "ann says loss  Wrong sum." in shadow("show", CASE.id, "--records", url).output
    assert shadow("label", "noise", "win", "--by", "bob", "--records", url).exit_code == 0
    agreed = shadow("agreement", "--records", url).output
    assert "The same 1 times of 2" in agreed
    assert "Cohen's kappa 0.33" in agreed
    assert "The same 1 times of 2" in shadow("agreement", "agent", "-n", "shop", "--records", url).output


def test_one_label_alone_has_no_kappa(url: str) -> None:
    records = SqlRecords(url)
    records.label(Label(CASE.id, Outcome.LOSS, "ann", "", 1.0))
    records.close()
    assert "kappa not defined" in shadow("agreement", "--records", url).output


def test_without_labels_it_says_how_to_give_one(url: str) -> None:
    assert "agentrollout shadow label ID" in shadow("agreement", "--records", url).output


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("show", "nobody"), 1, "no comparison nobody is recorded"),
        (("label", "nobody", "win", "--by", "ann"), 1, "no comparison nobody is recorded"),
        (("losses", "shop/agent"), 2, "write agent -n shop"),
        (("agreement", "shop/agent"), 2, "write agent -n shop"),
        (("label", "nobody", "win", "--by", " "), 2, "say who you are: --by NAME"),
        (("label", "nobody", "best", "--by", "ann"), 2, "'best' is not one of"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    url: str, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    told = shadow(*arguments, "--records", url)
    assert (told.exit_code, sentence in told.output) == (code, True), told.output


def test_records_that_are_not_there_are_not_made(tmp_path: Path) -> None:
    told = shadow("losses", "agent", "--records", f"sqlite:///{tmp_path / 'none.db'}")
    said = f"there are no records at {tmp_path / 'none.db'}: give --records (or AGENTROLLOUT_SHADOW_RECORDS) the URL"
    assert (told.exit_code, said in told.output) == (1, True), told.output
    assert list(tmp_path.iterdir()) == []
    assert shadow("losses", "agent", "--records", "mysql://x").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--no-capture",), "without --queue one process does it all"),
        (("--workers", "0"), "without --queue one process does it all"),
        (("--retention", "soon"), "'soon' is not a duration"),
        (("--capture-address", "here"), "'here' is not an address"),
        (("--records", "mysql://x"), "--records: the records' URL is not understood: write sqlite:///FILE"),
        (("--queue", "foo://me:x@h"), "not a URL of NATS: write nats://HOST:PORT"),
        (("--queue", "nats://"), "not a URL of NATS: write nats://HOST:PORT"),
        (("--queue", "nats://me:x@h:port"), "not a URL of NATS: write nats://HOST:PORT"),
        (("--judges", "/no/such.yaml"), "/no/such.yaml"),
        (("--redactor", "presidio", "--presidio-model", "no_such"), "no spaCy model no_such is installed"),
    ],
)
def test_a_wrong_setting_ends_the_process_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    told = shadow("serve", *arguments)
    said = " ".join(told.output.replace("│", " ").split())
    assert (told.exit_code, sentence in said) == (2, True), told.output
    assert "me:x@h" not in said


def test_how_long_records_are_kept_is_told_as_it_is_written() -> None:
    assert "[default: (30d)]" in " ".join(shadow("serve", "--help").output.replace("│", " ").split())


def test_runs_that_diverged_are_listed_and_show_how_far_they_came(url: str) -> None:
    run = replace(CASE, id="diverged-1", replayed=Replayed(2, 1, 3, diverged=True))
    records = SqlRecords(url)
    records.add(replace(LOST, case=run, bin=Bin.DIVERGED, reason="It diverged at step 2."))
    records.add(replace(LOST, case=replace(run, id="lost-1", replayed=Replayed(4, 3, 3))))
    records.close()
    listed = shadow("losses", "agent", "-n", "shop", "--diverged", "--records", url).output
    assert "It diverged at step 2." in listed
    assert CASE.id not in listed
    lost = shadow("losses", "agent", "-n", "shop", "--records", url).output
    assert "[run, step 4]" in " ".join(lost.split())
    shown = " ".join(shadow("show", "diverged-1", "--records", url).output.split())
    assert "diverged at step 2, 1 of 3 tool calls answered from the recording" in shown
    assert "ended at step 4, 3 of 3 tool calls" in shadow("show", "lost-1", "--records", url).output
    none = shadow("losses", "agent", "-n", "shop", "--diverged", "--records", url.replace("records", "other"))
    assert none.exit_code == 1


def test_where_no_run_diverged_it_says_so(url: str) -> None:
    told = shadow("losses", "agent", "-n", "shop", "--diverged", "--records", url)
    assert told.output == "No diverged runs of shop/agent are recorded.\n"
