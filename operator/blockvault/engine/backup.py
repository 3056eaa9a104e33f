"""One backup: begin an attempt, scan, upload what changed, write a root, commit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing, suppress
from itertools import groupby

import numpy as np

from blockvault.engine import runtime, samples, selftest, trash
from blockvault.engine.adoption import Adoption
from blockvault.engine.attempts import (
    Begin,
    begin,
    choose_parent,
    end_unborn,
    finish,
    finish_at_once,
    give_up,
    refuse_ended,
    relies_on,
)
from blockvault.engine.blockwriter import BlockWriter
from blockvault.engine.changes import LIST, block_ranges
from blockvault.engine.commits import Commits
from blockvault.engine.devices import Source
from blockvault.engine.errors import (
    AttemptFenced,
    BadRequest,
    EngineError,
    KeyRotated,
    OperationEnded,
    StoredDataDamaged,
)
from blockvault.engine.filesystems import PROBE_SIZE, detect
from blockvault.engine.leaf import Leaf
from blockvault.engine.lineage import Lineage
from blockvault.engine.lockrule import hold
from blockvault.engine.locks import BackupLock
from blockvault.engine.names import NO_EPOCH, LineagePaths, NameSource, ObjectName
from blockvault.engine.newroot import make_root, result_of
from blockvault.engine.packs import Uploads, page_writer, segment_writer
from blockvault.engine.pages import BLOCK_SIZE, FANOUT, blocks_in, levels_for
from blockvault.engine.plan import Ranges, batches, count, everything, union
from blockvault.engine.progress import COMMITTING, BackupResult, Progress
from blockvault.engine.rollback import suspect
from blockvault.engine.root import MAX_META, Root
from blockvault.engine.scan import BATCH_SIZE, Batch, Found, Scanner
from blockvault.engine.state import Attempt, RootEntry, State
from blockvault.engine.summary import Changes
from blockvault.engine.tree import TreeReader
from blockvault.engine.treewriter import TreeWriter
from blockvault.engine.volumes import Volume, Volumes
from blockvault.engine.work import COMPARE, FULL, BackupRequest, Made, Work
from blockvault.stores import ObjectStore, StoreError

LATEST = "latest"

# Seconds in which nobody makes and trims so many commits that a number is free again.
FRESH_SECONDS = 2.0

# Why a list that was given was not used.
OTHER_PARENT = "ListOfAnotherBackup"
LIST_WRONG = "ListWasWrong"
DISTRUSTED = "ListsDistrusted"
# Why a backup builds on nothing: its parent's root or one of its pages cannot be read.
PARENT_DAMAGED = "ParentDamaged"


class BackupRun:
    """The state of one run. Use once."""

    def __init__(
        self, store: ObjectStore, volumes: Volumes, request: BackupRequest, actor: str | None = None
    ) -> None:
        if len(json.dumps(request.meta)) > MAX_META:
            raise BadRequest(f"meta of volume {request.volume} is larger than {MAX_META} bytes")
        self._store = store
        self._volumes = volumes
        self._request = request
        self._actor = actor
        self._attempt = runtime.random_id()
        self._changes = Changes()
        self._lock = BackupLock(store, volumes, request.volume, request.lock_days)
        self._progress = Progress()
        self._started = runtime.monotonic()
        self._started_wall = runtime.wall()

    def run(self) -> BackupResult:
        """Make the backup, or give back the one that this operation made before."""
        selftest.run()
        source = Source(self._request.source, BATCH_SIZE, skip_unreadable=self._request.skip_unreadable)
        try:
            ranges = None
            if self._request.changed is not None:
                ranges = block_ranges(self._request.changed.ranges, source.size)
            file_system = detect(source.head(PROBE_SIZE))
            volume = self._volumes.find_or_make(self._request.volume)
            refuse_ended(volume.state, self._request.operation_id)
            done = volume.state.root_of(self._request.operation_id)
            if done is not None:
                return result_of(volume.state, done)
            return self._unchanged(source, volume, ranges, file_system) or self._run(
                source, volume, ranges, file_system
            )
        finally:
            source.close()

    def _unchanged(
        self, source: Source, volume: Volume, ranges: Ranges | None, file_system: str | None
    ) -> BackupResult | None:
        """The backup of a volume of which a list says that nothing changed: one root, one commit.

        Nothing is uploaded that an attempt would have to protect but the root, and that only counts if no other
        commit came in between. None: it has to be done in the ordinary way.
        """
        request, state, listed = self._request, volume.state, self._request.changed
        parent_entry = choose_parent(state, source.size, None if request.full else request.parent)
        if ranges != [] or listed is None or parent_entry is None or parent_entry.size != source.size:
            return None
        if volume.lineage.single_writer:
            return None  # another commit in between might not be noticed
        if listed.parent not in (None, parent_entry.id) or state.distrusted or state.damaged:
            return None
        if parent_entry.figures["unreadable"]:
            return None  # what the list says of them is of no use: see _plan
        if any(other.operation == request.operation_id for other in state.attempts):
            return None
        trash.refuse_foreign(state, self._actor)
        commits = Commits(self._store, volume.lineage)
        pin = trash.pin_of(parent_entry)
        attempt = Attempt(self._attempt, request.operation_id, state.epoch, pin, source.size, runtime.now())
        work = Work(self._store, volume.lineage, commits, state, attempt, source, file_system)
        try:
            parent = work.roots.read(parent_entry)
        except StoredDataDamaged:
            return None  # not pinned, it may have been deleted and collected just now
        if samples.lies(work.source, work.lineage.keys, parent.samples, []):
            return None
        names = NameSource(NO_EPOCH)
        name = names.fresh()
        made = Made(parent_entry, parent, parent.top, names, LIST, parent.samples, 0)
        until = self._lock.extend(work, parent_entry, parent, self._changes)
        made.requests = self._store.traffic.total_requests
        data, entry = make_root(work, request, made, self._progress, self._changes, name)
        self._put_root(work, name, data, entry, until)
        final = commits.update(
            lambda current: finish_at_once(current, state, attempt, entry, len(data), work.roots), state
        )
        return self._result(final, entry) if final.root_of(request.operation_id) else None

    def _run(
        self, source: Source, volume: Volume, ranges: Ranges | None, file_system: str | None
    ) -> BackupResult:
        request = self._request
        commits = Commits(self._store, volume.lineage)
        wanted = Begin(
            self._attempt,
            request.operation_id,
            source.size,
            None if request.full else request.parent,
            self._volumes.key_fingerprint,
            self._actor,
            request.turn,
        )
        state = commits.update(
            lambda current: begin(suspect(self._store, volume.lineage.paths, current), wanted),
            volume.state,
            check=lambda made: made.rollback is not None or relies_on(made, self._attempt) or self._slept(),
        )
        if not state.roots:
            self._confirm(volume.lineage, commits, state)
        done = state.root_of(request.operation_id)
        if done is not None:
            return result_of(state, done)
        attempt = state.attempt(self._attempt)
        if attempt is None:
            raise AttemptFenced(f"volume {request.volume}: another run took this operation over")
        work = Work(self._store, volume.lineage, commits, state, attempt, source, file_system)
        try:
            return self._upload(work, ranges)
        except StoreError:
            raise  # the store is in trouble: an entry left behind is harmless, more waiting is not
        except EngineError as error:
            if error.retryable:
                raise  # repeated, the operation goes on with what this run has sent
            if isinstance(error, StoredDataDamaged) and self._is_fenced(commits):
                # Nothing is damaged: what is missing was no longer pinned for this run.
                raise AttemptFenced(f"volume {request.volume}: the run was given up") from error
            with suppress(StoreError, EngineError):
                commits.update(lambda current: give_up(current, self._attempt), state)
            raise

    def _slept(self) -> bool:
        """Whether so much time has passed, since before the state was read, that the beginning may not count.

        If it does not, others do not know the epoch: what is uploaded under it looks to them as if the store had been
        set back, and collect stops until the next run begins. Some clocks stand still while a machine sleeps, others
        are set; one that shows it is enough.
        """
        passed = runtime.monotonic() - self._started
        return max(passed, abs(runtime.wall() - self._started_wall)) > FRESH_SECONDS

    def _is_fenced(self, commits: Commits) -> bool:
        with suppress(StoreError, EngineError):
            newest = commits.newest()
            return newest is None or newest.attempt(self._attempt) is None
        return False

    def _confirm(self, lineage: Lineage, commits: Commits, state: State) -> None:
        """Before the first backup of a lineage: is it wrapped under the newest key? Raises KeyRotated."""
        try:
            self._volumes.confirm(lineage)
        except KeyRotated:
            # Nothing is in it yet. Left as it is, its name would lead to what the new key does not open.
            decide = trash.owned(lambda current: end_unborn(current, self._attempt), self._actor)
            with suppress(StoreError, EngineError):
                commits.update(decide, state)
            raise

    def _upload(self, work: Work, ranges: Ranges | None) -> BackupResult:
        parent_entry = work.state.root(work.attempt.parent["id"]) if work.attempt.parent else None
        if parent_entry is not None:
            try:
                work.refuse_damaged(parent_entry)
                made = self._send(work, ranges, parent_entry, work.roots.read(parent_entry))
            except StoredDataDamaged:
                if self._is_fenced(work.commits):
                    raise  # no longer pinned, it may have been deleted
                # Nothing is known of what lies below it, and it cannot be built on: everything is stored anew.
                self._changes, self._progress = Changes(), Progress()
                work.fallback = PARENT_DAMAGED
            else:
                return self._commit(work, made)
        return self._commit(work, self._send(work, ranges, None, None))

    def _send(
        self, work: Work, ranges: Ranges | None, parent_entry: RootEntry | None, parent: Root | None
    ) -> Made:
        """Upload what differs from the parent."""
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
            digests = page_writer(work.lineage, names, uploads)
            pages = page_writer(work.lineage, names, uploads)
            adoption = Adoption(self._store, work.lineage, self._adopts(work), work.attempt.patches_of)
            blocks = BlockWriter(work.lineage, segments, digests, pages, self._changes, adoption)
            tree = TreeWriter(reader, levels_for(size), work.lineage, pages, self._changes)
            carried = parent.samples if parent is not None and mode == LIST else {}
            sampler = samples.Sampler(blocks_in(size), carried)
            top = self._scan(work, reader, plan, mode, blocks, tree, sampler, uploads)
            for writer in (segments, digests, pages):
                writer.flush()
            # The barrier: a root is not even written before all that it names has arrived.
            uploads.finish()
        finally:
            uploads.close()
        self._progress.phase = COMMITTING
        self._report(uploads)
        for sizes in (segments.sizes, digests.sizes, pages.sizes, adoption.sizes):
            self._changes.set_sizes(sizes)
        return Made(
            parent_entry, parent, top, names, mode, sampler.finish(), uploads.bytes_sent, work.fallback
        )

    def _adopts(self, work: Work) -> list[int]:
        """Epochs whose blocks may be there already: of dead runs, and what this one has sent in vain."""
        sent = [work.attempt.epoch] if work.fallback == PARENT_DAMAGED else []
        return [*work.attempt.adopts, *sent]

    def _plan(
        self,
        work: Work,
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
            # Past the parent's end nothing can be compared with; what was found damaged is looked at again, and so
            # is what could not be read: it is zero in the parent, which is not what the list calls unchanged.
            grown = [(parent.size // BLOCK_SIZE, blocks)] if size > parent.size else []
            again = block_ranges(parent.unreadable, size)
            plan = union(ranges, [*grown, *again, *((b, b + 1) for b in work.damaged_blocks if b < blocks)])
            if listed.parent not in (None, parent_entry.id):
                work.fallback = OTHER_PARENT  # made from another backup, it says nothing about this one
            elif work.state.distrusted:
                work.fallback = DISTRUSTED
            elif samples.lies(work.source, work.lineage.keys, parent.samples, plan):
                work.fallback = LIST_WRONG
            else:
                return plan, LIST
        else:
            work.fallback = self._request.no_list
        return everything(work.source, reader, blocks_in(parent.size)), COMPARE

    def _scan(
        self,
        work: Work,
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
        results = scanner.run(batches(plan, reader, work.former, work.group, listed=mode == LIST))
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

    def _commit(self, work: Work, made: Made) -> BackupResult:
        request = self._request
        name = made.names.fresh()
        until = self._lock.extend(work, made.parent_entry, made.parent, self._changes)
        made.requests = self._store.traffic.total_requests
        made.seconds = round(runtime.monotonic() - self._started, 3)
        data, entry = make_root(work, request, made, self._progress, self._changes, name)
        self._put_root(work, name, data, entry, until)
        final = work.commits.update(
            lambda current: finish(
                current,
                work.attempt,
                entry,
                self._changes.added_bytes + len(data),
                work.roots,
                actor=self._actor,
                lists_lie=made.fallback == LIST_WRONG,
                compared=made.mode != LIST,
            ),
            work.state,
        )
        return self._result(final, entry)

    def _put_root(
        self, work: Work, name: ObjectName, data: bytes, entry: RootEntry, until: float | None
    ) -> None:
        self._store.put(work.lineage.paths.root(name), data)
        self._lock.stored(work.lineage.paths.root(name))
        hold(entry, until)

    def _result(self, final: State, entry: RootEntry) -> BackupResult:
        stored = final.root_of(entry.operation)
        if stored is None:
            raise OperationEnded(
                f"volume {self._request.volume}: the backup was deleted as soon as it was made"
            )
        self._lock.stored(LineagePaths(final.lineage).commit(final.number))
        self._progress.bytes_stored = int(entry.figures["bytesStored"])
        self._request.report(self._progress)
        result = result_of(final, stored)
        if stored.id == entry.id:
            result.requests = self._store.traffic.total_requests
            result.seconds = round(runtime.monotonic() - self._started, 3)
        return result
