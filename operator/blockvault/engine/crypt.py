"""Authenticated encryption: AES-256-GCM, with a key of its own for every stored object.

The key of an object is derived from the lineage's (or store's) secret and the object's id, which is never
used twice. So a nonce needs to be unique within one object only: an item's is its offset, a body's is zero
(no item lies there). What is bound by associated data is said where it is made: items.py and envelope.py.
"""

from __future__ import annotations

from functools import lru_cache

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from blockvault.engine.codec import CodecError
from blockvault.engine.hashing import Buffer, derive

TAG_SIZE = 16
BODY_NONCE = 0

_CONTEXT = "blockvault.dev v1 encryption"


class ObjectCipher:
    """Seals and opens the parts of one object."""

    def __init__(self, key: bytes) -> None:
        self._gcm = AESGCM(key)

    def seal(self, nonce: int, data: Buffer, bound: bytes) -> bytes:
        """`data` encrypted, with its tag of 16 bytes at the end."""
        return self._gcm.encrypt(nonce.to_bytes(12, "little"), data, bound)

    def open(self, nonce: int, data: Buffer, bound: bytes) -> bytes:
        """The reverse. Raises CodecError: changed, of another place, or under another key."""
        try:
            return self._gcm.decrypt(nonce.to_bytes(12, "little"), data, bound)
        except InvalidTag as error:
            raise CodecError("the authentication tag does not match") from error


class Cipher:
    """The encryption of one lineage, or of a store's own records: `secret` is 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = derive(_CONTEXT, secret)
        # Blocks of one segment are read one after the other; a cache spares making its cipher each time.
        self.of_object = lru_cache(maxsize=256)(self._of_object)

    def _of_object(self, object_id: bytes) -> ObjectCipher:
        return ObjectCipher(blake3(object_id, key=self._secret).digest())
