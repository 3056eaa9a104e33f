"""Stored bytes that make no sense: a typed error each time, never wrong bytes, never more memory than there is data.

Either bytes by chance, or valid ones that were changed and got the right checksums again, as a defective program
would write them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockvault.engine import (
    KeyRing,
    Repository,
    StoredDataDamaged,
    VaultKey,
    codec,
    envelope,
    samples,
    summary,
)
from blockvault.engine.codec import CodecError
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import EngineError, FormatUnsupported
from blockvault.engine.leaf import Leaf
from blockvault.engine.lineage import new_lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.packs import open_directory
from blockvault.engine.pages import BLOCK_SIZE, Inner, MalformedPageError
from blockvault.engine.state import State
from blockvault.engine.tree import TreeReader
from blockvault.stores import StoreError
from tests.unit.engine import support
from tests.unit.engine.support import Crash, CrashingStore, MemoryStore, backup, opened, volume_of

KEY = VaultKey(bytes(range(32)))
EXAMPLES = int(os.environ.get("BLOCKVAULT_FUZZ_EXAMPLES", "150"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="BLOCKVAULT_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
SEEDS = st.integers(0, 1 << 48)
ODD = [0, 1, 2, 3, 255, 1 << 16, (1 << 31) - 1, (1 << 32) - 1]


def changed(data: bytes, chance: random.Random) -> bytes:
    """The same with a few edits: bits, numbers, pieces taken out, doubled, put in or made zero."""
    result = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(len(result) + 1)
        how = chance.randrange(8)
        if how == 0 and at < len(result):
            result[at] ^= 1 << chance.randrange(8)
        elif how in (1, 2):
            at -= at % 4
            result[at : at + 4] = struct.pack("<I", chance.choice(ODD))
        elif how == 3:
            del result[at : at + chance.choice([1, 4, 16, 64])]
        elif how == 4:
            result[at:at] = result[max(0, at - 64) : at]
        elif how in (5, 6):
            # Entries and references stand at multiples of 16; all zero, they are absent.
            at -= at % 16
            result[at : at + 64 + 32 * (how % 2)] = bytes(64 + 32 * (how % 2))
        else:
            result[at:at] = chance.randbytes(chance.choice([1, 16, 96]))
    return bytes(result)


VALUES: list[Any] = [
    None, True, 0, 1, -1, 3, 1 << 70, 1.5, "", "x", "0" * 32, "a" * 400, [], [1], [None], {}, {"a": 1}, [[{}]],
]  # fmt: skip


def changed_json(data: bytes, chance: random.Random) -> bytes:
    """The same with one value replaced, exchanged with another, or taken out; rarely, edited as text."""
    if chance.random() < 0.05:
        return chance.choice([b"[" * 100_000, b"", b"null", b"\xff\xff", changed(data, chance)])
    facts = json.loads(data)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in (
            list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        ):
            places.append((node, key))
            walk(node[key])

    walk(facts)
    node, key = chance.choice([place for place in places if place[0] is facts or chance.random() < 0.3])
    if chance.random() < 0.2:
        del node[key]
    elif chance.random() < 0.3:
        other, where = chance.choice(places)
        node[key] = json.loads(json.dumps(other[where] if isinstance(other, dict) and where in other else 7))
    else:
        node[key] = chance.choice(VALUES)
    return json.dumps(facts).encode()


class World:
    """A store with every kind of object and page, and what it holds."""

    def __init__(self, folder: Path, ring: KeyRing) -> None:
        self.folder, self.ring = folder, ring
        chance, source = random.Random(5), folder / "source"
        store = MemoryStore()
        Repository.init(store, ring)
        data = bytearray(chance.randbytes(30 * 4096) + bytes(10 * 4096) + b"text" * 40_000)
        self.contents: dict[str, bytes] = {}
        for turn in range(5):
            source.write_bytes(data)
            self.contents[backup(store, source).backup_id] = bytes(data)
            for at in (100, 9000 + turn * 64, 200_000):
                data[at : at + 10] = chance.randbytes(10)
        source.write_bytes(data[:50] + chance.randbytes(60_000) + data[60_050:])
        with suppress(Crash):
            backup(CrashingStore(store.objects, 12, after=True), source)
        opened(store).delete("v", min(self.contents), keep_seconds=9e6)
        self.objects = store.objects
        found = volume_of(store)
        self.lineage = found.lineage
        self.newest = max(key for key in store.objects if "/commits/" in key)

    def read(self, objects: dict[str, bytes]) -> int:
        """Do all that reads; how much of it met an error."""
        store, target = MemoryStore(objects), self.folder / "target"
        errors = 0
        acts: list[Callable[[Repository], object]] = [
            lambda repository: repository.list(),
            lambda repository: repository.show("v"),
            lambda repository: repository.usage(),
            lambda repository: repository.collect(dry_run=True),
            lambda repository: backup(MemoryStore(dict(objects)), self.folder / "source"),
        ]
        for act in acts:
            try:
                act(Repository.open(store, self.ring))
            except (EngineError, StoreError):
                errors += 1
        for backup_id in sorted(self.contents)[-2:]:
            target.unlink(missing_ok=True)
            try:
                Repository.open(store, self.ring).restore("v", str(target), backup_id)
                assert target.read_bytes() == self.contents[backup_id]
            except (EngineError, StoreError):
                errors += 1
        return errors

    def sealed(self, key: str, clear: bytes, body: bytes) -> bytes:
        """An object with these sections and right checksums, encrypted as it was."""
        data = self.objects[key]
        ciphers = {Kind.COMMIT: self.lineage.cipher, Kind.ROOT: self.lineage.cipher}
        if self.ring.current is not None:
            facts = Repository.open(MemoryStore(self.objects), self.ring)._facts
            ciphers |= {Kind.STORE: KEY.cipher, Kind.KEY: KEY.cipher, Kind.VOLUME: facts.cipher}
        kind = Kind(data[10])
        return envelope.seal(kind, key, body, clear=clear, object_id=data[40:56], cipher=ciphers.get(kind))

    def opened(self, key: str) -> tuple[bytes, bytes]:
        """(clear section, body) of an object."""
        kind = Kind(self.objects[key][10])
        cipher = self.lineage.cipher
        if self.ring.current is not None and kind in (Kind.STORE, Kind.KEY):
            cipher = KEY.cipher
        elif self.ring.current is not None and kind == Kind.VOLUME:
            cipher = Repository.open(MemoryStore(self.objects), self.ring)._facts.cipher
        found = envelope.unseal(kind, key, self.objects[key], cipher)
        return found.clear, found.body

    def with_root(self, key: str, data: bytes) -> dict[str, bytes]:
        """All objects with another root, which the newest commit names as it is now."""
        clear, body = self.opened(self.newest)
        state = json.loads(body)
        for entry in state["roots"]:
            if key.endswith(entry["object"]):
                entry["objectChecksum"], entry["objectBytes"] = data[96:128].hex(), len(data)
        commit = self.sealed(self.newest, clear, json.dumps(state).encode())
        return {**self.objects, key: data, self.newest: commit}


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[World]]:
    """A plain one and an encrypted one, at the small scale, for as long as they are used."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    with pytest.MonkeyPatch.context() as patch:
        support.shrink_scale(patch)
        made = []
        for name, ring in (("plain", KeyRing()), ("encrypted", KeyRing(KEY))):
            patch.setattr(support, "RING", ring)
            (folder / name).mkdir()
            made.append(World(folder / name, ring))
        yield made
    shutil.rmtree(folder)


@given(seed=SEEDS)
@FUZZ
def test_objects_changed_anyhow(worlds: list[World], seed: int) -> None:
    """Without right checksums, or with them but under another header."""
    chance = random.Random(seed)
    world = chance.choice(worlds)
    support.RING = world.ring
    key = chance.choice(sorted(world.objects))
    data = world.objects[key]
    made = changed(data, chance) if chance.random() < 0.8 else chance.randbytes(chance.randrange(400))
    if chance.random() < 0.7 and len(made) > 128:
        head = changed(data[:96], chance)[:96].ljust(96, b"\0") if chance.random() < 0.5 else made[:96]
        made = head + made[96:]
        checksum = envelope.ObjectChecksum()
        checksum.update(made[128:])
        made = head + checksum.finish(head, key) + made[128:]
    world.read({**world.objects, key: made})


@given(seed=SEEDS)
@FUZZ
def test_facts_that_make_no_sense(worlds: list[World], seed: int) -> None:
    """JSON with other values, sealed as it should be."""
    chance = random.Random(seed)
    world = chance.choice(worlds)
    support.RING = world.ring
    lineage = world.lineage.paths
    root = chance.choice(sorted(key for key in world.objects if "/roots/" in key))
    record = next(key for key in world.objects if key.startswith("volumes/"))
    wrapped = [key for key in world.objects if key.startswith(lineage.keys)]
    key = chance.choice([world.newest, world.newest, root, root, "blockvault", record, *wrapped])
    clear, body = world.opened(key)
    if key == root:
        length, records, sampled = struct.unpack_from("<III", body)
        facts, rest = body[12 : 12 + length], body[12 + length :]
        if chance.random() < 0.7:
            facts = changed_json(facts, chance)
        else:
            rest = changed(rest, chance)
        body = struct.pack("<III", len(facts), records, sampled) + facts + rest
        world.read(world.with_root(key, world.sealed(key, clear, body)))
        return
    if clear and chance.random() < 0.5:
        clear = changed_json(clear, chance)
    else:
        body = changed_json(body, chance)
    world.read({**world.objects, key: world.sealed(key, clear, body)})


@given(seed=SEEDS)
@FUZZ
def test_pages_that_make_no_sense(worlds: list[World], seed: int) -> None:
    """A page, page patch or base is another than was written, and yet its hash counts as right."""
    chance = random.Random(seed)
    world = chance.choice(worlds)
    support.RING = world.ring
    wanted, right = chance.randrange(40), TreeReader._check
    count = 0

    def check(self: TreeReader, level: int, index: int, ref: np.void, stored: bytes) -> bytes:
        nonlocal count
        count += 1
        data = right(self, level, index, ref, stored)
        return changed(data, random.Random(seed)) if count % 40 == wanted else data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TreeReader, "_check", check)
        world.read(world.objects)


@given(st.binary(max_size=2000), SEEDS)
@FUZZ
def test_parsers(data: bytes, seed: int) -> None:
    """Each by itself, on bytes by chance: its own errors only."""
    lineage, name = new_lineage("0" * 32, encrypted=False, single_writer=False), ObjectName(1, 1, 1)
    pages = struct.pack("<BBHIQ", 4, 0, 1, seed % 4, 0) + data
    trailer = data[: len(data) // 64 * 64]
    tail = trailer + struct.pack("<QI4x32s", 128, len(trailer) // 64, lineage.keys.directory(trailer))
    acts: list[tuple[Callable[[], object], tuple[type[Exception], ...]]] = [
        (lambda: envelope.unseal(Kind.ROOT, "key", data), (StoredDataDamaged, FormatUnsupported)),
        (lambda: codec.decompress(codec.ZSTD, data, seed % 5000), (CodecError,)),
        (lambda: codec.decompress(codec.ZSTD, b"\x28\xb5\x2f\xfd" + data, seed), (CodecError,)),
        (lambda: Leaf.decode(data, 0), (MalformedPageError,)),
        (
            lambda: Leaf.decode(struct.pack("<BBHIQ", 1, 0, 128, seed % 3, 0) + data * 5, 0),
            (MalformedPageError,),
        ),
        (lambda: Leaf().patched(pages, 0), (MalformedPageError,)),
        (lambda: Inner.decode(data, 1, 0), (MalformedPageError,)),
        (lambda: Inner().patched(pages, 0, 0), (MalformedPageError,)),
        (lambda: open_directory(lineage, name, data, len(data)), (CodecError,)),
        (lambda: open_directory(lineage, name, tail, 128 + len(tail)), (CodecError,)),
        (lambda: summary.apply(summary.Summary(summary.empty()), summary.decode(data)), (ValueError,)),
        (lambda: samples.decode(data), (ValueError,)),
        (lambda: State.from_json(envelope.facts_of("key", data)), (StoredDataDamaged, TypeError, ValueError)),
        (lambda: ObjectName.parse(data.decode("latin-1")), (ValueError,)),
    ]
    for act, allowed in acts:
        with suppress(*allowed):
            act()


def test_what_a_frame_announces_is_not_believed() -> None:
    """A few bytes that unfold to a gigabyte, or ask for that much memory first."""
    bomb = zstandard.compress(bytes(1 << 30))
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 30))
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="instead of 262144"):
            codec.decompress(codec.ZSTD, bomb, BLOCK_SIZE)
        with pytest.raises(CodecError, match="full frame"):
            codec.decompress(codec.ZSTD, silent, BLOCK_SIZE)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    packed = zstandard.compress(b"abc")
    assert codec.decompress(codec.ZSTD, packed, 3) == b"abc"
    for other in (packed + b"x", packed + packed, packed[:-1]):
        with pytest.raises(CodecError):
            codec.decompress(codec.ZSTD, other, 3)


@pytest.mark.parametrize("kind", [Kind.STORE, Kind.VOLUME, Kind.COMMIT, Kind.ROOT, Kind.KEY, Kind.GENERATION])
def test_a_header_that_announces_much(kind: Kind) -> None:
    packed = zstandard.compress(bytes(1 << 20))
    head = envelope.header(
        kind, bytes(16), codec_id=codec.ZSTD, clear=0, stored=len(packed), plain=1 << 40, encrypted=False
    )
    checksum = envelope.ObjectChecksum()
    checksum.update(packed)
    with pytest.raises(StoredDataDamaged, match="announces"):
        envelope.unseal(kind, "key", head + checksum.finish(head, "key") + packed)


def test_a_circle_of_summaries_is_noticed(worlds: list[World]) -> None:
    world = worlds[0]
    support.RING = world.ring
    _, body = world.opened(world.newest)
    entry = json.loads(body)["roots"][-1]
    key = world.lineage.paths.roots + entry["object"]
    _, body = world.opened(key)
    length, records, sampled = struct.unpack_from("<III", body)
    facts = json.loads(body[12 : 12 + length])
    facts["summary"] = {"base": {"object": entry["object"], "bytes": 5}, "depth": 1}
    made = json.dumps(facts).encode()
    body = struct.pack("<III", len(made), records, sampled) + made + body[12 + length :]
    objects = world.with_root(key, world.sealed(key, b"", body))
    with pytest.raises(StoredDataDamaged, match="depth"):
        Repository.open(MemoryStore(objects)).collect(dry_run=True)
