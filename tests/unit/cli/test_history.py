"""Older commits on the command line: seen, restored from, and what is said where that cannot be."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from tests.unit.cli.support import bucket_of_the_environment, inside, inside_json, words_of


def test_a_backup_that_was_deleted_by_mistake(place: Path) -> None:
    store, target = f"file://{place}/store", place / "target"
    made = inside_json("backup", str(place / "volume"), store, "--volume", "v")["backupId"]
    inside("delete", store, "--volume", "v", "--backup", made, "--now")
    found = inside_json("commits", store, "--volume", "v")["commits"]
    assert [(each["number"], each["action"], each["backups"]) for each in found] == [
        (1, "begin", 0),
        (2, "backup", 1),
        (3, "delete", 0),
    ]
    shown = inside("commits", store, "--volume", "v").stdout
    assert "delete" in shown
    assert found[0]["writtenAt"] in shown
    before = ("--volume", "v", "--commit", "2")
    assert made in inside("list", store, *before).stdout
    assert inside_json("show", store, *before, "--backup", made[:6])["backupId"] == made
    done = inside("restore", store, str(target), *before, "--backup", made[:6])
    assert "it is read as commit 2 had it" in done.stderr
    assert target.read_bytes() == (place / "volume").read_bytes()
    target.unlink()
    inside("collect", store)
    message, remedy = words_of(inside("restore", store, str(target), *before, code=65))
    assert "as commit 2 named it" in message
    assert "another backup or commit" in remedy


def test_what_is_not_there(place: Path) -> None:
    store = f"file://{place}/store"
    inside("backup", str(place / "volume"), store, "--volume", "v")
    for command in (("list", store), ("show", store), ("restore", store, str(place / "target"))):
        message, remedy = words_of(inside(*command, "--volume", "v", "--commit", "7", code=66))
        assert "'v' has no commit 7" in message
        assert "`blockvault commits STORE --volume NAME`" in remedy
        inside(*command, "--volume", "v", "--commit", "0", code=64)
    assert "--volume" in words_of(inside("list", store, "--commit", "2", code=64))[0]
    assert "has no backups" in words_of(inside("show", store, "--volume", "v", "--commit", "1", code=66))[0]
    assert "Did you mean 'v'?" in words_of(inside("commits", store, "--volume", "vv", code=66))[1]
    assert not (place / "target").exists()


def test_a_commit_that_is_damaged(place: Path) -> None:
    """It is named, the others are shown, and the command fails by it."""
    store = f"file://{place}/store"
    inside("backup", str(place / "volume"), store, "--volume", "v")
    newest = max((place / "store").glob("lineages/*/commits/*"))
    newest.write_bytes(b"nothing of ours")
    done = inside("commits", store, "--volume", "v", code=65)
    assert "begin" in done.stdout
    assert newest.name in words_of(done)[0]
    inside("list", store, "--volume", "v", code=65)
    assert inside_json("list", store, "--volume", "v", "--commit", "1")["backups"] == []


def test_an_attack_on_locked_backups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has the credentials and the key deletes all and collects: an older commit still leads to it."""
    with bucket_of_the_environment("plain", monkeypatch) as server:
        boto3.client("s3", endpoint_url=server.endpoint).create_bucket(
            Bucket="attacked", ObjectLockEnabledForBucket=True
        )
        store, target = "s3://attacked/prod", tmp_path / "target"
        inside("key", "generate", str(tmp_path / "key"))
        monkeypatch.setenv("BLOCKVAULT_KEY_FILE", str(tmp_path / "key"))
        inside("init", store, "--lock-days", "3", "--lock-mode", "compliance")
        (tmp_path / "source").write_bytes(b"precious" * 100_000)
        made = inside_json("backup", str(tmp_path / "source"), store, "--volume", "v")["backupId"]
        inside("delete", store, "--volume", "v", "--backup", made, "--now")
        inside("delete", store, "--volume", "v", "--entire-volume", "--now")
        inside("collect", store)
        assert inside_json("list", store)["backups"] == []
        inside("restore", store, str(target), "--volume", "v", code=66)
        found = inside_json("commits", store, "--volume", "v")["commits"]
        good = max(each["number"] for each in found if each["backups"])
        inside("restore", store, str(target), "--volume", "v", "--commit", str(good))
        assert target.read_bytes() == (tmp_path / "source").read_bytes()
