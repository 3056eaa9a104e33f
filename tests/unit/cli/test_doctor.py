"""What the doctor says, and by which code a script is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.support import MIB, bucket_of_the_environment, inside, inside_json, run


@pytest.fixture
def made(place: Path) -> str:
    """A store with one backup of volume v."""
    store = f"file://{place}/store"
    inside("backup", str(place / "volume"), store, "--volume", "v")
    return store


def wrong(store: str, *arguments: str, code: int) -> dict[str, dict[str, Any]]:
    """What is not ok, by check."""
    said = inside_json("doctor", store, *arguments, code=code)
    assert said["ok"] == (code == 0)
    return {check["check"]: check for check in said["checks"] if check["level"] != "ok"}


def test_all_is_well(made: str, place: Path) -> None:
    before = sorted(path for path in (place / "store").rglob("*") if path.is_file())
    done = run("doctor", made)
    lines = done.stdout.splitlines()
    assert "WHAT TO DO" in lines[0]
    assert all(line.startswith("ok ") for line in lines[1:])
    for words in (
        "reachable",
        "format 1",
        "not encrypted",
        "put, get, list and delete",
        "never verified",
        "clock",
    ):
        assert words in done.stdout
    assert sorted(path for path in (place / "store").rglob("*") if path.is_file()) == before
    assert wrong(made, code=0) == {}


def test_no_store(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "blockvault init" in wrong(f"file://{tmp_path}/empty", code=66)["store"]["remedy"]
    assert list(wrong(f"file://{tmp_path}/absent", code=66)) == ["reachable"]
    assert "1 of 1 checks failed" in inside("doctor", f"file://{tmp_path}/absent", code=66).stderr


def test_keys(place: Path) -> None:
    store = f"file://{place}/vault"
    for name in ("key", "other"):
        inside("key", "generate", str(place / name))
    inside("init", store, "--key-file", str(place / "key"))
    assert wrong(store, "--key-file", str(place / "key"), code=0) == {}
    assert "--key-file" in wrong(store, code=77)["key"]["remedy"]
    assert "WrongKey" in wrong(store, "--key-file", str(place / "other"), code=77)["key"]["detail"]


def test_damage_that_is_known(made: str, place: Path) -> None:
    segment = next((place / "store").glob("lineages/*/segments/*"))
    data = bytearray(segment.read_bytes())
    data[MIB] ^= 1
    segment.write_bytes(data)
    assert wrong(made, code=0) == {}, "it reads no backups"
    inside("verify", made, code=65)
    found = wrong(made, code=65)
    assert found["volume v"]["detail"] == "1 pieces were found damaged"
    done = inside("doctor", made, code=65)
    assert "Make a backup" in done.stdout
    assert "checks failed" in done.stderr


def test_commits_and_owners(made: str, place: Path) -> None:
    inside("backup", str(place / "volume"), made, "--volume", "theirs", "--as", "east")
    assert wrong(made, code=0) == {}
    assert "belongs to east" in inside("doctor", made).stdout
    assert wrong(made, "--as", "west", code=0)["volume theirs"]["level"] == "warn"
    inside("usage", made)
    lineage = next(v["lineage"] for v in inside_json("usage", made)["volumes"] if v["volume"] == "v")
    max((place / "store" / "lineages" / lineage / "commits").iterdir()).unlink()
    assert "was seen before" in wrong(made, code=65)["volume v"]["detail"]


@pytest.fixture
def bucket(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    with bucket_of_the_environment("doctor", monkeypatch) as server:
        inside("init", "s3://doctor/prod")
        yield "s3://doctor/prod", server.client()


def test_what_a_bucket_would_do(bucket: tuple[str, Any]) -> None:
    store, client = bucket
    assert wrong(store, code=0) == {}
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    client.put_bucket_lifecycle_configuration(Bucket="doctor", LifecycleConfiguration={"Rules": [rule]})
    said = wrong(store, code=0)["bucket"]
    assert "tidy deletes objects" in said["detail"]
    assert said["remedy"] == "Exclude the prefix."
