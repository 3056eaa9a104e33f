"""The lineage's key and the hashes made under it.

All hashes of content are keyed by a secret of the lineage, so that a store's owner cannot tell known blocks
by their hash once metadata is encrypted. Each use has a key of its own, so that a page never passes for a
block.
"""

from __future__ import annotations

from blake3 import blake3

from blockvault.engine import runtime

SIZE = 32
ZERO = bytes(SIZE)

_BLOCK = "blockvault.dev v1 block"
_PAGE = "blockvault.dev v1 page"
_CONTENT = "blockvault.dev v1 content"
_DIRECTORY = "blockvault.dev v1 directory"
_SECTOR = "blockvault.dev v1 sector"
_OBJECT = "blockvault.dev v1 object checksum"
_NAME = "blockvault.dev v1 volume name"

Buffer = bytes | bytearray | memoryview


def derive(context: str, key: bytes) -> bytes:
    """BLAKE3's key derivation: 32 bytes."""
    return blake3(key, derive_key_context=context).digest()


class LineageKey:
    """The 32 random bytes of a lineage and what is derived from them."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._block = derive(_BLOCK, raw)
        self._page = derive(_PAGE, raw)
        self._content = derive(_CONTENT, raw)
        self._directory = derive(_DIRECTORY, raw)
        self.sector_seed = int.from_bytes(derive(_SECTOR, raw)[:8], "little")

    @classmethod
    def new(cls) -> LineageKey:
        """A fresh one."""
        return cls(runtime.random(SIZE))

    def block(self, data: Buffer) -> bytes:
        """Hash of one whole block of 256 KiB."""
        return blake3(data, key=self._block).digest()

    def page(self, data: Buffer) -> bytes:
        """Hash of one page record, places included."""
        return blake3(data, key=self._page).digest()

    def directory(self, data: Buffer) -> bytes:
        """Hash of the directory of a segment or page object."""
        return blake3(data, key=self._directory).digest()

    def content(self, data: Buffer) -> bytes:
        """Node of the Merkle tree over block hashes; places do not enter."""
        return blake3(data, key=self._content).digest()


class ObjectChecksum:
    """Checksum of a stored object, bound to its key in the store.

    Needs no secret, so that anybody can scrub.
    """

    def __init__(self) -> None:
        self._hasher = blake3(derive_key_context=_OBJECT)

    def update(self, data: Buffer) -> None:
        """Feed the object's bytes after the header, in order."""
        self._hasher.update(data)

    def finish(self, header: Buffer, key: str) -> bytes:
        """Close with the header (without its checksum) and the object's key."""
        name = key.encode()
        self._hasher.update(header)
        self._hasher.update(len(name).to_bytes(2, "little") + name)
        return self._hasher.digest()


def volume_name_hash(name_key: bytes, volume: str) -> str:
    """32 hex digits under which a volume's records lie; keyed, so that names do not leak."""
    return blake3(volume.encode(), key=derive(_NAME, name_key)).digest()[:16].hex()
