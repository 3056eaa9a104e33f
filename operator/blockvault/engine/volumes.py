"""From a volume's name to its lineage: records that are created, never overwritten.

Record 1 names the first lineage. When that lineage has been deleted for good, record 2 names the next, and so
on: ids of lineages are random and never used again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from blockvault.engine import envelope, runtime
from blockvault.engine.commits import Commits
from blockvault.engine.errors import BadRequest, StoredDataDamaged
from blockvault.engine.hashing import LineageKey, volume_name_hash
from blockvault.engine.names import VOLUMES, volume_key
from blockvault.engine.state import ACTIVE, State
from blockvault.stores import AlreadyExists, ObjectNotFound, ObjectStore

MAX_NAME = 512


class Volumes:
    """The volumes of one store."""

    def __init__(self, store: ObjectStore, name_key: bytes) -> None:
        self._store = store
        self._name_key = name_key

    def find(self, volume: str) -> State | None:
        """The newest state of a volume's lineage; None when there is none, or only deleted ones."""
        lineage, _ = self._last(volume)
        if lineage is None:
            return None
        state = Commits(self._store, lineage).newest()
        return state if state is not None and state.status == ACTIVE else None

    def find_or_make(self, volume: str) -> State:
        """As `find`, but a volume that is new gets a lineage.

        Its first commit is still to be made (number 0).
        """
        lineage, number = self._last(volume)
        while True:
            if lineage is not None:
                state = Commits(self._store, lineage).newest()
                if state is None:
                    return State(lineage, volume, key=_fresh_key())
                if state.status == ACTIVE:
                    return state
            number += 1
            lineage = self._create(volume, number)

    def names(self) -> Iterator[str]:
        """All volumes that have a record, each once."""
        seen: set[str] = set()
        for info in list(self._store.list(VOLUMES)):
            folder = info.key.rpartition("/")[0]
            if folder not in seen:
                seen.add(folder)
                yield self._record(info.key)[0]

    def _last(self, volume: str) -> tuple[str | None, int]:
        """(lineage, number) of the last record; found by probing, as listings may lag."""
        if not volume or len(volume.encode()) > MAX_NAME:
            raise BadRequest(f"volume name {volume!r}: 1 to {MAX_NAME} bytes are allowed")
        name_hash = volume_name_hash(self._name_key, volume)
        lineage, number = None, 0
        while True:
            try:
                found, lineage_found = self._record(volume_key(name_hash, number + 1))
            except ObjectNotFound:
                return lineage, number
            if found != volume:
                raise StoredDataDamaged(f"{volume_key(name_hash, number + 1)}: names volume {found!r}")
            lineage, number = lineage_found, number + 1

    def _create(self, volume: str, number: int) -> str:
        key = volume_key(volume_name_hash(self._name_key, volume), number)
        lineage = runtime.random_id()
        facts = {"volume": volume, "lineage": lineage, "createdAt": runtime.now()}
        try:
            self._store.create(key, envelope.seal(envelope.Kind.VOLUME, key, json.dumps(facts).encode()))
        except AlreadyExists:
            return self._record(key)[1]
        return lineage

    def _record(self, key: str) -> tuple[str, str]:
        opened = envelope.unseal(envelope.Kind.VOLUME, key, self._store.get(key))
        try:
            facts = json.loads(opened.body)
            return str(facts["volume"]), str(facts["lineage"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoredDataDamaged(f"{key}: {error}") from error


def _fresh_key() -> dict[str, object]:
    return {"generation": 0, "wrap": "none", "key": LineageKey.new().raw.hex()}
