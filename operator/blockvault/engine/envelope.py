"""The 128 bytes before every stored object.

What it is, what reading it takes, and a checksum bound to its key.
"""

from __future__ import annotations

import enum
import json
import re
import struct
from dataclasses import dataclass
from typing import Any

from blockvault.engine import codec, runtime
from blockvault.engine.crypt import BODY_NONCE, TAG_SIZE, Cipher
from blockvault.engine.errors import FormatUnsupported, StoredDataDamaged
from blockvault.engine.hashing import SIZE, ObjectChecksum

MAGIC = b"\x89BVLT\r\n\x1a"
VERSION = 1
HEADER_SIZE = 128
CHECKED_SIZE = 96

# magic, version, kind, codec, clear length, flags to read / to write / optional, id, stored and plain length,
# See docs/format.md.
_HEADER = struct.Struct("<8sHBBIQQQ16sQQ24x")
assert _HEADER.size == CHECKED_SIZE

# Features that a reader must know.
ENCRYPTED = 1 << 0
# Flags of objects that this version can read, and of those whose lineage it may write to.
KNOWN_TO_READ = ENCRYPTED
KNOWN_TO_WRITE = 0


class Kind(enum.IntEnum):
    """What an object is."""

    STORE = 1
    VOLUME = 2
    SEGMENT = 3
    PAGES = 4
    ROOT = 5
    COMMIT = 6
    KEY = 7
    GENERATION = 8


# Bytes that a body decodes to at most: a header is not to be believed blindly. Those of segments and page objects
# are never decoded as a whole.
_LARGEST = {Kind.ROOT: 256 << 20, Kind.COMMIT: 64 << 20}
_LARGEST_RECORD = 64 << 10

_SECRET = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Opened:
    """A checked object. `writable` is False when a flag says that older versions must not write."""

    object_id: bytes
    clear: bytes
    body: bytes
    writable: bool
    checksum: bytes


def header(
    kind: Kind, object_id: bytes, *, codec_id: int, clear: int, stored: int, plain: int, encrypted: bool
) -> bytes:
    """The header without its checksum, 96 bytes. Lengths in bytes."""
    flags = ENCRYPTED if encrypted else 0
    return _HEADER.pack(MAGIC, VERSION, kind, codec_id, clear, flags, 0, 0, object_id, stored, plain)


def seal(
    kind: Kind,
    key: str,
    body: bytes,
    *,
    clear: bytes = b"",
    object_id: bytes | None = None,
    cipher: Cipher | None = None,
) -> bytes:
    """An object ready to be stored under `key`; its body is encrypted when there is a cipher."""
    object_id = object_id or runtime.random(16)
    codec_id, stored = codec.compress(body)
    size = len(stored) + (TAG_SIZE if cipher is not None else 0)
    head = header(
        kind,
        object_id,
        codec_id=codec_id,
        clear=len(clear),
        stored=size,
        plain=len(body),
        encrypted=cipher is not None,
    )
    if cipher is not None:
        stored = cipher.of_object(object_id).seal(BODY_NONCE, stored, _bound(head, key, clear))
    checksum = ObjectChecksum()
    checksum.update(clear)
    checksum.update(stored)
    return head + checksum.finish(head, key) + clear + stored


@dataclass(frozen=True)
class Parts:
    """An object whose checksum is right, not yet decoded."""

    kind: Kind
    codec: int
    encrypted: bool
    writable: bool
    object_id: bytes
    plain: int
    clear: bytes
    stored: memoryview
    head: bytes
    checksum: bytes


def split(kind: Kind, key: str, data: bytes) -> Parts:
    """Check what was read under `key`, as far as that takes no secret.

    Raises StoredDataDamaged when it is not what was written there, FormatUnsupported when it is of a later kind.
    """
    if len(data) < HEADER_SIZE or data[:8] != MAGIC:
        raise StoredDataDamaged(f"{key}: not an object of Blockvault (no magic number)")
    head = data[:CHECKED_SIZE]
    _, version, found, codec_id, clear_size, to_read, to_write, _, object_id, stored, plain = _HEADER.unpack(
        head
    )
    fits = intact(key, data)
    if fits and version != VERSION:
        raise FormatUnsupported(f"{key}: format version {version}; this program reads version {VERSION}")
    if not fits:
        raise StoredDataDamaged(
            f"{key}: the checksum does not match: changed, cut short, or of another place"
        )
    if to_read & ~KNOWN_TO_READ:
        raise FormatUnsupported(
            f"{key}: needs features {to_read & ~KNOWN_TO_READ:#x} that this program lacks"
        )
    if found != kind or len(data) != HEADER_SIZE + clear_size + stored:
        raise StoredDataDamaged(f"{key}: header does not fit (kind {found}, {len(data)} bytes)")
    return Parts(
        kind,
        codec_id,
        bool(to_read & ENCRYPTED),
        not to_write & ~KNOWN_TO_WRITE,
        object_id,
        plain,
        data[HEADER_SIZE : HEADER_SIZE + clear_size],
        memoryview(data)[HEADER_SIZE + clear_size :],
        head,
        data[CHECKED_SIZE:HEADER_SIZE],
    )


def intact(key: str, data: bytes) -> bool:
    """Whether the checksum of a whole object fits; says nothing of what it holds."""
    if len(data) < HEADER_SIZE:
        return False
    checksum = ObjectChecksum()
    checksum.update(memoryview(data)[HEADER_SIZE:])
    return checksum.finish(data[:CHECKED_SIZE], key) == data[CHECKED_SIZE:HEADER_SIZE]


def unseal(kind: Kind, key: str, data: bytes, cipher: Cipher | None = None) -> Opened:
    """Check and decode what was read under `key`: `split` and `decode` in one."""
    return decode(key, split(kind, key, data), cipher)


def decode(key: str, parts: Parts, cipher: Cipher | None = None) -> Opened:
    """Decode what was checked.

    With a cipher, a body that is not encrypted is refused: it would be a forgery. Raises StoredDataDamaged.
    """
    if parts.encrypted != (cipher is not None):
        raise StoredDataDamaged(f"{key}: {'' if parts.encrypted else 'not '}encrypted, unlike its lineage")
    if parts.plain > _LARGEST.get(parts.kind, _LARGEST_RECORD):
        raise StoredDataDamaged(f"{key}: announces {parts.plain} bytes")
    stored: bytes | memoryview = parts.stored
    try:
        if cipher is not None:
            bound = _bound(parts.head, key, parts.clear)
            stored = cipher.of_object(parts.object_id).open(BODY_NONCE, stored, bound)
        body = codec.decompress(parts.codec, stored, parts.plain)
    except codec.CodecError as error:
        raise StoredDataDamaged(f"{key}: {error}") from error
    return Opened(parts.object_id, parts.clear, body, parts.writable, parts.checksum)


def facts_of(key: str, data: bytes) -> dict[str, Any]:
    """The JSON object in a clear section or body. Raises StoredDataDamaged when it is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoredDataDamaged(f"{key}: {error}") from error
    if not isinstance(found, dict):
        raise StoredDataDamaged(f"{key}: not a JSON object")
    return found


def secret_of(key: str, text: object) -> bytes:
    """32 secret bytes from their hex. Raises StoredDataDamaged, which shows nothing of them."""
    if not isinstance(text, str) or not _SECRET.fullmatch(text):
        raise StoredDataDamaged(f"{key}: holds no key of {SIZE} bytes")
    return bytes.fromhex(text)


def _bound(head: bytes, key: str, clear: bytes) -> bytes:
    """The associated data of a body: the whole checked header, the object's key, the clear section."""
    return head + key.encode() + b"\0" + clear
