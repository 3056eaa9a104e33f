"""A store of backups: the engine's public face."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from blockvault.engine import rollback, trash
from blockvault.engine.attempts import LATEST, end_operation
from blockvault.engine.backup import BackupRun
from blockvault.engine.canary import check_store
from blockvault.engine.catalogue import entry_of, facts_of, states_of, usage_of
from blockvault.engine.collect import ATTEMPT_SECONDS, Collected, Collector
from blockvault.engine.commits import Commits
from blockvault.engine.compact import Compaction, Rewritten
from blockvault.engine.doctor import examine
from blockvault.engine.errors import EngineError, StoredDataDamaged, VolumeNotFound
from blockvault.engine.evacuate import Evacuated, evacuate
from blockvault.engine.generations import StoreFacts, make_or_open, open_store_record
from blockvault.engine.heal import Healed, Healing
from blockvault.engine.history import as_of, commits_of, reading, restore_former
from blockvault.engine.keys import KeyRing
from blockvault.engine.lockrule import LockRule
from blockvault.engine.newroot import result_of
from blockvault.engine.pins import Pin
from blockvault.engine.progress import BackupResult, Report, RestoreResult, camel, quiet
from blockvault.engine.restore import RestoreRequest, RestoreRun
from blockvault.engine.rollback import Seen
from blockvault.engine.root import Roots
from blockvault.engine.state import ACTIVE, Outcome, State
from blockvault.engine.unresolved import Rebuilding, Rebuilt
from blockvault.engine.verify import (
    add,
    check_chains,
    last_verified,
    lineages_in,
    scrub,
    strays,
    unreadable,
    verify_all,
)
from blockvault.engine.volumes import Refused, Volume, Volumes
from blockvault.engine.work import BackupRequest
from blockvault.stores import BlockvaultError, ObjectLock, ObjectStore

Table = list[dict[str, Any]]

# Of a store without encryption.
NO_KEYS = KeyRing()


class Repository:
    """The backups in one store. Make it with `init` or `open`."""

    def __init__(self, store: ObjectStore, facts: StoreFacts, actor: str | None = None) -> None:
        self.store = store
        self.actor = actor
        self.store_id = facts.store_id
        self.created_at = facts.created_at
        self.encrypted = facts.encrypted
        self.lock = facts.lock
        self._facts = facts
        self._volumes = Volumes(store, facts)

    @classmethod
    def init(
        cls,
        store: ObjectStore,
        ring: KeyRing = NO_KEYS,
        *,
        single_writer: bool = False,
        lock: ObjectLock | None = None,
        actor: str | None = None,
    ) -> Repository:
        """Make a store here, or open the one that is here already, after proving that it is fit for it.

        With a key, all that is stored is encrypted. `single_writer`: use a store that cannot create exclusively.
        `lock`: for how long nobody can delete a backup. Raises StoreRefused where the store has no locks.
        `actor`: the cluster that acts; what it backs up first is its own, and others can only read it.
        """
        if lock is not None:
            store.check_locks()
        check_store(store, single_writer=single_writer)
        return cls(store, make_or_open(store, ring, single_writer=single_writer, lock=lock), actor)

    @classmethod
    def open(cls, store: ObjectStore, ring: KeyRing = NO_KEYS, *, actor: str | None = None) -> Repository:
        """Open the store here. Raises NotAVault, KeyMissing, WrongKey."""
        return cls(store, open_store_record(store, ring), actor)

    def seen_by(self, store: ObjectStore) -> Repository:
        """The same backups through another client of the same store."""
        if self._facts.lock is not None:
            store.lock_new(LockRule(self._facts.lock).of_new)
        return Repository(store, self._facts, self.actor)

    def volumes(self, failed: Refused | None = None) -> list[str]:
        """Names of all volumes that ever had a record. With `failed`, that is told of keys of damaged records."""
        return sorted(self._volumes.names(failed))

    def backup(self, request: BackupRequest) -> BackupResult:
        """Back one volume up. Returns the former result if this operation has made its backup already."""
        return BackupRun(self.store, self._volumes, request, self.actor).run()

    def restore(
        self,
        volume: str,
        target: str,
        backup_id: str = LATEST,
        report: Report = quiet,
        *,
        have: str | None = None,
        changed: list[tuple[int, int]] | None = None,
        resume: bool = True,
        force: bool = False,
        salvage: bool = False,
        threads: int | None = None,
        commit: int | None = None,
    ) -> RestoreResult:
        """Write a backup to a device or file. The rest is explained at RestoreRequest.

        The backup is pinned meanwhile: deleted and collected, it is still restored. Raises VolumeNotFound,
        BackupNotFound, BadRequest; TargetTooSmall, TargetBusy, TargetNotEmpty, before anything is written;
        StoredDataDamaged, unless `salvage` is asked for; what `Pin.refuse_gone` raises, where there was no pin.
        `commit`: as that one had it, without a pin; see history.py. Raises CommitNotFound.
        """
        found = self._volume(volume, commit)
        request = RestoreRequest(target, have, changed, resume, force, salvage, threads, report)
        chosen = entry_of(found.state, backup_id).id
        if commit is not None:
            return restore_former(self.store, found, chosen, request)
        held = [have] if have is not None and found.state.root(have) is not None else []
        with Pin(self.store, found, [chosen, *held]) as pin:
            try:
                result = RestoreRun(self.store, pin.volume, entry_of(pin.volume.state, chosen), request).run()
            except StoredDataDamaged:
                pin.refuse_gone()
                raise
            if result.lost:
                pin.refuse_gone()
            result.unpinned = pin.unpinned
            return result

    def verify(
        self,
        volume: str | None = None,
        backup_id: str | None = None,
        *,
        sample: float | None = None,
        budget_bytes: int | None = None,
        every_byte: bool = False,
        seen: dict[str, Seen] | None = None,
        report: Callable[[str], Report] = lambda volume: quiet,
    ) -> dict[str, Any]:
        """Read back what is stored, of one volume or backup or of all: everything, a sample, or within a budget.

        `sample`: the chance, 0 to 1, with which each block is read. `budget_bytes`: how much is read (by and large),
        from where the last run with a budget has stopped. `every_byte`: of objects that backups need, also what none
        of them needs. `seen`: as for `collect`. Gives {ok, checkedBlocks, checkedBytes, damaged: [{backupId, volume,
        offset, length, object, cause, remedy}], backups: [{backupId, volume, at, mode, blocks, damaged}], kept}.
        `backupId` is None for what belongs to no backup in particular; `kept` is False where nothing may be written
        to the store. Raises StoreError when the store cannot be read now: that is never taken for damage.
        """
        rows: Table = []
        stored: set[str] = set()
        unlisted: set[str] = set()
        if volume is None:
            stored = lineages_in(self.store)

            def failed(key: str, name: str | None, error: BlockvaultError) -> None:
                rows.append(unreadable(key, name, error))

            listed = list(self._volumes.all(failed=failed))
            unlisted = stored - {each.state.lineage for each in listed}
            found = sorted((f for f in listed if f.state.status == ACTIVE), key=last_verified)
        else:
            found = [self._volume(volume)]
            if backup_id is not None:
                backup_id = entry_of(found[0].state, backup_id).id
        result = verify_all(self.store, found, backup_id, sample, budget_bytes, report, every_byte=every_byte)
        for row in rows:
            add(result, row)
        if stored and not rows:
            strays(self._volumes, found, unlisted, result)
        if backup_id is None:
            scrub(self.store, self._facts, self._volumes.folder(volume), found, stored, result)
            check_chains(self.store, found, seen or {}, result)
        return result

    def doctor(self, seen: dict[str, Seen] | None = None) -> Table:
        """Whether the store is all right; see `doctor.examine`, which needs no opened store."""
        return examine(self.store, self._facts.ring, actor=self.actor, seen=seen)

    def delete(self, volume: str, backup_id: str, *, keep_seconds: float = 0.0) -> bool:
        """Delete a backup; False when it is not there. Others are not touched.

        With `keep_seconds` it goes to the trash for so long and can be brought back; without, used bytes fall at
        once. Objects that nothing needs any more stay until they are collected. Raises OwnedElsewhere.
        """
        found = self._volumes.find(volume)
        if found is None or found.state.root(backup_id) is None:
            return False
        roots = Roots(self.store, found.lineage)
        if keep_seconds > 0:
            self._update(found, lambda state: trash.put(state, backup_id, keep_seconds, roots))
        else:
            self._update(found, lambda state: trash.remove(state, {backup_id}, roots))
        return True

    def end_operation(self, volume: str, operation_id: str) -> None:
        """Give an operation up for good: no run of it, wherever one lives on, makes its backup any more.

        Nothing where it has made it, or where there is no such volume. Raises OwnedElsewhere.
        """
        found = self._volumes.find(volume)
        if found is not None and found.state.status == ACTIVE:
            self._update(found, lambda state: end_operation(state, operation_id))

    def discard(self, volume: str, backup_id: str) -> bool:
        """Remove a backup from the trash for good, before its time; False when it is not in it."""
        found = self._volume(volume)
        roots = Roots(self.store, found.lineage)
        before = found.state.root(backup_id)
        left = self._update(found, lambda state: trash.discard(state, backup_id, roots)).root(backup_id)
        return before is not None and left is None

    def undelete(self, volume: str, backup_id: str) -> bool:
        """Bring a backup back from the trash; False when it is not in it. Raises BackupNotFound."""
        found = self._volume(volume)
        roots = Roots(self.store, found.lineage)
        before = found.state.root(backup_id)
        self._update(found, lambda state: trash.take_out(state, backup_id, roots))
        return before is not None and trash.in_trash(before)

    def note_restored(self, volume: str, backup_id: str, by: str) -> None:
        """Remember with a backup that it was restored over its volume, `by` whom (F30). Raises OwnedElsewhere."""
        self._update(self._volume(volume), lambda state: trash.note_restored(state, backup_id, by))

    def delete_volume(self, volume: str) -> bool:
        """Delete all backups of a volume for good, at once; False when there is no such volume.

        Its data goes with the next collect, and first of all its key: from then on nobody can read it.
        """
        found = self._volumes.find(volume)
        if found is None:
            return False
        self._update(found, trash.end)
        return True

    def lineages(self, refused: Refused) -> list[Volume]:
        """All lineages with their newest states, deleted ones too; `refused` is told of what cannot be read."""

        def failed(key: str, name: str | None, error: BlockvaultError) -> None:
            if not isinstance(error, EngineError):
                raise error
            refused(name or key, error)

        return list(self._volumes.all(failed=failed))

    def end(self, found: Volume) -> None:
        """As `delete_volume`, of this very lineage: one that was made since under its name stays."""
        self._update(found, trash.end)

    def collect(
        self,
        volume: str | None = None,
        *,
        dry_run: bool = False,
        seen: dict[str, Seen] | None = None,
        attempt_seconds: float = ATTEMPT_SECONDS,
        refused: Refused | None = None,
    ) -> list[Collected]:
        """Delete what nothing needs any more, in one volume or all (also in those that were deleted).

        `seen`: newest commits as they were seen before, by lineage; a state that does not follow them stops it. Raises
        RollbackSuspected, ListingImplausible, OwnedElsewhere; whatever was not done by then stays. With `refused`,
        that is called with the volume and its error, and the other volumes are collected.
        """
        done = []

        def failed(key: str, name: str | None, error: BlockvaultError) -> None:
            if refused is None or not isinstance(error, EngineError):
                raise error
            refused(name or key, error)

        for found in self._volumes.all(volume, failed=failed):
            collector = Collector(
                self.store,
                found.lineage,
                self.actor,
                dry_run=dry_run,
                seen=(seen or {}).get(found.state.lineage),
                attempt_seconds=attempt_seconds,
                lock=self._facts.lock,
            )
            try:
                trash.refuse_foreign(found.state, self.actor)
                done.append(collector.run(found.state))
            except EngineError as error:
                if refused is None:
                    raise
                refused(found.state.volume, error)
        return done

    def compact(self, volume: str, *, budget: int | None = None) -> Rewritten:
        """Rewrite segments of which little is alive, within `budget` bytes; collect frees them then."""
        found = self._volume(volume)
        trash.refuse_foreign(found.state, self.actor)
        compaction = Compaction(self.store, found.lineage, self.actor, self._facts.lock)
        return compaction.run(found.state, budget=budget)

    def heal(self, volume: str) -> Healed:
        """Mend old backups: blocks known to be damaged that a later backup has stored anew with the same bytes."""
        found = self._volume(volume)
        trash.refuse_foreign(found.state, self.actor)
        return Healing(self.store, found.lineage, self.actor).run(found.state)

    def evacuate(self, volume: str, keys: Iterable[str]) -> Evacuated:
        """Copy what backups need out of segments and page objects that are damaged around it; `verify` names those.

        What is no such object of the volume is passed over. Raises StoredDataDamaged when more damage is in the way.
        """
        found = self._volume(volume)
        trash.refuse_foreign(found.state, self.actor)
        return evacuate(self.store, found, keys, self.actor)

    def rebuild(self, volume: str) -> Rebuilt:
        """Mend backups whose own trees are whole, but whose summaries build on the damaged root of another one."""
        found = self._volume(volume)
        trash.refuse_foreign(found.state, self.actor)
        return Rebuilding(self.store, found.lineage, self.actor).run(found.state)

    def take_over(self, volume: str, actor: str) -> None:
        """Let a volume's backups belong to another cluster from now on."""
        found = self._volume(volume)
        Commits(self.store, found.lineage).update(lambda state: trash.take_over(state, actor), found.state)

    def set_back(self, volume: str, seen: Seen | None) -> str | None:
        """How a volume shows that it does not follow what was seen of it before; None where nothing says so."""
        found = self._volumes.find(volume)
        return None if found is None else Commits(self.store, found.lineage).set_back(found.state, seen)

    def accept_rollback(self, volume: str) -> bool:
        """Go on from what the store shows, giving up what later commits knew; False when nothing of them is there.

        Without any commit, from nothing. Only then is anything deleted again. Raises VolumeNotFound, OwnedElsewhere.
        """
        found = self._volumes.find(volume, without_commits=True)
        if found is None:
            raise VolumeNotFound(f"{self.store.url} holds no volume {volume!r}")
        paths = found.lineage.paths
        made = self._update(found, lambda state: rollback.accept(self.store, paths, state))
        return made.number > found.state.number

    def branches(self, volume: str) -> Table:
        """Where the volume's commits end: once, unless two programs wrote at once to a store for one writer."""
        found = self._volume(volume)
        return [
            {
                "commitId": state.commit_id,
                "number": state.number,
                "writtenAt": state.written_at,
                "backups": [entry.id for entry in state.roots],
            }
            for state in Commits(self.store, found.lineage).branches()
        ]

    def choose_branch(self, volume: str, commit_id: str) -> None:
        """Keep the branch that ends in that commit; the others go. All writers must have been stopped."""
        found = self._volume(volume)
        trash.refuse_foreign(found.state, self.actor)
        Commits(self.store, found.lineage).choose(commit_id)

    def _update(self, found: Volume, decide: Callable[[State], tuple[State, Outcome] | None]) -> State:
        return Commits(self.store, found.lineage).update(trash.owned(decide, self.actor), found.state)

    def list(
        self, volume: str | None = None, *, failed: Refused | None = None, commit: int | None = None
    ) -> Table:
        """Backups, oldest first, of one volume or of all.

        With `failed`, that is told of a volume that cannot be read, and those of the others are listed. `commit`: of
        one volume, as that commit had it. Raises CommitNotFound.
        """
        states = iter([self._volume(volume, commit).state]) if volume is not None else self._states(failed)
        return [facts_of(state, entry) for state in states for entry in state.roots]

    def commits(self, volume: str, *, failed: Refused) -> Table:
        """The commits of a volume that are there, oldest first; `failed` is told of those that cannot be read."""
        return commits_of(self.store, self._volumes, volume, failed)

    def show(self, volume: str, backup_id: str = LATEST, *, commit: int | None = None) -> dict[str, Any]:
        """All that is known of one backup, its meta included. `commit`: as that one had it. Raises CommitNotFound."""
        found = self._volume(volume, commit)
        state, entry = found.state, entry_of(found.state, backup_id)
        with reading(commit):
            root = Roots(self.store, found.lineage).read(entry)
        return {
            **camel(result_of(state, entry)),
            "operationId": entry.operation,
            "revision": entry.revision,
            "parent": root.facts["parent"],
            "labels": entry.labels,
            "owner": state.owner,
            "meta": root.facts["meta"],
        }

    def holds(self, volume: str, backup_id: str) -> bool:
        """Whether a backup is there, in the trash or not."""
        return self._volume(volume).state.root(backup_id) is not None

    def find_operation(self, volume: str, operation_id: str) -> BackupResult | None:
        """The result of an operation that has committed; None when it has not."""
        found = self._volumes.find(volume)
        entry = None if found is None else found.state.root_of(operation_id)
        return None if found is None or entry is None else result_of(found.state, entry)

    def usage(self, volume: str | None = None, *, failed: Refused | None = None) -> Table:
        """What each volume (or one) uses, how much of it only for the trash, and whose it is. Reads commits only.

        `lockedBytes`: what nothing needs, and the last collect could not delete, as it was locked. With `failed`, that
        is told of a volume that cannot be read, and the others are counted.
        """
        states = iter([self._volume(volume).state]) if volume is not None else self._states(failed)
        return [usage_of(state) for state in states]

    def _volume(self, volume: str, commit: int | None = None) -> Volume:
        if commit is not None:
            return as_of(self.store, self._volumes, volume, commit)
        found = self._volumes.find(volume)
        if found is None:
            raise VolumeNotFound(f"{self.store.url} holds no volume {volume!r}")
        return found

    def _states(self, failed: Refused | None = None) -> Iterator[State]:
        return states_of(self._volumes, failed)
