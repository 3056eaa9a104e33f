"""Stores that were written once, golden/: every later version reads them and works in them (docs/format.md)."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import BackupRequest, KeyRing, Repository, VaultKey
from tests.unit.engine import support
from tests.unit.engine.decoder import BLOCK_PATCH, DIGESTS, INNER, LEAF, PAGE_PATCH, Decoder
from tests.unit.engine.locks.locking import Clock, LockingStore
from tests.unit.engine.support import MemoryStore, opened, restored, state_of
from tests.unit.engine.test_format import BLOCK, write
from tests.unit.engine.test_single_writer import Lax


def with_locks(objects: dict[str, bytes]) -> LockingStore:
    """A store whose locks have ended."""
    store = LockingStore(Clock())
    store.objects = objects
    return store


FOLDER = Path(__file__).parent / "golden"
GOLDEN = sorted(FOLDER.glob("*.json"))
KINDS: dict[str, Callable[[dict[str, bytes]], MemoryStore]] = {"single-writer": Lax, "locked": with_locks}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_stores_that_were_written_once_stay_readable(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By engine and decoder; and the engine verifies them, adds to them, deletes, collects and compacts in them."""
    golden = json.loads(path.read_text())
    objects = {key: b64decode(data) for key, data in golden["objects"].items()}
    key = bytes.fromhex(golden["key"]) if golden["key"] else None
    monkeypatch.setattr(support, "RING", KeyRing(VaultKey(key) if key else None))
    open_store = KINDS.get(path.stem.rpartition("-")[0], MemoryStore)
    volume, decoder, held = (
        golden["volume"],
        Decoder(objects, golden["volume"], key),
        dict[str, dict[int, bytes]](),
    )
    state = state_of(open_store(objects), volume)
    assert decoder.state == golden.get("state", decoder.state)
    assert keeps(state.to_json(), decoder.state)
    for backup_id, content in golden["backups"].items():
        size, blocks = decoder.blocks(backup_id)
        assert (size, {str(n): hashlib.sha256(data).hexdigest() for n, data in blocks.items()}) == (
            content["size"],
            content["blocks"],
        )
        held[backup_id] = blocks
        look(open_store(objects), volume, backup_id, tmp_path / backup_id, size, blocks)
    assert sorted(map(list, decoder.seen)) == golden["features"]
    assert opened(open_store(objects)).usage()[0]["usedBytes"] == golden["usedBytes"] == decoder.used_bytes()
    source = tmp_path / "source"
    content = write(source, 3 * BLOCK, {0: b"written by a later version"})
    copy = open_store(dict(objects))
    repository = Repository.open(copy, support.RING, actor=(state.owner or {}).get("cluster"))
    repository.accept_rollback(volume)
    made = repository.backup(BackupRequest(str(source), volume, full=True, threads=2))
    assert restored(copy, tmp_path, made.backup_id, volume) == content
    broken = {damage["object"] for damage in state.damaged}
    assert {
        row["object"].rpartition("/")[2] for row in repository.verify(every_byte=True)["damaged"]
    } == broken
    assert repository.delete(volume, next(iter(golden["backups"])))
    repository.collect()
    repository.compact(volume)
    repository.collect()
    assert {
        row["object"].rpartition("/")[2] for row in repository.verify(every_byte=True)["damaged"]
    } == broken
    assert restored(copy, tmp_path, made.backup_id, volume) == content
    for backup_id in list(held)[1:]:
        target, size = tmp_path / f"{backup_id}-again", golden["backups"][backup_id]["size"]
        look(copy, volume, backup_id, target, size, held[backup_id])


def test_each_kind_of_store_and_mark_is_among_them() -> None:
    """What the golden stores have in them, so that a mark that no longer reads is noticed."""
    held = {path.stem.rpartition("-")[0]: json.loads(path.read_text()) for path in GOLDEN}
    assert set(held) >= {"plain", "encrypted", "deep", "single-writer", "locked", "marked"}
    features = {tuple(feature) for store in held.values() for feature in store["features"]}
    assert features >= {
        *(("codec", codec) for codec in (0, 1)),
        *(("patches", number) for number in (0, 1, 2, 16)),
        *((f"level of kind {INNER}", level) for level in (1, 2, 3)),
        *((f"level of kind {PAGE_PATCH}", level) for level in (0, 1, 2)),
        *((f"level of kind {kind}", 0) for kind in (LEAF, DIGESTS, BLOCK_PATCH)),
    }
    marked, deep, locked = (held[name]["state"] for name in ("marked", "deep", "locked"))
    assert marked["owner"]["cluster"] == "cluster-a"
    for mark in ("rollback", "damaged", "verification"):
        assert marked[mark], mark
    assert any("verified" in root["labels"] for root in marked["roots"])
    assert deep["distrusted"]["reason"]
    assert locked["waiting"]["objects"] > 0
    assert all(root["lockedUntil"] for root in locked["roots"])


def test_what_was_written_once_is_not_written_again() -> None:
    """The format is frozen as version 1: a changed golden store would prove nothing. New ones get a line."""
    lines = (FOLDER / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in GOLDEN} == sums


def keeps(now: Any, before: Any) -> bool:
    """Whether all that was stored is still said; what a later version adds beside it may be there."""
    if isinstance(before, dict):
        return all(key in now and keeps(now[key], value) for key, value in before.items())
    if isinstance(before, list):
        return len(now) == len(before) and all(map(keeps, now, before))
    return bool(now == before)


def look(
    store: MemoryStore, volume: str, backup_id: str, target: Path, size: int, blocks: dict[int, bytes]
) -> None:
    """Restore a backup to a new file, and compare the blocks that are not zero."""
    opened(store).restore(volume, str(target), backup_id)
    with open(target, "rb") as file:
        for number, data in blocks.items():
            file.seek(number * BLOCK)
            assert file.read(BLOCK) == data[: size - number * BLOCK]
    assert target.stat().st_size == size
    assert target.stat().st_blocks * 512 <= (len(blocks) + 1) * BLOCK
