"""What somebody who may write to an encrypted store, but has no key, cannot make its owner believe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blockvault.engine import KeyRing, KeyRotated, Repository, StoredDataDamaged, envelope
from blockvault.engine.keys import VaultKey
from blockvault.engine.rotation import Rotation
from tests.unit.engine import support
from tests.unit.engine.support import MemoryStore, backup

FIRST, SECOND = VaultKey(b"1" * 32), VaultKey(b"2" * 32)


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """An encrypted store with one backup of the volume `v`."""
    monkeypatch.setattr(support, "RING", KeyRing(FIRST))
    store = MemoryStore()
    Repository.init(store, support.RING)
    source = tmp_path / "source"
    source.write_bytes(b"of value" * 1000)
    backup(store, source)
    return store


def forge_deletion(store: MemoryStore, clear: bytes = b'{"status":"Deleted"}') -> None:
    """A further commit, not encrypted, that says that the lineage is deleted."""
    newest = max(key for key in store.objects if "/commits/" in key)
    folder, _, number = newest.rpartition("/")
    key = f"{folder}/{int(number) + 1:016d}"
    state = {"lineage": key.split("/")[1], "volume": "v", "number": int(number) + 1, "status": "Deleted"}
    store.objects[key] = envelope.seal(envelope.Kind.COMMIT, key, json.dumps(state).encode(), clear=clear)


@pytest.mark.parametrize("clear", [b'{"status":"Deleted"}', b'{"empty":true,"status":"Deleted"}'])
def test_a_deletion_that_nobody_with_the_key_has_made(sealed: MemoryStore, clear: bytes) -> None:
    """Else a collector would erase the volume for whoever can add one object to the store.

    Only a lineage that holds nothing may be ended without its key.
    """
    forge_deletion(sealed, clear)
    before = dict(sealed.objects)
    for act in (lambda r: r.list("v"), lambda r: r.collect(), lambda r: r.usage()):
        with pytest.raises(StoredDataDamaged, match="not encrypted"):
            act(Repository.open(sealed, KeyRing(FIRST)))
    assert sealed.objects == before


def test_such_a_deletion_met_with_an_old_key(sealed: MemoryStore) -> None:
    """The old key cannot open the lineage any more, and so cannot tell whether its key was erased."""
    Rotation(sealed, KeyRing(SECOND, FIRST)).run()
    forge_deletion(sealed)
    before = dict(sealed.objects)
    for act in (lambda r: r.list("v"), lambda r: r.collect()):
        with pytest.raises(KeyRotated):
            act(Repository.open(sealed, KeyRing(FIRST)))
    assert sealed.objects == before


def test_a_lineage_that_was_really_deleted_stays_so_when_its_key_is_gone(
    sealed: MemoryStore, tmp_path: Path
) -> None:
    repository = Repository.open(sealed, KeyRing(FIRST))
    repository.delete_volume("v")
    for _ in range(2):
        repository.collect()
    assert not [key for key in sealed.objects if "/keys/" in key or "/segments/" in key]
    assert "v" in repository.volumes()
    assert repository.list() == []
    assert Repository.open(sealed, KeyRing(FIRST)).usage() == []
    source = tmp_path / "source"
    again = backup(sealed, source)
    assert [entry["backupId"] for entry in repository.list("v")] == [again.backup_id]


def test_the_facts_of_the_store_are_vouched_for_by_every_generation(sealed: MemoryStore) -> None:
    """Who has only the new key cannot open the store's record, so its key's generation has to say that it is genuine."""
    Rotation(sealed, KeyRing(SECOND, FIRST)).run()
    assert Repository.open(sealed, KeyRing(SECOND)).volumes() == ["v"]
    parts = envelope.split(envelope.Kind.STORE, "blockvault", sealed.objects["blockvault"])
    clear = json.loads(parts.clear) | {"singleWriter": True}
    forged = envelope.seal(
        envelope.Kind.STORE, "blockvault", b"{}", clear=json.dumps(clear).encode(), cipher=SECOND.cipher
    )
    sealed.objects["blockvault"] = forged
    with pytest.raises(StoredDataDamaged, match="not the record"):
        Repository.open(sealed, KeyRing(SECOND))


def test_every_object_has_an_id_of_its_own() -> None:
    """Its key and nonces come from that: two rivals of one number must never share them."""
    made = [envelope.seal(envelope.Kind.COMMIT, "lineages/x/commits/1", b"the same") for _ in range(2)]
    ids = [data[40:56] for data in made]
    assert ids[0] != ids[1]
    assert bytes(16) not in ids
