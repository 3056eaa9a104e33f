"""A store whose blocks have patches, where their pieces lie in it, and how to spoil one."""

from __future__ import annotations

import random
from pathlib import Path

from blockvault.engine.names import ObjectName
from tests.unit.engine.support import MemoryStore, backup, state_of, tree_of, volume_of

BLOCK = 4096
BLOCKS = 80


def make_patched(store: MemoryStore, source: Path) -> None:
    """A full backup and four incrementals that patch blocks 10 to 12, and block 12 twice."""
    source.write_bytes(random.Random(1).randbytes(BLOCKS * BLOCK))
    backup(store, source)
    for seed, block in enumerate((10, 11, 12, 12)):
        with open(source, "r+b") as file:
            file.seek(block * BLOCK + 100)
            file.write(random.Random(seed).randbytes(70))
        backup(store, source)


def ids(store: MemoryStore) -> list[str]:
    return [entry.id for entry in state_of(store).roots]


def flip(store: MemoryStore, key: str, at: int) -> None:
    data = bytearray(store.objects[key])
    data[at] ^= 0x10
    store.objects[key] = bytes(data)


def places(store: MemoryStore, block: int) -> dict[str, tuple[str, int]]:
    """Where the newest backup's block lies: base, patch, digests, and its leaf and the page above."""
    found = volume_of(store)
    paths = found.lineage.paths
    tree = tree_of(store, found.state.roots[-1])
    _, leaf = next(tree.leaves([block // 4]))
    assert leaf is not None
    assert leaf.origin is not None
    base, *patches = leaf.pieces(block % 4)
    assert base.digests is not None
    above = tree.inner(1, block // 16)
    assert above.origin is not None
    result = {
        "base": (paths.segment(base.name), base.offset),
        "digests": (paths.pages(base.digests.name), base.digests.offset),
        "root": (paths.root(ObjectName.parse(found.state.roots[-1].object)), 200),
    }
    for name, ref in (
        ("leaf", leaf.origin.ref),
        ("leaf base", leaf.origin.base),
        ("inner", above.origin.ref),
    ):
        result[name] = (paths.pages(ObjectName.unpack(ref["name"].tobytes())), int(ref["offset"]))
    if patches:
        result["patch"] = (paths.segment(patches[-1].name), patches[-1].offset)
    return result
