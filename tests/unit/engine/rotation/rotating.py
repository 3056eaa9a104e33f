"""Rotation of a vault's key in tests: who saves, who rotates, and what can be read then."""

from __future__ import annotations

from pathlib import Path

from blockvault.engine import (
    BackupRequest,
    KeyRing,
    Repository,
    VaultKey,
    generations,
)
from blockvault.engine.rotation import Rotation, RotationResult, wrapped_under
from tests.unit.engine.support import MemoryStore

OLD, NEW, THIRD = (VaultKey(bytes([salt]) * 32) for salt in (1, 2, 3))
VOLUMES = ("a", "b", "c")


def save(store: MemoryStore, source: Path, volume: str, *keys: VaultKey) -> str:
    opened = Repository.open(store, KeyRing(*keys))
    return opened.backup(BackupRequest(str(source), volume, threads=1)).backup_id


def rotate(store: MemoryStore, new: VaultKey = NEW, old: VaultKey = OLD) -> RotationResult:
    return Rotation(store, KeyRing(new, old)).run()


def content(store: MemoryStore, folder: Path, volume: str, *keys: VaultKey) -> bytes:
    target = folder / "restored"
    target.unlink(missing_ok=True)
    Repository.open(store, KeyRing(*keys)).restore(volume, str(target))
    return target.read_bytes()


def under(store: MemoryStore, *keys: VaultKey) -> set[tuple[str, ...]]:
    """The sets of keys that lineages are wrapped under."""
    facts = generations.open_store_record(store, KeyRing(*keys))
    return {tuple(each["fingerprints"]) for each in wrapped_under(store, facts)}
