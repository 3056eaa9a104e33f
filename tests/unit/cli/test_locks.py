"""Locked backups on the command line: what is refused, and what is said."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from tests.unit.cli.support import bucket_of_the_environment, inside, inside_json, words_of


def test_a_directory_has_no_locks(tmp_path: Path) -> None:
    store = f"file://{tmp_path}/store"
    what, todo = words_of(inside("init", store, "--lock-days", "30", code=77))
    assert "no object lock" in what
    assert "S3" in todo
    assert "needs --lock-days" in words_of(inside("init", store, "--lock-mode", "governance", code=64))[0]
    inside("init", store)
    (tmp_path / "source").write_bytes(b"data")
    refused = inside("backup", str(tmp_path / "source"), store, "--volume", "v", "--lock-days", "9", code=64)
    assert "was made without" in words_of(refused)[0]


def test_backups_that_are_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket_of_the_environment("plain", monkeypatch) as server:
        boto3.client("s3", endpoint_url=server.endpoint).create_bucket(
            Bucket="locked", ObjectLockEnabledForBucket=True
        )
        store = "s3://locked/prod"
        assert (
            "made without object lock"
            in words_of(inside("init", "s3://plain/x", "--lock-days", "3", code=77))[0]
        )
        made = inside_json("init", store, "--lock-days", "3", "--lock-mode", "compliance")
        assert (made["lockDays"], made["lockMode"]) == (3, "Compliance")
        assert inside_json("init", store) == made
        assert "its record does not change" in words_of(inside("init", store, "--lock-days", "4", code=64))[0]
        (tmp_path / "source").write_bytes(b"data" * 100_000)
        take = ("backup", str(tmp_path / "source"), store, "--volume", "v")
        first, second = inside_json(*take), inside_json(*take, "--lock-days", "90")
        assert first["lockedUntil"] < second["lockedUntil"]
        rows = inside_json("list", store)["backups"]
        assert [row["lockedUntil"] for row in rows] == [first["lockedUntil"], second["lockedUntil"]]
        inside("delete", store, "--volume", "v", "--backup", first["backupId"], "--now")
        told = inside("collect", store).stdout
        assert "0 objects of 0 B deleted." in told
        assert "1 objects of" in told
        assert "are still locked, the first until 20" in told
        assert inside_json("usage", store)["lockedBytes"] > 0
        assert inside_json("doctor", store)["ok"]
