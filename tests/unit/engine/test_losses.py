"""Objects that are missing, short, of another lineage, or damaged on their way; test_tamper.py has the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import EngineError, Repository, StoredDataDamaged
from blockvault.engine.errors import FormatUnsupported
from blockvault.engine.names import VOLUMES
from tests.unit.engine.support import MemoryStore, backup, opened, restored, with_feature

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096


@pytest.fixture
def kept(store: MemoryStore, tmp_path: Path) -> tuple[MemoryStore, str, bytes]:
    """A store with two backups, the second an incremental; the second's id and content."""
    source = tmp_path / "source"
    source.write_bytes(b"".join(bytes([i, 255 - i] * (BLOCK // 2)) for i in range(40)))
    backup(store, source)
    with open(source, "r+b") as file:
        file.seek(17 * BLOCK)
        file.write(b"changed")
    return store, backup(store, source).backup_id, source.read_bytes()


def keys(store: MemoryStore, kind: str) -> list[str]:
    return sorted(key for key in store.objects if kind in key)


def read_all(objects: dict[str, bytes], folder: Path, backup_id: str) -> bytes:
    store = MemoryStore(objects)
    assert Repository.open(store).show("v", backup_id)["backupId"] == backup_id
    return restored(store, folder, backup_id)


@pytest.mark.parametrize("kind", ["/commits/", "/roots/", "/pages/", "/segments/", "blockvault"])
@pytest.mark.parametrize("how", ["removed", "cut", "empty"])
def test_missing_and_short_objects(
    kept: tuple[MemoryStore, str, bytes], tmp_path: Path, kind: str, how: str
) -> None:
    store, backup_id, _ = kept
    key = keys(store, kind)[-1]
    objects = dict(store.objects)
    data = objects.pop(key)
    if how != "removed":
        objects[key] = b"" if how == "empty" else data[: len(data) // 2]
    if kind == "/commits/" and how == "removed":
        # The commit before it is the newest now: an older, consistent state, as long as nobody wrote since.
        with pytest.raises(EngineError, match=backup_id):
            read_all(objects, tmp_path, backup_id)
    else:
        with pytest.raises(StoredDataDamaged, match=key.rpartition("/")[2]):
            read_all(objects, tmp_path, backup_id)


def test_another_lineage_in_this_ones_place(kept: tuple[MemoryStore, str, bytes], tmp_path: Path) -> None:
    store, backup_id, _ = kept
    source = tmp_path / "other"
    source.write_bytes(b"other" * 10_000)
    backup(store, source, "other")
    mine, theirs = (Repository.open(store)._volumes.find(name) for name in ("v", "other"))
    assert mine is not None
    assert theirs is not None
    prefix = mine.lineage.paths.folder
    objects = {key: data for key, data in store.objects.items() if not key.startswith(prefix)}
    for key, data in store.objects.items():
        if key.startswith(theirs.lineage.paths.folder):
            objects[key.replace(theirs.lineage.id, mine.lineage.id)] = data
    with pytest.raises(StoredDataDamaged, match="checksum"):
        read_all(objects, tmp_path, backup_id)


@pytest.mark.parametrize("kind", ["/pages/", "/segments/"])
def test_damage_on_the_way_is_read_again(
    kept: tuple[MemoryStore, str, bytes], tmp_path: Path, kind: str
) -> None:
    """One bad answer is no damage: only what is wrong twice is."""
    store, backup_id, content = kept
    spoiled: set[str] = set()

    class Noisy(MemoryStore):
        def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            data = super().get(key, start, length)
            if kind in key and key not in spoiled:
                spoiled.add(key)
                return bytes([data[0] ^ 1]) + data[1:]
            return data

    assert restored(Noisy(store.objects), tmp_path, backup_id) == content
    assert spoiled


def test_where_all_pages_are_gone_the_next_backup_stores_everything_anew(
    kept: tuple[MemoryStore, str, bytes], tmp_path: Path
) -> None:
    store, _, content = kept
    for key in keys(store, "/pages/"):
        del store.objects[key]
    healed = backup(store, tmp_path / "source")
    assert (healed.type, healed.fallback_reason) == ("full", "ParentDamaged")
    assert restored(store, tmp_path, healed.backup_id) == content


@pytest.mark.parametrize("how", ["cut", "newer"])
def test_a_damaged_record_hides_no_other_volume(
    kept: tuple[MemoryStore, str, bytes], tmp_path: Path, how: str
) -> None:
    """It does not tell its volume any more: its key is named, and of the others everything is done."""
    store, _, _ = kept
    key = keys(store, VOLUMES)[0]
    backup(store, tmp_path / "source", volume="other")
    whole = store.objects[key]
    store.objects[key] = whole[:-9] if how == "cut" else with_feature(whole, key, offset=16)
    told: list[str] = []
    repository = opened(store)
    assert [row["volume"] for row in repository.list(failed=lambda name, error: told.append(name))] == [
        "other"
    ]
    assert [row["volume"] for row in repository.usage(failed=lambda name, error: told.append(name))] == [
        "other"
    ]
    assert repository.volumes(failed=lambda name, error: told.append(name)) == ["other"]
    assert [done.volume for done in repository.collect(refused=lambda name, error: told.append(name))] == [
        "other"
    ]
    assert told == [key] * 4
    error = StoredDataDamaged if how == "cut" else FormatUnsupported
    for look in (repository.list, repository.usage, repository.volumes, repository.collect):
        with pytest.raises(error, match=key):
            look()
