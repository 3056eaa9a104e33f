"""Volumes and backups by the beginning of their id, and with slips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import Repository
from tests.unit.cli.support import inside, inside_json, words_of

IDS = ("aaaaaa1" + "0" * 25, "aaaaaa2" + "0" * 25, "bcbcbc" + "0" * 26)


@pytest.fixture
def made(place: Path) -> tuple[str, str]:
    """(store, backup id) of volume db-data."""
    store = f"file://{place}/store"
    return store, inside_json("backup", str(place / "volume"), store, "--volume", "db-data")["backupId"]


def test_the_beginning_of_an_id_is_enough_everywhere(place: Path, made: tuple[str, str]) -> None:
    store, backup = made
    options = ("--volume", "db-data")
    for short in (backup[:6], backup[:6].upper(), backup):
        assert inside_json("show", store, *options, "--backup", short)["backupId"] == backup
    restored = inside_json("restore", store, str(place / "t"), *options, "--backup", backup[:8])
    assert restored["backupId"] == backup
    (place / "list").write_text("")
    second = inside_json("backup", str(place / "volume"), store, *options, "--parent", backup[:7],
                         "--changed", str(place / "list"))  # fmt: skip
    assert (second["changedBlockSource"], second["fallbackReason"]) == ("List", None)
    assert inside_json("delete", store, *options, "--backup", backup[:6])["deleted"] == [backup]


@pytest.mark.parametrize(
    ("given", "code", "words", "remedy"),
    [
        ("aaaaaa", 64, f"could be {IDS[0]} of t, {IDS[1]} of t", "Give more characters"),
        ("bcbcb", 66, "has no backup bcbcb", "at least 6 characters"),
        ("bcbcbd", 66, "has no backup bcbcbd", f"Did you mean {IDS[2]}?"),
        ("ffffffff", 66, "has no backup ffffffff", "blockvault list STORE --volume NAME"),
    ],
)
def test_what_is_not_one_backup_is_refused(
    made: tuple[str, str], monkeypatch: pytest.MonkeyPatch, given: str, code: int, words: str, remedy: str
) -> None:
    def listed(*_: Any, **__: Any) -> list[dict[str, str]]:
        return [{"backupId": each, "createdAt": "t"} for each in IDS]

    monkeypatch.setattr(Repository, "list", listed)
    for command in ("show", "restore", "delete"):
        target = ["x"] if command == "restore" else []
        done = inside(command, made[0], *target, "--volume", "db-data", "--backup", given, code=code)
        assert words in words_of(done)[0]
        assert remedy in words_of(done)[1]


def test_a_volume_that_is_not_there_suggests_near_ones(made: tuple[str, str]) -> None:
    commands = (("list",), ("show",), ("restore", "x"), ("delete", "--backup", "ffffff"))
    for name, *rest in commands:
        command = (name, made[0], *rest)
        done = inside(*command, "--volume", "db-dato", code=66)
        assert "holds no volume 'db-dato'" in words_of(done)[0]
        assert "Did you mean 'db-data'?" in words_of(done)[1]
    done = inside("list", made[0], "--volume", "quite-another", code=66)
    assert "Did you mean" not in done.stderr
