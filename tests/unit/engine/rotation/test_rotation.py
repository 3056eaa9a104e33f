"""Rotation of the vault's key: at any crash, and by several people at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from blockvault.engine import (
    BadRequest,
    KeyRing,
    KeyRotated,
    Repository,
    VaultKey,
    WrongKey,
    generations,
)
from blockvault.engine.rotation import Rotation, RotationResult
from blockvault.stores import ObjectInfo
from tests.unit.engine.rotation.rotating import NEW, OLD, THIRD, VOLUMES, content, rotate, save, under
from tests.unit.engine.support import Crash, CrashingStore, MemoryStore, at_call

pytestmark = pytest.mark.usefixtures("small")


def test_the_new_key_opens_all_and_the_old_one_nothing(
    objects: dict[str, bytes], tmp_path: Path, source: Path
) -> None:
    before = {key: data for key, data in objects.items() if "/keys/" not in key}
    result = rotate(MemoryStore(objects))
    assert result == RotationResult(2, NEW.fingerprint, 3, 3, True)
    # No data was rewritten: but for the wraps, one object more.
    assert {k: objects[k] for k in before} == before
    assert len([key for key in objects if "/keys/" not in key]) == len(before) + 1
    for volume in VOLUMES:
        assert content(MemoryStore(objects), tmp_path, volume, NEW) == source.read_bytes()
    with pytest.raises(KeyRotated, match=NEW.fingerprint):
        content(MemoryStore(objects), tmp_path, "a", OLD)
    with pytest.raises(KeyRotated):
        save(MemoryStore(objects), source, "new", OLD)
    save(MemoryStore(objects), source, "a", NEW)
    assert rotate(MemoryStore(objects)) == RotationResult(2, NEW.fingerprint, 3, 0, True)
    assert rotate(MemoryStore(objects), THIRD, NEW) == RotationResult(3, THIRD.fingerprint, 3, 3, True)
    assert under(MemoryStore(objects), THIRD) == {(THIRD.fingerprint,)}


def test_a_crash_at_every_request(objects: dict[str, bytes], tmp_path: Path, source: Path) -> None:
    counting = MemoryStore(dict(objects))
    rotate(counting)
    assert counting.calls > 30
    for at in range(1, counting.calls + 1):
        for after in (False, True):
            copy = dict(objects)
            with pytest.raises(Crash):
                rotate(CrashingStore(copy, at, after=after))
            # Meanwhile whoever has both keys is served.
            newest = generations.newest(
                MemoryStore(copy), generations.open_store_record(MemoryStore(copy), KeyRing(OLD))
            )
            begun = newest.fingerprint == NEW.fingerprint
            ring = (NEW, OLD) if begun else (OLD,)
            assert len(Repository.open(MemoryStore(copy), KeyRing(*ring)).list()) == 3
            result = rotate(MemoryStore(copy))
            assert (result.generation, result.lineages, result.old_key_removed) == (2, 3, True)
            assert under(MemoryStore(copy), NEW) == {(NEW.fingerprint,)}
    assert content(MemoryStore(copy), tmp_path, "a", NEW) == source.read_bytes()


def test_two_people_at_once_end_in_one_result(objects: dict[str, bytes]) -> None:
    counting = MemoryStore(dict(objects))
    rotate(counting)
    for at in range(1, counting.calls + 1):
        copy = dict(objects)
        store = MemoryStore(copy)
        store.before = at_call(at, lambda copy=copy: rotate(MemoryStore(copy)))  # type: ignore[misc]
        result = rotate(store)
        assert (result.generation, result.lineages, result.old_key_removed) == (2, 3, True)
        assert under(MemoryStore(copy), NEW) == {(NEW.fingerprint,)}
        assert [each.number for each in generations.known(MemoryStore(copy))] == [1, 2]


def test_two_people_with_different_keys(objects: dict[str, bytes]) -> None:
    """One wins; the other is told, and may go on from there. Every lineage can be opened all the time."""
    counting = MemoryStore(dict(objects))
    rotate(counting)
    lost = 0
    for at in range(1, counting.calls + 1):
        copy = dict(objects)
        refused: list[KeyRotated] = []

        def rival(copy: dict[str, bytes] = copy, refused: list[KeyRotated] = refused) -> None:
            try:
                rotate(MemoryStore(copy), THIRD, OLD)
            except KeyRotated as error:
                refused.append(error)

        store = MemoryStore(copy)
        store.before = at_call(at, rival)
        try:
            rotate(store)
            winner = NEW
            assert refused
        except KeyRotated as error:
            lost += 1
            winner, words = THIRD, error.message
            assert THIRD.fingerprint in words
        assert len(Repository.open(MemoryStore(copy), KeyRing(winner, OLD)).list()) == 3
        rotate(MemoryStore(copy), winner, OLD)
        assert under(MemoryStore(copy), winner) == {(winner.fingerprint,)}
    assert 0 < lost < counting.calls


def test_lineages_that_neither_key_opens_stop_it_before_it_begins(objects: dict[str, bytes]) -> None:
    broken = dict(objects)
    wraps = sorted(key for key in broken if "/keys/" in key)
    broken[wraps[0].replace(OLD.fingerprint, "ab" * 8)] = broken.pop(wraps[0])
    with pytest.raises(WrongKey, match="neither the new key nor the previous one"):
        rotate(MemoryStore(broken))
    assert [each.number for each in generations.known(MemoryStore(broken))] == [1]


@pytest.mark.parametrize(
    ("ring", "words"),
    [
        (KeyRing(NEW), "takes two keys"),
        (KeyRing(NEW, VaultKey(bytes([2]) * 32)), "both keys are the same"),
    ],
)
def test_wrong_keys_are_refused(objects: dict[str, bytes], ring: KeyRing, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        Rotation(MemoryStore(objects), ring)


def test_no_key_is_used_twice_and_none_is_skipped(objects: dict[str, bytes]) -> None:
    rotate(MemoryStore(objects))
    with pytest.raises(BadRequest, match="was in use before"):
        rotate(MemoryStore(objects), OLD, NEW)
    with pytest.raises(KeyRotated, match="has the key"):
        rotate(MemoryStore(objects), THIRD, OLD)


def test_a_store_without_encryption_has_nothing_to_rotate(source: Path) -> None:
    store = MemoryStore()
    Repository.init(store)
    call: Callable[[], object] = lambda: rotate(store)  # noqa: E731
    with pytest.raises(BadRequest, match="not encrypted"):
        call()
    assert generations.known(store) == []


def test_a_listing_that_lags_is_not_believed_once(objects: dict[str, bytes]) -> None:
    """A lineage that the first listing after the others' end still leaves out is found by the next."""
    late = min(key for key in objects if key.startswith("volumes/"))

    class Lagging(MemoryStore):
        listings = 0

        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            found = super().list(prefix)
            if prefix != "volumes/":
                return found
            self.listings += 1
            # The first is that of before the new generation, the second finds work, the third finds none.
            return iter([info for info in found if self.listings > 3 or info.key != late])

    result = rotate(Lagging(objects))
    assert (result.lineages, result.rewrapped, result.old_key_removed) == (3, 3, True)
    assert under(MemoryStore(objects), NEW) == {(NEW.fingerprint,)}


def test_the_next_rotation_overtakes_a_slow_one(source: Path, tmp_path: Path) -> None:
    """Somebody rotates on to a third key at each request of the first rotation."""
    first = MemoryStore()
    Repository.init(first, KeyRing(OLD))
    save(first, source, "v", OLD)
    counting = MemoryStore(dict(first.objects))
    rotate(counting)
    overtaken = 0
    for at in range(1, counting.calls + 1):
        copy = dict(first.objects)

        rivals: list[RotationResult] = []

        def rival(copy: dict[str, bytes] = copy, rivals: list[RotationResult] = rivals) -> None:
            with suppress(KeyRotated, WrongKey):
                rivals.append(rotate(MemoryStore(copy), THIRD, NEW))

        store = MemoryStore(copy)
        asked: list[str] = []

        def before(
            number: int,
            kind: str,
            key: str,
            at: int = at,
            asked: list[str] = asked,
            rival: Callable[[], None] = rival,
        ) -> None:
            if number == at:
                asked.append(key)
                rival()

        store.before = before
        try:
            rotate(store)
            # It was done before the other began, but for taking the old wraps away.
            assert not rivals or asked[0].startswith(("keys/", "blockvault")) or "/keys/" in asked[0]
        except KeyRotated:
            overtaken += 1
        newest = generations.known(MemoryStore(copy))[-1].fingerprint
        winner, former = (THIRD, NEW) if newest == THIRD.fingerprint else (NEW, OLD)
        assert rotate(MemoryStore(copy), winner, former).old_key_removed
        assert under(MemoryStore(copy), winner) == {(newest,)}
        assert content(MemoryStore(copy), tmp_path, "v", winner) == source.read_bytes()
    assert overtaken > 0
