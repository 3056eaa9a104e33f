"""A lineage as it is opened: its id, where its objects lie, and its keys."""

from __future__ import annotations

from dataclasses import dataclass

from blockvault.engine.crypt import Cipher
from blockvault.engine.hashing import SIZE, LineageKey
from blockvault.engine.names import LineagePaths


@dataclass(frozen=True)
class Lineage:
    """All that is stored of one volume. `cipher` is None where the store is not encrypted.

    `erased`: it was deleted and its key is gone; nothing of it can be read but that.
    `single_writer`: the store cannot create exclusively; commits are named so that none is overwritten.
    """

    id: str
    keys: LineageKey
    cipher: Cipher | None = None
    single_writer: bool = False
    erased: bool = False

    @property
    def paths(self) -> LineagePaths:
        """Keys of its objects in the store."""
        return LineagePaths(self.id)


def new_lineage(lineage_id: str, *, encrypted: bool, single_writer: bool) -> Lineage:
    """A lineage with a fresh secret."""
    return lineage_of(lineage_id, LineageKey.new().raw, encrypted=encrypted, single_writer=single_writer)


def erased_lineage(lineage_id: str, *, single_writer: bool) -> Lineage:
    """A lineage whose key is gone."""
    return Lineage(lineage_id, LineageKey(bytes(SIZE)), None, single_writer, erased=True)


def lineage_of(lineage_id: str, secret: bytes, *, encrypted: bool, single_writer: bool) -> Lineage:
    """A lineage from its secret of 32 bytes."""
    return Lineage(lineage_id, LineageKey(secret), Cipher(secret) if encrypted else None, single_writer)
