"""An audit of every sealing: under one key no nonce may come twice, unless for the very same bytes."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from blockvault.engine import crypt
from blockvault.engine.hashing import Buffer


class Audit:
    """All that was sealed while it is at work. `repeats`: the same bytes in the same place, as by a lost answer."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._seen: dict[tuple[bytes, int], bytes] = {}
        self.repeats = 0
        cipher = crypt.ObjectCipher
        begin, seal = cipher.__init__, cipher.seal
        keys: dict[int, bytes] = {}

        def beginning(made: crypt.ObjectCipher, key: bytes) -> None:
            begin(made, key)
            keys[id(made)] = key  # an id that is given again is noted again

        def sealing(made: crypt.ObjectCipher, nonce: int, data: Buffer, bound: bytes) -> bytes:
            self.take(keys[id(made)], nonce, bytes(data), bound)
            return seal(made, nonce, data, bound)

        patch.setattr(cipher, "__init__", beginning)
        patch.setattr(cipher, "seal", sealing)

    @property
    def count(self) -> int:
        """Nonces that were used."""
        return len(self._seen)

    def take(self, key: bytes, nonce: int, data: bytes, bound: bytes) -> None:
        """One sealing. The associated data counts as well: two tags under one nonce give the authentication key away."""
        digest = blake2b(len(bound).to_bytes(8, "little") + bound + data, digest_size=16).digest()
        former = self._seen.setdefault((key, nonce), digest)
        assert former == digest, f"nonce {nonce} twice under one key, for other bytes"
        self.repeats += former is not digest
