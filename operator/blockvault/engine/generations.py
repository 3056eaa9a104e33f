"""The store's own record and its key generations: how a store is made, recognised and opened.

Generation 1 is in the record itself. Each rotation creates the next number under `keys/`, with the fingerprint of
its key in the clear, so that everybody sees which key is the newest.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from blockvault.engine import envelope, runtime
from blockvault.engine.crypt import Cipher
from blockvault.engine.errors import (
    BadRequest,
    KeyMissing,
    KeyRotated,
    NotAVault,
    StoredDataDamaged,
    WrongKey,
)
from blockvault.engine.fetching import get_whole
from blockvault.engine.keys import KeyRing, VaultKey
from blockvault.engine.lockrule import LockRule
from blockvault.engine.names import GENERATIONS, LINEAGES, STORE, VOLUMES, generation_key
from blockvault.stores import AlreadyExists, BadLocation, ObjectLock, ObjectNotFound, ObjectStore

# Where the store's record is gone, and what it was the record of is not.
STORE_LOST = (
    "Bring it back from a copy of the store or a former version of the object: it never changed, so any will do. Do "
    "not run init, backup or collect before; docs/disaster-recovery.md says more."
)


@dataclass(frozen=True)
class Generation:
    """A number and the fingerprint of its key."""

    number: int
    fingerprint: str


@dataclass(frozen=True)
class StoreFacts:
    """An opened store. `ring` is empty where it is not encrypted. `checksum`: of its record, in hex.

    `lock`: for how long each backup is locked, and how; None where none is.
    """

    store_id: str
    created_at: str
    name_key: bytes
    ring: KeyRing
    single_writer: bool
    first_fingerprint: str | None
    checksum: str
    lock: ObjectLock | None = None

    @property
    def encrypted(self) -> bool:
        """True when bodies in this store are encrypted."""
        return self.first_fingerprint is not None

    @property
    def cipher(self) -> Cipher | None:
        """For the store's own records, which name volumes."""
        return Cipher(self.name_key) if self.encrypted else None


def create(
    store: ObjectStore, ring: KeyRing, *, single_writer: bool, lock: ObjectLock | None = None
) -> StoreFacts:
    """Make the store's record. Raises AlreadyExists when there is one."""
    key = ring.current
    clear: dict[str, Any] = {
        "storeId": runtime.random_id(),
        "createdAt": runtime.now(),
        "fingerprint": key.fingerprint if key else None,
        "singleWriter": single_writer,
    }
    if lock is not None:
        clear["objectLock"] = {"mode": lock.mode, "days": lock.days}
        store.lock_new(LockRule(lock).of_new)
    body = json.dumps({"nameKey": runtime.random(32).hex()}).encode()
    data = envelope.seal(
        envelope.Kind.STORE, STORE, body, clear=_json(clear), cipher=key.cipher if key else None
    )
    store.create(STORE, data)
    return open_store_record(store, ring)


def open_store_record(store: ObjectStore, ring: KeyRing, *, expected: bool = True) -> StoreFacts:
    """Open the store, and let it lock what is stored, if its record says so. `expected`: as of `get_whole`.

    Raises NotAVault, StoredDataDamaged (it was one), KeyMissing, WrongKey, BadRequest (a key where none is needed).
    """
    data = _record(store, expected=expected)
    parts = envelope.split(envelope.Kind.STORE, STORE, data)
    clear = envelope.facts_of(STORE, parts.clear)
    first = clear.get("fingerprint")
    if first is not None and not isinstance(first, str):
        raise StoredDataDamaged(f"{STORE}: its key has no fingerprint")
    if first is None:
        if ring.current is not None:
            raise BadRequest(
                f"{store.url} is not encrypted, but a key was given",
                remedy="Leave the key out, or check that this is the store you mean.",
            )
        body = envelope.unseal(envelope.Kind.STORE, STORE, data).body
    elif ring.current is None:
        raise KeyMissing(f"{store.url} is encrypted under the key {first}, and no key was given")
    elif (key := ring.of(first)) is not None:
        body = envelope.unseal(envelope.Kind.STORE, STORE, data, key.cipher).body
    else:
        body = _open_generation(store, ring, first, parts.checksum.hex())
    name_key = envelope.secret_of(STORE, envelope.facts_of(STORE, body).get("nameKey"))
    try:
        facts = StoreFacts(
            str(clear["storeId"]),
            str(clear["createdAt"]),
            name_key,
            ring,
            bool(clear["singleWriter"]),
            first,
            parts.checksum.hex(),
            _lock_in(clear),
        )
    except KeyError as error:
        raise StoredDataDamaged(f"{STORE}: has no {error}") from error
    if facts.lock is not None:
        store.lock_new(LockRule(facts.lock).of_new)
    return facts


def _lock_in(clear: dict[str, Any]) -> ObjectLock | None:
    """The object lock that the store's record asks for. Raises StoredDataDamaged: nobody may take it for none."""
    wanted = clear.get("objectLock")
    if wanted is None:
        return None
    try:
        return ObjectLock(wanted["mode"], int(wanted["days"]))
    except (BadLocation, KeyError, TypeError, ValueError) as error:
        raise StoredDataDamaged(f"{STORE}: an object lock that is not known: {error}") from error


def newest(store: ObjectStore, facts: StoreFacts) -> Generation:
    """The newest generation: that of the highest number, found by listing and then by probing upward."""
    assert facts.first_fingerprint is not None
    number = _highest(store)
    return _read(store, number)[0] if number > 1 else Generation(1, facts.first_fingerprint)


def known(store: ObjectStore) -> list[Generation]:
    """All generations, oldest first; none where the store is not encrypted. Takes no key. Raises NotAVault."""
    data = _record(store, expected=True)
    first = envelope.facts_of(STORE, envelope.split(envelope.Kind.STORE, STORE, data).clear).get(
        "fingerprint"
    )
    if first is None:
        return []
    later = (_read(store, number)[0] for number in range(2, _highest(store) + 1))
    return [Generation(1, str(first)), *later]


def add(store: ObjectStore, facts: StoreFacts, number: int, key: VaultKey) -> None:
    """Create a generation. Raises AlreadyExists when that number is taken."""
    path = generation_key(number)
    clear = _json({"generation": number, "fingerprint": key.fingerprint, "createdAt": runtime.now()})
    body = json.dumps({"nameKey": facts.name_key.hex(), "record": facts.checksum}).encode()
    store.create(path, envelope.seal(envelope.Kind.GENERATION, path, body, clear=clear, cipher=key.cipher))


def check(store: ObjectStore, facts: StoreFacts) -> None:
    """Raises StoredDataDamaged unless all generations that the ring opens vouch for this store's record."""
    for number in range(2, _highest(store) + 1):
        generation, data = _read(store, number)
        key, path = facts.ring.of(generation.fingerprint), generation_key(number)
        if key is None:
            continue
        body = envelope.facts_of(path, envelope.unseal(envelope.Kind.GENERATION, path, data, key.cipher).body)
        if (body.get("record"), body.get("nameKey")) != (facts.checksum, facts.name_key.hex()):
            raise StoredDataDamaged(
                f"{path}: made for another record than {STORE}: one of them is of another store"
            )


def refuse_old_key(store: ObjectStore, facts: StoreFacts) -> None:
    """Raises KeyRotated unless the ring's current key is that of the newest generation."""
    found = newest(store, facts)
    current = facts.ring.current
    if current is None or current.fingerprint != found.fingerprint:
        mine = current.fingerprint if current else "none"
        raise KeyRotated(f"{store.url}: the key was rotated to {found.fingerprint}; {mine} was given")


def _open_generation(store: ObjectStore, ring: KeyRing, first: str, record: str) -> bytes:
    """The body of the newest generation that the ring opens. It vouches for the store's record as well."""
    known = [first]
    for number in range(_highest(store), 1, -1):
        generation, data = _read(store, number)
        known.append(generation.fingerprint)
        key = ring.of(generation.fingerprint)
        if key is not None:
            path = generation_key(number)
            body = envelope.unseal(envelope.Kind.GENERATION, path, data, key.cipher).body
            if envelope.facts_of(path, body).get("record") != record:
                raise StoredDataDamaged(f"{STORE}: not the record that {path} was made for")
            return body
    given = ", ".join(key.fingerprint for key in ring)
    raise WrongKey(f"{store.url} is encrypted under {', '.join(known)}; the key given is {given}")


def _highest(store: ObjectStore) -> int:
    """The newest number. Listings may lag, so what they show is only where probing upward begins."""
    number = max([1, *(_number(info.key) for info in store.list(GENERATIONS))])
    while True:
        try:
            store.stat(generation_key(number + 1))
        except ObjectNotFound:
            return number
        number += 1


def _read(store: ObjectStore, number: int) -> tuple[Generation, bytes]:
    path = generation_key(number)
    data = get_whole(store, path)
    clear = envelope.facts_of(path, envelope.split(envelope.Kind.GENERATION, path, data).clear)
    return Generation(number, str(clear.get("fingerprint"))), data


def _number(key: str) -> int:
    text = key.rpartition("/")[2]
    return int(text) if len(text) == 8 and text.isascii() and text.isdigit() else 0


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), sort_keys=True).encode()


def make_or_open(
    store: ObjectStore, ring: KeyRing, *, single_writer: bool, lock: ObjectLock | None = None
) -> StoreFacts:
    """Make the store, or open the one that is here already.

    Raises BadRequest when that has another lock, StoredDataDamaged when only its record is gone.
    """
    try:
        facts = open_store_record(store, ring, expected=False)
    except NotAVault:
        with suppress(AlreadyExists):
            return create(store, ring, single_writer=single_writer, lock=lock)
        facts = open_store_record(store, ring)
    if lock not in (None, facts.lock):
        there = (
            "without object lock" if facts.lock is None else f"for {facts.lock.days} days, {facts.lock.mode}"
        )
        raise BadRequest(
            f"{store.url}: a store is here already, made {there}, and its record does not change",
            remedy="Lock single backups for longer with `blockvault backup --lock-days`, or make another store.",
        )
    return facts


def _record(store: ObjectStore, *, expected: bool) -> bytes:
    """The store's record. Raises NotAVault; StoredDataDamaged when there was one, as a second is another store's."""
    try:
        return get_whole(store, STORE, expected=expected)
    except ObjectNotFound as error:
        for folder in (VOLUMES, LINEAGES, GENERATIONS):
            found = next(iter(store.list(folder)), None)
            if found is not None:
                return _younger(store, found.key)
        raise NotAVault(f"{store.url}: no store of backups here") from error


def _younger(store: ObjectStore, other: str) -> bytes:
    """The record, looked for again: somebody may have made the store just now, and a volume in it."""
    try:
        return get_whole(store, STORE)
    except ObjectNotFound as error:
        raise StoredDataDamaged(
            f"{STORE}: the record of {store.url} is gone, although {other} is there", remedy=STORE_LOST
        ) from error
