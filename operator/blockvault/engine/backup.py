"""One backup: begin an attempt, scan, upload what changed, write a root, commit."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from blockvault.engine import root as roots
from blockvault.engine import runtime, samples, summary
from blockvault.engine.adoption import Adoption
from blockvault.engine.attempts import Begin, begin, finish, give_up
from blockvault.engine.blockwriter import BlockWriter
from blockvault.engine.changes import ChangedList, block_ranges
from blockvault.engine.commits import Commits
from blockvault.engine.devices import Source
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import AttemptFenced, BadRequest, EngineError
from blockvault.engine.filesystems import PROBE_SIZE, detect
from blockvault.engine.former import FormerLeaf
from blockvault.engine.hashing import ZERO
from blockvault.engine.leaf import Leaf
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import NameSource, ObjectName
from blockvault.engine.packs import Uploads, page_writer, segment_writer
from blockvault.engine.pages import BLOCK_SIZE, FANOUT, NO_REFERENCE, blocks_in, levels_for
from blockvault.engine.plan import Ranges, batches, count, everything, union
from blockvault.engine.progress import COMMITTING, BackupResult, Progress, Report, quiet
from blockvault.engine.root import MAX_META, Root, Roots
from blockvault.engine.scan import BATCH_SIZE, Batch, Found, Scanner
from blockvault.engine.state import Attempt, RootEntry, State
from blockvault.engine.summary import MAX_DEPTH, Changes
from blockvault.engine.tree import TreeReader
from blockvault.engine.treewriter import TreeWriter
from blockvault.engine.volumes import Volume, Volumes
from blockvault.stores import ObjectStore, StoreError

LATEST = "latest"

# Where the knowledge of what changed came from.
FULL = "Full"
COMPARE = "Compare"
LIST = "List"

# Why a list that was given was not used.
OTHER_PARENT = "ListOfAnotherBackup"
LIST_WRONG = "ListWasWrong"
DISTRUSTED = "ListsDistrusted"


@dataclass
class BackupRequest:
    """What to back up, and how.

    `source`: path of a device or file. `operation_id`: at most one backup is ever made for it; asked again,
    the same result comes back, or the run that died goes on. `parent`: a backup id or `latest`; ignored when
    `full`. `changed`: all ranges that may differ from the parent. `meta`: kept with the backup, at most 64 KiB
    as JSON. `skip_unreadable`: what the source cannot give is stored as zeros and recorded.
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
    skip_unreadable: bool = False


class BackupRun:
    """The state of one run. Use once."""

    def __init__(self, store: ObjectStore, volumes: Volumes, request: BackupRequest) -> None:
        if len(json.dumps(request.meta)) > MAX_META:
            raise BadRequest(f"meta of volume {request.volume} is larger than {MAX_META} bytes")
        self._store = store
        self._volumes = volumes
        self._request = request
        self._attempt = runtime.random_id()
        self._changes = Changes()
        self._progress = Progress()
        self._started = runtime.monotonic()
        self._fallback: str | None = None

    def run(self) -> BackupResult:
        """Make the backup, or give back the one that this operation made before."""
        source = Source(self._request.source, BATCH_SIZE, skip_unreadable=self._request.skip_unreadable)
        try:
            ranges = None
            if self._request.changed is not None:
                ranges = block_ranges(self._request.changed.ranges, source.size)
            file_system = detect(source.head(PROBE_SIZE))
            volume = self._volumes.find_or_make(self._request.volume)
            done = volume.state.root_of(self._request.operation_id)
            return result_of(volume.state, done) if done else self._run(source, volume, ranges, file_system)
        finally:
            source.close()

    def _run(
        self, source: Source, volume: Volume, ranges: Ranges | None, file_system: str | None
    ) -> BackupResult:
        request = self._request
        commits = Commits(self._store, volume.lineage)
        wanted = Begin(
            self._attempt, request.operation_id, source.size, None if request.full else request.parent
        )
        state = commits.update(lambda current: begin(current, wanted), volume.state)
        if state.number == 1:
            self._volumes.confirm()
        done = state.root_of(request.operation_id)
        if done is not None:
            return result_of(state, done)
        attempt = state.attempt(self._attempt)
        if attempt is None:
            raise AttemptFenced(f"volume {request.volume}: another run took this operation over")
        work = _Work(self._store, volume.lineage, commits, state, attempt, source, file_system)
        try:
            return self._upload(work, ranges)
        except StoreError:
            raise  # the store is in trouble: an entry left behind is harmless, more waiting is not
        except EngineError:
            with suppress(StoreError, EngineError):
                commits.update(lambda current: give_up(current, self._attempt), state)
            raise

    def _upload(self, work: _Work, ranges: Ranges | None) -> BackupResult:
        parent_entry = work.state.root(work.attempt.parent["id"]) if work.attempt.parent else None
        parent = work.roots.read(parent_entry) if parent_entry else None
        reader = work.reader(parent)
        plan, mode = self._plan(work, reader, parent_entry, parent, ranges)
        size = work.source.size
        planned = min(size, count(plan) * BLOCK_SIZE)
        # What a list says is unchanged is not looked at; what the file system says is a hole has been.
        self._progress.bytes_total = planned if mode == LIST else size
        self._progress.bytes_scanned = 0 if mode == LIST else size - planned
        names = NameSource(work.attempt.epoch)
        uploads = Uploads(self._store)
        try:
            segments = segment_writer(work.lineage, names, uploads)
            pages = page_writer(work.lineage, names, uploads)
            adoption = Adoption(self._store, work.lineage, work.attempt.adopts, work.attempt.patches_of)
            blocks = BlockWriter(work.lineage, segments, pages, self._changes, adoption)
            tree = TreeWriter(reader, levels_for(size), work.lineage, pages, self._changes)
            sampler = samples.Sampler(parent.samples if parent is not None and mode == LIST else {})
            top = self._scan(work, reader, plan, mode, blocks, tree, sampler, uploads)
            segments.flush()
            pages.flush()
            # The barrier: a root is not even written before all that it names has arrived.
            uploads.finish()
        finally:
            uploads.close()
        self._progress.phase = COMMITTING
        self._report(uploads)
        for sizes in (segments.sizes, pages.sizes, adoption.sizes):
            self._changes.set_sizes(sizes)
        made = _Made(
            parent_entry, parent, top, names, mode, sampler.finish(blocks_in(size)), uploads.bytes_sent
        )
        return self._commit(work, made)

    def _plan(
        self,
        work: _Work,
        reader: TreeReader,
        parent_entry: RootEntry | None,
        parent: Root | None,
        ranges: Ranges | None,
    ) -> tuple[Ranges, str]:
        """The blocks to look at, and where the knowledge comes from."""
        size, blocks = work.source.size, blocks_in(work.source.size)
        listed = self._request.changed
        if parent is None or parent_entry is None:
            return everything(work.source, reader, 0), FULL
        if ranges is not None and listed is not None:
            # Past the parent's end nothing can be compared with; what was found damaged is looked at again.
            grown = [(parent.size // BLOCK_SIZE, blocks)] if size > parent.size else []
            plan = union(ranges, [*grown, *((b, b + 1) for b in work.damaged_blocks if b < blocks)])
            if listed.parent not in (None, parent_entry.id):
                self._fallback = OTHER_PARENT  # made from another backup, it says nothing about this one
            elif work.state.distrusted:
                self._fallback = DISTRUSTED
            elif self._lies(work, parent, plan):
                self._fallback = LIST_WRONG
            else:
                return plan, LIST
        return everything(work.source, reader, blocks_in(parent.size)), COMPARE

    def _lies(self, work: _Work, parent: Root, plan: Ranges) -> bool:
        """Whether a block that the list leaves out has changed."""
        for block, digest in samples.to_check(parent.samples, plan):
            view = work.source.read(block * BLOCK_SIZE, BLOCK_SIZE)
            zero = not np.frombuffer(view, np.uint64).any()
            if (ZERO if zero else work.lineage.keys.block(view)) != digest:
                return True
        return False

    def _scan(
        self,
        work: _Work,
        reader: TreeReader,
        plan: Ranges,
        mode: str,
        blocks: BlockWriter,
        tree: TreeWriter,
        sampler: samples.Sampler,
        uploads: Uploads,
    ) -> np.void:
        size = work.source.size
        scanner = Scanner(work.source, work.lineage, self._request.threads)
        results = scanner.run(batches(plan, reader, work.former, listed=mode == LIST))
        with closing(results):  # an error must end its threads here, not when the garbage is collected
            for number, members in groupby(results, key=lambda result: result[0].first // FANOUT):
                former, leaf, changed = self._leaf(members, blocks, size, uploads)
                final = leaf if leaf is not None else former
                first = number * FANOUT
                hashes = None if final is None else final.hashes()
                sampler.leaf(first, min(FANOUT, blocks_in(size) - first), hashes, changed)
                if leaf is not None:
                    tree.put_leaf(number, leaf)
        return tree.finish()

    def _leaf(
        self, members: Iterable[tuple[Batch, list[Found]]], blocks: BlockWriter, size: int, uploads: Uploads
    ) -> tuple[Leaf | None, Leaf | None, list[int]]:
        """(the parent's leaf, the leaf with what changed or None, the slots that changed)."""
        former: Leaf | None = None
        leaf: Leaf | None = None
        changed: list[int] = []
        for batch, found in members:
            former = batch.former.leaf
            self._progress.bytes_scanned += min(batch.end * BLOCK_SIZE, size) - batch.first * BLOCK_SIZE
            for block in found:
                if leaf is None:
                    leaf = Leaf() if former is None else former.copy()
                blocks.put(leaf, block)
                changed.append(block.block % FANOUT)
                self._progress.bytes_changed += BLOCK_SIZE
            self._report(uploads)
        return former, leaf, changed

    def _report(self, uploads: Uploads) -> None:
        self._progress.bytes_stored = uploads.bytes_sent
        self._request.report(self._progress)

    def _commit(self, work: _Work, made: _Made) -> BackupResult:
        request, size = self._request, work.source.size
        name, backup_id = made.names.fresh(), runtime.random_id()
        content = roots.content_hash(work.lineage.keys, size, made.top)
        summary_facts, records = self._summary(work, made)
        above = made.parent_entry
        facts = {
            "id": backup_id,
            "revision": 1,
            "lineage": work.lineage.id,
            "volume": request.volume,
            "operation": request.operation_id,
            "createdAt": runtime.now(),
            "type": "full" if above is None else "incremental",
            "size": size,
            "contentHash": content,
            "parent": None if above is None else {"id": above.id, "contentHash": above.content_hash},
            "changedBlockSource": made.mode,
            "tree": roots.tree_facts(size, made.top),
            "summary": summary_facts,
            "counts": {"scanned": self._progress.bytes_scanned, "changed": self._progress.bytes_changed},
            "fileSystem": work.file_system,
            "unreadable": work.source.unreadable,
            "meta": request.meta,
        }
        key = work.lineage.paths.root(name)
        data = roots.encode(key, name, facts, records, made.samples, work.lineage.cipher)
        self._store.put(key, data)
        sent = made.sent + len(data)
        entry = RootEntry(
            id=backup_id,
            operation=request.operation_id,
            object=str(name),
            object_bytes=len(data),
            object_checksum=roots.checksum_of(data),
            content_hash=content,
            size=size,
            type=str(facts["type"]),
            parent=None if above is None else above.id,
            created_at=str(facts["createdAt"]),
            figures={
                "bytesScanned": self._progress.bytes_scanned,
                "bytesChanged": min(self._progress.bytes_changed, size),
                "bytesStored": sent,
                "requests": self._store.traffic.total_requests,
                "seconds": round(runtime.monotonic() - self._started, 3),
                "changedBlockSource": made.mode,
                "fallbackReason": self._fallback,
                "unreadable": work.source.unreadable,
                "fileSystem": work.file_system,
                "peakMemoryBytes": peak_memory(),
            },
            labels=request.labels,
        )
        added = self._changes.added_bytes + len(data)
        final = work.commits.update(
            lambda current: finish(
                current,
                work.attempt,
                entry,
                added,
                work.roots,
                lists_lie=self._fallback == LIST_WRONG,
                compared=made.mode != LIST,
            ),
            work.state,
        )
        stored = final.root_of(request.operation_id)
        if stored is None:
            raise AttemptFenced(f"volume {request.volume}: the backup was deleted as soon as it was made")
        self._progress.bytes_stored = sent
        request.report(self._progress)
        result = result_of(final, stored)
        if stored.id == backup_id:
            result.requests = self._store.traffic.total_requests
            result.seconds = round(runtime.monotonic() - self._started, 3)
        return result

    def _summary(
        self, work: _Work, made: _Made
    ) -> tuple[dict[str, Any], list[tuple[Kind, ObjectName, int, int]]]:
        """Changes to the parent's summary; whole again when too many changes lie upon each other."""
        entry, parent = made.parent_entry, made.parent
        if entry is None or parent is None:
            return {"base": None, "depth": 0}, self._changes.records()
        if parent.depth + 1 >= MAX_DEPTH:
            base = work.roots.summary(ObjectName.parse(entry.object))
            return {"base": None, "depth": 0}, summary.whole(self._changes.apply(base))
        below = {"object": entry.object, "bytes": entry.object_bytes}
        return {"base": below, "depth": parent.depth + 1}, self._changes.records()


class _Work:
    """What a run works with, from its first commit on."""

    def __init__(
        self,
        store: ObjectStore,
        lineage: Lineage,
        commits: Commits,
        state: State,
        attempt: Attempt,
        source: Source,
        file_system: str | None,
    ) -> None:
        self.store = store
        self.lineage = lineage
        self.commits = commits
        self.state = state
        self.attempt = attempt
        self.source = source
        self.file_system = file_system
        self.roots = Roots(store, lineage)
        self._damaged = {(item["object"], int(item["offset"])) for item in state.damaged}
        self.damaged_blocks = sorted({int(block) for item in state.damaged for block in item["blocks"]})

    def reader(self, parent: Root | None) -> TreeReader:
        """The parent's tree, or an empty one."""
        if parent is None:
            return TreeReader(self.store, self.lineage, NO_REFERENCE, levels_for(self.source.size))
        return TreeReader(self.store, self.lineage, parent.top, parent.levels)

    def former(self, number: int, leaf: Leaf | None, asked: set[int] | None) -> FormerLeaf:
        """A leaf of the parent. Blocks that were found damaged are not built upon, so they are stored anew."""
        distrusted: set[int] = set()
        if leaf is not None and self._damaged:
            for block in self.damaged_blocks:
                slot = block % FANOUT
                if block // FANOUT == number and any(
                    (str(piece.name), piece.offset) in self._damaged for piece in leaf.pieces(slot)
                ):
                    distrusted.add(slot)
        return FormerLeaf(self.store, self.lineage, number, leaf, asked, frozenset(distrusted))


@dataclass(frozen=True)
class _Made:
    """What the upload left for the commit. `sent`: bytes of segments and pages sent by this run."""

    parent_entry: RootEntry | None
    parent: Root | None
    top: np.void
    names: NameSource
    mode: str
    samples: samples.Samples
    sent: int


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
        fallback_reason=figures["fallbackReason"],
        unreadable=figures["unreadable"],
        file_system=figures["fileSystem"],
        peak_memory_bytes=figures["peakMemoryBytes"],
        used_bytes=state.used_bytes,
    )
