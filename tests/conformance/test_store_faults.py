"""What goes wrong between RayFS and S3, and the word for it: refused, throttled, or not known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from rayfs.core.checksum import crc64
from rayfs.core.orders import Condition
from rayfs.errors import UnderStoreError, UnderStoreUnavailable
from rayfs.testing.conformance import Place
from rayfs.testing.faultproxy import FaultProxy
from rayfs.testing.faults import Rule
from rayfs.understore.base import PreconditionFailed, Throttled, UnderStore

pytestmark = pytest.mark.conformance

BODY = b"x" * 1000
BIG = b"y" * (2 << 20)


@pytest.fixture
def proxy(s3: Place) -> Iterator[FaultProxy]:
    assert s3.server is not None
    with FaultProxy(s3.server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(s3: Place, proxy: FaultProxy) -> UnderStore:
    """The store as RayFS sees it, behind the proxy."""
    return s3.again({"rayfs.underfs.s3.endpoint": proxy.endpoint})


def put(store: UnderStore, key: str = "a", body: bytes = BODY, condition: Condition | None = None) -> None:
    store.put(key, [body], length=len(body), crc=crc64(body), file_id=1, condition=condition)


UNANSWERED: dict[str, Callable[[FaultProxy], Rule]] = {
    "reset": lambda proxy: proxy.reset(),
    "lost answer": lambda proxy: proxy.lose_answer(),
    "cut answer": lambda proxy: proxy.cut_answer(),
    "late delivery": lambda proxy: proxy.deliver_late(),
    "outage": lambda proxy: proxy.outage(),
    "500": lambda proxy: proxy.answer(500, "InternalError"),
    "502": lambda proxy: proxy.answer(502, "BadGateway"),
    "503 of a gateway": lambda proxy: proxy.answer(503, "ServiceUnavailable"),
    "504": lambda proxy: proxy.answer(504, "GatewayTimeout"),
    "request timed out": lambda proxy: proxy.answer(400, "RequestTimeout"),
}


@pytest.mark.scenario("P11")
@pytest.mark.parametrize("body", [BODY, BIG], ids=["small", "big"])
@pytest.mark.parametrize("fault", UNANSWERED)
def test_no_whole_answer_to_a_put_is_not_taken_for_a_refusal(
    store: UnderStore, proxy: FaultProxy, fault: str, body: bytes
) -> None:
    with UNANSWERED[fault](proxy), pytest.raises(UnderStoreUnavailable) as caught:
        put(store, body=body)
    assert caught.value.retryable
    assert proxy.endpoint in str(caught.value)
    put(store, body=body)  # the same store object goes on when the fault is over


@pytest.mark.parametrize("fault", ["reset", "cut answer", "outage", "500"])
def test_no_whole_answer_to_a_read_is_reported_and_the_next_read_works(
    store: UnderStore, proxy: FaultProxy, fault: str
) -> None:
    put(store, body=BIG)
    with UNANSWERED[fault](proxy), pytest.raises(UnderStoreUnavailable):
        store.read("a", offset=0, length=len(BIG), etag=None)
    assert store.read("a", offset=0, length=len(BIG), etag=None) == BIG


def test_an_answer_without_what_it_must_have_is_not_taken_for_whole(store: UnderStore, proxy: FaultProxy) -> None:
    with proxy.answer(200, "OK", operation="HEAD"), pytest.raises(UnderStoreUnavailable):
        store.head("a")


@pytest.mark.parametrize("fault", ["reset", "lost answer", "outage", "500"])
def test_no_answer_to_any_request_is_reported(store: UnderStore, proxy: FaultProxy, fault: str) -> None:
    put(store)
    requests: list[Callable[[], object]] = [
        lambda: store.head("a"),
        lambda: store.list(""),
        lambda: store.delete("a", None),
        lambda: store.begin_upload("a", file_id=1),
        lambda: store.uploads("a"),
        lambda: store.copy("a", "0", "b", file_id=1, condition=None),
        store.check,
    ]
    for request in requests:
        with UNANSWERED[fault](proxy), pytest.raises(UnderStoreUnavailable):
            request()


@pytest.mark.scenario("P11")
@pytest.mark.parametrize("body", [BODY, BIG], ids=["small", "big"])
@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (429, "TooManyRequests"), (400, "RequestLimitExceeded")]
)
def test_a_store_that_asks_for_a_slower_pace_changed_nothing(
    store: UnderStore, proxy: FaultProxy, s3: Place, status: int, code: str, body: bytes
) -> None:
    with proxy.answer(status, code), pytest.raises(Throttled, match="slow down"):
        put(store, body=body)
    assert s3.store.head("a") is None


@pytest.mark.parametrize(("status", "code"), [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")])
def test_a_condition_that_the_store_finds_broken_is_told_apart(
    store: UnderStore, proxy: FaultProxy, status: int, code: str
) -> None:
    with proxy.answer(status, code, operation="PUT_OBJECT"), pytest.raises(PreconditionFailed):
        put(store, condition=Condition(None))


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "AccessDenied", "AWS_ACCESS_KEY_ID"),
        (403, "RequestTimeTooSkewed", "clock"),
        (301, "PermanentRedirect", "region"),
        (400, "AuthorizationHeaderMalformed", "region"),
        (404, "NoSuchBucket", "create it"),
        (400, "BadDigest", "checksum"),
        (501, "NotImplemented", "documentation"),
    ],
)
def test_a_refusal_says_what_to_do(store: UnderStore, proxy: FaultProxy, status: int, code: str, advice: str) -> None:
    with proxy.answer(status, code, operation="PUT_OBJECT"), pytest.raises(UnderStoreError, match=advice) as caught:
        put(store)
    assert not isinstance(caught.value, UnderStoreUnavailable | Throttled | PreconditionFailed)


@pytest.mark.scenario("P11")
@pytest.mark.parametrize("done", [False, True], ids=["not done", "done all the same"])
def test_an_error_inside_a_200_is_no_success(store: UnderStore, proxy: FaultProxy, s3: Place, done: bool) -> None:
    upload_id = s3.store.begin_upload("a", file_id=1)
    parts, length, crc = s3.send_parts("a", upload_id, [BODY])
    with proxy.error_inside(operation="COMPLETE", forward=done), pytest.raises(UnderStoreUnavailable):
        store.finish_upload("a", upload_id, parts, length=length, crc=crc, condition=None)
    assert (s3.store.head("a") is not None) is done
    s3.store.abort_upload("a", upload_id)


@pytest.mark.scenario("P11")
def test_an_upload_whose_answer_was_lost_is_found_whole_at_its_key(
    store: UnderStore, proxy: FaultProxy, s3: Place
) -> None:
    upload_id = s3.store.begin_upload("a", file_id=42)
    parts, length, crc = s3.send_parts("a", upload_id, [BODY])
    with proxy.lose_answer(operation="COMPLETE"), pytest.raises(UnderStoreUnavailable):
        store.finish_upload("a", upload_id, parts, length=length, crc=crc, condition=Condition(None))
    s3.store.abort_upload("a", upload_id)
    found = s3.store.head("a")
    assert found is not None
    assert (found.length, found.crc, found.file_id) == (length, crc, 42)


@pytest.mark.parametrize("body", [BODY, BIG], ids=["small", "big"])
def test_a_put_that_was_given_up_can_land_late(store: UnderStore, proxy: FaultProxy, s3: Place, body: bytes) -> None:
    with proxy.deliver_late(operation="PUT_OBJECT"), pytest.raises(UnderStoreUnavailable):
        put(store, body=body)
    assert s3.store.head("a") is None
    assert [late.store_status for late in proxy.deliver()] == [200]
    assert s3.read("a") == body


def test_a_late_put_does_not_land_over_a_newer_object(store: UnderStore, proxy: FaultProxy, s3: Place) -> None:
    with proxy.deliver_late(operation="PUT_OBJECT"), pytest.raises(UnderStoreUnavailable):
        put(store, condition=Condition(None))
    s3.put("a", b"newer")
    assert [late.store_status for late in proxy.deliver()] == [412]
    assert s3.read("a") == b"newer"


def test_the_store_never_repeats_a_request_by_itself(store: UnderStore, proxy: FaultProxy) -> None:
    for fault in UNANSWERED.values():
        proxy.forget()
        with fault(proxy) as rule, pytest.raises(UnderStoreUnavailable):
            put(store)
        assert rule.hits == 1


def test_requests_wait_while_the_store_is_held_shut(store: UnderStore, proxy: FaultProxy, s3: Place) -> None:
    rule = proxy.hold(operation="PUT_OBJECT")
    writer = threading.Thread(target=put, args=(store, "a", BIG))
    writer.start()
    rule.wait_for_hits()
    assert s3.store.head("a") is None
    proxy.release()
    writer.join(timeout=30)
    assert s3.read("a") == BIG
