"""Looking at a segment or page object around what it holds: its header and its directory; or at every byte of it."""

from __future__ import annotations

from collections.abc import Callable

from blockvault.engine import envelope
from blockvault.engine.codec import CodecError
from blockvault.engine.envelope import HEADER_SIZE, Kind
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.fetching import get
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.packs import TRAILER_ZEROS, open_directory
from blockvault.stores import ObjectStore

FIRST_READ = 32 * 1024


def check_edges(store: ObjectStore, lineage: Lineage, kind: Kind, name: ObjectName, size: int) -> None:
    """Raises StoredDataDamaged when header or directory are twice not what was written, ObjectNotFound."""
    key = lineage.paths.object(kind, name)
    body = size - HEADER_SIZE
    wanted = envelope.header(
        kind,
        name.pack(),
        codec_id=0,
        clear=0,
        stored=body,
        plain=body,
        encrypted=lineage.cipher is not None,
    )

    def head() -> None:
        # The checksum behind it covers the whole object; reading back what it holds says more than that.
        if get(store, key, 0, len(wanted)) != wanted:
            raise StoredDataDamaged(f"{key}: header does not fit")

    def directory() -> None:
        try:
            start = max(0, size - FIRST_READ)
            tail = get(store, key, start, size - start)
            needed, _ = open_directory(lineage, name, tail, size)
            if tail[TRAILER_ZEROS] != bytes(4):
                raise CodecError("the trailer has other bytes than zero where it should")
            if needed > size - start:
                open_directory(lineage, name, get(store, key, size - needed, needed), size)
        except CodecError as error:
            raise StoredDataDamaged(f"{key}: directory: {error}") from error

    _twice(head)
    _twice(directory)


def check_whole(store: ObjectStore, lineage: Lineage, kind: Kind, name: ObjectName) -> None:
    """Reads every byte: what no backup needs, and the checksum itself, as well. Raises as `check_edges` does."""
    key = lineage.paths.object(kind, name)

    def whole() -> None:
        if not envelope.intact(key, get(store, key)):
            raise StoredDataDamaged(f"{key}: the checksum of the whole object does not match")

    _twice(whole)


def _twice(look: Callable[[], None]) -> None:
    """Once more before it counts as damage: the way from the store may have been at fault."""
    try:
        look()
    except StoredDataDamaged:
        look()
