"""Reading back by the command line: real stores, real damage, and what is said about it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.unit.cli.support import inside, inside_json, result, run, words_of

BLOCK = 256 * 1024


@pytest.fixture
def made(place: Path) -> tuple[str, list[str]]:
    """(store, ids) of three backups of volume v, the second and third with one changed block each, and one of w."""
    store = f"file://{place}/store"
    ids = [inside_json("backup", str(place / "volume"), store, "--volume", "v")["backupId"]]
    for block in (2, 5):
        with open(place / "volume", "r+b") as file:
            file.seek(block * BLOCK)
            file.write(random.Random(block).randbytes(BLOCK))
        ids.append(inside_json("backup", str(place / "volume"), store, "--volume", "v")["backupId"])
    inside("backup", str(place / "volume"), store, "--volume", "w")
    return store, ids


def objects(place: Path, store: str, kind: str, volume: str = "v") -> list[Path]:
    """Oldest first: names begin with the epoch of the run."""
    lineage = next(
        each["lineage"] for each in inside_json("usage", store)["volumes"] if each["volume"] == volume
    )
    return sorted((place / "store" / "lineages" / lineage / kind).iterdir())


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def test_a_healthy_store(made: tuple[str, list[str]]) -> None:
    store, ids = made
    said = inside_json("verify", store)
    assert (said["ok"], said["damaged"], said["kept"]) == (True, [], True)
    assert [row["backupId"] for row in said["backups"] if row["volume"] == "v"] == ids
    # Eight blocks of each backup are not zero; those that backups share are read once.
    assert said["checkedBlocks"] == 4 * 8
    assert said["checkedBytes"] == (8 + 1 + 1 + 8) * BLOCK
    table = inside("verify", store).stdout
    assert "32 blocks were read back" in table
    shown = inside_json("show", store, "--volume", "v")["labels"]["verified"]
    assert (shown["mode"], shown["blocks"], shown["damaged"]) == ("Full", 8, 0)
    assert "verified 2" in inside("list", store).stdout
    inside("verify", store, "--every-byte")


def test_parts_of_it(made: tuple[str, list[str]]) -> None:
    store, ids = made
    assert inside_json("verify", store, "--volume", "w")["checkedBlocks"] == 8
    one = inside_json("verify", store, "--volume", "v", "--backup", ids[1][:8])
    assert [row["backupId"] for row in one["backups"]] == [ids[1]]
    last = inside_json("verify", store, "--volume", "v", "--backup", "latest")
    assert [row["backupId"] for row in last["backups"]] == [ids[2]]
    assert inside_json("verify", store, "--sample", "100%")["checkedBlocks"] == 32
    assert inside_json("verify", store, "--sample", "0.001%")["checkedBlocks"] < 8
    assert "Sample" in inside("show", store, "--volume", "v").stdout


def test_damage_is_named_with_what_it_touches_and_what_to_do(
    made: tuple[str, list[str]], place: Path
) -> None:
    store, ids = made
    segment = objects(place, store, "segments")[1]  # of the second run: its block 2, which the third shares
    flip(segment, 1000)
    done = run("verify", store, code=65)
    message, remedy = words_of(done)
    assert "1 damaged objects, which touch 2 backups" in message
    assert "disaster-recovery" in remedy
    assert segment.name in done.stdout
    assert "hash of the block" in done.stdout
    assert f"{segment.name}:\n  Back the volume up" in done.stdout
    said = inside_json("verify", store, code=65)
    assert not said["ok"]
    assert [(row["backupId"], row["offset"], row["length"]) for row in said["damaged"]] == [
        (ids[1], 2 * BLOCK, BLOCK),
        (ids[2], 2 * BLOCK, BLOCK),
    ]
    assert {row["object"].rpartition("/")[2] for row in said["damaged"]} == {segment.name}
    assert "DAMAGED" in inside("list", store).stdout
    assert inside_json("show", store, "--volume", "v")["labels"]["verified"]["damaged"] == 1
    # The next backup mends it, for itself; the older ones stay as they are.
    healed = inside_json("backup", str(place / "volume"), store, "--volume", "v")["backupId"]
    inside("verify", store, "--volume", "v", "--backup", healed)
    assert {row["backupId"] for row in inside_json("verify", store, code=65)["damaged"]} == set(ids[1:])
    # Where the damaged ones go, nothing is left of it.
    inside("delete", store, "--volume", "v", "--backup", ids[1], "--backup", ids[2], "--now")
    inside("verify", store)


def test_missing_objects_show_in_the_smallest_sample(made: tuple[str, list[str]], place: Path) -> None:
    store, ids = made
    objects(place, store, "segments")[0].unlink()
    said = inside_json("verify", store, "--sample", "0.001%", code=65)
    assert {row["backupId"] for row in said["damaged"]} == set(ids)
    assert {row["cause"] for row in said["damaged"]} == {"is missing"}


@pytest.mark.parametrize("kind", ["commits", "roots", "pages"])
def test_other_objects(made: tuple[str, list[str]], place: Path, kind: str) -> None:
    store, _ = made
    path = objects(place, store, kind)[0]
    flip(path, 140)
    said = inside_json("verify", store, code=65)
    assert {row["object"].rpartition("/")[2] for row in said["damaged"]} == {path.name}
    assert all(row["remedy"] for row in said["damaged"])


def test_a_volume_that_cannot_be_opened_does_not_hide_the_others(
    made: tuple[str, list[str]], place: Path
) -> None:
    store, ids = made
    newest = objects(place, store, "commits", "w")[-1]
    flip(newest, 200)
    said = inside_json("verify", store, code=65)
    (row,) = said["damaged"]
    assert (row["volume"], row["backupId"]) == ("w", None)
    assert row["object"].endswith(newest.name)
    assert "Bring this object back" in row["remedy"]
    assert [each["backupId"] for each in said["backups"]] == ids


@pytest.mark.parametrize("where", [100, 128 + 2 * BLOCK + 7])
def test_what_nobody_needs_is_looked_at_on_request(
    made: tuple[str, list[str]], place: Path, where: int
) -> None:
    """The checksum over a whole object, and a block in it that no backup needs any more."""
    store, ids = made
    inside("delete", store, "--volume", "v", "--backup", ids[0], "--now")
    segment = objects(place, store, "segments")[0]
    flip(segment, where)
    inside("verify", store)
    said = inside_json("verify", store, "--every-byte", code=65)
    assert {row["object"].rpartition("/")[2] for row in said["damaged"]} == {segment.name}
    assert {row["backupId"] for row in said["damaged"]} == set(ids[1:])
    assert {row["remedy"].split(".")[0] for row in said["damaged"]} == {"Every backup can be restored"}


def test_a_budget_goes_round(made: tuple[str, list[str]]) -> None:
    """One volume uses it up; the next run begins with the other, which was waiting longer."""
    store, _ = made
    runs = [inside_json("verify", store, "--budget", "1M") for _ in range(2)]
    assert sorted(run["checkedBytes"] for run in runs) == [8 * BLOCK, 10 * BLOCK]
    assert "Budget" in inside("show", store, "--volume", "v").stdout


def test_a_store_that_was_set_back(made: tuple[str, list[str]], place: Path) -> None:
    """By what lies in it, of runs that the newest commit does not know; and by what was seen before."""
    store, _ = made
    commits = objects(place, store, "commits")
    inside("usage", store)
    for path in commits[-3:]:
        path.unlink()
    said = inside_json("verify", store, code=65)
    causes = [row["cause"] for row in said["damaged"]]
    assert len(causes) == 2
    assert all("was set back" in cause for cause in causes)
    assert all("Find out whether" in row["remedy"] for row in said["damaged"])


def test_progress(made: tuple[str, list[str]]) -> None:
    store, _ = made
    assert result("verify", store, "--progress", "json")["ok"]
    done = run("verify", store, "--progress", "none")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backup", "latest"), "name that with --volume"),
        (("--sample", "5%", "--budget", "1G"), "exclude each other"),
        (("--volume", "v", "--backup", "latest", "--budget", "1G"), "leave out --backup"),
        (("--every-byte", "--sample", "5%"), "leave out --sample"),
        (("--sample", "0"), "is no part"),
        (("--sample", "101%"), "is no part"),
        (("--budget", "much"), "not a number of bytes"),
    ],
)
def test_what_makes_no_sense_is_refused(place: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in words_of(inside("verify", f"file://{place}/store", *arguments, code=64))[0]


def test_volumes_that_are_not_there(made: tuple[str, list[str]]) -> None:
    store, _ = made
    inside("verify", store, "--volume", "x", code=66)
    inside("verify", store, "--volume", "v", "--backup", "f" * 32, code=66)


def test_lost_roots(made: tuple[str, list[str]], place: Path) -> None:
    """Whose root it was can be deleted, those that build upon it are mended; until then usage says what it leaves out."""
    store, ids = made
    objects(place, store, "roots")[0].unlink()
    inside("delete", store, "--volume", "v", "--backup", ids[2], "--now")
    assert "v: 2 backups are not counted" in inside("usage", store).stderr
    (mended,) = inside_json("verify", store, "--repair", code=65)["repaired"]
    assert (mended["roots"], mended["lost"], mended["error"]) == (1, [ids[0]], None)
    assert "v: 1 backups are not counted" in inside("usage", store).stderr
    inside("delete", store, "--volume", "v", "--backup", ids[0], "--now")
    assert "not counted" not in inside("usage", store).stderr
    inside("collect", store)
    assert inside_json("verify", store)["ok"]


def test_old_backups_are_mended_with_what_a_later_one_has_stored_anew(
    made: tuple[str, list[str]], place: Path
) -> None:
    store, _ = made
    assert inside_json("verify", store, "--repair")["repaired"] == []
    flip(objects(place, store, "segments")[1], 1000)
    # Nothing has stored the block anew yet.
    done = run("verify", store, "--repair", code=65)
    assert (
        "Volume v: 0 damaged blocks were mended, in 0 backups; 0 damaged objects were replaced."
        in done.stdout
    )
    inside("backup", str(place / "volume"), store, "--volume", "v")
    mended = inside_json("verify", store, "--repair", code=65)["repaired"]
    assert mended == [
        {"volume": "v", "blocks": 2, "backups": 2, "objects": 0, "roots": 0, "lost": [], "error": None}
    ]
    assert inside_json("verify", store)["ok"]


@pytest.mark.parametrize("kind", ["segments", "pages"])
@pytest.mark.parametrize("where", [3, 110, -20, -80])
def test_objects_damaged_around_their_blocks_are_replaced(
    made: tuple[str, list[str]], place: Path, kind: str, where: int
) -> None:
    """The magic, the checksum, the hash of the directory, the directory."""
    store, ids = made
    path = objects(place, store, kind)[0]
    flip(path, where)
    done = run("verify", store, "--every-byte", "--repair", code=65)
    assert (
        "Volume v: 0 damaged blocks were mended, in 0 backups; 1 damaged objects were replaced."
        in done.stdout
    )
    assert "`blockvault verify --repair`" in done.stdout
    inside("verify", store, "--every-byte")
    assert path.exists()
    assert inside_json("collect", store)["deletedObjects"] > 0
    assert not path.exists()
    inside("verify", store, "--every-byte")
    inside("restore", store, str(place / "restored"), "--volume", "v", "--backup", ids[2])
    assert (place / "restored").read_bytes() == (place / "volume").read_bytes()


def test_what_cannot_be_replaced_is_said(made: tuple[str, list[str]], place: Path) -> None:
    """Two objects: one is damaged around its blocks; then a block of it cannot be proven, as its patch is gone."""
    store, ids = made
    with open(place / "volume", "r+b") as file:
        file.seek(2 * BLOCK)
        file.write(b"one sector")
    last = inside_json("backup", str(place / "volume"), store, "--volume", "v")["backupId"]
    inside("delete", store, "--volume", "v", *(part for one in ids for part in ("--backup", one)), "--now")
    base, patch = objects(place, store, "segments")[1], objects(place, store, "segments")[3]
    flip(base, 3)
    flip(patch, 129)
    said = inside_json("verify", store, "--repair", code=65)
    assert {row["object"].rpartition("/")[2]: row["backupId"] for row in said["damaged"]} == {
        base.name: last,
        patch.name: last,
    }
    (row,) = said["repaired"]
    assert row["objects"] == 0
    assert f"{base.name}: block 2, of which a part lies in it, is damaged as well" in row["error"]
    assert "Not mended: " in run("verify", store, "--repair", code=65).stdout
    # The next backup stores the block anew; then it is needed by the one that is damaged only.
    inside("backup", str(place / "volume"), store, "--volume", "v")
    inside("delete", store, "--volume", "v", "--backup", last, "--now")
    inside("verify", store)
