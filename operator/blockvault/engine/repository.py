"""A store of backups: the engine's public face."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from blockvault.engine import envelope, runtime
from blockvault.engine.backup import LATEST, BackupRequest, BackupRun, result_of
from blockvault.engine.commits import Commits
from blockvault.engine.errors import BackupNotFound, NotAVault, StoredDataDamaged, VolumeNotFound
from blockvault.engine.names import CANARIES, STORE, LineagePaths
from blockvault.engine.progress import BackupResult, Report, RestoreResult, camel, quiet
from blockvault.engine.restore import RestoreRun
from blockvault.engine.root import Roots
from blockvault.engine.state import Outcome, RootEntry, State
from blockvault.engine.volumes import Volumes
from blockvault.stores import AlreadyExists, NoConditionalCreate, ObjectNotFound, ObjectStore, StoreRefused

Table = list[dict[str, Any]]

# Volumes looked at together, where all of them are.
CATALOGUE_THREADS = 8


def check_store(store: ObjectStore) -> None:
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
            raise NoConditionalCreate(f"{store.url}: the store lets a second creation of one name pass")
        if store.get(key) != first:
            raise StoreRefused(
                f"{store.url}/{key}: other bytes come back than were stored",
                remedy="Do not use this store; report it to who runs it.",
            )
    finally:
        store.delete([key])


class Repository:
    """The backups in one store. Make it with `init` or `open`."""

    def __init__(self, store: ObjectStore, facts: dict[str, Any]) -> None:
        self.store = store
        self.store_id = str(facts["storeId"])
        self.created_at = str(facts["createdAt"])
        self._volumes = Volumes(store, bytes.fromhex(facts["nameKey"]))

    @classmethod
    def init(cls, store: ObjectStore) -> Repository:
        """Make a store here, or open the one that is here already, after proving that it is fit for it."""
        check_store(store)
        facts = {
            "storeId": runtime.random_id(),
            "createdAt": runtime.now(),
            "nameKey": runtime.random(32).hex(),
        }
        try:
            store.create(STORE, envelope.seal(envelope.Kind.STORE, STORE, json.dumps(facts).encode()))
        except AlreadyExists:
            return cls.open(store)
        return cls(store, facts)

    @classmethod
    def open(cls, store: ObjectStore) -> Repository:
        """Open the store here. Raises NotAVault when there is none."""
        try:
            data = store.get(STORE)
        except ObjectNotFound as error:
            raise NotAVault(f"{store.url}: no store of backups here") from error
        opened = envelope.unseal(envelope.Kind.STORE, STORE, data)
        try:
            return cls(store, json.loads(opened.body))
        except (ValueError, KeyError, TypeError) as error:
            raise StoredDataDamaged(f"{STORE}: {error}") from error

    def backup(self, request: BackupRequest) -> BackupResult:
        """Back one volume up. Returns the former result if this operation has made its backup already."""
        return BackupRun(self.store, self._volumes.find_or_make(request.volume), request).run()

    def restore(
        self, volume: str, target: str, backup_id: str = LATEST, report: Report = quiet
    ) -> RestoreResult:
        """Write a backup to a device or file.

        Raises VolumeNotFound, BackupNotFound, TargetTooSmall (before anything is written), StoredDataDamaged.
        """
        state = self._state(volume)
        return RestoreRun(self.store, state, _entry(state, backup_id), target, report).run()

    def delete(self, volume: str, backup_id: str) -> bool:
        """Take a backup out of the lineage; False when it is not there. Others are not touched.

        Used bytes fall at once. Objects that nothing needs any more stay until they are collected.
        """
        state = self._volumes.find(volume)
        if state is None or state.root(backup_id) is None:
            return False
        roots = Roots(self.store, LineagePaths(state.lineage))

        def decide(current: State) -> tuple[State, Outcome] | None:
            entry = current.root(backup_id)
            if entry is None:
                return None
            current.roots.remove(entry)
            current.used_bytes = roots.used_bytes(current.roots)
            return current, Outcome("", "delete", operation=entry.operation, root=entry.id)

        Commits(self.store, state.lineage).update(decide, state)
        return True

    def list(self, volume: str | None = None) -> Table:
        """Backups, oldest first, of one volume or of all."""
        states = iter([self._state(volume)]) if volume is not None else self._states()
        return [_facts(state, entry) for state in states for entry in state.roots]

    def show(self, volume: str, backup_id: str = LATEST) -> dict[str, Any]:
        """All that is known of one backup, its meta included."""
        state = self._state(volume)
        entry = _entry(state, backup_id)
        root = Roots(self.store, LineagePaths(state.lineage)).read(entry)
        return {
            **camel(result_of(state, entry)),
            "operationId": entry.operation,
            "revision": entry.revision,
            "parent": root.facts["parent"],
            "labels": entry.labels,
            "meta": root.facts["meta"],
        }

    def find_operation(self, volume: str, operation_id: str) -> BackupResult | None:
        """The result of an operation that has committed; None when it has not."""
        state = self._volumes.find(volume)
        entry = None if state is None else state.root_of(operation_id)
        return None if state is None or entry is None else result_of(state, entry)

    def usage(self) -> Table:
        """For each volume: {volume, usedBytes, backups}. Reads commits only."""
        return [
            {"volume": state.volume, "usedBytes": state.used_bytes, "backups": len(state.roots)}
            for state in self._states()
        ]

    def _state(self, volume: str) -> State:
        state = self._volumes.find(volume)
        if state is None:
            raise VolumeNotFound(f"{self.store.url} holds no volume {volume!r}")
        return state

    def _states(self) -> Iterator[State]:
        with runtime.executor(CATALOGUE_THREADS, "catalogue") as pool:
            for state in pool.map(self._volumes.find, sorted(self._volumes.names())):
                if state is not None:
                    yield state


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
    }
