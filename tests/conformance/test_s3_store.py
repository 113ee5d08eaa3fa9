"""What is particular to S3: multipart uploads, what a store refuses, and stores that check less than S3 does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rayfs.core.checksum import combine, crc64
from rayfs.core.orders import Condition, FoundObject, SentPart
from rayfs.errors import InvalidPath, UnderStoreError, UnderStoreUnavailable
from rayfs.testing.conformance import Place
from rayfs.testing.faultproxy import FaultProxy
from rayfs.testing.servers import free_ports
from rayfs.understore.base import PreconditionFailed
from rayfs.understore.s3 import S3Store

pytestmark = pytest.mark.conformance

MIB = 1 << 20
PARTS = [b"a" * (5 * MIB), b"b" * (5 * MIB), b"tail"]


def test_an_upload_in_parts_becomes_one_object_with_the_whole_checksum(s3: Place) -> None:
    found = s3.upload("big", PARTS, file_id=0xB16)
    whole = b"".join(PARTS)
    assert found == FoundObject(found.etag, len(whole), crc64(whole), 0xB16)
    assert s3.store.head("big") == found
    assert s3.read("big") == whole


def test_parts_may_be_sent_in_any_order_and_again_by_another_process(s3: Place) -> None:
    upload_id = s3.store.begin_upload("big", file_id=1)
    elsewhere = s3.again()
    sent: list[SentPart] = []
    for number in (3, 1, 2, 1):
        body = PARTS[number - 1]
        part = elsewhere.send_part("big", upload_id, number, [body[:3], body[3:]], length=len(body), crc=crc64(body))
        sent = [*(one for one in sent if one.part != number), part]
    whole = b"".join(PARTS)
    found = s3.store.finish_upload(
        "big", upload_id, sent, length=len(whole), crc=crc64(whole), condition=Condition(None)
    )
    assert found.crc == crc64(whole)
    assert s3.read("big") == whole


def test_nothing_is_at_the_key_before_the_upload_is_complete(s3: Place) -> None:
    upload_id = s3.store.begin_upload("big", file_id=1)
    s3.send_parts("big", upload_id, PARTS)
    assert s3.store.head("big") is None
    assert s3.names() == []
    s3.store.abort_upload("big", upload_id)


def test_an_aborted_upload_leaves_no_parts(s3: Place) -> None:
    upload_id = s3.store.begin_upload("big", file_id=1)
    s3.send_parts("big", upload_id, PARTS[:1])
    s3.store.abort_upload("big", upload_id)
    assert list(s3.store.uploads("big")) == []


def test_aborting_an_upload_that_is_gone_is_no_error(s3: Place) -> None:
    upload_id = s3.store.begin_upload("big", file_id=1)
    s3.store.abort_upload("big", upload_id)
    s3.store.abort_upload("big", upload_id)


def test_uploads_in_progress_are_those_at_exactly_this_key(s3: Place) -> None:
    begun = {key: s3.store.begin_upload(key, file_id=1) for key in ("big", "big.2", "other")}
    assert list(s3.store.uploads("big")) == [begun["big"]]
    for key, upload_id in begun.items():
        s3.store.abort_upload(key, upload_id)


@pytest.mark.parametrize("condition", [Condition(None), Condition("0" * 32)])
def test_an_upload_does_not_complete_over_an_object_that_must_not_be_there(s3: Place, condition: Condition) -> None:
    s3.stranger_writes("big", b"theirs")
    with pytest.raises(PreconditionFailed):
        s3.upload("big", PARTS, condition=condition)
    assert s3.read("big") == b"theirs"


def test_an_upload_completes_over_the_object_that_the_condition_names(s3: Place) -> None:
    old = s3.put("big", b"old")
    assert s3.upload("big", PARTS, condition=Condition(old.etag)).length == sum(map(len, PARTS))


def test_a_part_that_is_not_what_it_should_be_is_not_sent(s3: Place) -> None:
    upload_id = s3.store.begin_upload("big", file_id=1)
    with pytest.raises(UnderStoreError, match="another replica"):
        s3.store.send_part("big", upload_id, 1, [b"rotten"], length=6, crc=crc64(b"rotter"))
    s3.store.abort_upload("big", upload_id)


@pytest.mark.scenario("P12")
def test_a_whole_checksum_that_is_not_the_parts_is_refused_or_seen_in_the_answer(s3: Place) -> None:
    upload_id = s3.store.begin_upload("big", file_id=1)
    parts, length, crc = s3.send_parts("big", upload_id, PARTS)
    wrong = combine(crc, crc64(b"!"), 1)

    def finish() -> FoundObject:
        return s3.store.finish_upload("big", upload_id, parts, length=length, crc=wrong, condition=None)

    if s3.kind == "moto":  # checks nothing: its answer is what tells
        assert finish().crc == crc != wrong
    else:
        with pytest.raises(UnderStoreError, match="checksum"):
            finish()
        assert s3.store.head("big") is None
    s3.store.abort_upload("big", upload_id)


@pytest.mark.parametrize("size", [100, 2 * MIB])
def test_bytes_damaged_on_their_way_are_refused_by_the_store(strict_s3: Place, size: int) -> None:
    body = b"x" * size
    assert strict_s3.server is not None
    with FaultProxy(strict_s3.server.endpoint) as proxy, proxy.corrupt(operation="PUT_OBJECT"):
        store = strict_s3.again({"rayfs.underfs.s3.endpoint": proxy.endpoint})
        with pytest.raises(UnderStoreError, match="checksum") as caught:
            store.put("damaged", [body], length=size, crc=crc64(body), file_id=1, condition=None)
    assert not isinstance(caught.value, UnderStoreUnavailable)
    assert strict_s3.store.head("damaged") is None


def test_a_part_damaged_on_its_way_is_refused_by_the_store(strict_s3: Place) -> None:
    body = b"x" * (5 * MIB)
    assert strict_s3.server is not None
    upload_id = strict_s3.store.begin_upload("damaged", file_id=1)
    with FaultProxy(strict_s3.server.endpoint) as proxy, proxy.corrupt(operation="UPLOAD_PART"):
        store = strict_s3.again({"rayfs.underfs.s3.endpoint": proxy.endpoint})
        with pytest.raises(UnderStoreError, match="checksum"):
            store.send_part("damaged", upload_id, 1, [body], length=len(body), crc=crc64(body))
    strict_s3.store.abort_upload("damaged", upload_id)


def test_a_part_of_an_upload_that_is_gone_is_no_success(s3: Place) -> None:
    upload_id = s3.store.begin_upload("big", file_id=1)
    s3.store.abort_upload("big", upload_id)
    with pytest.raises(UnderStoreError):
        s3.send_parts("big", upload_id, PARTS[:1])


def test_an_upload_that_is_gone_does_not_complete(s3: Place) -> None:
    upload_id = s3.store.begin_upload("big", file_id=1)
    parts, length, crc = s3.send_parts("big", upload_id, PARTS)
    s3.store.abort_upload("big", upload_id)
    with pytest.raises(UnderStoreError):
        s3.store.finish_upload("big", upload_id, parts, length=length, crc=crc, condition=None)
    assert s3.store.head("big") is None


def test_a_large_object_is_copied_by_parts(s3: Place) -> None:
    assert s3.server is not None
    source = s3.upload("from", PARTS)
    store = S3Store(s3.bucket, s3.prefix, endpoint=s3.server.endpoint, copy_limit=MIB, copy_part=5 * MIB)
    copied = store.copy("from", source.etag, "to", file_id=77, condition=Condition(None))
    assert (copied.length, copied.crc, copied.file_id) == (source.length, source.crc, 77)
    assert s3.read("to") == b"".join(PARTS)
    assert list(store.uploads("to")) == []


def test_a_large_copy_that_is_refused_leaves_no_parts(s3: Place) -> None:
    assert s3.server is not None
    source = s3.upload("from", PARTS)
    with FaultProxy(s3.server.endpoint) as proxy:
        store = S3Store(s3.bucket, s3.prefix, endpoint=proxy.endpoint, copy_limit=MIB, copy_part=5 * MIB)
        proxy.answer(403, "AccessDenied", operation="UPLOAD_PART_COPY", after=1)
        with pytest.raises(UnderStoreError, match="credentials"):
            store.copy("from", source.etag, "to", file_id=77, condition=None)
    assert list(s3.store.uploads("to")) == []
    assert s3.store.head("to") is None


def test_a_missing_bucket_is_named_by_every_request(s3: Place) -> None:
    store = s3.again(uri="s3://no-such-bucket/x")
    requests: list[Callable[[], object]] = [
        store.check,
        lambda: store.head("a"),
        lambda: store.list(""),
        lambda: store.read("a", offset=0, length=1, etag=None),
        lambda: store.begin_upload("a", file_id=1),
        lambda: store.put("a", [b"x"], length=1, crc=crc64(b"x"), file_id=1, condition=None),
    ]
    for request in requests:
        with pytest.raises(UnderStoreError, match=r"no-such-bucket.*create it"):
            request()


def test_wrong_credentials_are_told_apart_and_not_repeated(strict_s3: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    store = strict_s3.again()
    with pytest.raises(UnderStoreError, match="AWS_ACCESS_KEY_ID") as caught:
        store.check()
    assert not caught.value.retryable
    assert "wrong-secret" not in str(caught.value)


def test_missing_credentials_say_where_they_are_looked_for(
    strict_s3: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/none")
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/none")
    with pytest.raises(UnderStoreError, match=r"No credentials.*boto3's own chain"):
        strict_s3.again().check()


def test_an_endpoint_where_nobody_listens_is_named_and_may_be_tried_again(strict_s3: Place) -> None:
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(UnderStoreUnavailable, match=endpoint) as caught:
        strict_s3.again({"rayfs.underfs.s3.endpoint": endpoint}).check()
    assert caught.value.retryable


def test_the_store_s_word_for_storage_class_and_metadata_is_what_was_configured(s3: Place) -> None:
    assert s3.server is not None
    store = s3.again({"rayfs.underfs.s3.storage.class": "STANDARD_IA", "rayfs.underfs.s3.region": "us-east-1"})
    store.put("cold", [b"x"], length=1, crc=crc64(b"x"), file_id=0xC01D, condition=None)
    answer = s3.server.client().head_object(Bucket=s3.bucket, Key=f"{s3.prefix}/cold")
    assert answer["StorageClass"] == "STANDARD_IA"
    assert answer["Metadata"] == {"rayfs-file-id": "c01d"}


def test_the_key_in_the_bucket_is_prefix_and_path(s3: Place) -> None:
    assert s3.server is not None
    s3.put("out/a", b"x")
    answer = s3.server.client().get_object(Bucket=s3.bucket, Key=f"{s3.prefix}/out/a")
    assert answer["Body"].read() == b"x"


def test_a_key_too_long_for_s3_is_refused(s3: Place) -> None:
    with pytest.raises(InvalidPath, match="1024"):
        s3.put("k" * 1020, b"x")


def test_a_small_object_costs_exactly_one_request(strict_s3: Place) -> None:
    assert strict_s3.server is not None
    with FaultProxy(strict_s3.server.endpoint) as proxy:
        store = strict_s3.again({"rayfs.underfs.s3.endpoint": proxy.endpoint})
        store.put("small", [b"x"], length=1, crc=crc64(b"x"), file_id=1, condition=Condition(None))
        assert dict(proxy.counts) == {"PUT_OBJECT": 1}
