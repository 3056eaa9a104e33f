"""Trash, collecting, whole volumes, and volumes of other clusters."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository, runtime
from blockvault.engine import collect as engine_collect
from blockvault.stores import StoreLocation, open_store
from tests.unit.cli.support import inside, inside_json, tried, words_of


@pytest.fixture
def made(place: Path) -> tuple[str, list[str]]:
    """(store, ids) of two full backups of volume v."""
    store = f"file://{place}/store"
    arguments = ("backup", str(place / "volume"), store, "--volume", "v", "--full")
    return store, [inside_json(*arguments)["backupId"] for _ in range(2)]


def listed(store: str) -> dict[str, bool]:
    """Whether each backup is in the trash."""
    return {b["backupId"]: "trash" in b["labels"] for b in inside_json("list", store)["backups"]}


def test_into_the_trash_and_back(made: tuple[str, list[str]], place: Path) -> None:
    store, (first, second) = made
    used = inside_json("usage", store)["usedBytes"]
    done = inside_json("delete", store, "--volume", "v", "--backup", second[:8], "--keep", "3d")
    assert done == {"deleted": [second], "notFound": []}
    assert listed(store) == {first: False, second: True}
    assert "in the trash until" in inside("list", store).stdout
    assert "in the trash until" not in inside("list", store).stdout.splitlines()[1]
    assert inside_json("show", store, "--volume", "v", "--backup", second)["labels"]["trash"]["until"]
    assert inside_json("show", store, "--volume", "v")["backupId"] == first
    usage = inside_json("usage", store)
    assert usage["usedBytes"] == used
    assert 0 < usage["trashBytes"] < used
    assert usage["objects"] == sum(path.is_file() for path in (place / "store").rglob("*"))
    # Nothing is due, so nothing goes.
    assert inside_json("collect", store)["volumes"][0]["emptied"] == []
    assert inside_json("undelete", store, "--volume", "v", "--backup", second)["undeleted"] == [second]
    assert inside_json("undelete", store, "--volume", "v", "--backup", second)["notInTrash"] == [second]
    assert listed(store) == {first: False, second: False}
    done_ = inside("undelete", store, "--volume", "v", "--backup", "f" * 32, code=66)
    assert "in the trash neither" in words_of(done_)[0]


def test_what_is_due_is_collected(
    made: tuple[str, list[str]], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        engine_collect, "clock_of", lambda store: runtime.wall()
    )  # the file system's goes along
    store, (first, second) = made
    inside("delete", store, "--volume", "v", "--backup", first, "--now")
    inside("delete", store, "--volume", "v", "--backup", second, "--keep", "1h")
    with runtime.use(runtime.Runtime(wall=lambda: time.time() + 3700)):
        planned = inside_json("collect", store, "--dry-run")
        assert (planned["dryRun"], planned["volumes"][0]["emptied"]) == (True, [second])
        assert listed(store) == {second: True}
        done = inside_json("collect", store)
    assert done["deletedObjects"] == planned["deletedObjects"] > 0
    assert done["deletedBytes"] > 2 << 20
    assert listed(store) == {}
    assert list((place / "store").glob("lineages/*/segments/*")) == []
    assert "0 objects" in inside("collect", store).stdout


def test_a_store_that_was_set_back_is_not_collected(made: tuple[str, list[str]], place: Path) -> None:
    """What this user has seen is kept beside the store."""
    store, (first, _) = made
    shutil.copytree(place / "store", place / "copy")
    inside("delete", store, "--volume", "v", "--backup", first, "--now")
    inside("usage", store)
    shutil.rmtree(place / "store")
    (place / "copy").rename(place / "store")
    before = sorted(path for path in (place / "store").rglob("*"))
    done = inside("collect", store, code=65)
    assert "was seen before" in words_of(done)[0]
    assert inside_json("collect", store, code=65)["errors"][0]["reason"] == "RollbackSuspected"
    assert "set back?" in inside("usage", store).stderr
    assert sorted(path for path in (place / "store").rglob("*")) == before


def test_a_store_that_was_set_back_and_gone_on_with(made: tuple[str, list[str]], place: Path) -> None:
    """Its number is the same again, or higher: the commit is another. Only a person's word lets it be collected."""
    store, (first, _) = made
    shutil.copytree(place / "store", place / "copy")
    inside("delete", store, "--volume", "v", "--backup", first, "--now")
    inside("usage", store)
    shutil.rmtree(place / "store")
    (place / "copy").rename(place / "store")
    inside("backup", str(place / "volume"), store, "--volume", "v")
    for _ in range(2):
        assert "another commit" in words_of(inside("collect", store, code=65))[0]
        assert "set back?" in inside("usage", store).stderr
    assert "another commit" in inside("doctor", store, code=65).stdout.replace("\n", " ")
    assert inside_json("accept-rollback", store, "--volume", "v") == {"volume": "v", "accepted": False}
    inside("collect", store)
    assert inside("usage", store).stderr == ""
    assert inside("accept-rollback", store, "--volume", "w", code=66)


def test_lost_commits_and_the_way_on(made: tuple[str, list[str]], place: Path) -> None:
    store, _ = made
    inside("backup", str(place / "volume"), store, "--volume", "other")
    (lineage,) = {v["lineage"] for v in inside_json("usage", store)["volumes"] if v["volume"] == "v"}
    for path in (place / "store" / "lineages" / lineage / "commits").iterdir():
        path.unlink()
    done = inside("list", store, code=65)
    assert "other" in done.stdout
    assert "no commit is there" in words_of(done)[0]
    told = inside_json("list", store, code=65)
    assert [(each["volume"], each["reason"]) for each in told["errors"]] == [("v", "CommitsLost")]
    assert (
        "no commit is there"
        in words_of(inside("backup", str(place / "volume"), store, "--volume", "v", code=65))[0]
    )
    assert "goes on from here" in inside("accept-rollback", store, "--volume", "v").stdout
    inside("backup", str(place / "volume"), store, "--volume", "v")
    assert inside_json("collect", store)["deletedObjects"] > 0
    assert inside_json("verify", store)["ok"]


def test_a_whole_volume(made: tuple[str, list[str]], place: Path) -> None:
    store, _ = made
    arguments = ("delete", store, "--volume", "v", "--entire-volume")
    done = inside(*arguments, code=64)
    assert "gone for good" in words_of(done)[0]
    assert len(listed(store)) == 2
    assert inside_json(*arguments, "--now") == {"deletedVolume": "v"}
    inside("list", store, "--volume", "v", code=66)
    assert inside_json("collect", store, "--volume", "v")["deletedObjects"] > 0
    inside("backup", str(place / "volume"), store, "--volume", "v")
    assert inside_json("collect", store)["errors"] == []
    assert len(listed(store)) == 1


def test_volumes_of_other_clusters(made: tuple[str, list[str]], place: Path) -> None:
    store, _ = made
    opened = Repository.open(open_store(StoreLocation(store)), actor="east")
    foreign = opened.backup(BackupRequest(str(place / "volume"), "theirs")).backup_id
    assert "east" in inside("list", store).stdout
    arguments = ("delete", store, "--volume", "theirs", "--backup", foreign, "--now")
    message, remedy = words_of(inside(*arguments, code=77))
    assert "belong to east" in message
    assert "--as" in remedy
    done = inside("collect", store)
    assert "theirs: belongs to another cluster" in done.stderr
    assert "belong to east" in words_of(inside("collect", store, "--volume", "theirs", code=77))[0]
    inside(*arguments, "--as", "east")
    assert inside_json("collect", store, "--as", "east")["deletedObjects"] > 0


def test_mostly_dead_segments_are_written_anew(place: Path) -> None:
    store = f"file://{place}/store"
    first = inside_json("backup", str(place / "volume"), store, "--volume", "v")["backupId"]
    with open(place / "volume", "r+b") as file:
        file.write(b"\1" * 1_500_000)
    inside("backup", str(place / "volume"), store, "--volume", "v")
    inside("delete", store, "--volume", "v", "--backup", first, "--now")
    inside("collect", store)
    before = inside_json("usage", store)["storedBytes"]
    assert inside_json("collect", store, "--compact", "1G")["rewrittenBytes"] > 0
    assert inside_json("usage", store)["storedBytes"] < before - 1_000_000
    inside("restore", store, str(place / "target"), "--volume", "v")
    assert (place / "target").read_bytes() == (place / "volume").read_bytes()


def test_a_damaged_segment_stops_no_compaction(place: Path) -> None:
    """It is named, with what to do, and the command fails by it; other volumes are rewritten, and all are collected."""
    store = f"file://{place}/store"
    for volume in ("damaged", "whole"):
        (place / "volume").write_bytes(random.Random(volume).randbytes(3 << 20))
        take = ("backup", str(place / "volume"), store, "--volume", volume)
        first = inside_json(*take)["backupId"]
        if volume == "damaged":
            (segment,) = (place / "store").glob("lineages/*/segments/*")
        with open(place / "volume", "r+b") as file:
            file.write(b"\1" * 2_500_000)
        inside(*take)
        inside("delete", store, "--volume", volume, "--backup", first, "--now")
    data = bytearray(segment.read_bytes())
    data[-8] ^= 1
    segment.write_bytes(data)
    done = tried("collect", store, "--compact", "1G", "--output", "json")
    assert done.code == 65
    message, remedy = words_of(done)
    assert segment.name in message
    assert "blockvault verify" in remedy
    told = json.loads(done.stdout)
    assert told["rewrittenBytes"] > 0
    assert [error["volume"] for error in told["errors"]] == ["damaged"]
    assert {each["volume"]: each["deletedObjects"] > 0 for each in told["volumes"]}["whole"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("delete", "{s}", "--volume", "v"), "name backups with --backup"),
        (
            ("delete", "{s}", "--volume", "v", "--backup", "x", "--entire-volume"),
            "name backups with --backup",
        ),
        (("delete", "{s}", "--volume", "v", "--backup", "latest"), "by its id"),
        (("delete", "{s}", "--volume", "v", "--backup", "x", "--keep", "soon"), "write 90s, 30m"),
        (("undelete", "{s}", "--volume", "v"), "name the backups"),
        (("collect", "{s}", "--dry-run", "--compact", "1G"), "exclude each other"),
    ],
)
def test_what_makes_no_sense_is_refused(place: Path, arguments: tuple[str, ...], words: str) -> None:
    done = inside(*(each.format(s=f"file://{place}/store") for each in arguments), code=64)
    assert words in words_of(done)[0]
