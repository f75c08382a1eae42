"""How comparisons ended, in SQLite or PostgreSQL, with the names that OpenTelemetry gives to evaluations of generative AI."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from controller.adapters.shadow_ports import Label, Labelled, Record, RecordsError, Spent
from controller.core.shadow.comparison import JUDGED, Bin, Case, Outcome
from controller.core.shadow.exchange import Side

SCORES = {Bin.WIN: 1.0, Bin.TIE: 0.0, Bin.LOSS: -1.0}
"""``gen_ai.evaluation.score.value`` of the side that answered beside stable."""

_REMOVED_AT_ONCE = 500
"""Few enough that nobody waits for the lock of SQLite."""
_SQLITE = b"SQLite format 3\0"
"""With which a database begins; one that nothing was written to is empty."""
_SCHEMA_LOCK = 7_203_411_859
"""Of PostgreSQL: processes that start together do not create the same table twice."""

_metadata = sa.MetaData()

comparisons = sa.Table(
    "shadow_comparisons",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("rollout", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("bin", sa.Text, nullable=False),
    sa.Column("judge", sa.Text, nullable=False),
    sa.Column("judge_artifact", sa.Text, nullable=False),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.Double, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
)
"""One row for each comparison; what is asked for is in columns, all of it in ``document``."""

labels = sa.Table(
    "shadow_labels",
    _metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("comparison", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)
"""One row each time a person said something; of one person the last counts."""

spending = sa.Table(
    "shadow_spending",
    _metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("rollout", sa.Text, nullable=False),
    sa.Column("judge", sa.Text, nullable=False),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.Double, nullable=False),
)
"""One row for each attempt that was paid for and after which a comparison is tried again."""

_indices = (
    sa.Index("shadow_comparisons_at", comparisons.c.at),
    sa.Index("shadow_comparisons_rollout", comparisons.c.rollout, comparisons.c.bin, comparisons.c.at),
    sa.Index("shadow_labels_comparison", labels.c.comparison),
    sa.Index("shadow_spending_at", spending.c.at),
)

_cases = TypeAdapter(Case)


class SqlRecords:
    """See ``Records``. Its calls may be made from several threads."""

    def __init__(self, url: str, *, create: bool = True) -> None:
        """Connect, and create the tables where there are none.

        Args:
            url: ``sqlite:///file``, or ``postgresql://user:password@host/database`` (needs the extra ``postgres``).
            create: Whether a file that is not there is made.

        Raises:
            ValueError: The URL is none of these; the message does not repeat it, since it may have a password in it.
            NoRecordsError: There is no file, and none is to be made.
            RecordsError: The database cannot be used.
        """
        self._engine = _engine(_parsed(url), create=create)
        with self._begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            for table in (comparisons, labels, spending):
                connection.execute(CreateTable(table, if_not_exists=True))
            for index in _indices:
                connection.execute(CreateIndex(index, if_not_exists=True))

    def has(self, comparison: str) -> bool:
        """See ``Records.has``."""
        return self._is_any(comparisons.c.id == comparison)

    def add(self, record: Record) -> bool:
        """See ``Records.add``."""
        try:
            with self._begin() as connection:
                connection.execute(comparisons.insert().values(_row(record)))
        except _ExistsError:
            return False
        return True

    def get(self, comparison: str) -> Record | None:
        """See ``Records.get``."""
        found = self._records(sa.select(comparisons.c.document).where(comparisons.c.id == comparison))
        return found[0] if found else None

    def beginning(self, prefix: str, limit: int) -> Sequence[Record]:
        """See ``Records.beginning``."""
        query = (
            sa.select(comparisons.c.document)
            .where(comparisons.c.id.startswith(prefix, autoescape=True))
            .limit(limit)
        )
        return self._records(query)

    def knows(self, rollout: str) -> bool:
        """See ``Records.knows``."""
        return self._is_any(comparisons.c.rollout == rollout)

    def last(self, rollout: str, where: Bin, limit: int) -> Sequence[Record]:
        """See ``Records.last``."""
        query = (
            sa.select(comparisons.c.document)
            .where(comparisons.c.rollout == rollout)
            .where(comparisons.c.bin == where.value)
            .where(comparisons.c.side == Side.CANDIDATE)
            .order_by(comparisons.c.at.desc())
            .limit(limit)
        )
        return self._records(query)

    def spend(self, spent: Spent, at: float) -> None:
        """See ``Records.spend``."""
        with self._begin() as connection:
            connection.execute(spending.insert().values(at=at, **asdict(spent)))

    def label(self, label: Label) -> None:
        """See ``Records.label``."""
        values = {
            "comparison": label.comparison,
            "outcome": label.outcome.value,
            "by": label.by,
            "reason": label.reason,
            "at": label.at,
        }
        with self._begin() as connection:
            connection.execute(labels.insert().values(values))

    def labels(self, comparison: str) -> Sequence[Label]:
        """See ``Records.labels``."""
        query = sa.select(labels).where(labels.c.comparison == comparison).order_by(labels.c.id)
        with self._begin() as connection:
            return [
                Label(row.comparison, Outcome(row.outcome), row.by, row.reason, row.at)
                for row in connection.execute(query)
            ]

    def labelled(self, rollout: str | None) -> Sequence[Labelled]:
        """See ``Records.labelled``."""
        last = sa.select(sa.func.max(labels.c.id)).group_by(labels.c.comparison, labels.c.by)
        query = (
            sa.select(comparisons.c.judge_artifact, comparisons.c.bin, labels.c.outcome)
            .join(labels, labels.c.comparison == comparisons.c.id)
            .where(labels.c.id.in_(last))
            .where(comparisons.c.judge_artifact != "")
            .where(comparisons.c.bin.in_([judged.value for judged in JUDGED]))
            .order_by(labels.c.id)
        )
        if rollout is not None:
            query = query.where(comparisons.c.rollout == rollout)
        with self._begin() as connection:
            return [
                Labelled(row.judge_artifact, Outcome(row.bin), Outcome(row.outcome))
                for row in connection.execute(query)
            ]

    def spent(self, since: float) -> Sequence[Spent]:
        """See ``Records.spent``."""
        each = sa.union_all(
            *(
                sa.select(table.c.rollout, table.c.judge, table.c.tokens, table.c.cost).where(
                    table.c.at >= since
                )
                for table in (comparisons, spending)
            )
        ).subquery()
        by = each.c.rollout, each.c.judge
        query = sa.select(*by, sa.func.sum(each.c.tokens), sa.func.sum(each.c.cost)).group_by(*by)
        with self._begin() as connection:
            return [
                Spent(rollout, judge, int(used), float(paid))
                for rollout, judge, used, paid in connection.execute(query)
            ]

    def remove_before(self, at: float) -> int:
        """See ``Records.remove_before``."""
        removed = 0
        old = sa.select(comparisons.c.id).where(comparisons.c.at < at).limit(_REMOVED_AT_ONCE)
        with self._begin() as connection:
            connection.execute(spending.delete().where(spending.c.at < at))
        while True:
            with self._begin() as connection:
                ids = connection.execute(old).scalars().all()
                connection.execute(labels.delete().where(labels.c.comparison.in_(ids)))
                connection.execute(comparisons.delete().where(comparisons.c.id.in_(ids)))
            removed += len(ids)
            if len(ids) < _REMOVED_AT_ONCE:
                return removed

    def close(self) -> None:
        """See ``Records.close``."""
        self._engine.dispose()

    def _is_any(self, which: sa.ColumnElement[bool]) -> bool:
        query = sa.select(sa.literal(1)).where(which).limit(1)
        with self._begin() as connection:
            return connection.execute(query).first() is not None

    def _records(self, query: sa.Select[Any]) -> list[Record]:
        """What is in the documents that a query finds."""
        with self._begin() as connection:
            return [_record(document) for document in connection.execute(query).scalars()]

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        """A transaction. What goes wrong is told without statement and values."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError as error:
            raise _ExistsError("the record exists") from error
        except SQLAlchemyError as error:
            raise RecordsError(f"the records cannot be used: {_problem(error)}") from None


class NoRecordsError(RecordsError):
    """There is no file."""


class _ExistsError(RecordsError):
    """A row with this key is there."""


def _problem(error: SQLAlchemyError) -> str:
    """Of a refused connection what the driver says; of anything else, which may quote values, the kind alone."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(error, sa.exc.OperationalError) and cause is not None:
        return str(cause).strip().partition("\n")[0]
    return type(cause or error).__name__


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        url = None
    if url is not None and url.drivername in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+psycopg")
    if url is not None and url.drivername == "sqlite" and url.database:
        return url
    raise ValueError(
        "the records' URL is not understood: write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
    )


def _engine(url: URL, *, create: bool) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, create=create)
    try:
        return sa.create_engine(url, hide_parameters=True, json_serializer=_json, pool_pre_ping=True)
    except (ImportError, NoSuchModuleError) as error:
        raise RecordsError(
            "PostgreSQL needs its driver: install agentrollout with the extra `postgres`"
        ) from error


def _sqlite(url: URL, *, create: bool) -> sa.Engine:
    path = Path(str(url.database))
    try:
        if create:
            path.touch(mode=0o600)  # it holds what users asked
        with path.open("rb") as file:
            begins = file.read(len(_SQLITE))
    except FileNotFoundError as error:
        if create:
            raise RecordsError(f"{path}: {error.strerror}") from error
        raise NoRecordsError(f"there are no records at {path}") from error
    except OSError as error:
        raise RecordsError(f"{path}: {error.strerror or error}") from error
    if begins not in {_SQLITE, b""}:
        raise RecordsError(f"{path} is no SQLite database")
    engine = sa.create_engine(url, hide_parameters=True, json_serializer=_json)

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        # The death of the process loses nothing; that of the machine may lose the last records.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


_json = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))


def _row(record: Record) -> dict[str, Any]:
    case = record.case
    return {
        "id": case.id,
        "at": record.at,
        "rollout": case.subject.rollout,
        "side": case.side.value,
        "bin": record.bin.value,
        "judge": case.subject.judge,
        "judge_artifact": record.judge_artifact,
        "tokens": record.tokens,
        "cost": record.cost,
        "document": _document(record),
    }


def _document(record: Record) -> dict[str, Any]:
    """The event ``gen_ai.evaluation.result`` of OpenTelemetry's semantic conventions, and what it has no name for."""
    case, subject = record.case, record.case.subject
    candidates = case.side is Side.CANDIDATE
    document: dict[str, Any] = {
        "event.name": "gen_ai.evaluation.result",
        "gen_ai.evaluation.name": "shadow",
        "gen_ai.evaluation.score.label": record.bin.value,
        "gen_ai.evaluation.explanation": record.reason,
        "gen_ai.agent.name": subject.rollout,
        "gen_ai.agent.version": subject.candidate_artifact if candidates else subject.stable_artifact,
        "agentrollout.revision": subject.revision(case.side),
        "agentrollout.baseline.version": subject.stable_artifact,
        "agentrollout.judge.name": subject.judge,
        "agentrollout.judge.version": record.judge_artifact,
        "agentrollout.judge.tokens": record.tokens,
        "agentrollout.judge.cost": record.cost,
        "agentrollout.judge.duration": record.seconds,
        "agentrollout.case": _cases.dump_python(case, mode="json"),
        "time": record.at,
    }
    if record.bin in SCORES:
        document["gen_ai.evaluation.score.value"] = SCORES[record.bin]
    else:
        document["error.type"] = record.bin.value
    if record.model:
        document["gen_ai.response.model"] = record.model
    return document


def _record(document: dict[str, Any]) -> Record:
    return Record(
        case=_cases.validate_python(document["agentrollout.case"]),
        bin=Bin(document["gen_ai.evaluation.score.label"]),
        reason=document["gen_ai.evaluation.explanation"],
        at=document["time"],
        judge_artifact=document["agentrollout.judge.version"],
        model=document.get("gen_ai.response.model", ""),
        tokens=document["agentrollout.judge.tokens"],
        cost=document["agentrollout.judge.cost"],
        seconds=document["agentrollout.judge.duration"],
    )
