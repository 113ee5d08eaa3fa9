"""One database: the records, and one row that says whose they are (cluster id, epoch, commit sequence, schema version).

SQLite runs in WAL mode with ``synchronous=FULL``: a commit is fsynced when it returns (SQLite documentation, "PRAGMA
synchronous"). Each commit checks the epoch row, which fences an old master on any database. Errors: ``NoSpace`` for a
full disk, ``MetastoreDamaged`` for one that cannot be trusted, ``Fenced`` for a commit of an old master.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    bindparam,
    create_engine,
    delete,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from rayfs.core.records import Record, Table
from rayfs.errors import InvalidProperty, NoSpace, RayFSError
from rayfs.metastore.records import decode

SCHEMA_VERSION = 1

_METADATA = MetaData()
_CLUSTER = SqlTable(
    "cluster",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("cluster_id", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("schema_version", Integer, nullable=False),
)
_TABLES = {
    table: SqlTable(
        table.value,
        _METADATA,
        Column("key", String(1100), primary_key=True),
        Column("body", LargeBinary, nullable=False),
    )
    for table in Table
}


class MetastoreDamaged(RayFSError):
    """The metastore cannot be trusted; nothing is served from it."""


class Fenced(RayFSError):
    """A newer master has taken over; this one must end."""


class Metastore:
    """A metastore at an SQLAlchemy URI (``sqlite:////var/lib/rayfs/metastore.db``). One thread at a time."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            url = make_url(uri)
            self._engine: Engine = create_engine(url)
        except (ArgumentError, ImportError) as problem:
            raise InvalidProperty(
                f"rayfs.master.metastore.uri={uri!r} cannot be opened ({problem}); "
                "give an SQLAlchemy URI such as sqlite:////var/lib/rayfs/metastore.db"
            ) from None
        self._sqlite = url.get_backend_name() == "sqlite"
        self._where = url.database or url.render_as_string(hide_password=True)
        if self._sqlite:
            event.listen(self._engine, "connect", _durable)
        self._connection: Connection | None = None
        self._upserts: dict[Table, Any] = {}
        self._deletes: dict[Table, Any] = {}

    # --- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> tuple[str, int, int]:
        """Open or make the database and take the next epoch: returns cluster id, epoch and the last commit's
        sequence.
        """
        self.close()
        with self._translated():
            self._connection = self._engine.connect()
            if self._sqlite:
                self._check_whole(self._connection)
            with self._connection.begin():
                _METADATA.create_all(self._connection)
                row = self._connection.execute(select(_CLUSTER)).one_or_none()
                if row is None:
                    self._refuse_orphans(self._connection)
                    values = {"id": 1, "cluster_id": uuid.uuid4().hex, "epoch": 1, "sequence": 0}
                    self._connection.execute(insert(_CLUSTER).values(**values, schema_version=SCHEMA_VERSION))
                    return str(values["cluster_id"]), 1, 0
                if row.schema_version > SCHEMA_VERSION:
                    raise MetastoreDamaged(
                        f"the metastore {self._where} has schema {row.schema_version} and this RayFS knows "
                        f"{SCHEMA_VERSION}; run the RayFS that wrote it, or a newer one"
                    )
                epoch = int(row.epoch) + 1
                self._connection.execute(update(_CLUSTER).values(epoch=epoch))
                return str(row.cluster_id), epoch, int(row.sequence)

    def _check_whole(self, connection: Connection) -> None:
        verdict = connection.execute(text("PRAGMA quick_check(1)")).scalar()
        connection.rollback()
        if verdict != "ok":
            raise self._damaged(str(verdict))

    def _refuse_orphans(self, connection: Connection) -> None:
        if any(connection.execute(select(table.c.key).limit(1)).first() for table in _TABLES.values()):
            raise self._damaged("it has records but no cluster row")

    def _damaged(self, why: str) -> MetastoreDamaged:
        return MetastoreDamaged(
            f"the metastore {self._where} is damaged ({why}) and nothing is served from it; put a copy in its place "
            "(RayFS keeps them in the under store below .rayfs/) or move it away to begin with an empty namespace"
        )

    def load(self) -> Iterator[Record]:
        """Every record."""
        with self._translated():
            assert self._connection is not None
            for table, sql in _TABLES.items():
                for (body,) in self._connection.execute(select(sql.c.body)):
                    try:
                        yield decode(table, body)
                    except ValueError as problem:
                        raise self._damaged(f"a record of {table.value}: {problem}") from None
            self._connection.rollback()

    # --- committing --------------------------------------------------------------------------------------------------

    def commit(self, epoch: int, sequence: int, changes: Mapping[tuple[Table, str], bytes | None]) -> None:
        """Write all changes in one transaction; on stable storage when it returns. ``Fenced`` under another epoch."""
        with self._translated():
            assert self._connection is not None
            with self._connection.begin():
                held = update(_CLUSTER).where(_CLUSTER.c.epoch == epoch).values(sequence=sequence)
                if self._connection.execute(held).rowcount != 1:
                    raise Fenced(f"another master has taken over from epoch {epoch}")
                writes: dict[Table, list[dict[str, object]]] = {}
                removals: dict[Table, list[dict[str, object]]] = {}
                for (table, key), body in changes.items():
                    if body is None:
                        removals.setdefault(table, []).append({"gone": key})
                    else:
                        writes.setdefault(table, []).append({"key": key, "body": body})
                for table, rows in removals.items():
                    self._connection.execute(self._delete(table), rows)
                for table, rows in writes.items():
                    self._connection.execute(self._upsert(table), rows)

    def _upsert(self, table: Table) -> Any:
        statement = self._upserts.get(table)
        if statement is None:
            sql = _TABLES[table]
            dialect = sqlite if self._sqlite else postgresql
            base = dialect.insert(sql)
            statement = base.on_conflict_do_update(index_elements=[sql.c.key], set_={"body": base.excluded.body})
            self._upserts[table] = statement
        return statement

    def _delete(self, table: Table) -> Any:
        if table not in self._deletes:
            self._deletes[table] = delete(_TABLES[table]).where(_TABLES[table].c.key == bindparam("gone"))
        return self._deletes[table]

    def close(self) -> None:
        """Give the database back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._engine.dispose()

    def _translated(self) -> _Translated:
        return _Translated(self._where)


class _Translated:
    """Turns the driver's errors into sentences."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if not isinstance(problem, DatabaseError):
            return
        reason = str(problem.orig)
        if "full" in reason or "disk I/O" in reason:
            raise NoSpace(
                f"the metastore {self._where} cannot be written ({reason}): free space on its disk; "
                "nothing is acknowledged until then"
            ) from None
        if isinstance(problem, OperationalError):
            raise MetastoreDamaged(
                f"the metastore {self._where} cannot be used ({reason}); make its directory and give this user access"
            ) from None
        raise MetastoreDamaged(
            f"the metastore {self._where} is damaged ({reason}) and nothing is served from it; put a copy in its place "
            "(RayFS keeps them in the under store below .rayfs/) or move it away to begin with an empty namespace"
        ) from None


def _durable(connection: Any, _: object) -> None:
    """SQLite's settings for a database whose commits must survive a crash of the machine."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=2000")
    cursor.close()
