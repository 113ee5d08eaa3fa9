"""The fault proxy between plain boto3 and moto: unchanged where no fault is on, and each fault as it says."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from rayfs.errors import WaitTimedOut
from rayfs.testing.faultproxy import FaultProxy
from rayfs.testing.faults import Fault, Operation, classify
from rayfs.testing.servers import REGION, MotoServer

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BIG = os.urandom(6 << 20)


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def bucket(server: MotoServer) -> str:
    name = f"b-{uuid.uuid4().hex}"
    server.create_bucket(name)
    return name


@pytest.fixture
def proxy(server: MotoServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.endpoint) as proxy:
        yield proxy


def client_of(proxy: FaultProxy, read_timeout: float = 30) -> S3Client:
    client: S3Client = boto3.session.Session().client(
        "s3",
        endpoint_url=proxy.endpoint,
        region_name=REGION,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=200, read_timeout=read_timeout),
    )
    return client


def test_objects_of_any_size_pass_unchanged(proxy: FaultProxy, bucket: str, server: MotoServer) -> None:
    through, direct = client_of(proxy), server.client()
    for key, body in {"a": b"x", "a b/ü+%": BIG, "empty": b""}.items():
        through.put_object(Bucket=bucket, Key=key, Body=body)
        assert direct.get_object(Bucket=bucket, Key=key)["Body"].read() == body
        assert through.get_object(Bucket=bucket, Key=key)["Body"].read() == body


def test_requests_are_counted_by_what_they_are(proxy: FaultProxy, bucket: str) -> None:
    s3 = client_of(proxy)
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=b"p")["ETag"]
    s3.complete_multipart_upload(
        Bucket=bucket, Key="m", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
    )
    s3.copy_object(Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "a"})
    s3.head_object(Bucket=bucket, Key="c")
    s3.get_object(Bucket=bucket, Key="c")["Body"].read()
    s3.list_objects_v2(Bucket=bucket)
    s3.list_multipart_uploads(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="c")
    assert dict(proxy.counts) == {
        "PUT_OBJECT": 1, "BEGIN_UPLOAD": 1, "UPLOAD_PART": 1, "COMPLETE": 1, "COPY": 1, "HEAD": 1, "GET": 1, "LIST": 1,
        "LIST_UPLOADS": 1, "DELETE": 1,
    }  # fmt: skip


def test_the_log_says_what_the_store_and_what_the_client_heard(proxy: FaultProxy, bucket: str) -> None:
    s3 = client_of(proxy)
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    with proxy.lose_answer(), pytest.raises(BotoCoreError):
        s3.put_object(Bucket=bucket, Key="a", Body=b"y")
    with proxy.slow_down(), pytest.raises(ClientError):
        s3.put_object(Bucket=bucket, Key="b", Body=b"z")
    proxy.wait_for(lambda: all(one.done for one in proxy.log))
    assert [(one.key, one.store_status, one.client_status, one.fault) for one in proxy.log] == [
        ("a", 200, 200, None),
        ("a", 200, None, Fault.LOSE_ANSWER),
        ("b", None, 503, Fault.ANSWER),
    ]
    assert proxy.committed("PUT_OBJECT", key="a") == 2
    assert proxy.committed(key="b") == 0


@pytest.mark.parametrize(
    ("method", "target", "headers", "operation", "key"),
    [
        ("PUT", "/b/k", [], Operation.PUT_OBJECT, "k"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", [], Operation.UPLOAD_PART, "k"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", ["x-amz-copy-source"], Operation.UPLOAD_PART_COPY, "k"),
        ("PUT", "/b/d/%C3%BC%2B?x-id=PutObject", [], Operation.PUT_OBJECT, "d/ü+"),
        ("DELETE", "/b/k?uploadId=u", [], Operation.ABORT, "k"),
        ("POST", "/b?delete", [], Operation.DELETE_MANY, ""),
        ("GET", "/b/k?uploadId=u", [], Operation.LIST_PARTS, "k"),
        ("GET", "/b?list-type=2", [], Operation.LIST, ""),
        ("HEAD", "/b", [], Operation.BUCKET, ""),
        ("GET", "/", [], Operation.BUCKET, ""),
    ],
)
def test_an_operation_is_told_by_method_path_and_query(
    method: str, target: str, headers: list[str], operation: Operation, key: str
) -> None:
    assert classify(method, target, headers) == (operation, key)


def test_a_fault_strikes_only_what_it_names_and_only_so_often(proxy: FaultProxy, bucket: str) -> None:
    s3 = client_of(proxy)
    rule = proxy.slow_down(operation="PUT_OBJECT", key="out/*", times=2, after=1)

    def works(key: str) -> bool:
        try:
            s3.put_object(Bucket=bucket, Key=key, Body=b"")
        except ClientError:
            return False
        return True

    assert works("in/a")
    assert [works("out/a") for _ in range(4)] == [True, False, False, True]
    assert rule.hits == 2
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 2


def test_a_reset_request_never_reaches_the_store(proxy: FaultProxy, bucket: str) -> None:
    with proxy.reset() as rule, pytest.raises(BotoCoreError):
        client_of(proxy).put_object(Bucket=bucket, Key="a", Body=BIG)
    assert rule.hits == 1
    assert client_of(proxy).list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_lost_answer_is_to_a_request_that_the_store_carried_out(proxy: FaultProxy, bucket: str) -> None:
    with proxy.lose_answer(), pytest.raises(BotoCoreError):
        client_of(proxy).put_object(Bucket=bucket, Key="a", Body=BIG)
    assert client_of(proxy).get_object(Bucket=bucket, Key="a")["Body"].read() == BIG


def test_a_cut_answer_breaks_off_in_the_body(proxy: FaultProxy, bucket: str) -> None:
    s3 = client_of(proxy)
    s3.put_object(Bucket=bucket, Key="a", Body=BIG)
    with proxy.cut_answer(operation="GET"), pytest.raises(BotoCoreError):
        s3.get_object(Bucket=bucket, Key="a")["Body"].read()
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == BIG


def test_a_late_request_reaches_the_store_when_it_is_delivered(proxy: FaultProxy, bucket: str) -> None:
    s3 = client_of(proxy)
    with proxy.deliver_late(operation="PUT_OBJECT"), pytest.raises(BotoCoreError):
        s3.put_object(Bucket=bucket, Key="a", Body=BIG)
    s3.put_object(Bucket=bucket, Key="a", Body=b"newer")
    assert [(late.key, late.store_status, late.done) for late in proxy.parked] == [("a", None, False)]
    assert [(late.store_status, late.done) for late in proxy.deliver()] == [(200, True)]
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == BIG
    assert proxy.parked == ()


def test_a_late_request_that_is_dropped_never_arrives(proxy: FaultProxy, bucket: str) -> None:
    with proxy.deliver_late(), pytest.raises(BotoCoreError):
        client_of(proxy).put_object(Bucket=bucket, Key="a", Body=b"x")
    proxy.drop_parked()
    assert proxy.deliver() == ()
    assert client_of(proxy).list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_held_requests_wait_and_go_on_when_released(proxy: FaultProxy, bucket: str) -> None:
    s3 = client_of(proxy)
    rule = proxy.hold(operation="PUT_OBJECT")
    with ThreadPoolExecutor(20) as pool:
        puts = [pool.submit(s3.put_object, Bucket=bucket, Key=f"{number}", Body=b"x") for number in range(20)]
        rule.wait_for_hits(20)
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
        proxy.release()
        assert all(put.result()["ETag"] for put in puts)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 20


def test_a_held_request_whose_client_gave_up_still_lands(proxy: FaultProxy, bucket: str) -> None:
    proxy.hold(operation="PUT_OBJECT")
    with pytest.raises(BotoCoreError):
        client_of(proxy, read_timeout=0.2).put_object(Bucket=bucket, Key="a", Body=b"x")
    proxy.release()
    proxy.wait_for(lambda: proxy.committed("PUT_OBJECT") == 1)
    assert client_of(proxy).get_object(Bucket=bucket, Key="a")["Body"].read() == b"x"


def test_in_an_outage_nobody_gets_through_and_then_everybody(proxy: FaultProxy, bucket: str) -> None:
    s3 = client_of(proxy)
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    with proxy.outage() as outage:
        for _ in range(3):
            with pytest.raises(BotoCoreError):
                s3.head_object(Bucket=bucket, Key="a")
    assert outage.hits >= 3
    assert s3.head_object(Bucket=bucket, Key="a")["ContentLength"] == 1


def test_an_outage_breaks_requests_that_are_under_way(proxy: FaultProxy, bucket: str) -> None:
    rule = proxy.hold()
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(client_of(proxy).put_object, Bucket=bucket, Key="a", Body=b"x")
        rule.wait_for_hits()
        with proxy.outage(), pytest.raises(BotoCoreError):
            put.result(timeout=30)
    proxy.clear()


def test_an_error_inside_a_200_comes_with_or_without_the_deed(proxy: FaultProxy, bucket: str) -> None:
    s3 = client_of(proxy)
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    source = {"Bucket": bucket, "Key": "a"}
    for key, forward in {"not-done": False, "done": True}.items():
        with proxy.error_inside(operation="COPY", forward=forward), pytest.raises(ClientError, match="InternalError"):
            s3.copy_object(Bucket=bucket, Key=key, CopySource=source)  # type: ignore[arg-type]  # a plain dict is taken
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a", "done"]


def test_a_corrupt_body_differs_in_its_first_byte(proxy: FaultProxy, bucket: str) -> None:
    s3 = client_of(proxy)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    with proxy.corrupt(operation="UPLOAD_PART", times=1):
        etag = s3.upload_part(Bucket=bucket, Key="a", UploadId=upload, PartNumber=1, Body=b"abc")["ETag"]
    s3.complete_multipart_upload(
        Bucket=bucket, Key="a", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
    )
    body = s3.get_object(Bucket=bucket, Key="a")["Body"].read()
    assert body == bytes([ord("a") ^ 0xFF]) + b"bc"


def test_latency_delays_and_bandwidth_limits_change_no_bytes(proxy: FaultProxy, bucket: str) -> None:
    s3 = client_of(proxy)
    proxy.limit_bandwidth(total=40e6, per_connection=20e6)
    with proxy.latency(0.05) as latency:
        s3.put_object(Bucket=bucket, Key="a", Body=BIG)
        assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == BIG
    assert latency.hits == 2


def test_hundreds_of_connections_at_once_are_served(proxy: FaultProxy, bucket: str) -> None:
    s3 = client_of(proxy)
    rule = proxy.hold(operation="HEAD")
    with ThreadPoolExecutor(200) as pool:
        heads = [pool.submit(s3.head_bucket, Bucket=bucket) for _ in range(200)]
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
        rule.off()
        answers = [head.result()["ResponseMetadata"]["HTTPStatusCode"] for head in heads]
    assert answers == [200] * 200
    assert proxy.counts["BUCKET"] == 200


def test_what_is_not_http_is_cut_off_and_harms_nobody(proxy: FaultProxy, bucket: str) -> None:
    port = int(proxy.endpoint.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"\x16\x03\x01 no http\r\n\r\n")
        stranger.settimeout(10)
        with suppress(ConnectionResetError):  # an orderly end would do as well
            assert stranger.recv(100) == b""
    client_of(proxy).head_bucket(Bucket=bucket)


def test_a_store_that_is_down_looks_down(bucket: str) -> None:
    with MotoServer() as server, FaultProxy(server.endpoint) as proxy:
        server.stop()
        with pytest.raises(BotoCoreError):
            client_of(proxy).head_bucket(Bucket=bucket)


def test_waiting_for_what_never_comes_ends_with_an_error(proxy: FaultProxy) -> None:
    rule = proxy.reset()
    with pytest.raises(WaitTimedOut, match="0 of 1"):
        rule.wait_for_hits(timeout=0.01)
    with pytest.raises(WaitTimedOut):
        proxy.wait_for(lambda: False, timeout=0.01)


def test_a_misspelt_fault_is_an_error(proxy: FaultProxy) -> None:
    with pytest.raises(TypeError, match="operations"):
        proxy.reset(operations="PUT_OBJECT")
    with pytest.raises(ValueError, match="PUTS"):
        proxy.reset(operation="PUTS")


def test_a_proxy_starts_when_its_endpoint_is_asked_for(server: MotoServer, bucket: str) -> None:
    proxy = FaultProxy(server.endpoint)
    try:
        client_of(proxy).head_bucket(Bucket=bucket)
    finally:
        proxy.stop()


def test_a_stopped_proxy_leaves_no_thread(server: MotoServer) -> None:
    with FaultProxy(server.endpoint) as proxy:
        proxy.hold()
        connection = socket.create_connection(("127.0.0.1", int(proxy.endpoint.rpartition(":")[2])))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        proxy.wait_for(lambda: proxy.counts["BUCKET"] == 1)
    connection.close()
    assert "rayfs-faultproxy" not in [thread.name for thread in threading.enumerate()]
