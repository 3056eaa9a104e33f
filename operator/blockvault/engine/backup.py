"""One backup: begin an attempt, scan, upload what changed, write a root, commit."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from blockvault.engine import root as roots
from blockvault.engine import runtime, summary
from blockvault.engine.changes import ChangedList, block_ranges, split
from blockvault.engine.commits import Commits
from blockvault.engine.devices import Source
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import AttemptFenced, BadRequest, EngineError, ParentNotFound, VolumeDeleted
from blockvault.engine.filesystems import PROBE_SIZE, detect
from blockvault.engine.hashing import SIZE, LineageKey
from blockvault.engine.names import LineagePaths, NameSource, ObjectName
from blockvault.engine.packs import Item, PackWriter, Uploads, page_writer, segment_writer
from blockvault.engine.pages import BLOCK, BLOCK_SIZE, FANOUT, NO_REFERENCE, Leaf, blocks_in, levels_for
from blockvault.engine.progress import COMMITTING, BackupResult, Progress, Report, quiet
from blockvault.engine.root import MAX_META, Root, Roots
from blockvault.engine.scan import BATCH_BLOCKS, BATCH_SIZE, Batch, Found, Scanner
from blockvault.engine.state import ACTIVE, ATTEMPTS, Attempt, Outcome, RootEntry, State
from blockvault.engine.summary import MAX_DEPTH, Changes
from blockvault.engine.tree import TreeReader, TreeWriter
from blockvault.stores import ObjectStore, StoreError

LATEST = "latest"

FULL = "Full"
COMPARE = "Compare"
LIST = "List"


@dataclass
class BackupRequest:
    """What to back up, and how.

    `source`: path of a device or file. `operation_id`: at most one backup is ever made for it; asked again,
    the same result comes back. `parent`: a backup id or `latest`; ignored when `full`. `changed`: all ranges
    that may differ from the parent. `meta`: kept with the backup, at most 64 KiB as JSON.
    """

    source: str
    volume: str
    operation_id: str = field(default_factory=runtime.random_id)
    full: bool = False
    parent: str = LATEST
    changed: ChangedList | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    report: Report = quiet
    threads: int | None = None


class BackupRun:
    """The state of one run. Use once."""

    def __init__(self, store: ObjectStore, state: State, request: BackupRequest) -> None:
        if len(json.dumps(request.meta)) > MAX_META:
            raise BadRequest(f"meta of volume {request.volume} is larger than {MAX_META} bytes")
        self._store = store
        self._request = request
        self._state = state
        self._commits = Commits(store, state.lineage)
        self._paths = LineagePaths(state.lineage)
        self._key = LineageKey(bytes.fromhex(state.key["key"]))
        self._roots = Roots(store, self._paths)
        self._attempt = runtime.random_id()
        self._changes = Changes()
        self._progress = Progress()
        self._started = runtime.monotonic()
        self._requests_before = store.traffic.total_requests

    def run(self) -> BackupResult:
        """Make the backup, or give back the one that this operation made before."""
        done = self._state.root_of(self._request.operation_id)
        if done is not None:
            return result_of(self._state, done)
        source = Source(self._request.source, BATCH_SIZE)
        try:
            return self._run(source)
        finally:
            source.close()

    def _run(self, source: Source) -> BackupResult:
        ranges = None
        if self._request.changed is not None:
            ranges = block_ranges(self._request.changed.ranges, source.size)
        file_system = detect(source.head(PROBE_SIZE))
        # From the first commit on, the lineage's key is the one in the store: ours may have lost the race.
        state = self._commits.update(lambda current: self._begin(current, source.size), self._state)
        done = state.root_of(self._request.operation_id)
        if done is not None:
            return result_of(state, done)
        attempt = state.attempt(self._attempt)
        if attempt is None:
            raise AttemptFenced(f"volume {self._request.volume}: another run took this operation over")
        self._key = LineageKey(bytes.fromhex(state.key["key"]))
        try:
            return self._upload(source, state, attempt, ranges, file_system)
        except StoreError:
            raise  # the store is in trouble: an entry left behind is harmless, more waiting is not
        except EngineError:
            with suppress(StoreError, EngineError):
                self._commits.update(self._give_up, state)
            raise

    def _begin(self, state: State, size: int) -> tuple[State, Outcome] | None:
        """Enter an attempt that pins its parent, in place of any former run of the same operation."""
        self._refuse_deleted(state)
        if state.root_of(self._request.operation_id) is not None:
            return None
        parent = self._choose_parent(state, size)
        state.epoch += 1
        pin = None if parent is None else {"id": parent.id, "revision": parent.revision}
        attempt = Attempt(self._attempt, self._request.operation_id, state.epoch, pin, runtime.now())
        others = [other for other in state.attempts if other.operation != attempt.operation]
        state.attempts = [*others, attempt][-ATTEMPTS:]
        return state, Outcome("", "begin", attempt.id, attempt.operation)

    def _give_up(self, state: State) -> tuple[State, Outcome] | None:
        if state.attempt(self._attempt) is None:
            return None
        state.attempts = [other for other in state.attempts if other.id != self._attempt]
        return state, Outcome("", "give-up", self._attempt, self._request.operation_id)

    def _refuse_deleted(self, state: State) -> None:
        if state.status != ACTIVE:
            raise VolumeDeleted(f"volume {self._request.volume}: its data was deleted")

    def _choose_parent(self, state: State, size: int) -> RootEntry | None:
        """The backup to build on. A smaller volume than the parent's is another volume: it begins anew."""
        if self._request.full:
            return None
        if self._request.parent == LATEST:
            parent = state.roots[-1] if state.roots else None
        else:
            parent = state.root(self._request.parent)
            if parent is None:
                raise ParentNotFound(f"volume {self._request.volume} has no backup {self._request.parent}")
        return None if parent is None or parent.size > size else parent

    def _upload(
        self,
        source: Source,
        state: State,
        attempt: Attempt,
        ranges: list[tuple[int, int]] | None,
        file_system: str | None,
    ) -> BackupResult:
        parent_entry = state.root(attempt.parent["id"]) if attempt.parent else None
        parent = self._roots.read(parent_entry) if parent_entry else None
        blocks = blocks_in(source.size)
        plan, mode = [(0, blocks)], FULL if parent is None else COMPARE
        declared = self._request.changed.parent if self._request.changed else None
        # A list that was made from another backup says nothing about this one.
        if parent and parent_entry and ranges is not None and declared in (None, parent_entry.id):
            mode = LIST
            grown = [(parent.size // BLOCK_SIZE, blocks)] if source.size > parent.size else []
            plan = block_ranges(
                ((a * BLOCK_SIZE, (b - a) * BLOCK_SIZE) for a, b in [*ranges, *grown]),
                blocks * BLOCK_SIZE,
            )
        self._progress.bytes_total = min(source.size, sum(b - a for a, b in plan) * BLOCK_SIZE)
        names = NameSource(attempt.epoch)
        uploads = Uploads(self._store)
        try:
            segments = segment_writer(names, self._paths, uploads)
            pages = page_writer(names, self._paths, uploads)
            top = self._scan(source, parent, plan, segments, pages, uploads)
            segments.flush()
            pages.flush()
            # The barrier: a root is not even written before all that it names has arrived.
            uploads.finish()
        finally:
            uploads.close()
        self._progress.phase = COMMITTING
        self._report(uploads)
        self._changes.set_sizes(segments.sizes)
        self._changes.set_sizes(pages.sizes)
        return self._commit(source, state, parent_entry, parent, top, names, mode, file_system)

    def _scan(
        self,
        source: Source,
        parent: Root | None,
        plan: list[tuple[int, int]],
        segments: PackWriter,
        pages: PackWriter,
        uploads: Uploads,
    ) -> np.void:
        top, levels = (NO_REFERENCE, 0) if parent is None else (parent.top, parent.levels)
        if parent is None:
            levels = levels_for(source.size)
        reader = TreeReader(self._store, self._paths, self._key, top, levels)
        writer = TreeWriter(reader, levels_for(source.size), self._key, pages, self._changes)
        scanner = Scanner(source, self._key, self._request.threads)
        former: dict[int, Leaf | None] = {}
        results = scanner.run(_batches(plan, reader, former))
        for number, members in groupby(results, key=lambda result: result[0].first // FANOUT):
            leaf: Leaf | None = None
            for batch, found in members:
                self._progress.bytes_scanned += (
                    min(batch.end * BLOCK_SIZE, source.size) - batch.first * BLOCK_SIZE
                )
                for block in found:
                    if leaf is None:
                        old = former[number]
                        leaf = Leaf() if old is None else old.copy()
                    self._put(leaf, block, segments)
                self._report(uploads)
            if leaf is not None:
                writer.put_leaf(number, leaf)
            former.pop(number, None)
        return writer.finish()

    def _put(self, leaf: Leaf, block: Found, segments: PackWriter) -> None:
        slot = block.block % FANOUT
        old = leaf.place(slot)
        if old is not None:
            self._changes.add(Kind.SEGMENT, old[0], -old[2])
        self._progress.bytes_changed += BLOCK_SIZE
        if not block.data:
            leaf.clear(slot)
            return
        item = Item(block.block, BLOCK, 0, block.codec, BLOCK_SIZE, block.digest)
        name, offset = segments.add(item, block.data)
        leaf.point(slot, name, offset, len(block.data), block.codec, block.digest)
        self._changes.add(Kind.SEGMENT, name, len(block.data))

    def _report(self, uploads: Uploads) -> None:
        self._progress.bytes_stored = uploads.bytes_sent
        self._request.report(self._progress)

    def _commit(
        self,
        source: Source,
        state: State,
        parent_entry: RootEntry | None,
        parent: Root | None,
        top: np.void,
        names: NameSource,
        mode: str,
        file_system: str | None,
    ) -> BackupResult:
        name, backup_id = names.fresh(), runtime.random_id()
        kind = "full" if parent is None else "incremental"
        content = roots.content_hash(self._key, source.size, top)
        summary_facts, records = self._summary(parent_entry, parent)
        parent_facts = None
        if parent_entry is not None:
            parent_facts = {"id": parent_entry.id, "contentHash": parent_entry.content_hash}
        facts = {
            "id": backup_id,
            "revision": 1,
            "lineage": state.lineage,
            "volume": self._request.volume,
            "operation": self._request.operation_id,
            "createdAt": runtime.now(),
            "type": kind,
            "size": source.size,
            "contentHash": content,
            "parent": parent_facts,
            "changedBlockSource": mode,
            "tree": roots.tree_facts(source.size, top),
            "summary": summary_facts,
            "counts": {"scanned": self._progress.bytes_scanned, "changed": self._progress.bytes_changed},
            "fileSystem": file_system,
            "meta": self._request.meta,
        }  # fmt: skip
        key = self._paths.root(name)
        data = roots.encode(key, name, facts, records)
        self._store.put(key, data)
        stored = self._changes.added_bytes + len(data)
        entry = RootEntry(
            id=backup_id,
            operation=self._request.operation_id,
            object=str(name),
            object_bytes=len(data),
            object_checksum=roots.checksum_of(data),
            content_hash=content,
            size=source.size,
            type=kind,
            parent=None if parent_entry is None else parent_entry.id,
            created_at=str(facts["createdAt"]),
            figures={
                "bytesScanned": self._progress.bytes_scanned,
                "bytesChanged": min(self._progress.bytes_changed, source.size),
                "bytesStored": stored,
                "requests": self._store.traffic.total_requests - self._requests_before,
                "seconds": round(runtime.monotonic() - self._started, 3),
                "changedBlockSource": mode,
                "fileSystem": file_system,
                "peakMemoryBytes": peak_memory(),
            },
            labels=self._request.labels,
        )
        final = self._commits.update(lambda current: self._add(current, entry, stored), state)
        made = final.root_of(self._request.operation_id)
        if made is None:
            raise AttemptFenced(
                f"volume {self._request.volume}: the backup was deleted as soon as it was made"
            )
        self._progress.bytes_stored = stored
        self._request.report(self._progress)
        result = result_of(final, made)
        if made.id == backup_id:
            result.requests = self._store.traffic.total_requests - self._requests_before
            result.seconds = round(runtime.monotonic() - self._started, 3)
        return result

    def _summary(
        self, parent_entry: RootEntry | None, parent: Root | None
    ) -> tuple[dict[str, Any], list[tuple[Kind, ObjectName, int, int]]]:
        """Changes to the parent's summary; whole again when too many changes lie upon each other."""
        if parent_entry is None or parent is None:
            return {"base": None, "depth": 0}, self._changes.records()
        if parent.depth + 1 >= MAX_DEPTH:
            base = self._roots.summary(ObjectName.parse(parent_entry.object))
            return {"base": None, "depth": 0}, summary.whole(self._changes.apply(base))
        below = {"object": parent_entry.object, "bytes": parent_entry.object_bytes}
        return {"base": below, "depth": parent.depth + 1}, self._changes.records()

    def _add(self, state: State, entry: RootEntry, stored: int) -> tuple[State, Outcome] | None:
        """Turn the attempt into a backup, whatever others have committed meanwhile."""
        self._refuse_deleted(state)
        if state.root_of(entry.operation) is not None:
            return None
        if state.attempt(self._attempt) is None:
            raise AttemptFenced(f"volume {self._request.volume}: another run took this operation over")
        state.attempts = [other for other in state.attempts if other.id != self._attempt]
        state.roots.append(entry)
        if entry.parent is None or state.root(entry.parent) is not None:
            state.used_bytes += stored  # what the parent needs is counted already
        else:
            state.used_bytes = self._roots.used_bytes(state.roots)
        return state, Outcome("", "backup", self._attempt, entry.operation, entry.id)


def _batches(
    plan: list[tuple[int, int]], reader: TreeReader, former: dict[int, Leaf | None]
) -> Iterator[Batch]:
    """The plan in batches that stay inside one leaf, with the hashes that the parent has for them."""
    leaves = reader.leaves(_leaf_numbers(plan))
    for number, members in groupby(split(plan, BATCH_BLOCKS), key=lambda piece: piece[0] // FANOUT):
        found, leaf = next(leaves)
        assert found == number
        former[number] = leaf
        hashes = None if leaf is None else leaf.hashes()
        for first, end in members:
            start = first % FANOUT
            old = None if hashes is None else hashes[start * SIZE : (start + end - first) * SIZE]
            yield Batch(first, end, old)


def _leaf_numbers(plan: list[tuple[int, int]]) -> Iterator[int]:
    last = -1
    for first, end in plan:
        for number in range(max(first // FANOUT, last + 1), (end - 1) // FANOUT + 1):
            yield number
            last = number


def peak_memory() -> int:
    """The most memory that this process has had resident, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def result_of(state: State, entry: RootEntry) -> BackupResult:
    """The result of a committed backup, as its run reported it."""
    figures = entry.figures
    return BackupResult(
        backup_id=entry.id,
        volume=state.volume,
        type=entry.type,
        size=entry.size,
        bytes_scanned=figures["bytesScanned"],
        bytes_changed=figures["bytesChanged"],
        bytes_stored=figures["bytesStored"],
        requests=figures["requests"],
        seconds=figures["seconds"],
        root_hash=entry.content_hash,
        created_at=entry.created_at,
        changed_block_source=figures["changedBlockSource"],
        file_system=figures["fileSystem"],
        peak_memory_bytes=figures["peakMemoryBytes"],
        used_bytes=state.used_bytes,
    )
