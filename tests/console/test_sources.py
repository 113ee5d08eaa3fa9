"""One suite for every source of snapshots: what the CLI and the console may rely on, whichever source stands behind.

It runs on the simulated, the recorded and the live source. A field that only the simulated cluster fills fails.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rayfs.admin import live
from rayfs.admin.fake import MOMENTS, FakeSource
from rayfs.admin.replay import Recorder, ReplaySource
from rayfs.admin.source import AdminSource, decode, encode, identity
from rayfs.admin.verdict import STATES
from rayfs.core.snapshot import LIST_LIMIT, ClusterSnapshot
from rayfs.errors import ClusterUnreachable, InvalidArgument


@pytest.fixture
def fake() -> FakeSource:
    return FakeSource(7).advance(80)


@pytest.fixture
def replay(tmp_path) -> Iterator[ReplaySource]:
    recorder = Recorder(tmp_path / "recording.jsonl")
    source = FakeSource(7).advance(80)
    for _ in range(20):
        recorder.record(source.snapshot())
    recorder.close()
    replayed = ReplaySource(tmp_path / "recording.jsonl")
    yield replayed
    replayed.close()


@pytest.fixture(params=["fake", "replay"])
def source(request: pytest.FixtureRequest) -> AdminSource:
    return request.getfixturevalue(request.param)


def check_snapshot(snapshot: ClusterSnapshot) -> None:
    """What every snapshot keeps, from whatever source."""
    assert decode(encode(snapshot)) == snapshot
    totals = snapshot.totals
    assert totals.state in STATES
    assert bool(totals.reasons) or totals.state in ("safe", "persisting")
    assert snapshot.version
    assert snapshot.cluster_id
    assert "://" in snapshot.under_store
    assert snapshot.started_at <= snapshot.taken_at
    _check_nodes(snapshot)
    _check_persists(snapshot)
    numbers = [event.number for event in snapshot.events]
    assert sorted(numbers) == list(range(min(numbers, default=0), min(numbers, default=0) + len(numbers)))
    assert all(event.level in ("info", "warning", "error") and event.message for event in snapshot.events)
    assert len(snapshot.lost) == min(totals.lost_files, LIST_LIMIT)
    off_target = totals.under_replicated_blocks + totals.over_replicated_blocks
    assert bool(snapshot.replication) == bool(off_target)
    if len(snapshot.replication) < LIST_LIMIT:
        assert sum(row.blocks for row in snapshot.replication) == off_target


def _check_nodes(snapshot: ClusterSnapshot) -> None:
    totals = snapshot.totals
    states = [node.state for node in snapshot.nodes]
    assert set(states) <= {"live", "suspect", "draining", "lost"}
    assert totals.nodes.live + totals.nodes.lost == len(states)
    assert totals.nodes.live == sum(state in ("live", "draining") for state in states)
    working = [node for node in snapshot.nodes if node.state in ("live", "draining")]
    assert totals.capacity_bytes == sum(node.capacity_bytes for node in working)
    assert totals.used_bytes == sum(node.used_bytes for node in working)
    assert sum(node.is_head for node in snapshot.nodes) <= 1
    for node in snapshot.nodes:
        assert len(node.node_id) == 56
        assert node.persister in ("up", "down")
        assert node.heartbeat_age_s >= 0
        assert node.dirty_bytes == 0 or node.blocks > 0


def _check_persists(snapshot: ClusterSnapshot) -> None:
    totals = snapshot.totals
    assert (totals.dirty_files == 0) == (totals.oldest_dirty_s is None)
    assert totals.time_to_safe_s != 0 or totals.dirty_bytes == 0
    for row in snapshot.persists:
        assert row.kind in ("upload", "copy", "delete")
        assert row.state in ("waiting", "running", "failed")
        assert row.state != "failed" or row.last_error
        assert row.parts_done <= row.parts_total
    if len(snapshot.persists) < LIST_LIMIT:
        assert totals.pending_persists == sum(row.kind == "upload" for row in snapshot.persists)
        assert totals.pending_changes == sum(row.kind != "upload" for row in snapshot.persists)
        assert totals.failed_persists >= sum(
            row.state == "failed" and row.kind != "delete" for row in snapshot.persists
        )


def filled_fields(snapshots: list[ClusterSnapshot]) -> set[str]:
    """The fields, as dotted names, that differ from their defaults, or from nothing, in any of ``snapshots``."""
    filled: set[str] = set()

    def look(name: str, value: object) -> None:
        if dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                look(f"{name}.{field.name}", getattr(value, field.name))
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            for row in value:
                look(name, row)
        elif value not in (None, 0, "", (), {}, False):
            filled.add(name)

    for snapshot in snapshots:
        look("snapshot", snapshot)
    return filled


def every_field() -> set[str]:
    """All fields of a snapshot as dotted names."""
    found: set[str] = set()

    def look(name: str, type_: object) -> None:
        for inner in (type_, *getattr(type_, "__args__", ())):
            if dataclasses.is_dataclass(inner):
                for field, field_type in typing.get_type_hints(inner).items():
                    look(f"{name}.{field}", field_type)
                return
        found.add(name)

    look("snapshot", ClusterSnapshot)
    return found


def test_every_snapshot_is_whole_and_its_totals_agree_with_its_lists(source):
    for _ in range(20):
        check_snapshot(source.snapshot())


def test_a_source_says_what_it_is(source):
    assert source.name in ("fake", "replay")
    assert source.description


@pytest.mark.parametrize("seed", [1, 2, 3, 7])
def test_the_simulated_cluster_is_sane_through_two_cycles_of_its_script(seed):
    fake = FakeSource(seed)
    for _ in range(360):
        check_snapshot(fake.snapshot())


def test_the_simulated_cluster_is_the_same_for_the_same_seed():
    one, two, other = FakeSource(5), FakeSource(5), FakeSource(6)
    assert [one.snapshot() for _ in range(100)] == [two.snapshot() for _ in range(100)]
    assert one.snapshot() != other.advance(100).snapshot()


def test_the_simulated_cluster_fills_every_field_and_moves():
    fake = FakeSource(7)
    snapshots = [fake.snapshot() for _ in range(180)]
    assert every_field() - filled_fields(snapshots) == set()
    assert {snapshot.totals.state for snapshot in snapshots} == set(STATES) - {"down"}


@pytest.mark.parametrize(
    ("moment", "states"),
    [
        ("writing", {"persisting"}),
        ("repairing", {"at-risk", "degraded"}),
        ("throttled", {"degraded"}),
        ("lost", {"lost"}),
        ("safe", {"safe"}),
    ],
)
def test_the_named_moments_show_what_they_are_called(moment, states):
    assert FakeSource(7).advance(MOMENTS[moment] - 1).snapshot().totals.state in states


def test_a_thousand_nodes_keep_the_lists_bounded():
    snapshot = FakeSource(7, nodes=1000).advance(30).snapshot()
    assert max(map(len, (snapshot.nodes, snapshot.persists, snapshot.replication, snapshot.events))) <= LIST_LIMIT


def test_a_recording_plays_back_the_same_pictures_in_order_and_stays_on_the_last(tmp_path):
    fake, recorder = FakeSource(7), Recorder(tmp_path / "r")
    taken = [fake.snapshot() for _ in range(5)]
    for snapshot in taken:
        recorder.record(snapshot)
        recorder.record(snapshot)
    recorder.close()
    replay = ReplaySource(tmp_path / "r")
    assert [replay.snapshot() for _ in range(7)] == [*taken, taken[-1], taken[-1]]
    replay.close()
    again = ReplaySource(tmp_path / "r", repeat=True)
    assert [again.snapshot() for _ in range(7)] == [*taken, *taken[:2]]
    again.close()


def test_a_recording_stays_within_its_bound_and_keeps_the_newest(tmp_path):
    fake, path = FakeSource(7).advance(60), tmp_path / "r"
    one = len(encode(fake.snapshot())) + 1
    recorder = Recorder(path, limit_bytes=6 * one)
    for _ in range(40):
        recorder.record(last := fake.snapshot())
        assert path.stat().st_size <= 6 * one
    recorder.close()
    kept = [decode(line) for line in path.read_bytes().splitlines()]
    assert kept[-1] == last
    assert [identity(snapshot)[1] for snapshot in kept] == [last.taken_at - back for back in range(len(kept))][::-1]
    assert len(kept) > 1


def test_a_recording_that_was_cut_off_plays_up_to_its_last_whole_line(tmp_path):
    snapshot = FakeSource(7).snapshot()
    (tmp_path / "r").write_bytes(encode(snapshot) + b"\n" + encode(snapshot)[:100])
    replay = ReplaySource(tmp_path / "r")
    assert [replay.snapshot(), replay.snapshot()] == [snapshot, snapshot]
    replay.close()


def test_an_empty_recording_and_a_missing_one_are_said(tmp_path):
    (tmp_path / "empty").touch()
    replay = ReplaySource(tmp_path / "empty")
    with pytest.raises(ClusterUnreachable, match="no snapshot in the recording empty"):
        replay.snapshot()
    replay.close()
    with pytest.raises(InvalidArgument, match="cannot be read"):
        ReplaySource(tmp_path / "missing")


def test_what_is_no_snapshot_is_refused_with_advice():
    for raw in (b"", b"{}", b"[1]", b'{"taken_at": "soon"}', b"\xff\x00"):
        with pytest.raises(ClusterUnreachable, match="use the rayfs version that the cluster runs"):
            decode(raw)


def test_fields_of_a_newer_master_are_ignored():
    snapshot = FakeSource(7).snapshot()
    assert decode(b'{"from_the_future": 1, ' + encode(snapshot)[1:]) == snapshot


@pytest.mark.cluster
def test_the_live_source_keeps_what_every_source_keeps_and_is_no_driver(cluster, directory):
    cluster.fs.pipe_file(f"{directory}/a", b"a" * 100_000)
    source = live.LiveSource(cluster.address)
    _until(lambda: source.snapshot().totals.nodes.live == 4)
    code = (
        "import sys, ray; from rayfs.admin.live import LiveSource; from rayfs.admin.source import encode;"
        "source = LiveSource(sys.argv[1]); raw = encode(source.snapshot());"
        "assert not ray.is_initialized(); sys.stdout.buffer.write(raw)"
    )
    done = subprocess.run([sys.executable, "-c", code, cluster.address], capture_output=True, check=True, timeout=60)
    snapshot = decode(done.stdout)
    check_snapshot(snapshot)
    assert {node.node_id for node in snapshot.nodes} >= {cluster.node_id(index) for index in cluster.nodes}


@pytest.mark.cluster
def test_the_live_source_gets_newer_pictures_and_calls_a_silent_master_down(cluster, monkeypatch):
    monkeypatch.setattr(live, "STALE_AFTER_S", 3.0)
    source = live.LiveSource(cluster.address)
    first = source.snapshot()
    _until(lambda: identity(source.snapshot()) != identity(first))
    cluster.pause_master()
    _until(lambda: source.snapshot().totals.state == "down")
    assert "has published nothing for" in source.snapshot().totals.reasons[0]
    assert live.LiveSource(cluster.address).snapshot().totals.state == "down"
    cluster.resume_master()
    _until(lambda: source.snapshot().totals.state != "down")


def test_the_live_source_without_a_cluster_says_so_at_once():
    began = time.monotonic()
    with pytest.raises(ClusterUnreachable, match=r"Nothing answers at 127\.0\.0\.1:1"):
        live.LiveSource("127.0.0.1:1").snapshot()
    assert time.monotonic() - began < 10, "Ray's own client would have tried for 40 s"


def test_the_live_source_with_token_mode_and_no_token_says_so_instead_of_aborting(tmp_path):
    code = (
        "import sys, rayfs.admin.live as live; live._probe = lambda address: None\n"
        "try: live.LiveSource('127.0.0.1:1').snapshot()\n"
        "except live.ClusterUnreachable as error: print(error.message)"
    )
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert "there is no token; set RAY_AUTH_TOKEN" in done.stdout


def _until(condition: Callable[[], bool]) -> None:
    """The master publishes into a key-value store that cannot be waited on."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not within a minute"
        time.sleep(0.1)


NOT_FILLED_HERE = {
    "snapshot.totals.nodes.draining",  # drained nodes come with the drain verb
    "snapshot.totals.over_replicated_blocks",  # trimmed faster than a picture is taken, unless by luck
}
"""Fields that the story below does not fill; one of them that it may fill by luck is no failure."""


@pytest.mark.cluster
def test_a_live_cluster_fills_every_field_that_the_simulated_one_fills(cluster, proxy, directory, tmp_path):
    mib, fs = 1 << 20, cluster.fs
    with _watching(cluster.address, tmp_path / "recording.jsonl") as taken:
        _write(fs, f"{directory}/cache-only", b"c" * mib, write_type="MUST_CACHE")
        _write(fs, f"{directory}/old", b"o" * mib)
        fs.persist(f"{directory}/old")
        refused = proxy.slow_down()
        fs.rm(f"{directory}/old")
        _write(fs, f"{directory}/one-copy", b"1" * mib, replication_durable=1)
        _write(fs, f"{directory}/big", b"b" * (80 * mib), replication_durable=2)
        _until(lambda: taken[-1].totals.failed_persists >= 2 and taken[-1].totals.pending_changes >= 1)
        others = [index for index in cluster.nodes if index != 0]
        for index in others:
            cluster.pause_worker(index)
        _until(lambda: any(row.live for row in taken[-1].replication))
        for index in others:
            cluster.resume_worker(index)
        _until(lambda: taken[-1].totals.nodes.live == 4 and not taken[-1].replication)
        holder = max(cluster.replicas(f"{directory}/one-copy")[_only_block(fs, f"{directory}/one-copy")])
        cluster.kill_worker(holder)
        _until(lambda: bool(taken[-1].lost))
        _until(lambda: taken[-1].totals.nodes.live == 4 and all(row.live == 0 for row in taken[-1].replication))
        slow = proxy.latency(5, operation="UPLOAD_PART", times=1)
        refused.off()
        _until(lambda: any(row.parts_done for row in taken[-1].persists))
        slow.off()
    for snapshot in taken:
        check_snapshot(snapshot)
    only_fake = every_field() - filled_fields(taken)
    assert only_fake <= NOT_FILLED_HERE, sorted(only_fake - NOT_FILLED_HERE)


def _write(fs: typing.Any, path: str, body: bytes, **options: typing.Any) -> None:
    with fs.open(path, "wb", block_size=4 << 20, **options) as file:
        file.write(body)


def _only_block(fs: typing.Any, path: str) -> str:
    (block,) = fs.status(path).blocks
    return block.id


@contextlib.contextmanager
def _watching(address: str, recording: Path) -> Iterator[list[ClusterSnapshot]]:
    """Every picture that the master publishes meanwhile, also kept as a recording."""
    source, recorder, stop = live.LiveSource(address), Recorder(recording), threading.Event()
    taken = [source.snapshot()]

    def watch() -> None:
        while not stop.wait(0.2):
            newest = source.snapshot()
            if identity(newest) != identity(taken[-1]):
                taken.append(newest)
                recorder.record(newest)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield taken
    finally:
        stop.set()
        watcher.join()
        recorder.close()
