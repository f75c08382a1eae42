"""What a store of comparisons owes, in SQLite and in PostgreSQL."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from controller.adapters.records import NoRecordsError, SqlRecords, comparisons, labels
from controller.adapters.shadow_ports import Label, Labelled, Record, RecordsError, Spent
from controller.core.shadow.comparison import Bin, Case, CaseAnswer, Outcome
from controller.core.shadow.exchange import Side, Subject
from tests.servers import Postgres

SUBJECT = Subject("shop/agent", "agent-b", "sha256:b", "agent-a", "sha256:a", ("openai/gpt",), "default")
CASE = Case(
    id="pair-1",
    side=Side.CANDIDATE,
    subject=SUBJECT,
    method="POST",
    path="/chat",
    question="Wie spät? \u2013 \\u0000",
    stable=CaseAnswer(200, "application/json", '{"a": "zehn"}', 0.5),
    other=CaseAnswer(0, "", "", 60.0),
    at=1000.0,
)
RECORD = Record(CASE, Bin.LOSS, "Slower.", 1001.0, "sha256:j", "gpt-x", 12, 0.25, 1.5)


def record(name: str, where: Bin = Bin.LOSS, *, at: float = 1001.0, **subject: Any) -> Record:
    case = replace(CASE, id=name, subject=replace(SUBJECT, **subject))
    return replace(RECORD, case=case, bin=where, at=at)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as postgres:
        yield postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.db'}"
    server: Postgres = request.getfixturevalue("server")
    engine = sa.create_engine(server.url.replace("postgresql", "postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS shadow_comparisons, shadow_labels, shadow_spending"))
    engine.dispose()
    return server.url


@pytest.fixture
def records(url: str) -> Iterator[SqlRecords]:
    records = SqlRecords(url)
    yield records
    records.close()


def test_a_record_comes_back_as_it_was_stored(records: SqlRecords) -> None:
    assert not records.has("pair-1")
    assert records.get("pair-1") is None
    assert records.add(RECORD)
    assert records.has("pair-1")
    assert records.get("pair-1") == RECORD


def test_of_two_records_of_one_comparison_the_first_stays(records: SqlRecords) -> None:
    assert records.add(record("1", Bin.LOSS))
    assert not records.add(record("1", Bin.WIN))
    assert records.get("1") == record("1", Bin.LOSS)


def test_threads_and_processes_that_store_the_same_store_it_once(records: SqlRecords, url: str) -> None:
    other = SqlRecords(url)
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda n: (records, other)[n % 2].add(record(str(n // 4))), range(80)))
    other.close()
    assert sum(added) == 20


def test_losses_of_candidates_are_listed_newest_first(records: SqlRecords) -> None:
    for each in (
        record("old", at=1.0),
        record("new", at=3.0),
        record("middle", at=2.0),
        record("win", Bin.WIN),
        record("elsewhere", rollout="shop/other"),
        replace(RECORD, case=replace(CASE, id="noise", side=Side.NOISE)),
    ):
        records.add(each)
    assert [found.case.id for found in records.last("shop/agent", Bin.LOSS, 10)] == ["new", "middle", "old"]
    assert [found.case.id for found in records.last("shop/agent", Bin.LOSS, 1)] == ["new"]


def test_of_what_a_person_says_the_last_counts_and_all_stays(records: SqlRecords) -> None:
    records.add(record("1", Bin.LOSS))
    records.add(record("2", Bin.TIE, rollout="shop/other"))
    records.add(replace(record("3", Bin.WIN), judge_artifact=""))
    records.add(record("4", Bin.JUDGE_ERROR))
    said = [
        Label("1", Outcome.WIN, "ann", "first thought", 1.0),
        Label("1", Outcome.LOSS, "ann", "second", 2.0),
        Label("1", Outcome.TIE, "bob", "", 3.0),
    ]
    for label in (*said, Label("2", Outcome.TIE, "ann", "", 4.0)):
        records.label(label)
    for number in "34":
        records.label(Label(number, Outcome.WIN, "ann", "no judge said anything", 5.0))
    assert records.labels("1") == said
    assert records.labelled("shop/agent") == [
        Labelled("sha256:j", Outcome.LOSS, Outcome.LOSS),
        Labelled("sha256:j", Outcome.LOSS, Outcome.TIE),
    ]
    assert len(records.labelled(None)) == 3


def test_what_was_spent_is_added_up(records: SqlRecords) -> None:
    for number, at in enumerate((1.0, 10.0, 11.0)):
        records.add(record(str(number), at=at))
    records.add(record("x", at=12.0, judge="strict"))
    assert sorted(records.spent(10.0), key=lambda one: one.judge) == [
        Spent("shop/agent", "default", 24, 0.5),
        Spent("shop/agent", "strict", 12, 0.25),
    ]


def test_what_was_spent_without_an_end_is_added_and_removed_with_the_rest(records: SqlRecords) -> None:
    records.add(record("1", at=10.0))
    for at in (1.0, 10.0):
        records.spend(Spent("shop/agent", "default", 8, 0.5), at)
    records.spend(Spent("shop/agent", "strict", 1, 0.0), 10.0)
    assert sorted(records.spent(2.0), key=lambda one: one.judge) == [
        Spent("shop/agent", "default", 20, 0.75),
        Spent("shop/agent", "strict", 1, 0.0),
    ]
    assert records.remove_before(5.0) == 0
    assert sum(each.tokens for each in records.spent(0.0)) == 21


def test_a_comparison_is_found_by_how_its_id_begins(records: SqlRecords) -> None:
    for name in ("abc_1", "abcd1", "b"):
        records.add(record(name))
    assert [found.case.id for found in records.beginning("abc_", 5)] == ["abc_1"]
    assert len(records.beginning("abc", 5)) == 2
    assert len(records.beginning("abc", 1)) == 1
    assert list(records.beginning("x", 5)) == []


def test_a_rollout_is_known_once_a_comparison_of_it_has_ended(records: SqlRecords) -> None:
    assert not records.knows("shop/agent")
    records.add(record("1", Bin.TIE))
    assert records.knows("shop/agent")
    assert not records.knows("shop/other")


def test_what_is_old_is_removed_with_its_labels(records: SqlRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.adapters.records._REMOVED_AT_ONCE", 2)
    for number in range(5):
        records.add(record(str(number), at=float(number)))
        records.label(Label(str(number), Outcome.WIN, "ann", "", 9.0))
    assert records.remove_before(4.0) == 4
    assert records.remove_before(4.0) == 0
    assert [records.has(str(number)) for number in range(5)] == [False] * 4 + [True]
    assert (records.labels("3"), len(records.labels("4"))) == ([], 1)


def test_records_have_the_names_of_opentelemetry(records: SqlRecords) -> None:
    records.add(RECORD)
    records.add(record("error", Bin.JUDGE_ERROR))
    with records._begin() as connection:
        found, failed = connection.execute(
            sa.select(comparisons.c.document).order_by(comparisons.c.id.desc())
        ).scalars()
    assert found["event.name"] == "gen_ai.evaluation.result"
    assert found["gen_ai.evaluation.score.label"] == "loss"
    assert found["gen_ai.evaluation.score.value"] == -1
    assert found["gen_ai.evaluation.explanation"] == "Slower."
    assert found["gen_ai.agent.version"] == "sha256:b"
    assert found["agentrollout.judge.version"] == "sha256:j"
    assert failed["error.type"] == "judge_error"
    assert "gen_ai.evaluation.score.value" not in failed


def test_a_store_that_is_there_is_used_as_it_is(records: SqlRecords, url: str) -> None:
    records.add(RECORD)
    again = SqlRecords(url)
    assert again.get("pair-1") == RECORD
    again.close()


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    SqlRecords(f"sqlite:///{path}").close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize("url", ["mysql://root:geheim@db/x", "sqlite://", "nonsense geheim", ""])
def test_a_url_that_is_not_understood_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="write sqlite:///FILE or postgresql://") as told:
        SqlRecords(url)
    assert "geheim" not in str(told.value)


def test_a_database_that_cannot_be_used_is_a_sentence_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="refused") as told:
        SqlRecords("postgresql://me:geheim@127.0.0.1:9/x")
    assert "geheim" not in str(told.value)
    with pytest.raises(RecordsError, match="No such file or directory"):
        SqlRecords(f"sqlite:///{tmp_path}/no/such.db")
    with pytest.raises(NoRecordsError, match=f"there are no records at {tmp_path}/none.db"):
        SqlRecords(f"sqlite:///{tmp_path}/none.db", create=False)


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, create: bool) -> None:
    (tmp_path / "bad.db").write_text("SQL, but not a database")
    with pytest.raises(RecordsError, match=f"^{tmp_path}/bad.db is no SQLite database$"):
        SqlRecords(f"sqlite:///{tmp_path}/bad.db", create=create)
    with pytest.raises(RecordsError, match=f"^{tmp_path}: Is a directory$"):
        SqlRecords(f"sqlite:///{tmp_path}", create=create)


def test_an_error_tells_nothing_of_what_was_to_be_stored(records: SqlRecords) -> None:
    with records._begin() as connection:
        labels.drop(connection)
    with pytest.raises(RecordsError) as told:
        records.label(Label("1", Outcome.WIN, "ann", "geheim", 1.0))
    assert "geheim" not in str(told.value)
    assert told.value.__cause__ is None
