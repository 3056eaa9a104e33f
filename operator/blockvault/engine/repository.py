"""A store of backups: the engine's public face."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from blockvault.engine import runtime
from blockvault.engine.attempts import LATEST
from blockvault.engine.backup import BackupRun
from blockvault.engine.commits import Commits
from blockvault.engine.errors import BackupNotFound, VolumeNotFound
from blockvault.engine.generations import StoreFacts, make_or_open, open_store_record
from blockvault.engine.keys import KeyRing
from blockvault.engine.names import CANARIES
from blockvault.engine.newroot import result_of
from blockvault.engine.progress import BackupResult, Report, RestoreResult, camel, quiet
from blockvault.engine.restore import RestoreRun
from blockvault.engine.root import Roots
from blockvault.engine.state import Outcome, RootEntry, State
from blockvault.engine.volumes import Volume, Volumes
from blockvault.engine.work import BackupRequest
from blockvault.stores import AlreadyExists, NoConditionalCreate, ObjectStore, StoreRefused

Table = list[dict[str, Any]]

# Of a store without encryption.
NO_KEYS = KeyRing()

# Volumes looked at together, where all of them are.
CATALOGUE_THREADS = 8


def check_store(store: ObjectStore, *, single_writer: bool = False) -> None:
    """Prove that the store keeps what it is given and refuses a second creation of a name.

    Raises NoConditionalCreate when it does not refuse, StoreRefused when it gives back other bytes.
    """
    key = f"{CANARIES}{runtime.random_id()}"
    first, second = runtime.random(64), runtime.random(64)
    store.create(key, first)
    try:
        try:
            store.create(key, second)
        except AlreadyExists:
            pass
        else:
            if not single_writer:
                raise NoConditionalCreate(f"{store.url}: the store lets a second creation of one name pass")
            first = second
        if store.get(key) != first:
            raise StoreRefused(
                f"{store.url}/{key}: other bytes come back than were stored",
                remedy="Do not use this store; report it to who runs it.",
            )
    finally:
        store.delete([key])


class Repository:
    """The backups in one store. Make it with `init` or `open`."""

    def __init__(self, store: ObjectStore, facts: StoreFacts) -> None:
        self.store = store
        self.store_id = facts.store_id
        self.created_at = facts.created_at
        self.encrypted = facts.encrypted
        self._facts = facts
        self._volumes = Volumes(store, facts)

    @classmethod
    def init(cls, store: ObjectStore, ring: KeyRing = NO_KEYS, *, single_writer: bool = False) -> Repository:
        """Make a store here, or open the one that is here already, after proving that it is fit for it.

        With a key, all that is stored is encrypted. `single_writer`: use a store that cannot create exclusively.
        """
        check_store(store, single_writer=single_writer)
        return cls(store, make_or_open(store, ring, single_writer=single_writer))

    @classmethod
    def open(cls, store: ObjectStore, ring: KeyRing = NO_KEYS) -> Repository:
        """Open the store here. Raises NotAVault, KeyMissing, WrongKey."""
        return cls(store, open_store_record(store, ring))

    def seen_by(self, store: ObjectStore) -> Repository:
        """The same backups through another client of the same store."""
        return Repository(store, self._facts)

    def volumes(self) -> list[str]:
        """Names of all volumes that ever had a record, those deleted since included."""
        return sorted(self._volumes.names())

    def backup(self, request: BackupRequest) -> BackupResult:
        """Back one volume up. Returns the former result if this operation has made its backup already."""
        return BackupRun(self.store, self._volumes, request).run()

    def restore(
        self, volume: str, target: str, backup_id: str = LATEST, report: Report = quiet
    ) -> RestoreResult:
        """Write a backup to a device or file.

        Raises VolumeNotFound, BackupNotFound, TargetTooSmall (before anything is written), StoredDataDamaged.
        """
        found = self._volume(volume)
        return RestoreRun(self.store, found, _entry(found.state, backup_id), target, report).run()

    def delete(self, volume: str, backup_id: str) -> bool:
        """Take a backup out of the lineage; False when it is not there. Others are not touched.

        Used bytes fall at once. Objects that nothing needs any more stay until they are collected.
        """
        found = self._volumes.find(volume)
        if found is None or found.state.root(backup_id) is None:
            return False
        roots = Roots(self.store, found.lineage)

        def decide(current: State) -> tuple[State, Outcome] | None:
            entry = current.root(backup_id)
            if entry is None:
                return None
            current.roots.remove(entry)
            current.used_bytes = roots.used_bytes(current.roots)
            return current, Outcome("", "delete", operation=entry.operation, root=entry.id)

        Commits(self.store, found.lineage).update(decide, found.state)
        return True

    def list(self, volume: str | None = None) -> Table:
        """Backups, oldest first, of one volume or of all."""
        states = iter([self._volume(volume).state]) if volume is not None else self._states()
        return [_facts(state, entry) for state in states for entry in state.roots]

    def show(self, volume: str, backup_id: str = LATEST) -> dict[str, Any]:
        """All that is known of one backup, its meta included."""
        found = self._volume(volume)
        state = found.state
        entry = _entry(state, backup_id)
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

    def find_operation(self, volume: str, operation_id: str) -> BackupResult | None:
        """The result of an operation that has committed; None when it has not."""
        found = self._volumes.find(volume)
        entry = None if found is None else found.state.root_of(operation_id)
        return None if found is None or entry is None else result_of(found.state, entry)

    def usage(self) -> Table:
        """For each volume: {volume, usedBytes, backups}. Reads commits only."""
        return [
            {"volume": state.volume, "usedBytes": state.used_bytes, "backups": len(state.roots)}
            for state in self._states()
        ]

    def _volume(self, volume: str) -> Volume:
        found = self._volumes.find(volume)
        if found is None:
            raise VolumeNotFound(f"{self.store.url} holds no volume {volume!r}")
        return found

    def _states(self) -> Iterator[State]:
        with runtime.executor(CATALOGUE_THREADS, "catalogue") as pool:
            for found in pool.map(self._volumes.find, sorted(self._volumes.names())):
                if found is not None:
                    yield found.state


def _entry(state: State, backup_id: str) -> RootEntry:
    if backup_id == LATEST:
        if not state.roots:
            raise BackupNotFound(f"volume {state.volume!r} has no backups")
        return state.roots[-1]
    entry = state.root(backup_id)
    if entry is None:
        raise BackupNotFound(f"volume {state.volume!r} has no backup {backup_id}")
    return entry


def _facts(state: State, entry: RootEntry) -> dict[str, Any]:
    return {
        "backupId": entry.id,
        "volume": state.volume,
        "createdAt": entry.created_at,
        "type": entry.type,
        "size": entry.size,
        "bytesStored": entry.figures["bytesStored"],
        "rootHash": entry.content_hash,
        "operationId": entry.operation,
        "parent": entry.parent,
        "labels": entry.labels,
        "owner": state.owner,
    }
