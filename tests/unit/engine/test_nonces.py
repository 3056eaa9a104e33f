"""No nonce comes twice under one key: through crashes, runs that go on, and a parent that proves damaged midway."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from blockvault.engine import KeyRing, Repository, VaultKey, names
from blockvault.engine.backup import PARENT_DAMAGED
from blockvault.engine.pages import name_of
from blockvault.engine.rotation import Rotation
from tests.simulation.simulate import run
from tests.unit.engine import support
from tests.unit.engine.nonces import Audit
from tests.unit.engine.support import Crash, CrashingStore, MemoryStore, backup, noise, tree_of, volume_of

BLOCK = 4096
# Encrypted ones of the simulation; between them runs crash and go on, keys are rotated, backups compacted, and a
# parent is found damaged.
SEEDS = (1, 19, 31, 37)


def test_in_the_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Audit(monkeypatch)
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        before = audit.count
        outcome = run(seed)
        assert outcome.error is None, outcome.report()
        assert audit.count > before + 50, f"seed {seed} is not encrypted"
        counts.update(outcome.counts)
    assert {
        "crash after the effect",
        "crash before the effect",
        "rotate",
        "backup repeated",
        f"fallback: {PARENT_DAMAGED}",
    } <= set(counts)


@pytest.mark.usefixtures("small")
def test_at_every_crash_of_a_run_whose_parent_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run begins anew in the middle, with names of the same attempt."""
    ring = KeyRing(VaultKey(b"k" * 32))
    monkeypatch.setattr(support, "RING", ring)
    audit = Audit(monkeypatch)
    store = MemoryStore()
    Repository.init(store, ring)
    source = tmp_path / "source"
    source.write_bytes(noise(40))
    backup(store, source)
    found = volume_of(store)
    late = tree_of(store, found.state.roots[0]).inner(1, 2).entries[1]
    key = found.lineage.paths.pages(name_of(late))
    body = bytearray(store.objects[key])
    body[int(late["offset"]) + 5] ^= 1
    store.objects[key] = bytes(body)
    with open(source, "r+b") as file:
        for block in range(0, 40, 2):
            file.seek(block * BLOCK + 70)
            file.write(random.Random(block).randbytes(100))
    counting = MemoryStore(dict(store.objects))
    assert backup(counting, source, operation_id="op").fallback_reason == PARENT_DAMAGED
    for at in range(1, counting.calls + 1):
        objects = dict(store.objects)
        for step in (0, 7):  # dies, dies again later if it comes so far, goes on
            with suppress(Crash):
                backup(CrashingStore(objects, at + step, after=True), source, operation_id="op")
        backup(MemoryStore(objects), source, operation_id="op")
    Rotation(store, KeyRing(VaultKey(b"n" * 32), VaultKey(b"k" * 32))).run()
    assert audit.count > 1000


def test_a_name_that_comes_twice_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of an object hangs on its name: with the random part gone and numbers that begin anew, it repeats."""
    ring = KeyRing(VaultKey(b"k" * 32))
    monkeypatch.setattr(support, "RING", ring)
    Audit(monkeypatch)
    store = MemoryStore()
    Repository.init(store, ring)
    monkeypatch.setattr(names.NameSource, "fresh", lambda self: names.ObjectName(1, 1, 1))
    (tmp_path / "source").write_bytes(random.Random(1).randbytes(1 << 20))
    with pytest.raises(AssertionError, match="twice under one key"):
        backup(store, tmp_path / "source")
