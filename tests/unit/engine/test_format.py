"""The format stays what docs/format.md says: an independent decoder reads what we write, and old stores are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.engine.support import MemoryStore, backup, restored

BLOCK = 262144


def write(path: Path, size: int, blocks: dict[int, bytes]) -> bytes:
    with open(path, "wb") as file:
        file.truncate(size)
        for number, data in blocks.items():
            file.seek(number * BLOCK)
            file.write(data)
    return path.read_bytes()


def test_zero_blocks_are_never_stored(store: MemoryStore, tmp_path: Path) -> None:
    """C3: an empty volume of any size costs one small root."""
    source = tmp_path / "source"
    with open(source, "wb") as file:
        file.truncate(1 << 36)
        file.seek(1 << 35)
        file.write(bytes(BLOCK))
    result = backup(store, source)
    assert result.bytes_scanned == result.size == 1 << 36
    assert result.bytes_changed == 0
    assert result.bytes_stored < 2000
    assert not [key for key in store.objects if "/segments/" in key or "/pages/" in key]


@pytest.mark.parametrize("size", [0, 1, 511, BLOCK - 1, BLOCK, BLOCK + 1, 128 * BLOCK, 128 * BLOCK + 1])
def test_odd_sizes(store: MemoryStore, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes((b"0123456789abcde" * (size // 15 + 1))[:size])
    result = backup(store, source)
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()
