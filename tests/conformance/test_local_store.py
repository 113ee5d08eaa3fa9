"""What is particular to a local directory as an under store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rayfs.core.checksum import crc64
from rayfs.core.orders import Condition
from rayfs.errors import InvalidPath, UnderStoreError
from rayfs.testing.conformance import Place

pytestmark = pytest.mark.conformance


def test_an_object_is_a_plain_file_that_anybody_can_read(directory: Place) -> None:
    directory.put("out/a.txt", b"hello")
    assert (Path(directory.bucket) / "out" / "a.txt").read_bytes() == b"hello"


def test_a_file_that_was_there_before_can_be_read_and_is_a_stranger_s(directory: Place) -> None:
    directory.stranger_writes("data/old.csv", b"1,2")
    found = directory.store.head("data/old.csv")
    assert found is not None
    assert (found.crc, found.file_id) == (None, None)
    assert directory.read("data/old.csv") == b"1,2"


def test_an_etag_never_returns_though_the_same_bytes_do(directory: Place) -> None:
    etags = [directory.put("a", b"same bytes").etag for _ in range(50)]
    assert len(set(etags)) == 50


def test_a_file_and_a_directory_of_one_name_are_refused(directory: Place) -> None:
    directory.put("a", b"x")
    with pytest.raises(UnderStoreError, match="of one name"):
        directory.put("a/b", b"y")
    directory.put("d/e", b"x")
    with pytest.raises(UnderStoreError, match="of one name"):
        directory.put("d", b"y")
    assert directory.names(recursive=True) == ["a", "d/e"]


def test_a_name_longer_than_the_file_system_takes_is_refused(directory: Place) -> None:
    with pytest.raises(UnderStoreError, match="shorter name"):
        directory.put("n" * 300, b"x")


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "a//b", "./a"])
def test_a_key_cannot_leave_the_directory(directory: Place, key: str) -> None:
    with pytest.raises(InvalidPath):
        directory.put(key, b"x")


def test_a_missing_directory_says_to_create_it(directory: Place) -> None:
    shutil.rmtree(directory.bucket)
    acts: list[Callable[[], object]] = [
        directory.store.check,
        lambda: directory.store.head("a"),
        lambda: directory.put("a", b"x"),
    ]
    for act in acts:
        with pytest.raises(UnderStoreError, match="create it"):
            act()


def test_directories_go_with_their_last_object(directory: Place) -> None:
    directory.put("a/b/c", b"x")
    directory.store.delete("a/b/c", None)
    assert not (Path(directory.bucket) / "a").exists()


def test_a_write_that_died_leaves_nothing_that_is_listed_and_is_cleaned_up(directory: Place) -> None:
    directory.put("a", b"x")
    leftover = Path(directory.bucket) / ".rayfs" / ".local" / "tmp" / "dead"
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    assert directory.names(recursive=True) == ["a"]
    directory.store.check()
    assert not leftover.exists()


def test_a_sidecar_without_its_object_is_ignored(directory: Place) -> None:
    written = directory.put("a", b"x")
    (Path(directory.bucket) / "a").unlink()
    assert directory.store.head("a") is None
    directory.put("a", b"y", condition=Condition(None))
    found = directory.store.head("a")
    assert found is not None
    assert found.etag != written.etag
    assert found.crc == crc64(b"y")


def test_a_copy_of_rotten_bytes_is_not_made(directory: Place) -> None:
    source = directory.put("from", b"good")
    path = Path(directory.bucket) / "from"
    status = path.stat()
    path.write_bytes(b"evil")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(OSError, match="changed"):
        directory.store.copy("from", source.etag, "to", file_id=1, condition=None)
    assert directory.store.head("to") is None


def test_multipart_is_not_offered(directory: Place) -> None:
    assert directory.store.multipart is False
    with pytest.raises(UnderStoreError, match="use put"):
        directory.store.begin_upload("a", file_id=1)
    assert list(directory.store.uploads("a")) == []


def test_what_the_store_keeps_for_itself_is_never_listed(directory: Place) -> None:
    directory.put(".rayfs/owner", b"cluster")
    assert directory.names(".rayfs/") == ["owner"]
    assert directory.names(".rayfs/", recursive=True) == ["owner"]


def test_a_marker_whose_directory_somebody_removed_is_gone(directory: Place) -> None:
    directory.put("dir/", b"")
    (Path(directory.bucket) / "dir").rmdir()
    assert directory.store.head("dir/") is None
    assert directory.names("dir/") == []
    assert directory.put("dir/", b"", condition=Condition(None)).length == 0
