"""What the doctor sees, and what it says to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import KeyRing, Repository, VaultKey, runtime
from blockvault.engine.doctor import examine
from blockvault.engine.rollback import Seen
from blockvault.engine.rotation import Rotation
from blockvault.engine.state import Attempt, State
from blockvault.stores import AccessDenied, InvalidCredentials, ObjectInfo, StoreUnreachable
from tests.unit.engine import support
from tests.unit.engine.support import MemoryStore, backup, commit, opened, volume_of

pytestmark = pytest.mark.usefixtures("small")

KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(32))
DAY = 24 * 3600


@pytest.fixture
def kept(store: MemoryStore, tmp_path: Path) -> MemoryStore:
    (tmp_path / "source").write_bytes(bytes(range(256)) * 160)
    for _ in range(2):
        backup(store, tmp_path / "source", full=True)
    return store


def wrong(store: MemoryStore, ring: KeyRing | None = None) -> dict[str, str]:
    """What is wrong, by check; each says what to do about it."""
    found = examine(store, ring or KeyRing())
    assert all(set(check) == {"check", "level", "detail", "remedy", "exitCode"} for check in found)
    assert all((check["level"] == "ok") == (check["remedy"] is None) for check in found)
    assert all((check["level"] == "fail") == (check["exitCode"] > 0) for check in found)
    return {check["check"]: check["detail"] for check in found if check["level"] != "ok"}


def change(store: MemoryStore, **fields: Any) -> None:
    def set_all(state: State) -> None:
        for name, value in fields.items():
            setattr(state, name, value)

    commit(store, set_all)


def test_a_healthy_store(kept: MemoryStore) -> None:
    before = dict(kept.objects)
    found = opened(kept).doctor()
    assert [check["check"] for check in found] == [
        "reachable", "format", "key", "permissions", "creation", "listing", "volume v", "clock",
    ]  # fmt: skip
    assert {check["level"] for check in found} == {"ok"}
    assert kept.objects == before


def test_keys_and_stores_that_are_not_there() -> None:
    store = MemoryStore()
    assert "NotAVault" in wrong(store)["store"]
    Repository.init(store, KeyRing(KEY))
    assert wrong(store, KeyRing(KEY)) == {}
    assert "WrongKey" in wrong(store, KeyRing(OTHER))["key"]
    assert "KeyMissing" in wrong(store)["key"]


@pytest.mark.parametrize("error", [StoreUnreachable, InvalidCredentials])
def test_a_store_that_does_not_answer(kept: MemoryStore, error: type[Exception]) -> None:
    class Silent(MemoryStore):
        def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            raise error("no")

    assert list(wrong(Silent(kept.objects))) == ["reachable"]


def test_creation_and_listing(kept: MemoryStore) -> None:
    class Overwriting(MemoryStore):
        def create(self, key: str, data: Any) -> None:
            self.objects[key] = bytes(data)

    assert "NoConditionalCreate" in wrong(Overwriting(kept.objects))["creation"]

    class Lagging(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            return iter([info for info in super().list(prefix) if not info.key.startswith("canary/")])

    with runtime.use(runtime.Runtime(sleep=lambda seconds: None)):
        assert "does not show" in wrong(Lagging(kept.objects))["listing"]


def test_clocks_that_differ(kept: MemoryStore) -> None:
    with runtime.use(runtime.Runtime(wall=lambda: 1_000_000.0)):
        assert "in the future" in wrong(kept)["clock"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"condemned": ["segments/00000001-00000001-0000000000000001"]}, "1 objects are condemned"),
        ({"damaged": [{"object": "x", "offset": 1, "blocks": [1]}]}, "1 pieces were found damaged"),
        ({"distrusted": {"since": "then", "reason": "x"}}, "not believed since then"),
        ({"attempts": [Attempt("i", "o", 1, None, 0, "2020-01-01T00:00:00Z")]}, "a backup has stood for"),
    ],
)
def test_what_stands_in_a_state(kept: MemoryStore, fields: dict[str, Any], words: str) -> None:
    change(kept, **fields)
    assert words in wrong(kept)["volume v"]


@pytest.mark.parametrize(
    ("fields", "level", "code"),
    [
        ({"damaged": [{"object": "x", "offset": 1, "blocks": [1]}]}, "fail", 65),
        ({"distrusted": {"since": "then", "reason": "x"}}, "warn", 0),
    ],
)
def test_what_is_urgent(kept: MemoryStore, fields: dict[str, Any], level: str, code: int) -> None:
    """Known damage is; the rest may wait."""
    change(kept, **fields)
    told = [check for check in opened(kept).doctor() if check["level"] != "ok"]
    assert [(check["level"], check["exitCode"]) for check in told] == [(level, code)]


@pytest.mark.parametrize("denied", ["put", "list", "delete"])
def test_permissions(kept: MemoryStore, denied: str) -> None:
    """Each by itself; what needs no more is looked at all the same."""

    class Denying(MemoryStore):
        pass

    def deny(*_: Any) -> Any:
        raise AccessDenied(f"may not {denied}")

    if denied == "list":
        lists = MemoryStore.list

        def listing(self: MemoryStore, prefix: str) -> Iterator[ObjectInfo]:
            return deny() if prefix == "canary/" else lists(self, prefix)

        Denying.list = listing  # type: ignore[method-assign]
    else:
        setattr(Denying, denied, deny)
    found = opened(Denying(kept.objects)).doctor()
    wrongs = [check for check in found if check["level"] != "ok"]
    assert [(check["check"], check["level"]) for check in wrongs] == [("permissions", "fail")]
    assert wrongs[0]["detail"].startswith(f"{denied}: AccessDenied")
    assert "volume v" in {check["check"] for check in found}


def test_an_old_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "RING", KeyRing(KEY))
    store = MemoryStore()
    Repository.init(store, KeyRing(KEY))
    (tmp_path / "source").write_bytes(b"of value" * 1000)
    backup(store, tmp_path / "source")
    assert wrong(store, KeyRing(KEY)) == {}
    Rotation(store, KeyRing(OTHER, KEY)).run()
    assert wrong(store, KeyRing(OTHER)) == {}
    said = wrong(store, KeyRing(KEY))
    assert "the newest, of generation 2" in said["key"]
    assert any(check.startswith("volume") and "KeyRotated" in words for check, words in said.items())


def test_owners(kept: MemoryStore) -> None:
    change(kept, owner={"cluster": "east", "since": runtime.now()})
    assert wrong(kept) == {}
    found = examine(kept, KeyRing(), actor="west")
    assert [c["detail"] for c in found if c["level"] == "warn"] == ["belongs to east, not to west"]
    assert all(check["level"] == "ok" for check in examine(kept, KeyRing(), actor="east"))


def test_a_store_that_was_set_back(kept: MemoryStore) -> None:
    found = volume_of(kept)
    seen = {found.state.lineage: Seen(found.state.number)}
    assert all(check["level"] == "ok" for check in opened(kept).doctor(seen))
    seen = {found.state.lineage: Seen(found.state.number + 1)}
    assert [c["check"] for c in opened(kept).doctor(seen) if c["level"] == "fail"] == ["volume v"]


def test_one_bad_volume_does_not_hide_the_others(kept: MemoryStore, tmp_path: Path) -> None:
    backup(kept, tmp_path / "source", "w")
    record = min(key for key in kept.objects if key.startswith("volumes/"))
    kept.objects[record] = kept.objects[record][:-1]
    said = examine(kept, KeyRing())
    assert [check["check"] for check in said if check["level"] == "fail"] == [record]
    assert len([check for check in said if check["check"].startswith("volume ")]) == 1


def test_a_running_attempt_is_nothing_wrong(kept: MemoryStore) -> None:
    change(kept, attempts=[Attempt("i", "o", 1, None, 0, runtime.now())])
    assert wrong(kept) == {}
    assert any("has stood for 0.0 hours" in check["detail"] for check in examine(kept, KeyRing()))


def test_trash_that_is_due(kept: MemoryStore) -> None:
    entries = opened(kept).list("v")
    opened(kept).delete("v", entries[0]["backupId"], keep_seconds=DAY)
    assert wrong(kept) == {}
    later = runtime.wall() + 2 * DAY
    with runtime.use(runtime.Runtime(wall=lambda: later)):
        assert wrong(kept)["volume v"] == "1 backups in the trash are due"


def test_commits_that_were_tampered_with(kept: MemoryStore) -> None:
    commits = sorted(key for key in kept.objects if "/commits/" in key)
    del kept.objects[commits[-2]]
    assert "predecessor" in wrong(kept)["volume v"]
    kept.objects[commits[-1]] = b"rubbish"
    assert commits[-1] in wrong(kept)["volume v"]
