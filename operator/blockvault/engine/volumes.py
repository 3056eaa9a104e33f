"""From a volume's name to its lineage: records that are created, never overwritten.

Record 1 names the first lineage. When that lineage has been deleted for good, record 2 names the next, and so
on: ids of lineages are random and never used again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from blockvault.engine import envelope, generations, keys, runtime
from blockvault.engine.commits import Commits
from blockvault.engine.errors import (
    BadRequest,
    CommitsLost,
    EngineError,
    FormatUnsupported,
    StoredDataDamaged,
    WrongKey,
)
from blockvault.engine.fetching import get_whole
from blockvault.engine.generations import StoreFacts
from blockvault.engine.hashing import volume_name_hash
from blockvault.engine.lineage import Lineage, erased_lineage, lineage_of, new_lineage
from blockvault.engine.names import GENERATIONS, STORE, VOLUMES, volume_key
from blockvault.engine.state import ACTIVE, DELETED, EMPTY, State
from blockvault.stores import AlreadyExists, BlockvaultError, ObjectLock, ObjectNotFound, ObjectStore

# Told of the record's key, the volume's name if that much could be read, and the error.
Failed = Callable[[str, str | None, BlockvaultError], None]
# Told of a volume, or of the key of a commit or record, and its error.
Refused = Callable[[str, EngineError], None]

MAX_NAME = 512
_LINEAGE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Volume:
    """A volume as it was found: its lineage, opened, and the newest state (number 0: no commit yet)."""

    lineage: Lineage
    state: State


@dataclass(frozen=True)
class _Record:
    volume: str
    lineage: str
    key: str | None


class Volumes:
    """The volumes of one store."""

    def __init__(self, store: ObjectStore, facts: StoreFacts) -> None:
        self._store = store
        self._facts = facts
        self._cipher = facts.cipher

    def find(self, volume: str, *, without_commits: bool = False) -> Volume | None:
        """A volume's lineage and its newest state; None when there is none, or only deleted ones.

        Raises CommitsLost, unless `without_commits` is asked for: then the state is that before the first.
        """
        number = 1
        while True:
            try:
                record = self._record(self._key(volume, number), volume)
            except ObjectNotFound:
                return None
            try:
                found = self._newest(record)
            except CommitsLost:
                lineage = self._open(record) if without_commits else None
                if lineage is None:
                    raise
                return Volume(lineage, State(record.lineage, volume))
            # A new record is only ever made after the lineage of the one before it was deleted.
            if found is None or found.state.status == ACTIVE:
                return found
            number += 1

    def find_or_make(self, volume: str) -> Volume:
        """As `find`, but a volume that is new gets a lineage, whose first commit is still to be made.

        Raises KeyRotated when it would be wrapped under an old key.
        """
        number = 1
        while True:
            key = self._key(volume, number)
            try:
                record = self._record(key, volume)
            except ObjectNotFound:
                record = self._create(key, volume)
            lineage = self._open(record)
            if lineage is None:
                # Ended, its name is free for the next; if not, something came into it, and it is opened anew.
                if self.sealed(record.lineage).abandon():
                    number += 1
                continue
            found = self._state_of(lineage, record, probe=False)
            if found is None:
                return Volume(lineage, State(record.lineage, volume))
            if found.state.status == ACTIVE:
                return found
            number += 1

    def openable(self, volume: str) -> list[Lineage]:
        """The lineages that a volume has had and a key opens, the latest first, deleted ones too. Reads no commits."""
        found: list[Lineage] = []
        for number in count(1):
            try:
                lineage = self._opened(self._record(self._key(volume, number), volume))
            except ObjectNotFound:
                return found[::-1]
            if lineage is not None:
                found.append(lineage)
        raise AssertionError("numbers do not end")

    @property
    def lock(self) -> ObjectLock | None:
        """For how long each backup is locked, and how; None where none is."""
        return self._facts.lock

    def folder(self, volume: str | None) -> str:
        """The folder of a volume's records, or of those of all."""
        return VOLUMES if volume is None else self._key(volume, 0)[:-8]

    def records_of(self, volume: str, lineage: Lineage) -> Iterator[str]:
        """Keys of the small objects that lead from the vault's key and the volume's name to the lineage."""
        yield STORE
        wraps = {lineage.paths.key(key.fingerprint) for key in self._facts.ring}
        for folder in (GENERATIONS, self.folder(volume), lineage.paths.keys):
            for info in self._store.list(folder):
                if folder != lineage.paths.keys or info.key in wraps:
                    yield info.key

    @property
    def key_fingerprint(self) -> str | None:
        """Of the vault's key that was given; None where the store is not encrypted."""
        current = self._facts.ring.current
        return None if current is None else current.fingerprint

    def confirm(self, lineage: Lineage) -> None:
        """To be called between a lineage's first commit and its first backup: it counts only under the newest key.

        Raises KeyRotated: a rotation that began meanwhile may have missed this lineage.
        """
        if self._facts.encrypted:
            generations.refuse_old_key(self._store, self._facts)
            assert self._facts.ring.current is not None
            # It may have been opened by the former key, and be wrapped under that one only.
            keys.wrap(self._store, lineage, self._facts.ring.current)

    def all(self, volume: str | None = None, *, failed: Failed | None = None) -> Iterator[Volume]:
        """Every lineage that has a commit, of one volume or of all, deleted ones as well.

        With `failed`, that is told of what cannot be read, and the others follow.
        """
        for info in list(self._store.list(self.folder(volume))):
            name = volume
            try:
                record = self._record(info.key, volume)
                name = record.volume
                found = self._newest(record)
            except BlockvaultError as error:
                if failed is None:
                    raise
                failed(info.key, name, error)
                continue
            if found is not None:
                yield found

    def lineages(self, failed: Refused | None = None) -> Iterator[tuple[str, str]]:
        """(volume, lineage) of every record, whatever became of it. With `failed`, that is told of damaged records."""
        for info in list(self._store.list(VOLUMES)):
            try:
                record = self._record(info.key, None)
            except (StoredDataDamaged, FormatUnsupported) as error:
                if failed is None:
                    raise
                failed(info.key, error)
                continue
            yield record.volume, record.lineage

    def sealed(self, lineage_id: str) -> Commits:
        """The commits of a lineage that no key opens: what their clear sections tell."""
        return Commits(self._store, erased_lineage(lineage_id, single_writer=self._facts.single_writer))

    def unnamed(self, lineage_id: str) -> str | None:
        """The volume of a lineage whose record is missing; None when it is there, or the lineage deleted or sealed.

        Asks for the record by the name that the lineage's newest commit has, as listings may lag.
        """
        single = self._facts.single_writer
        if self._facts.encrypted:
            lineage = keys.unwrap_any(self._store, lineage_id, self._facts.ring, single_writer=single)
        else:  # commits are readable without its key, which is in the record
            lineage = lineage_of(lineage_id, bytes(32), encrypted=False, single_writer=single)
        state = None if lineage is None else Commits(self._store, lineage).newest()
        lost = state is not None and state.status == ACTIVE and not self.named(state.volume, lineage_id)
        return state.volume if state is not None and lost else None

    def named(self, volume: str, lineage_id: str) -> bool:
        """Whether the volume's name leads to this lineage: all records up to the one that names it are there."""
        number = 1
        while True:
            try:
                if self._record(self._key(volume, number), volume).lineage == lineage_id:
                    return True
            except ObjectNotFound:
                return False
            number += 1

    def names(self, failed: Refused | None = None) -> Iterator[str]:
        """All volumes that have a record, each once. With `failed`, that is told of damaged records."""
        seen: set[str] = set()
        for volume, _ in self.lineages(failed):
            if volume not in seen:
                seen.add(volume)
                yield volume

    def _key(self, volume: str, number: int) -> str:
        if not volume or len(volume.encode()) > MAX_NAME:
            raise BadRequest(f"volume name {volume!r}: 1 to {MAX_NAME} bytes are allowed")
        return volume_key(self._hash(volume), number)

    def _hash(self, volume: str) -> str:
        return volume_name_hash(self._facts.name_key, volume)

    def _newest(self, record: _Record) -> Volume | None:
        """The lineage's newest state; None before its first commit, and where no key opens it but nothing is in it."""
        lineage = self._open(record)
        return None if lineage is None else self._state_of(lineage, record)

    def _state_of(self, lineage: Lineage, record: _Record, *, probe: bool = True) -> Volume | None:
        # Of an erased lineage only the last commit can be read, so it has to be found.
        state = Commits(self._store, lineage).newest(probe=probe or lineage.erased)
        if state is None:
            return None
        state.volume = state.volume or record.volume  # an erased lineage cannot tell
        return Volume(lineage, state)

    def _open(self, record: _Record) -> Lineage | None:
        """The lineage with its key; None when it is under a key that was given up, and nothing is in it.

        Raises KeyRotated, WrongKey.
        """
        found = self._opened(record)
        if found is not None:
            return found
        # The key of a deleted lineage may have been erased, but its last commit says so in the clear. Whoever has
        # not the newest key cannot know that it was erased, and must not take that commit's word for it.
        generations.refuse_old_key(self._store, self._facts)
        told = self.sealed(record.lineage).told()
        if told == DELETED:
            return erased_lineage(record.lineage, single_writer=self._facts.single_writer)
        if told == EMPTY:
            return None
        # A rotation may have come to it meanwhile.
        found = self._opened(record)
        if found is not None:
            return found
        raise WrongKey(
            f"volume {record.volume}: lineage {record.lineage} is wrapped under none of the keys given",
            remedy="Give the former key as well; `blockvault key rotate` wraps what it missed.",
        )

    def _opened(self, record: _Record) -> Lineage | None:
        """The lineage with its key; None when none of the keys given opens it."""
        single = self._facts.single_writer
        if record.key is not None:
            return lineage_of(
                record.lineage, bytes.fromhex(record.key), encrypted=False, single_writer=single
            )
        return keys.unwrap_any(self._store, record.lineage, self._facts.ring, single_writer=single)

    def _create(self, key: str, volume: str) -> _Record:
        lineage = new_lineage(
            runtime.random_id(), encrypted=self._facts.encrypted, single_writer=self._facts.single_writer
        )
        facts = {"volume": volume, "lineage": lineage.id, "createdAt": runtime.now(), "key": None}
        if self._facts.encrypted:
            # The key first: a record must never name a lineage that nobody can open.
            generations.refuse_old_key(self._store, self._facts)
            assert self._facts.ring.current is not None
            keys.wrap(self._store, lineage, self._facts.ring.current)
        else:
            facts["key"] = lineage.keys.raw.hex()
        data = envelope.seal(envelope.Kind.VOLUME, key, json.dumps(facts).encode(), cipher=self._cipher)
        try:
            self._store.create(key, data)
        except AlreadyExists:
            return self._record(key, volume)
        return _Record(volume, lineage.id, facts["key"])

    def _record(self, key: str, volume: str | None) -> _Record:
        """The record of that key. Raises ObjectNotFound."""
        opened = envelope.unseal(envelope.Kind.VOLUME, key, get_whole(self._store, key), self._cipher)
        facts = envelope.facts_of(key, opened.body)
        name, lineage, secret = facts.get("volume"), facts.get("lineage"), facts.get("key")
        if not isinstance(name, str) or not isinstance(lineage, str) or not _LINEAGE.fullmatch(lineage):
            raise StoredDataDamaged(f"{key}: names no volume or no lineage")
        if not self._facts.encrypted:
            envelope.secret_of(key, secret)
        elif secret is not None:
            raise StoredDataDamaged(f"{key}: holds a key in the clear, though the store is encrypted")
        record = _Record(name, lineage, secret)
        # Both ways: what a listing shows has to be where its name leads, or nobody finds it by that name.
        if volume not in (None, name) or not key.startswith(volume_key(self._hash(name), 0)[:-8]):
            raise StoredDataDamaged(
                f"{key}: names volume {name!r}, whose place is another: this record, or {STORE!r}, is of another store"
            )
        return record
