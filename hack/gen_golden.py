"""Write the stores that later versions must still read, tests/unit/engine/golden/.

Run it while the format is a draft, when the format has changed. From release 1.0 on the files that are there are
never written again, whatever the engine becomes: a new feature gets files of a new name.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tempfile
from base64 import b64encode
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from blockvault.engine import KeyRing, Repository, VaultKey  # noqa: E402
from blockvault.engine.rotation import Rotation  # noqa: E402
from tests.unit.engine import support  # noqa: E402
from tests.unit.engine.decoder import Decoder  # noqa: E402

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


def history(store: support.MemoryStore, source: Path, keys: list[bytes]) -> None:
    """Growth past the top, zero blocks, patches, merged ones, page patches; deleted, in the trash, a dead run."""
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


def golden(keys: list[bytes]) -> dict[str, object]:
    """A store and what is in it, as the decoder sees it after it was compared with the volume."""
    store = support.MemoryStore()
    with tempfile.TemporaryDirectory() as folder:
        history(store, Path(folder) / "source", keys)
    # The latest commits are enough to read by and to follow; all would be most of the file.
    for commit in sorted(name for name in store.objects if "/commits/" in name)[:-4]:
        del store.objects[commit]
    key = keys[-1] if keys else None
    decoder = Decoder(store.objects, VOLUME, key)
    backups = {}
    for entry in decoder.state["roots"]:
        size, blocks = decoder.blocks(entry["id"])
        hashes = {str(number): hashlib.sha256(data).hexdigest() for number, data in sorted(blocks.items())}
        backups[entry["id"]] = {"size": size, "blocks": hashes}
    return {
        "volume": VOLUME,
        "key": key.hex() if key else None,
        "usedBytes": decoder.used_bytes(),
        "features": sorted(map(list, decoder.seen)),
        "backups": backups,
        "objects": {name: b64encode(data).decode() for name, data in sorted(store.objects.items())},
    }


def main() -> None:
    """Write both stores."""
    if int(version("blockvault").partition(".")[0]) >= 1:
        raise SystemExit("the format is frozen: golden stores are not written again")
    FOLDER.mkdir(exist_ok=True)
    for name, keys in (("plain-1", []), ("encrypted-1", [b"1" * 32, b"2" * 32])):
        (FOLDER / f"{name}.json").write_text(json.dumps(golden(keys), indent=1) + "\n")


if __name__ == "__main__":
    main()
