"""The second decoder reads stores of which something was mended, and those that changed hands."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from blockvault.engine import KeyRing, Repository, VaultKey
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import name_of
from blockvault.engine.root import Roots
from tests.unit.engine import support
from tests.unit.engine.decoder import Decoder, Scale
from tests.unit.engine.support import SMALL, MemoryStore, backup, noise, opened, restored, state_of, volume_of

pytestmark = pytest.mark.usefixtures("small")

BLOCK = SMALL["BLOCK_SIZE"]
SCALE = Scale(BLOCK, SMALL["SECTOR_SIZE"], SMALL["FANOUT"])
KEY = bytes(range(32))


class History:
    """Five backups, with patches upon patches, and what they hold."""

    def __init__(self, store: MemoryStore, folder: Path, encrypted: bool) -> None:
        self.store, self.folder, self.source = store, folder, folder / "source"
        self.key = KEY if encrypted else None
        self.contents: dict[str, bytes] = {}
        self.source.write_bytes(noise(60) + b"tail")
        for number in range(5):
            self.take([10, 10 + number], number)

    def take(self, blocks: list[int], seed: int) -> str | None:
        """A backup after a few bytes of these blocks changed; why it did not build on the one before."""
        data = bytearray(self.source.read_bytes())
        for block in blocks:
            data[block * BLOCK + 64 * seed : block * BLOCK + 64 * seed + 9] = random.Random(seed).randbytes(9)
        self.source.write_bytes(data)
        result = backup(self.store, self.source)
        self.contents[result.backup_id] = bytes(data)
        return result.fallback_reason

    def flip(self, key: str, at: int) -> None:
        data = bytearray(self.store.objects[key])
        data[at] ^= 0x10
        self.store.objects[key] = bytes(data)

    def forget(self, backup_id: str) -> None:
        assert opened(self.store).delete("v", backup_id)
        del self.contents[backup_id]

    def check(self) -> Decoder:
        """All of it is right, also what can be told only of all together."""
        decoder = Decoder(self.store.objects, "v", self.key, SCALE)
        assert [root["id"] for root in decoder.state["roots"]] == list(self.contents)
        for backup_id, content in self.contents.items():
            assert decoder.read(backup_id) == content == restored(self.store, self.folder, backup_id)
        assert decoder.used_bytes() == decoder.state["usedBytes"]
        return decoder


@pytest.fixture(params=[False, True], ids=["clear", "encrypted"])
def history(
    request: pytest.FixtureRequest, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> History:
    if request.param:
        monkeypatch.setattr(support, "RING", KeyRing(VaultKey(KEY)))
        store.objects.clear()
        Repository.init(store, support.RING)
    return History(store, tmp_path, request.param)


def root_key(store: MemoryStore, number: int) -> str:
    found = volume_of(store)
    return found.lineage.paths.root(ObjectName.parse(found.state.roots[number].object))


def segment_of_first(store: MemoryStore) -> str:
    return min(key for key in store.objects if "/segments/" in key)


def test_after_healing(history: History) -> None:
    history.flip(segment_of_first(history.store), 200)
    assert not opened(history.store).verify("v")["ok"]
    history.take([], 7)
    assert opened(history.store).heal("v").roots == 5
    opened(history.store).collect("v")
    decoder = history.check()
    assert {root["revision"] for root in decoder.state["roots"]} == {1, 2}


def test_after_evacuation(history: History) -> None:
    keys = [segment_of_first(history.store), min(key for key in history.store.objects if "/pages/" in key)]
    for key in keys:
        history.flip(key, 100)
    done = opened(history.store).evacuate("v", keys)
    assert (done.objects, done.left) == (2, {})
    opened(history.store).collect("v")
    assert keys[0] not in history.store.objects
    history.check()
    history.take([10, 20], 8)
    history.check()


def test_after_rebuilding(history: History) -> None:
    """What a lost root said of others' needs is written down anew, in their own."""
    first = next(iter(history.contents))
    history.flip(root_key(history.store, 0), 300)
    assert opened(history.store).rebuild("v").lost == [first]
    history.forget(first)
    opened(history.store).collect("v")
    history.check()


def test_after_the_parent_was_damaged(history: History) -> None:
    """By its top page: the next backup builds on nothing, and needs nothing of it."""
    found = opened(history.store)._volumes.find("v")
    assert found is not None
    top = Roots(history.store, found.lineage).read(found.state.roots[-1]).top
    history.flip(found.lineage.paths.pages(name_of(top)), int(top["offset"]) + 20)
    damaged = list(history.contents)[-1]
    assert history.take([3], 9) == "ParentDamaged"
    history.forget(damaged)
    opened(history.store).collect("v")
    history.take([3], 10)
    history.check()


def test_after_another_cluster_took_it_over(history: History) -> None:
    opened(history.store).take_over("v", "other")
    owner = state_of(history.store).owner
    assert owner is not None
    assert owner["cluster"] == "other"
    history.check()
    other = Repository.open(history.store, support.RING, actor="other")
    first = next(iter(history.contents))
    assert other.delete("v", first)
    del history.contents[first]
    other.collect("v")
    history.check()
