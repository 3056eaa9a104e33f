"""Write the stores that later versions must still read, tests/unit/engine/golden/.

The format is frozen: a file that is there is never written again, whatever the engine becomes. A new feature gets a
story here, under a new name.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from blockvault.engine import BackupRequest, ChangedList, KeyRing, Repository, VaultKey  # noqa: E402
from blockvault.engine.rotation import Rotation  # noqa: E402
from tests.unit.engine import support  # noqa: E402
from tests.unit.engine.decoder import Decoder  # noqa: E402
from tests.unit.engine.locks import locking  # noqa: E402
from tests.unit.engine.test_single_writer import Lax  # noqa: E402

FOLDER = ROOT / "tests" / "unit" / "engine" / "golden"
BLOCK, SECTOR, LEAF = 256 * 1024, 4096, 128 * 256 * 1024
VOLUME = "namespace/claim of the golden store"


def block(number: int) -> bytes:
    """A block that packs well, with every sector another one."""
    return (b"block %d of the golden store; " % number * 10_000)[:BLOCK]


def write(path: Path, size: int, changes: dict[int, bytes]) -> None:
    """Grow the volume and write at these offsets."""
    with open(path, "r+b") as file:
        file.truncate(size)
        for offset, data in changes.items():
            file.seek(offset)
            file.write(data)


def history(source: Path, keys: list[bytes]) -> support.MemoryStore:
    """Growth past the top, zero blocks, patches, merged ones, page patches; deleted, in the trash, a dead run."""
    store = support.MemoryStore()
    noise = random.Random(1)  # noqa: S311 - contents of a test
    source.write_bytes(b"")

    def use(*used: bytes) -> KeyRing:
        support.RING = KeyRing(*(VaultKey(key) for key in used))
        return support.RING

    use(*keys[:1])
    Repository.init(store, support.RING)
    made = []

    def take(size: int, changes: dict[int, bytes], **options: object) -> None:
        write(source, size, changes)
        made.append(support.backup(store, source, VOLUME, **options).backup_id)

    take(20 * BLOCK + 777, {number * BLOCK: block(number) for number in range(21)})
    spread = {leaf * LEAF: block(128 * leaf) for leaf in range(1, 24)}
    size = 24 * LEAF + 512
    take(size, {**spread, BLOCK: bytes(BLOCK), 24 * LEAF: b"an odd tail"})
    for turn in range(18):
        take(
            size, {7 * BLOCK + turn * SECTOR: noise.randbytes(100), 9 * BLOCK + 5: noise.randbytes(turn + 1)}
        )
    take(size, {3 * LEAF + 70_000: noise.randbytes(SECTOR), 5 * BLOCK: bytes(SECTOR)})
    if keys:
        Rotation(store, use(keys[1], keys[0])).run()
        use(keys[1])
    repository = support.opened(store)
    # Kept: the first, the grown one, one with patches up to the most, the merged ones after it, the last two.
    for backup_id in [*made[2:16], made[18]]:
        repository.delete(VOLUME, backup_id)
    repository.delete(VOLUME, made[17], keep_seconds=100 * 365 * 86400)
    repository.collect()
    write(source, size, {0: noise.randbytes(3 * SECTOR)})
    with suppress(support.Crash):
        support.backup(support.CrashingStore(store.objects, 14, after=True), source, VOLUME)
    return store


def plain(source: Path, _: list[bytes]) -> support.MemoryStore:
    """Of a store without encryption."""
    return history(source, [])


def encrypted(source: Path, used: list[bytes]) -> support.MemoryStore:
    """Of an encrypted one, whose key was changed."""
    used += [b"1" * 32, b"2" * 32]
    return history(source, used)


def deep(source: Path, _: list[bytes]) -> support.MemoryStore:
    """Three levels of inner pages, patches of them, and a list that lied, so that lists are not believed."""
    store = support.MemoryStore()
    Repository.init(store)
    source.write_bytes(b"")
    size = 128 * 128 * LEAF + 5 * BLOCK
    spread = {leaf * LEAF: block(leaf) for leaf in (*range(20), *range(128, 3000, 128), 128 * 128)}
    write(source, size, spread)
    support.backup(store, source, VOLUME)
    for turn in range(2):
        write(source, size, {130 * LEAF + turn * SECTOR: b"changed"})
        changed = ChangedList([(130 * LEAF, BLOCK)])
        support.backup(store, source, VOLUME, changed=changed)
    write(source, size, dict.fromkeys(spread, b"unlisted"))
    support.backup(store, source, VOLUME, changed=ChangedList([]))
    return store


def single_writer(source: Path, _: list[bytes]) -> support.MemoryStore:
    """A store that cannot create exclusively: commits under random names."""
    store = Lax()
    Repository.init(store, single_writer=True)
    for turn in range(3):
        source.write_bytes(block(turn) + block(9))
        support.backup(store, source, VOLUME)
    return store


def locked(source: Path, _: list[bytes]) -> support.MemoryStore:
    """Locked backups, one of them deleted while it is locked, and collected: what waits for its day."""
    clock = locking.Clock()
    with clock.use():
        store = locking.made(clock)
        made = []
        for turn in range(4):
            source.write_bytes(block(turn) * 3 + block(9))
            made.append(support.backup(store, source, VOLUME, full=turn > 1).backup_id)
            clock.now += locking.DAY
        support.opened(store).delete(VOLUME, made[2])
        support.opened(store).collect()
    return store


def marked(source: Path, _: list[bytes]) -> support.MemoryStore:
    """What a lineage says of itself: an owner, damage, lost commits, a verification."""
    store = support.MemoryStore()
    repository = Repository.init(store, actor="cluster-a")

    def take() -> None:
        repository.backup(BackupRequest(str(source), VOLUME, threads=2))

    source.write_bytes(b"".join(block(number) for number in range(1, 12)))
    take()
    write(source, 11 * BLOCK, {number * BLOCK: block(40 + number) for number in range(11)})
    take()
    repository.verify(VOLUME, budget_bytes=BLOCK)
    largest = max(
        (key for key in store.objects if "/segments/" in key), key=lambda key: len(store.objects[key])
    )
    spoiled = bytearray(store.objects[largest])
    spoiled[200] ^= 1
    store.objects[largest] = bytes(spoiled)
    repository.verify(VOLUME)
    before = set(store.objects)
    write(source, 11 * BLOCK, {3 * BLOCK: b"lost"})
    take()
    for key in set(store.objects) - before:
        if "/commits/" in key:
            del store.objects[key]
    write(source, 11 * BLOCK, {3 * BLOCK: b"found"})
    take()
    return store


STORIES: dict[str, Callable[[Path, list[bytes]], support.MemoryStore]] = {
    "plain-1": plain,
    "encrypted-1": encrypted,
    "deep-1": deep,
    "single-writer-1": single_writer,
    "locked-1": locked,
    "marked-1": marked,
}


def golden(story: Callable[[Path, list[bytes]], support.MemoryStore]) -> dict[str, object]:
    """A store and what is in it, as the decoder sees it after it was compared with the volume."""
    keys: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        support.RING = KeyRing()
        store = story(Path(folder) / "source", keys)
    # The latest commits are enough to read by and to follow; all would be most of the file.
    for commit in sorted(name for name in store.objects if "/commits/" in name)[:-4]:
        del store.objects[commit]
    key = keys[-1] if keys else None
    decoder = Decoder(store.objects, VOLUME, key)
    backups = {}
    spoiled = set()
    if decoder.state["damaged"]:  # looked for in a copy, as that leaves notes
        damaged = support.opened(support.MemoryStore(dict(store.objects))).verify(VOLUME)["damaged"]
        spoiled = {row["backupId"] for row in damaged}
    for entry in decoder.state["roots"]:
        if entry["id"] in spoiled:
            continue
        size, blocks = decoder.blocks(entry["id"])
        hashes = {str(number): hashlib.sha256(data).hexdigest() for number, data in sorted(blocks.items())}
        backups[entry["id"]] = {"size": size, "blocks": hashes}
    return {
        "volume": VOLUME,
        "key": key.hex() if key else None,
        "usedBytes": decoder.used_bytes(),
        "features": sorted(map(list, decoder.seen)),
        "state": decoder.state,
        "backups": backups,
        "objects": {name: b64encode(data).decode() for name, data in sorted(store.objects.items())},
    }


def main() -> None:
    """Write the stores that are not there yet."""
    FOLDER.mkdir(exist_ok=True)
    for name, story in STORIES.items():
        path = FOLDER / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(golden(story), indent=1) + "\n")


if __name__ == "__main__":
    main()
