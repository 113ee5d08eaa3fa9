"""Opening files for writing: what is refused, how the file is to be written, and which workers take its blocks.

A file that is being written is an ``OpenFile`` that nobody else sees. Where N nodes cannot be had the shortfall policy
decides here: written through, or refused. Invariant: what is refused leaves nothing behind.
"""

from __future__ import annotations

from dataclasses import replace

from rayfs.core import paths
from rayfs.core.effects import WorkersNeeded
from rayfs.core.lifecycle import FileState
from rayfs.core.model import Shortfall, WorkerAddress, WriteOptions, WriteType
from rayfs.core.operations import AllocateBlocks, BlockTargets, ClientProperties, CreateFile, OpenedFile, WriteFiles
from rayfs.core.options import merged, write_options
from rayfs.core.placement import choose
from rayfs.core.records import FileBody, OpenFile
from rayfs.core.state import State
from rayfs.errors import DataUnavailable, FileExists, InvalidArgument, LeaseLost, NoSpace, ReplicationShortfall

MAX_BLOCKS = 1 << 20
"""Blocks of one file; with blocks of 64 MiB that is 64 TiB."""

NO_WORKERS = (
    "no worker is alive, so there is nowhere to keep the bytes; `rayfs status` shows the nodes, `rayfs start` starts "
    "workers"
)


class Opening:
    """Makes open files and hands out targets."""

    def __init__(self, state: State) -> None:
        self.state = state

    def prepare(self, path: str, overwrite: bool, request: CreateFile | WriteFiles) -> tuple[str, WriteOptions]:
        """The normal path and its options; raises what forbids a file there."""
        path = paths.normalize(path)
        paths.check_storable(path, self.state.limits.prefix_bytes)
        self.state.namespace.check_parents(path)
        if self.state.counters.files + len(self.state.open_files) >= self.state.limits.files_max:
            raise NoSpace(
                f"the namespace holds {self.state.limits.files_max} files, its bound: remove some, or start the "
                "cluster with a larger rayfs.master.files.max",
                path,
            )
        if not overwrite and self.state.namespace.find(path) is not None:
            raise FileExists(f"{path} exists already; remove it, or write with overwrite (-f at the shell)", path)
        return path, write_options(merged(request.properties, self.state.path_properties, path))

    def need_workers(self, path: str, properties: ClientProperties, now: float) -> None:
        """Raise ``WorkersNeeded`` while known workers may still register and those that have are too few."""
        if not self.state.in_grace(now):
            return
        options = write_options(merged(properties, self.state.path_properties, paths.normalize(path)))
        if len(self.state.rooms()) < max(1, options.replicas_at_close):
            raise WorkersNeeded

    def targets(self, path: str, options: WriteOptions, size: int, writer: str) -> tuple[WriteOptions, list[str]]:
        """Nodes for a block of a new file, and the options that then hold (a shortfall may make it written through)."""
        rooms = self.state.rooms()
        if not rooms:
            raise DataUnavailable(NO_WORKERS, path)
        wanted = max(1, options.replicas_at_close)
        nodes = choose(rooms, wanted, size=size, rng=self.state.rng, first=writer)
        if len(nodes) < wanted and len(rooms) < wanted:
            options = self.shortfall(path, options, len(rooms))
            nodes = choose(rooms, 1, size=size, rng=self.state.rng, first=writer)
        if len(nodes) < wanted and options.write_type is not WriteType.THROUGH:
            # The figures of a second ago say that the stores are full: the workers have the last word.
            nodes = choose(rooms, wanted, size=None, rng=self.state.rng, first=writer)
        return options, nodes

    def shortfall(self, path: str, options: WriteOptions, have: int) -> WriteOptions:
        """Options for fewer nodes than asked for: written through, or ``ReplicationShortfall`` where the policy is
        FAIL.
        """
        need = options.replicas_at_close
        if options.write_type is WriteType.MUST_CACHE or options.shortfall is Shortfall.FAIL:
            raise ReplicationShortfall(
                f"{path} is to have {need} replicas and only {have} nodes can take one: add nodes, lower "
                "rayfs.user.file.replication.durable, or set rayfs.user.file.replication.shortfall=WRITE_THROUGH",
                path,
            )
        return replace(options, write_type=WriteType.THROUGH)

    def create(self, request: CreateFile, now: float) -> OpenedFile:
        """Make a file that nobody else sees yet, durably, so that a restart of the master does not stop its writer."""
        self.need_workers(request.path, request.properties, now)
        path, options = self.prepare(request.path, request.overwrite, request)
        options, nodes = self.targets(path, options, options.block_size, request.writer_node)
        file_id = self.state.new_id()
        body = FileBody(FileState.OPEN, options, overwrite=request.overwrite)
        ahead = max(1, min(request.blocks_ahead, 16))
        self.state.open_files[file_id] = OpenFile(file_id, path, body, request.writer_node, now, now, allocated=ahead)
        self.state.body_changed(file_id)
        more = [self._more(options, request.writer_node) for _ in range(1, ahead)]
        targets = [self.promise(chosen, options.block_size) for chosen in (nodes, *more)]
        return OpenedFile(file_id, options.block_size, options.write_type, tuple(targets))

    def _more(
        self, options: WriteOptions, writer: str, avoid: frozenset[str] = frozenset(), less: int = 0
    ) -> list[str]:
        wanted = max(1, options.replicas_at_close) - less
        rooms = self.state.rooms()
        nodes = choose(rooms, wanted, size=options.block_size, rng=self.state.rng, first=writer, avoid=avoid)
        return (
            nodes
            if len(nodes) == wanted
            else choose(rooms, wanted, size=None, rng=self.state.rng, first=writer, avoid=avoid)
        )

    def promise(self, nodes: list[str], size: int) -> tuple[WorkerAddress, ...]:
        """The workers of those nodes, with the bytes counted against their room until the next heartbeat."""
        for node in nodes:
            self.state.nodes[node].promised += size
        return self.state.addresses(nodes)

    def allocate(self, request: AllocateBlocks, now: float) -> BlockTargets:
        """Targets for more blocks, or the ones still missing for a block whose workers failed."""
        opened = self.opened(request.file_id, now)
        if self.state.in_grace(now) and not self.state.rooms():
            raise WorkersNeeded
        if not 0 < request.count <= 64 or not 0 <= request.first_index <= MAX_BLOCKS - request.count:
            raise InvalidArgument(
                f"blocks {request.first_index}+{request.count} cannot be: a file has at most {MAX_BLOCKS}"
            )
        opened.allocated = max(opened.allocated, request.first_index + request.count)
        incarnations = {n.worker.incarnation: n.node_id for n in self.state.nodes.values() if n.worker is not None}
        avoid = frozenset(incarnations[i] for i in (*request.avoid, *request.keep) if i in incarnations)
        options = opened.body.options
        targets = [
            self.promise(
                self._more(options, request.writer_node, avoid, len(request.keep) if request.count == 1 else 0),
                options.block_size,
            )
            for _ in range(request.count)
        ]
        return BlockTargets(tuple(targets))

    def opened(self, file_id: int, now: float) -> OpenFile:
        """The open file, heard of now; ``LeaseLost`` where there is none."""
        opened = self.state.open_files.get(file_id)
        if opened is None or opened.body.state is FileState.GONE:
            raise LeaseLost(
                f"file {file_id:x} is not open any more: its lease ended or it was abandoned; write it again"
            )
        opened.heard = now
        return opened

    def renew(self, file_id: int, now: float) -> None:
        """The writer is alive."""
        self.opened(file_id, now)
