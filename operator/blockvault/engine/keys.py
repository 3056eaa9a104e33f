"""The vault's key: what opens an encrypted store. Lineages' keys lie in the store, wrapped under it.

The key itself never goes into the store; its fingerprint does, so that a wrong key is told from damage. Rotation
wraps the lineages' keys anew and rewrites no data: see rotation.py.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from blockvault.engine import envelope
from blockvault.engine.crypt import Cipher
from blockvault.engine.errors import BadKey, StoredDataDamaged
from blockvault.engine.fetching import get_whole
from blockvault.engine.hashing import SIZE, derive
from blockvault.engine.lineage import Lineage, lineage_of
from blockvault.engine.names import LineagePaths
from blockvault.stores import AlreadyExists, ObjectNotFound, ObjectStore

_FINGERPRINT = "blockvault.dev v1 vault key fingerprint"
_WRAPPING = "blockvault.dev v1 vault key"


class VaultKey:
    """32 secret bytes. Shows its fingerprint only."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) != SIZE:
            raise BadKey(f"a key has {SIZE} bytes, this one {len(raw)}")
        self._raw = raw
        self.fingerprint = derive(_FINGERPRINT, raw)[:8].hex()
        self.cipher = Cipher(derive(_WRAPPING, raw))

    @classmethod
    def parse(cls, data: bytes) -> VaultKey:
        """From a key file: 32 bytes, raw or in base64. Raises BadKey, which shows nothing of it."""
        if len(data) == SIZE:
            return cls(data)
        try:
            return cls(base64.b64decode(data.strip(), validate=True))
        except (binascii.Error, ValueError) as error:
            raise BadKey("the key is neither 32 bytes nor their base64") from error

    def __repr__(self) -> str:
        return f"VaultKey({self.fingerprint})"


@dataclass(frozen=True)
class KeyRing:
    """The vault's key, and while it is being rotated the one before it. Both None: a store without encryption."""

    current: VaultKey | None = None
    previous: VaultKey | None = None

    def __iter__(self) -> Iterator[VaultKey]:
        return (key for key in (self.current, self.previous) if key is not None)

    def of(self, fingerprint: str) -> VaultKey | None:
        """The key of that fingerprint."""
        return next((key for key in self if key.fingerprint == fingerprint), None)


def wrap(store: ObjectStore, lineage: Lineage, key: VaultKey) -> None:
    """Put the lineage's key into the store, wrapped under the vault's; nothing happens if it is there already."""
    path = lineage.paths.key(key.fingerprint)
    body = json.dumps({"key": lineage.keys.raw.hex()}).encode()
    try:
        store.create(path, envelope.seal(envelope.Kind.KEY, path, body, cipher=key.cipher))
    except AlreadyExists:
        # Another writer was faster. The lineage has one key only, so it must be the same. Gone again: the lineage was
        # deleted, or a later rotation has no use for this wrap; either shows at the next commit.
        with suppress(ObjectNotFound):
            found = unwrap(store, lineage.id, key, single_writer=lineage.single_writer)
            if found.keys.raw != lineage.keys.raw:
                raise StoredDataDamaged(f"{path}: holds another key than the lineage's") from None


def unwrap(store: ObjectStore, lineage_id: str, key: VaultKey, *, single_writer: bool) -> Lineage:
    """The lineage, opened by the vault's key. Raises ObjectNotFound when it is not wrapped under this key."""
    path = LineagePaths(lineage_id).key(key.fingerprint)
    opened = envelope.unseal(envelope.Kind.KEY, path, get_whole(store, path), key.cipher)
    secret = envelope.secret_of(path, envelope.facts_of(path, opened.body).get("key"))
    return lineage_of(lineage_id, secret, encrypted=True, single_writer=single_writer)


def unwrap_any(store: ObjectStore, lineage_id: str, ring: KeyRing, *, single_writer: bool) -> Lineage | None:
    """The lineage, opened by whichever key of the ring does; None when none does."""
    for key in ring:
        try:
            return unwrap(store, lineage_id, key, single_writer=single_writer)
        except ObjectNotFound:
            continue
    return None
