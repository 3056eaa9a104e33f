"""The format stays what docs/format.md says: an independent decoder reads what we write."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockvault.engine import ChangedList, KeyRing, Repository, VaultKey
from blockvault.engine.rotation import Rotation
from tests.unit.engine import support
from tests.unit.engine.decoder import (
    BLOCK_PATCH,
    DIGESTS,
    INNER,
    LEAF,
    PAGE_PATCH,
    Decoder,
    Scale,
    derive,
)
from tests.unit.engine.support import SMALL, Crash, CrashingStore, MemoryStore, backup, opened, restored

BLOCK = 262144
SMALL_SCALE = Scale(SMALL["BLOCK_SIZE"], SMALL["SECTOR_SIZE"], SMALL["FANOUT"])
KEYS = [bytes([number]) * 32 for number in range(1, 9)]


def write(path: Path, size: int, blocks: dict[int, bytes]) -> bytes:
    with open(path, "wb") as file:
        file.truncate(size)
        for number, data in blocks.items():
            file.seek(number * BLOCK)
            file.write(data)
    return path.read_bytes()


@pytest.mark.parametrize("key", [None, KEYS[0]])
def test_an_independent_decoder_reads_what_we_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: bytes | None
) -> None:
    """At its real scale: growth past the top, zero blocks, sector patches, raw and compressed, an odd tail."""
    monkeypatch.setattr(support, "RING", KeyRing(VaultKey(key) if key else None))
    store, noise, source = MemoryStore(), random.Random(1), tmp_path / "source"
    Repository.init(store, support.RING)
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
    blocks[100] = bytes(9000) + noise.randbytes(5000)
    changed = ChangedList([(BLOCK, BLOCK), (100 * BLOCK, BLOCK), (299 * BLOCK, 5000)])
    assert take(300 * BLOCK, {**blocks, 299: noise.randbytes(5000), 1: b""}, changed=changed) == "List"
    take(300 * BLOCK, {})
    decoder = Decoder(store.objects, "v", key)
    for backup_id, content in contents.items():
        assert decoder.read(backup_id) == content
    assert decoder.seen >= {("codec", 0), ("codec", 1), ("patches", 1), (f"level of kind {INNER}", 1)}
    assert decoder.used_bytes() == decoder.state["usedBytes"]


def test_the_decoder_reads_a_store_with_one_writer(tmp_path: Path) -> None:
    """Whose commits have other names."""
    store, source = MemoryStore(), tmp_path / "source"
    Repository.init(store, single_writer=True)
    contents = {}
    for size in (1000, 300_000):
        source.write_bytes(b"x" * size)
        contents[backup(store, source).backup_id] = source.read_bytes()
    decoder = Decoder(store.objects, "v")
    assert {backup_id: decoder.read(backup_id) for backup_id in contents} == contents


WRITES = st.lists(
    st.tuples(
        st.floats(0, 0.999), st.sampled_from([1, 90, 1000, 9000]), st.sampled_from(["noise", "text", "zero"])
    ),
    max_size=4,
)
BACKUP = st.tuples(st.just("backup"), WRITES, st.sampled_from(["compare", "list", "full"]))
STEPS = st.lists(
    st.one_of(
        BACKUP,
        BACKUP,
        st.tuples(st.just("crash"), st.integers(3, 40)),
        st.tuples(st.just("grow"), st.integers(1, 50 * 4096)),
        st.tuples(st.sampled_from(["delete", "trash"]), st.integers(0, 20)),
        st.tuples(st.sampled_from(["compact", "collect", "rotate"])),
    ),
    max_size=14,
)


class Life:
    """What a store goes through, and what its backups must hold."""

    def __init__(self, folder: Path, encrypted: bool, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.source, self.patch, self.encrypted = folder, folder / "source", patch, encrypted
        self.keys, self.contents, self.changed = list(KEYS), dict[str, bytes](), list[tuple[int, int]]()
        self.objects: dict[str, bytes] = {}
        self.chance, self.crashes = random.Random(7), 0
        self.source.write_bytes(b"a" * 30_000)
        self._use_key()
        Repository.init(self.store, support.RING)

    @property
    def store(self) -> MemoryStore:
        return MemoryStore(self.objects)

    @property
    def key(self) -> bytes | None:
        return self.keys[0] if self.encrypted else None

    def _use_key(self) -> None:
        self.patch.setattr(support, "RING", KeyRing(VaultKey(self.key) if self.key else None))

    def backup(self, writes: list[tuple[float, int, str]], mode: str) -> None:
        data = bytearray(self.source.read_bytes())
        for at, length, fill in writes:
            offset = int(at * len(data))
            length = min(length, len(data) - offset)
            noise = self.chance.randbytes(length)
            data[offset : offset + length] = {"noise": noise, "text": b"t" * length, "zero": bytes(length)}[
                fill
            ]
            self.changed.append((offset, length))
        self.source.write_bytes(data)
        listed = mode == "list" and bool(self.contents)
        options = {"changed": ChangedList(self.changed)} if listed else {"full": mode == "full"}
        result = backup(self.store, self.source, **options)
        self.contents[result.backup_id] = bytes(data)
        self.changed = []

    def crash(self, at: int) -> None:
        """A run dies; the next one of the same operation finds what it sent."""
        self.source.write_bytes(self.chance.randbytes(60_000) + self.source.read_bytes()[60_000:])
        self.crashes += 1
        operation = f"crash {self.crashes}"
        with suppress(Crash):
            backup(CrashingStore(self.objects, at, after=True), self.source, operation_id=operation)
        made = backup(self.store, self.source, operation_id=operation)
        self.contents[made.backup_id] = self.source.read_bytes()
        self.changed = []

    def grow(self, more: int) -> None:
        with open(self.source, "r+b") as file:
            file.truncate(self.source.stat().st_size + more)

    def delete(self, pick: int, keep: float = 0.0) -> None:
        if self.contents:
            backup_id = sorted(self.contents)[pick % len(self.contents)]
            opened(self.store).delete("v", backup_id, keep_seconds=keep)
            if not keep:
                del self.contents[backup_id]
            self.changed = [(0, self.source.stat().st_size)]

    def trash(self, pick: int) -> None:
        self.delete(pick, 9e6)

    def compact(self) -> None:
        if self.contents:
            opened(self.store).compact("v", budget=1 << 30)

    def collect(self) -> None:
        opened(self.store).collect()

    def rotate(self) -> None:
        if self.encrypted and len(self.keys) > 1:
            old = VaultKey(self.keys.pop(0))
            Rotation(self.store, KeyRing(VaultKey(self.keys[0]), old)).run()
            self._use_key()

    def check(self) -> set[tuple[str, int]]:
        """Engine and decoder read the same out of it. What the decoder met."""
        if not any("/commits/" in key for key in self.objects):
            return set()
        decoder = Decoder(self.objects, "v", self.key, SMALL_SCALE)
        assert {entry["id"] for entry in decoder.state["roots"]} == set(self.contents)
        for backup_id, content in self.contents.items():
            assert decoder.read(backup_id) == content
            assert restored(self.store, self.folder, backup_id) == content
        assert decoder.used_bytes() == decoder.state["usedBytes"]
        lines = {
            (item.folder, item.name, item.offset)
            for key in self.objects
            if "/segments/" in key or "/pages/" in key
            for item, _ in decoder.directory(key)
        }
        if self.contents:
            # Whatever was reached but sector digests has a line in a directory.
            assert decoder.reached <= lines
        return decoder.seen


def live(steps: list[Any], encrypted: bool) -> set[tuple[str, int]]:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        with pytest.MonkeyPatch.context() as patch:
            support.shrink_scale(patch)
            life = Life(folder, encrypted, patch)
            for name, *arguments in steps:
                getattr(life, name)(*arguments)
            return life.check()
    finally:
        shutil.rmtree(folder)


@given(STEPS, st.booleans())
@settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=True
)
def test_engine_and_decoder_agree_whatever_happens(steps: list[Any], encrypted: bool) -> None:
    live(steps, encrypted)


@pytest.mark.parametrize("encrypted", [False, True])
def test_the_decoder_meets_every_feature(encrypted: bool) -> None:
    """Else agreement would prove little: patches up to the most and merged, page patches of both kinds, deep trees."""
    steps: list[Any] = [
        ("grow", 260 * 4096),
        ("backup", [(i / 70, 9000, "noise") for i in range(70)], "full"),
    ]
    steps += [("backup", [(0.31, 90, "noise"), (0.77, 90, "zero")], "list")] * 6
    steps += [("backup", [], "compare"), ("trash", 1), ("delete", 3), ("rotate",), ("crash", 20)]
    seen = live(steps, encrypted)
    assert seen >= {
        *(("codec", codec) for codec in (0, 1)),
        *(("patches", number) for number in range(SMALL["MAX_PATCHES"] + 1)),
        *((f"level of kind {INNER}", level) for level in (1, 2, 3)),
        *((f"level of kind {PAGE_PATCH}", level) for level in (0, 1)),
        *((f"level of kind {kind}", 0) for kind in (LEAF, DIGESTS, BLOCK_PATCH)),
    }, seen


def test_the_decoder_finds_a_wrong_sector_digest(store: MemoryStore, tmp_path: Path) -> None:
    """It must be able to fail: a digest is changed, and checksums made right again."""
    write(tmp_path / "source", BLOCK, {0: b"data" * 5000})
    made = backup(store, tmp_path / "source")
    (key,) = [key for key in store.objects if "/pages/" in key]
    data = bytearray(store.objects[key])
    data[128] ^= 1
    checked = bytes(data[128:] + data[:96]) + len(key).to_bytes(2, "little") + key.encode()
    data[96:128] = derive("object checksum", checked)
    store.objects[key] = bytes(data)
    with pytest.raises(AssertionError):
        Decoder(store.objects, "v").read(made.backup_id)


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
