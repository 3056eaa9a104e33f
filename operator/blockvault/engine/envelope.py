"""The 128 bytes before every stored object.

What it is, what reading it takes, and a checksum bound to its key.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from blockvault.engine import codec, runtime
from blockvault.engine.errors import FormatUnsupported, StoredDataDamaged
from blockvault.engine.hashing import ObjectChecksum

MAGIC = b"\x89BVLT\r\n\x1a"
VERSION = 1
HEADER_SIZE = 128
CHECKED_SIZE = 96

# magic, version, kind, codec, clear length, flags to read / to write / optional, id, stored and plain length,
# key generation. See docs/format.md.
_HEADER = struct.Struct("<8sHBBIQQQ16sQQI20x")
assert _HEADER.size == CHECKED_SIZE

# Flags of objects that this version can read, and of those whose lineage it may write to. None is defined in
# use yet; docs/format.md has the bits that are spoken for.
KNOWN_TO_READ = 0
KNOWN_TO_WRITE = 0

# A body longer than this is not ours: metadata is small, and a header is not to be believed blindly.
MAX_PLAIN = 1 << 30


class Kind(enum.IntEnum):
    """What an object is."""

    STORE = 1
    VOLUME = 2
    SEGMENT = 3
    PAGES = 4
    ROOT = 5
    COMMIT = 6


@dataclass(frozen=True)
class Opened:
    """A checked object. `writable` is False when a flag says that older versions must not write."""

    object_id: bytes
    clear: bytes
    body: bytes
    writable: bool
    checksum: bytes


def header(kind: Kind, object_id: bytes, *, codec_id: int, clear: int, stored: int, plain: int) -> bytes:
    """The header without its checksum, 96 bytes. Lengths in bytes."""
    return _HEADER.pack(MAGIC, VERSION, kind, codec_id, clear, 0, 0, 0, object_id, stored, plain, 0)


def seal(kind: Kind, key: str, body: bytes, *, clear: bytes = b"", object_id: bytes | None = None) -> bytes:
    """An object ready to be stored under `key`."""
    codec_id, stored = codec.compress(body)
    head = header(
        kind,
        object_id or runtime.random(16),
        codec_id=codec_id,
        clear=len(clear),
        stored=len(stored),
        plain=len(body),
    )
    checksum = ObjectChecksum()
    checksum.update(clear)
    checksum.update(stored)
    return head + checksum.finish(head, key) + clear + stored


def unseal(kind: Kind, key: str, data: bytes) -> Opened:
    """Check and decode what was read under `key`.

    Raises StoredDataDamaged when it is not what was written there, FormatUnsupported when it is of a later
    kind.
    """
    if len(data) < HEADER_SIZE or data[:8] != MAGIC:
        raise StoredDataDamaged(f"{key}: not an object of Blockvault (no magic number)")
    head = data[:CHECKED_SIZE]
    (
        _,
        version,
        found_kind,
        codec_id,
        clear_size,
        to_read,
        to_write,
        _,
        object_id,
        stored,
        plain,
        generation,
    ) = _HEADER.unpack(head)
    if version != VERSION:
        raise FormatUnsupported(f"{key}: format version {version}; this program reads version {VERSION}")
    checksum = ObjectChecksum()
    checksum.update(memoryview(data)[HEADER_SIZE:])
    wanted = data[CHECKED_SIZE:HEADER_SIZE]
    if checksum.finish(head, key) != wanted:
        raise StoredDataDamaged(
            f"{key}: the checksum does not match: changed, cut short, or of another place"
        )
    if to_read & ~KNOWN_TO_READ:
        raise FormatUnsupported(
            f"{key}: needs features {to_read & ~KNOWN_TO_READ:#x} that this program lacks"
        )
    if found_kind != kind or len(data) != HEADER_SIZE + clear_size + stored or generation != 0:
        raise StoredDataDamaged(f"{key}: header does not fit (kind {found_kind}, {len(data)} bytes)")
    if plain > MAX_PLAIN:
        raise StoredDataDamaged(f"{key}: announces {plain} bytes")
    clear = data[HEADER_SIZE : HEADER_SIZE + clear_size]
    try:
        body = codec.decompress(codec_id, memoryview(data)[HEADER_SIZE + clear_size :], plain)
    except codec.CodecError as error:
        raise StoredDataDamaged(f"{key}: {error}") from error
    return Opened(object_id, clear, body, not to_write & ~KNOWN_TO_WRITE, wanted)
