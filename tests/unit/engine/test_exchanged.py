"""Parts of objects in each other's place, with all that needs no key made right again: checksums, lengths, hashes.

A thief with access to the store, who cannot open anything, may do that. In an encrypted store the associated data binds
each item to its object, its offset, its kind and its number; in one that is not, the hashes of blocks and pages do.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import pytest

from blockvault.engine import KeyRing, Repository, StoredDataDamaged, VaultKey, codec, runtime
from blockvault.engine.envelope import CHECKED_SIZE, HEADER_SIZE
from blockvault.engine.hashing import ObjectChecksum
from blockvault.engine.leaf import Leaf
from blockvault.engine.pages import name_of
from blockvault.engine.root import Roots
from blockvault.engine.tree import TreeReader
from tests.unit.engine import support
from tests.unit.engine.support import MemoryStore, backup

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096
SECTOR = 64


class Item(NamedTuple):
    """Where something lies that a backup needs. `keys`: the objects in which its block lies."""

    key: str
    offset: int
    length: int
    keys: frozenset[str]


class Kept(NamedTuple):
    """A store, what opens it, and the items of its backup by kind."""

    store: MemoryStore
    ring: KeyRing
    backup_id: str
    content: bytes
    items: dict[str, list[Item]]


@pytest.fixture(params=["clear", "encrypted"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Blocks of noise, each second one patched in the same sectors; nothing is compressed, so items are equally long."""
    monkeypatch.setattr(codec, "WORTHWHILE", 0)
    ring = KeyRing(VaultKey(b"k" * 32)) if request.param == "encrypted" else KeyRing()
    monkeypatch.setattr(support, "RING", ring)
    monkeypatch.setattr(runtime, "_current", runtime.Runtime(sleep=lambda seconds: None))
    store = MemoryStore()
    Repository.init(store, ring)
    source, chance = tmp_path / "source", random.Random(3)
    source.write_bytes(chance.randbytes(64 * BLOCK))
    backup(store, source)
    with open(source, "r+b") as file:
        for block in range(0, 64, 2):
            file.seek(block * BLOCK + 5 * SECTOR)
            file.write(chance.randbytes(8 * SECTOR))
    taken = backup(store, source).backup_id
    return Kept(store, ring, taken, source.read_bytes(), needed(store, ring, taken))


def needed(store: MemoryStore, ring: KeyRing, backup_id: str) -> dict[str, list[Item]]:
    found = Repository.open(store, ring)._volumes.find("v")
    assert found is not None
    entry = found.state.root(backup_id)
    assert entry is not None
    root = Roots(store, found.lineage).read(entry)
    reader, paths = TreeReader(store, found.lineage, root.top, root.levels), found.lineage.paths
    items: dict[str, list[Item]] = {"block": [], "patch": [], "digests": [], "page": []}
    extra = 0 if ring.current is None else 16
    for _, leaf in reader.leaves(range(16)):
        assert isinstance(leaf, Leaf)
        assert leaf.origin is not None
        ref = leaf.origin.base
        key = paths.pages(name_of(ref))
        items["page"].append(Item(key, int(ref["offset"]), int(ref["length"]), frozenset([key])))
        for slot in range(4):
            keys = frozenset(paths.segment(piece.name) for piece in leaf.pieces(slot))
            for piece in leaf.pieces(slot):
                kind = "patch" if piece.mask else "block"
                items[kind].append(Item(paths.segment(piece.name), piece.offset, piece.length, keys))
                assert piece.digests is not None
                key = paths.pages(piece.digests.name)
                length = piece.digest_bytes + extra
                items["digests"].append(Item(key, piece.digests.offset, length, frozenset([key])))
    return items


def exchanged(kept: Kept, one: Item, two: Item) -> MemoryStore:
    """The store with the bytes of both items in each other's place, and right checksums of the objects."""
    assert one.length == two.length
    objects = {key: bytearray(data) for key, data in kept.store.objects.items()}
    first = bytes(objects[one.key][one.offset : one.offset + one.length])
    objects[one.key][one.offset : one.offset + one.length] = objects[two.key][
        two.offset : two.offset + two.length
    ]
    objects[two.key][two.offset : two.offset + two.length] = first
    for key in {one.key, two.key}:
        checksum = ObjectChecksum()
        checksum.update(bytes(objects[key][HEADER_SIZE:]))
        objects[key][CHECKED_SIZE:HEADER_SIZE] = checksum.finish(bytes(objects[key][:CHECKED_SIZE]), key)
    return MemoryStore({key: bytes(data) for key, data in objects.items()})


def pairs(items: list[Item], *, together: bool) -> list[tuple[Item, Item]]:
    """Two items of equal length of one object, or of two."""
    return [
        (one, two)
        for at, one in enumerate(items)
        for two in items[at + 1 :]
        if one.length == two.length and one != two and (one.key == two.key) == together
    ]


def found(kept: Kept, store: MemoryStore) -> str:
    """What verify says."""
    result = Repository.open(store, kept.ring).verify()
    return "\n".join(f"{row['object']}: {row['cause']}" for row in result["damaged"])


@pytest.mark.parametrize("where", ["inside one object", "across objects"])
@pytest.mark.parametrize("kind", ["block", "patch", "digests", "page"])
def test_two_of_a_kind(kept: Kept, tmp_path: Path, kind: str, where: str) -> None:
    chosen = pairs(kept.items[kind], together=where == "inside one object")
    assert chosen, f"no two such items: {kept.items[kind]}"
    for one, two in random.Random(1).sample(chosen, min(3, len(chosen))):
        store = exchanged(kept, one, two)
        detected(kept, store, one, two)
        restores(kept, store, tmp_path / "target", one, two, right=kind == "digests")


def detected(kept: Kept, store: MemoryStore, *items: Item) -> None:
    """By verify. Only where each piece of a block vouches for itself, the very object is named."""
    said = found(kept, store)
    for item in items:
        keys = item.keys if kept.ring.current is None else {item.key}
        assert any(key in said for key in keys), f"{item} is not in: {said}"
    if kept.ring.current is not None:
        assert said.count("the authentication tag does not match") >= len({item.key for item in items})


def restores(kept: Kept, store: MemoryStore, target: Path, *items: Item, right: bool) -> None:
    """A restore is right where it does not need what was exchanged, and else names one of the objects."""
    target.unlink(missing_ok=True)
    repository = Repository.open(store, kept.ring)
    if right:
        repository.restore("v", str(target), kept.backup_id)
        assert target.read_bytes() == kept.content
    else:
        with pytest.raises(StoredDataDamaged) as raised:
            repository.restore("v", str(target), kept.backup_id)
        assert any(key in str(raised.value) for item in items for key in item.keys)


def test_a_patch_and_a_base(kept: Kept, tmp_path: Path) -> None:
    """As much of the base as the patch is long."""
    patch = kept.items["patch"][0]
    base = kept.items["block"][0]
    part = base._replace(length=patch.length)
    store = exchanged(kept, patch, part)
    detected(kept, store, patch, base)
    restores(kept, store, tmp_path / "target", patch, base, right=False)
