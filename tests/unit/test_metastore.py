"""The metastore: what a commit promises, and what is refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from rayfs.core.lifecycle import FileState
from rayfs.core.model import Block, HistoryEntry, Stored, WriteOptions
from rayfs.core.records import (
    Attempt,
    AttemptKind,
    FileBody,
    Inode,
    KeyRow,
    Known,
    NodeRecord,
    OpenFile,
    PathRecord,
    Record,
    SessionRecord,
    Setting,
    Table,
)
from rayfs.errors import InvalidProperty, NoSpace
from rayfs.metastore.records import decode, encode
from rayfs.metastore.store import Fenced, Metastore, MetastoreDamaged

BODY = FileBody(
    FileState.DIRTY,
    WriteOptions(durable=3, persist_wait_s=None),
    length=7,
    crc=(1 << 64) - 1,
    blocks=[Block(7, (1 << 64) - 1)],
    generation=9,
    stored=Stored("a/b", "etag"),
    history=[HistoryEntry(1.5, "seal", "1 block")],
)
RECORDS: dict[Table, Record] = {
    Table.INODES: Inode((5 << 32) + 1, 1, "ünï cödé", 1.0, 2.0, BODY, pinned=True),
    Table.OPEN_FILES: OpenFile(7, "/a", BODY, "node", 1.0, 2.0, allocated=3, given_up=True),
    Table.KEY_ROWS: KeyRow(
        "a/b",
        Known("e", None, 3),
        7,
        1.0,
        Attempt(9, AttemptKind.MULTIPART, 7, 2.0, "life", "upload"),
        3,
        2,
        "503",
        9.0,
    ),
    Table.SESSIONS: SessionRecord("s", 4, 1.0, {5: '["none"]', 6: "1"}),
    Table.PATH_PROPERTIES: PathRecord("/a", {"rayfs.user.file.replication.durable": 3, "b": None, "c": 1.5}),
    Table.NODES: NodeRecord("n", "host"),
    Table.SETTINGS: Setting("persisting", "yes"),
}


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'metastore.db'}"


@pytest.mark.parametrize("table", list(Table))
def test_every_kind_of_record_comes_back_as_it_was(table: Table) -> None:
    assert decode(table, encode(RECORDS[table])) == RECORDS[table]


def test_what_was_committed_is_there_after_the_process_ended(uri: str) -> None:
    first = Metastore(uri)
    cluster_id, epoch, sequence = first.open()
    assert (epoch, sequence) == (1, 0)
    first.commit(epoch, 3, {(table, "k"): encode(record) for table, record in RECORDS.items()})
    first.commit(epoch, 4, {(Table.SETTINGS, "k"): None, (Table.NODES, "k"): encode(NodeRecord("m", "other"))})
    # The connection is left as a crash leaves it: nothing is closed.
    second = Metastore(uri)
    assert second.open() == (cluster_id, 2, 4)
    expected = [record for table, record in RECORDS.items() if table not in (Table.SETTINGS, Table.NODES)]
    assert sorted(map(repr, second.load())) == sorted(map(repr, [*expected, NodeRecord("m", "other")]))
    first.close()
    second.close()


def test_an_older_master_can_not_commit_any_more(uri: str) -> None:
    old, new = Metastore(uri), Metastore(uri)
    _, old_epoch, _ = old.open()
    _, new_epoch, _ = new.open()
    with pytest.raises(Fenced):
        old.commit(old_epoch, 1, {(Table.SETTINGS, "a"): encode(Setting("a", "old"))})
    new.commit(new_epoch, 1, {})
    assert list(new.load()) == []
    old.close()
    new.close()


def test_a_full_disk_is_said_in_a_sentence_and_nothing_of_the_commit_stays(uri: str) -> None:
    metastore = Metastore(uri)
    _, epoch, _ = metastore.open()
    connection = metastore._connection
    assert connection is not None
    connection.exec_driver_sql("PRAGMA max_page_count=30")
    connection.rollback()
    large = {(Table.INODES, str(n)): b"x" * 10_000 for n in range(100)}
    with pytest.raises(NoSpace, match="free space"):
        metastore.commit(epoch, 1, large)
    connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    connection.rollback()
    assert list(metastore.load()) == []
    metastore.close()


@pytest.mark.scenario("M10")
def test_a_damaged_file_is_refused_and_never_taken_for_an_empty_namespace(uri: str, tmp_path: Path) -> None:
    metastore = Metastore(uri)
    _, epoch, _ = metastore.open()
    metastore.commit(epoch, 1, {(Table.INODES, str(n)): b"x" * 3000 for n in range(200)})
    metastore.close()
    with sqlite3.connect(tmp_path / "metastore.db") as whole:
        whole.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole.close()
    file = tmp_path / "metastore.db"
    raw = bytearray(file.read_bytes())
    raw[20_000:60_000] = b"\xff" * 40_000
    file.write_bytes(raw)
    with pytest.raises(MetastoreDamaged, match=r"\.rayfs"):
        list(_opened(uri).load())


def test_a_record_that_is_not_one_is_refused(uri: str) -> None:
    metastore = Metastore(uri)
    _, epoch, _ = metastore.open()
    metastore.commit(epoch, 1, {(Table.NODES, "n"): b'{"node_id": 5}'})
    with pytest.raises(MetastoreDamaged, match="nodes"):
        list(metastore.load())
    metastore.close()


def test_a_metastore_of_a_newer_rayfs_is_refused(uri: str, tmp_path: Path) -> None:
    _opened(uri).close()
    with sqlite3.connect(tmp_path / "metastore.db") as database:
        database.execute("UPDATE cluster SET schema_version = 99")
    database.close()
    with pytest.raises(MetastoreDamaged, match="99"):
        Metastore(uri).open()


@pytest.mark.parametrize(
    ("given", "error"), [("nonsense", InvalidProperty), ("sqlite:////no/such/dir/m.db", MetastoreDamaged)]
)
def test_a_uri_that_cannot_be_opened_says_what_to_do(given: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"give|make"):
        Metastore(given).open()


def _opened(uri: str) -> Metastore:
    metastore = Metastore(uri)
    metastore.open()
    return metastore
