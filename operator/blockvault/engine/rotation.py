"""Rotation of the vault's key: a new generation, every lineage's key wrapped anew, and only then the old wraps go.

No data is rewritten. Every step can be repeated, by the same person or by another, after a crash at any point. The
old wraps stay until each lineage was opened by the new key and no run that was given an older key still stands:
until then the old key must be kept as well (docs/protocol.md, Keys).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from blockvault.engine import generations, keys, runtime
from blockvault.engine.commits import Commits
from blockvault.engine.errors import BadRequest, KeyRotated, StoredDataDamaged, WrongKey
from blockvault.engine.generations import Generation, StoreFacts
from blockvault.engine.keys import KeyRing, VaultKey
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import LineagePaths
from blockvault.engine.state import BACKUP, DELETED, EMPTY
from blockvault.engine.volumes import Volumes
from blockvault.stores import AlreadyExists, ObjectLocked, ObjectNotFound, ObjectStore

# Lineages looked at together.
THREADS = 8
# Listings may lag: so many in a row, so many seconds apart, must show nothing left to do.
QUIET_LISTINGS = 2
QUIET_SECONDS = 5.0


@dataclass
class RotationResult:
    """What a rotation did.

    `generation`, `fingerprint`: of the new key. `lineages`: how many open with it; `rewrapped`: by this run.
    `old_key_removed`: the old key is of no use any more. Else `waiting_for` names the runs that keep it:
    {volume, operationId, startedAt}; or it is `locked`, as what opens with it cannot be deleted yet.
    """

    generation: int
    fingerprint: str
    lineages: int
    rewrapped: int
    old_key_removed: bool
    waiting_for: list[dict[str, Any]] = field(default_factory=list)
    locked: str | None = None


@dataclass(frozen=True)
class _Opened:
    """A lineage as a pass found it. `lineage` None: it was deleted, and there is nothing to wrap."""

    volume: str
    id: str
    lineage: Lineage | None
    wrapped: bool


class Rotation:
    """From the ring's previous key to its current one. Use once."""

    def __init__(self, store: ObjectStore, ring: KeyRing) -> None:
        if ring.current is None or ring.previous is None:
            raise BadRequest(
                "rotating takes two keys: the new one and the one before it",
                remedy="Give the new key with --key-file and the present one with --previous-key-file.",
            )
        if ring.current.fingerprint == ring.previous.fingerprint:
            raise BadRequest(
                f"both keys are the same ({ring.current.fingerprint})",
                remedy="Make a new key with `blockvault key generate FILE`.",
            )
        self._store = store
        self._new: VaultKey = ring.current
        self._old: VaultKey = ring.previous
        self._facts = generations.open_store_record(store, ring)
        self._volumes = Volumes(store, self._facts)
        self._done: dict[str, _Opened] = {}
        self._rewrapped = 0

    def run(self) -> RotationResult:
        """Rotate, or go on with a rotation that was begun. Raises KeyRotated, WrongKey, StoredDataDamaged."""
        generation = self._begin()
        quiet = 0
        while quiet < QUIET_LISTINGS:
            if quiet:
                runtime.sleep(QUIET_SECONDS)
            quiet = quiet + 1 if self._pass() == 0 else 0
        waiting, locked = self._older_runs(), None
        if not waiting:
            try:
                self._remove_old(generation)
            except ObjectLocked as error:
                locked = error.message
        live = sum(found.lineage is not None for found in self._done.values())
        return RotationResult(
            generation.number,
            generation.fingerprint,
            live,
            self._rewrapped,
            not waiting and locked is None,
            waiting,
            locked,
        )

    def _begin(self) -> Generation:
        """The generation of the new key: made here, or by a run before this one."""
        found = generations.newest(self._store, self._facts)
        if found.fingerprint == self._new.fingerprint:
            return found
        self._refuse_unless(found, self._old)
        former = [each for each in generations.known(self._store) if each.number <= found.number]
        if self._new.fingerprint in [each.fingerprint for each in former]:
            raise BadRequest(
                f"{self._store.url}: the key {self._new.fingerprint} was in use before",
                remedy="Make a new key with `blockvault key generate FILE`: a key is used once.",
            )
        # A rotation that was left half done must be ended first: this one could not open what it missed.
        for volume, lineage in self._volumes.lineages():
            self._open(volume, lineage)
        with suppress(AlreadyExists):  # somebody else rotates as well; to which key is seen below
            generations.add(self._store, self._facts, found.number + 1, self._new)
        found = generations.newest(self._store, self._facts)
        self._refuse_unless(found, self._new)
        return found

    def _refuse_unless(self, found: Generation, *allowed: VaultKey) -> None:
        if found.fingerprint not in [key.fingerprint for key in allowed]:
            raise KeyRotated(
                f"{self._store.url}: generation {found.number} has the key {found.fingerprint}; this rotation is from "
                f"{self._old.fingerprint} to {self._new.fingerprint}",
                remedy=f"Give the key {found.fingerprint} as the previous one, or as the new one to help it on.",
            )

    def _refuse_third_key(self) -> None:
        self._refuse_unless(generations.newest(self._store, self._facts), self._new, self._old)

    def _pass(self) -> int:
        """Look at all lineages that a listing shows; how many had to be wrapped."""
        todo = [(v, lineage) for v, lineage in self._volumes.lineages() if lineage not in self._done]
        with runtime.executor(THREADS, "rotate") as pool:
            found = list(pool.map(lambda each: self._wrap(*each), todo))
        self._done.update((each.id, each) for each in found)
        rewrapped = sum(each.wrapped for each in found)
        self._rewrapped += rewrapped
        return len(found)

    def _wrap(self, volume: str, lineage_id: str) -> _Opened:
        found = self._open(volume, lineage_id)
        if found.lineage is None or not found.wrapped:
            return found
        keys.wrap(self._store, found.lineage, self._new)
        again = self._unwrap(lineage_id, self._new)
        if again is None:
            # Who wakes after a long sleep: a later rotation, or the volume's removal, took the wrap away again.
            self._refuse_third_key()
            if self._volumes.sealed(lineage_id).told() == DELETED:
                return _Opened(volume, lineage_id, None, False)
        if again is None or again.keys.raw != found.lineage.keys.raw:
            raise StoredDataDamaged(f"volume {volume}: the key of lineage {lineage_id} does not read back")
        return found

    def _open(self, volume: str, lineage_id: str) -> _Opened:
        """The lineage by the new key; else by the old one (`wrapped`: it is to be). Raises WrongKey."""
        new, old = self._unwrap(lineage_id, self._new), self._unwrap(lineage_id, self._old)
        if new is None and old is None:
            new = self._unwrap(
                lineage_id, self._new
            )  # somebody who rotates as well may have just removed the old
        if new is not None:
            if old is not None and old.keys.raw != new.keys.raw:
                raise StoredDataDamaged(f"volume {volume}: lineage {lineage_id} has two different keys")
            return _Opened(volume, lineage_id, new, False)
        if old is not None:
            return _Opened(volume, lineage_id, old, True)
        sealed = self._volumes.sealed(lineage_id)
        told = sealed.told()
        if told != DELETED:
            self._refuse_third_key()
        # Nothing is in it, and a writer that slept made it under a still older key: its name is set free.
        if told == DELETED or (told == EMPTY and sealed.abandon()):
            return _Opened(volume, lineage_id, None, False)
        raise WrongKey(
            f"volume {volume}: lineage {lineage_id} opens with neither the new key nor the previous one",
            remedy="End the rotation before this one first: give the keys that it was between.",
        )

    def _unwrap(self, lineage_id: str, key: VaultKey) -> Lineage | None:
        try:
            return keys.unwrap(self._store, lineage_id, key, single_writer=self._facts.single_writer)
        except ObjectNotFound:
            return None

    def _older_runs(self) -> list[dict[str, Any]]:
        """Attempts that were given another key than the new one."""
        live = [found for found in self._done.values() if found.lineage is not None]
        with runtime.executor(THREADS, "rotate") as pool:
            return [run for runs in pool.map(self._older_runs_of, live) for run in runs]

    def _older_runs_of(self, found: _Opened) -> list[dict[str, Any]]:
        assert found.lineage is not None
        state = Commits(self._store, found.lineage).newest()
        return [
            {"volume": found.volume, "operationId": attempt.operation, "startedAt": attempt.started_at}
            for attempt in (state.attempts if state is not None else [])
            if attempt.kind == BACKUP and attempt.key != self._new.fingerprint
        ]

    def _remove_old(self, generation: Generation) -> None:
        """Delete the wraps of all generations before ours. Raises KeyRotated when ours is not the newest."""
        self._refuse_unless(generations.newest(self._store, self._facts), self._new)
        older = [each for each in generations.known(self._store) if each.number < generation.number]
        # Deleting what is not there is no error, and needs no listing that might lag.
        gone = {each.fingerprint for each in older} | {self._old.fingerprint}
        self._store.delete([LineagePaths(id).key(each) for id in sorted(self._done) for each in sorted(gone)])


def wrapped_under(store: ObjectStore, facts: StoreFacts) -> list[dict[str, Any]]:
    """For each lineage {volume, lineage, fingerprints}: the keys that it is wrapped under, by listing."""
    volumes = list(Volumes(store, facts).lineages())

    def look(each: tuple[str, str]) -> dict[str, Any]:
        volume, lineage = each
        found = sorted(info.key.rpartition("/")[2] for info in store.list(LineagePaths(lineage).keys))
        return {"volume": volume, "lineage": lineage, "fingerprints": found}

    with runtime.executor(THREADS, "survey") as pool:
        return list(pool.map(look, volumes))
