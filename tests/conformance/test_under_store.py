"""What every under store does, tried on a local directory, on moto and on SeaweedFS."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from rayfs.core.checksum import crc64
from rayfs.core.orders import Condition, FoundObject
from rayfs.errors import FileNotFound, InvalidArgument, InvalidPath, UnderStoreError
from rayfs.testing.conformance import Place
from rayfs.understore.base import PreconditionFailed
from rayfs.understore.open import open_under_store

if TYPE_CHECKING:
    from typing_extensions import Buffer

pytestmark = pytest.mark.conformance

NAMES = [
    "a b.txt",
    "ärger/öl.bin",
    "plus+sign",
    "percent%20encoded",
    "100%",
    "q?x=1&y",
    "hash#tag",
    "日本/語",
    "quote\"'",
    "~.x",
]


def test_an_object_is_described_by_its_etag_length_checksum_and_file_id(place: Place) -> None:
    written = place.put("out/a", b"hello", file_id=0xABC)
    assert written == FoundObject(written.etag, 5, crc64(b"hello"), 0xABC)
    assert place.store.head("out/a") == written
    assert place.read("out/a") == b"hello"


def test_an_empty_object_is_an_object(place: Place) -> None:
    written = place.put("out/empty", b"", file_id=7)
    assert written == FoundObject(written.etag, 0, 0, 7)
    assert place.store.head("out/empty") == written
    assert place.read("out/empty") == b""


def test_a_key_that_holds_nothing_has_no_description(place: Place) -> None:
    assert place.store.head("nothing") is None


def test_reading_a_key_that_holds_nothing_is_file_not_found(place: Place) -> None:
    with pytest.raises(FileNotFound):
        place.store.read("nothing", offset=0, length=1, etag=None)


@pytest.mark.parametrize("key", NAMES)
def test_unusual_names_come_back_as_they_went(place: Place, key: str) -> None:
    place.put(key, key.encode())
    assert place.read(key) == key.encode()
    assert key in place.names(recursive=True)


@pytest.mark.parametrize("size", [1, 300 << 10, 3 << 20])
def test_a_body_of_several_buffers_is_stored_as_one(place: Place, size: int) -> None:
    whole = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    third = size // 3
    pieces = [whole[:third], whole[third : 2 * third].data, b"", bytes(whole[2 * third :])]
    crc, body = crc64(whole.data), cast("list[Buffer]", pieces)
    written = place.store.put("many", body, length=size, crc=crc, file_id=1, condition=None)
    assert (written.length, written.crc) == (size, crc)
    assert place.read("many") == whole.tobytes()


def test_a_range_is_read_and_ends_where_the_object_ends(place: Place) -> None:
    place.put("digits", b"0123456789")
    read = place.store.read
    assert read("digits", offset=2, length=3, etag=None) == b"234"
    assert read("digits", offset=8, length=100, etag=None) == b"89"
    assert read("digits", offset=10, length=5, etag=None) == b""
    assert read("digits", offset=0, length=0, etag=None) == b""


def test_reading_with_the_etag_of_another_object_is_refused(place: Place) -> None:
    old = place.put("a", b"old bytes")
    place.put("a", b"new bytes")
    with pytest.raises(PreconditionFailed):
        place.store.read("a", offset=0, length=9, etag=old.etag)


def test_bytes_that_do_not_have_their_checksum_are_not_stored(place: Place) -> None:
    with pytest.raises(UnderStoreError, match="another replica"):
        place.store.put("rotten", [b"hello"], length=5, crc=crc64(b"jello"), file_id=1, condition=None)
    assert place.store.head("rotten") is None


def test_bytes_that_do_not_have_their_length_are_not_stored(place: Place) -> None:
    with pytest.raises(UnderStoreError):
        place.store.put("short", [b"hello"], length=4, crc=crc64(b"hello"), file_id=1, condition=None)
    assert place.store.head("short") is None


# --- conditions ------------------------------------------------------------------------------------------------------


def test_an_object_that_must_be_new_is_not_written_over_another(place: Place) -> None:
    place.stranger_writes("a", b"a stranger's")
    with pytest.raises(PreconditionFailed):
        place.put("a", b"ours", condition=Condition(None))
    assert place.read("a") == b"a stranger's"


def test_an_object_that_must_be_new_is_written_where_nothing_is(place: Place) -> None:
    place.put("a", b"ours", condition=Condition(None))
    assert place.read("a") == b"ours"


def test_an_object_is_replaced_only_if_it_has_the_etag(place: Place) -> None:
    first = place.put("a", b"first")
    second = place.put("a", b"second", condition=Condition(first.etag))
    with pytest.raises(PreconditionFailed):
        place.put("a", b"third", condition=Condition(first.etag))
    assert place.read("a") == b"second"
    assert place.store.head("a") == second


def test_an_object_that_must_have_an_etag_is_not_written_where_nothing_is(place: Place) -> None:
    with pytest.raises(PreconditionFailed):
        place.put("a", b"ours", condition=Condition("0" * 32))
    assert place.store.head("a") is None


def test_of_several_writers_of_a_new_key_exactly_one_wins(place: Place) -> None:
    def write(number: int) -> bool:
        try:
            place.put("race", f"writer {number}".encode(), condition=Condition(None))
        except PreconditionFailed:
            return False
        return True

    if place.kind == "moto":
        pytest.skip("moto looks and writes in two steps, so two of its threads can both find nothing")
    with ThreadPoolExecutor(8) as pool:
        won = [number for number, wins in enumerate(pool.map(write, range(8))) if wins]
    assert len(won) == 1
    assert place.read("race") == f"writer {won[0]}".encode()


def test_a_stranger_s_object_has_no_file_id(place: Place) -> None:
    place.stranger_writes("theirs", b"not ours")
    found = place.store.head("theirs")
    assert found is not None
    assert (found.length, found.file_id) == (8, None)


def test_an_object_changed_behind_our_back_is_a_stranger_s(place: Place) -> None:
    ours = place.put("a", b"ours", file_id=5)
    place.stranger_writes("a", b"them")
    found = place.store.head("a")
    assert found is not None
    assert found.file_id is None
    assert found.etag != ours.etag


# --- delete ----------------------------------------------------------------------------------------------------------


def test_a_deleted_object_is_gone(place: Place) -> None:
    etag = place.put("dir/a", b"x").etag
    place.store.delete("dir/a", etag)
    assert place.store.head("dir/a") is None
    assert place.names(recursive=True) == []
    assert place.names("dir/") == []


def test_deleting_with_another_etag_changes_nothing(place: Place) -> None:
    old = place.put("a", b"old")
    place.put("a", b"new")
    with pytest.raises(PreconditionFailed):
        place.store.delete("a", old.etag)
    assert place.read("a") == b"new"


@pytest.mark.parametrize("etag", [None, "0" * 32])
def test_deleting_what_is_not_there_is_no_error(place: Place, etag: str | None) -> None:
    place.store.delete("nothing", etag)


def test_deleting_whatever_is_there_needs_no_etag(place: Place) -> None:
    place.stranger_writes("a", b"x")
    place.store.delete("a", None)
    assert place.store.head("a") is None


# --- copy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"bytes to copy"])
def test_a_copy_has_the_bytes_and_its_own_file_id(place: Place, body: bytes) -> None:
    source = place.put("from/a b", body, file_id=1)
    copied = place.store.copy("from/a b", source.etag, "to/ä", file_id=2, condition=Condition(None))
    assert copied == FoundObject(copied.etag, len(body), crc64(body), 2)
    assert place.store.head("to/ä") == copied
    assert place.read("to/ä") == body
    assert place.read("from/a b") == body


def test_a_copy_of_a_changed_source_is_file_not_found(place: Place) -> None:
    old = place.put("from", b"old")
    place.put("from", b"new")
    with pytest.raises(FileNotFound):
        place.store.copy("from", old.etag, "to", file_id=2, condition=None)
    assert place.store.head("to") is None


def test_a_copy_of_a_missing_source_is_file_not_found(place: Place) -> None:
    with pytest.raises(FileNotFound):
        place.store.copy("from", "0" * 32, "to", file_id=2, condition=None)


def test_a_copy_is_not_made_over_an_object_that_must_not_be_there(place: Place) -> None:
    source = place.put("from", b"ours")
    place.stranger_writes("to", b"theirs")
    for condition in (Condition(None), Condition("0" * 32)):
        with pytest.raises(PreconditionFailed):
            place.store.copy("from", source.etag, "to", file_id=2, condition=condition)
    assert place.read("to") == b"theirs"


def test_a_copy_replaces_the_object_that_the_condition_names(place: Place) -> None:
    source, old = place.put("from", b"new bytes"), place.put("to", b"old bytes")
    place.store.copy("from", source.etag, "to", file_id=2, condition=Condition(old.etag))
    assert place.read("to") == b"new bytes"


# --- listing ---------------------------------------------------------------------------------------------------------


def test_a_listing_has_the_direct_children_and_the_common_prefixes(place: Place) -> None:
    for key in ("a/1", "a/b/2", "a/b/3", "a/c/4", "d"):
        place.put(key, key.encode())
    page = place.store.list("a/")
    assert [entry.name for entry in page.entries] == ["1", "b/", "c/"]
    assert [entry.etag is None for entry in page.entries] == [False, True, True]
    assert page.entries[0].length == 3
    assert page.entries[0].modified > 1e9
    assert place.names() == ["a/", "d"]


def test_a_listing_names_the_same_etags_as_head(place: Place) -> None:
    written = place.put("a", b"x")
    assert [entry.etag for entry in place.store.list("").entries] == [written.etag]


def test_a_recursive_listing_has_everything_below(place: Place) -> None:
    for key in ("a/1", "a/b/2", "a/b/c/3", "a.txt", "a0", "d"):
        place.put(key, b"x")
    assert place.names(recursive=True) == ["a.txt", "a/1", "a/b/2", "a/b/c/3", "a0", "d"]
    assert place.names("a/", recursive=True) == ["1", "b/2", "b/c/3"]


def test_a_listing_hides_what_rayfs_keeps_for_itself(place: Place) -> None:
    place.put(".rayfs/owner", b"cluster")
    place.put("a", b"x")
    assert place.names() == ["a"]
    assert place.names(recursive=True) == ["a"]
    assert place.read(".rayfs/owner") == b"cluster"


@pytest.mark.parametrize("recursive", [False, True])
def test_a_long_listing_comes_in_pages(place: Place, recursive: bool) -> None:
    names = [f"{number:04}" for number in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: place.put(f"big/{name}", b""), names))
    first = place.store.list("big/", recursive=recursive)
    assert first.token is not None
    assert len(first.entries) < len(names)
    assert place.names("big/", recursive=recursive) == names


def test_listing_what_is_not_there_is_empty(place: Place) -> None:
    assert place.names("nothing/") == []


# --- markers of empty directories ------------------------------------------------------------------------------------


def test_an_empty_directory_s_marker_is_an_object(place: Place) -> None:
    written = place.put("dir/", b"", file_id=9, condition=Condition(None))
    assert (written.length, written.crc, written.file_id) == (0, 0, 9)
    found = place.store.head("dir/")
    assert found is not None
    assert (found.etag, found.length, found.crc) == (written.etag, 0, 0)
    assert place.store.head("dir") is None


def test_a_marker_is_listed_in_its_directory_with_an_empty_name(place: Place) -> None:
    place.put("dir/", b"")
    place.put("dir/a", b"x")
    assert place.names() == ["dir/"]
    assert place.names("dir/") == ["", "a"]
    assert place.names(recursive=True) == ["dir/", "dir/a"]


def test_a_directory_with_a_marker_outlives_its_last_object(place: Place) -> None:
    marker = place.put("dir/", b"")
    place.put("dir/a", b"x")
    place.store.delete("dir/a", None)
    assert place.store.head("dir/") is not None
    place.store.delete("dir/", marker.etag)
    assert place.store.head("dir/") is None
    assert place.names(recursive=True) == []


def test_deleting_a_marker_keeps_what_is_in_the_directory(place: Place) -> None:
    marker = place.put("dir/", b"")
    place.put("dir/a", b"x")
    place.store.delete("dir/", marker.etag)
    assert place.store.head("dir/") is None
    assert place.read("dir/a") == b"x"


def test_a_directory_that_only_has_objects_has_no_marker(place: Place) -> None:
    place.put("dir/a", b"x")
    assert place.store.head("dir/") is None
    place.put("dir/", b"", condition=Condition(None))
    assert place.names("dir/") == ["", "a"]


def test_a_marker_is_copied_as_an_empty_marker(place: Place) -> None:
    source = place.put("from/", b"", file_id=1)
    copied = place.store.copy("from/", source.etag, "to/", file_id=2, condition=Condition(None))
    assert (copied.length, copied.file_id) == (0, 2)
    assert place.store.head("to/") is not None


# --- fitness ---------------------------------------------------------------------------------------------------------


def test_a_store_that_can_be_used_passes_its_check_and_is_left_empty(place: Place) -> None:
    place.store.check()
    assert place.names(recursive=True) == []
    assert [name for name in place.names(".rayfs/", recursive=True) if "probe" in name] == []


@pytest.mark.parametrize("key", ["", "/absolute", "nul\0byte"])
def test_a_key_that_no_store_can_hold_is_refused_before_anything_is_sent(place: Place, key: str) -> None:
    for act in (place.store.head, lambda key: place.store.delete(key, None), lambda key: place.put(key, b"x")):
        with pytest.raises(InvalidPath):
            act(key)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "bucket/prefix",
        "s3://",
        "s3://?/x",
        "s3://bucket/a//b",
        "s3://bucket/a/../b",
        "gs://bucket",
        "file://dir",
        "file:dir",
    ],
)
def test_a_uri_that_names_no_under_store_says_how_to_write_one(uri: str) -> None:
    with pytest.raises(InvalidArgument, match=r"s3://bucket/prefix|file:///directory"):
        open_under_store(uri, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rayfs.underfs.s3.endpoint", "localhost:9000"),
        ("rayfs.underfs.s3.endpoint", "ftp://x"),
        ("rayfs.underfs.s3.addressing.style", "SIDEWAYS"),
    ],
)
def test_a_setting_that_can_never_work_is_named(key: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=key):
        open_under_store("s3://bucket", {key: value})
