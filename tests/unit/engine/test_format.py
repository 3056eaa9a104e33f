"""The format stays what docs/format.md says: an independent decoder reads what we write, and old stores are read."""

from __future__ import annotations

import json
import random
import struct
from base64 import b64decode
from itertools import pairwise
from pathlib import Path

import pytest

from blockvault.engine import ChangedList, Repository
from tests.unit.engine.decoder import BLOCK, Decoder, opened
from tests.unit.engine.support import MemoryStore, backup, restored

GOLDEN = Path(__file__).parent / "golden-v1.json"


def write(path: Path, size: int, blocks: dict[int, bytes]) -> bytes:
    with open(path, "wb") as file:
        file.truncate(size)
        for number, data in blocks.items():
            file.seek(number * BLOCK)
            file.write(data)
    return path.read_bytes()


def test_an_independent_decoder_reads_what_we_write(store: MemoryStore, tmp_path: Path) -> None:
    """Two levels of pages, growth past the top, zero blocks, raw and compressed blocks, an odd tail."""
    noise = random.Random(1)
    source = tmp_path / "source"
    blocks = {
        0: b"text" * 65536,
        1: noise.randbytes(BLOCK),
        100: b"x",
        127: b"last of its leaf",
        3: bytes(BLOCK),
    }
    contents = {}

    def take(size: int, data: dict[int, bytes], **options: object) -> str:
        content = write(source, size, data)
        result = backup(store, source, **options)
        contents[result.backup_id] = content
        return result.changed_block_source

    take(20 * BLOCK + 777, {0: blocks[0]})
    take(128 * BLOCK + 512, blocks)
    changed = ChangedList([(BLOCK, BLOCK), (299 * BLOCK, 5000)])
    assert take(300 * BLOCK, {**blocks, 299: noise.randbytes(5000), 1: b""}, changed=changed) == "List"
    take(300 * BLOCK, {})
    decoder = Decoder(store.objects, "v")
    for backup_id, content in contents.items():
        assert decoder.read(backup_id) == content


def source_of(path: Path, size: int, blocks: dict[int, bytes]) -> Path:
    write(path, size, blocks)
    return path


def test_a_store_of_version_1_stays_readable(tmp_path: Path) -> None:
    """`golden-v1.json` was written once; it is never written again, whatever the engine becomes."""
    golden = json.loads(GOLDEN.read_text())
    objects = {key: b64decode(data) for key, data in golden["objects"].items()}
    for backup_id, content in golden["backups"].items():
        wanted = bytearray(content["size"])
        for number, text in content["blocks"].items():
            wanted[int(number) * BLOCK : int(number) * BLOCK + len(text)] = text.encode()
        assert restored(MemoryStore(objects), tmp_path, backup_id, golden["volume"]) == wanted
        assert Decoder(objects, golden["volume"]).read(backup_id) == wanted
    assert Repository.open(MemoryStore(objects)).usage()[0]["usedBytes"] == golden["usedBytes"]
    source = source_of(tmp_path / "source", 3 * BLOCK, {0: b"written by a later version"})
    copy = MemoryStore(dict(objects))
    made = backup(copy, source, golden["volume"], full=True)
    assert restored(copy, tmp_path, made.backup_id, golden["volume"]) == source.read_bytes()


def test_directories_of_segments_and_page_objects(store: MemoryStore, tmp_path: Path) -> None:
    """What resuming and rebuilding will rely on: each object says itself what is in it."""
    backup(store, source_of(tmp_path / "source", 200 * BLOCK, {5: b"five" * 65536, 130: b"x", 7: b"y"}))
    numbers = {}
    for kind, folder in ((3, "/segments/"), (4, "/pages/")):
        (key,) = [key for key in store.objects if folder in key]
        data = store.objects[key]
        opened(store.objects, key, kind)
        start, count, zero = struct.unpack_from("<QII", data, len(data) - 16)
        assert zero == 0
        assert start + count * 64 + 16 == len(data)
        entries = [struct.unpack_from("<QIIIBBBxQ32s", data, start + i * 64) for i in range(count)]
        assert entries[0][1] == 128
        for one, two in pairwise(entries):
            assert one[1] + one[2] == two[1]
        assert entries[-1][1] + entries[-1][2] == start
        numbers[folder] = [(entry[0], entry[5], entry[6]) for entry in entries]
    assert numbers["/segments/"] == [(5, 0, 0), (7, 0, 0), (130, 0, 0)]
    assert numbers["/pages/"] == [(0, 1, 0), (1, 1, 0), (0, 2, 1)]


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
    assert Decoder(store.objects, "v").read(result.backup_id) == source.read_bytes()
