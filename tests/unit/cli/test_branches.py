"""Two programs wrote to a store for one writer: what is said, and how a person chooses."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.unit.cli.support import inside, inside_json, words_of


def test_a_branch_is_chosen(place: Path) -> None:
    """Nothing is written until then; the branch that stays has its backups, and goes on."""
    store, other = place / "lax", place / "other"
    url, volume = f"file://{store}", str(place / "volume")
    inside("init", url, "--single-writer")
    inside("backup", volume, url, "--volume", "v")
    shutil.copytree(store, other)
    ids = [
        inside_json("backup", volume, f"file://{at}", "--volume", "v")["backupId"] for at in (store, other)
    ]
    shutil.copytree(other, store, dirs_exist_ok=True)
    refused = inside("backup", volume, url, "--volume", "v", code=65)
    assert "two programs wrote at once" in words_of(refused)[0]
    assert "`blockvault branches`" in words_of(refused)[1]
    ends = inside_json("branches", url, "--volume", "v")["branches"]
    assert sorted(end["backups"][-1] for end in ends) == sorted(ids)
    shown = inside("branches", url, "--volume", "v").stdout
    assert all(end["commitId"] in shown for end in ends)
    (chosen,) = (end for end in ends if ids[1] in end["backups"])
    inside("branches", url, "--volume", "v", "--keep", chosen["commitId"])
    listed = [backup["backupId"] for backup in inside_json("list", url)["backups"]]
    assert ids[1] in listed
    assert ids[0] not in listed
    inside("backup", volume, url, "--volume", "v")
    inside("verify", url)


def test_where_there_is_one_only(place: Path) -> None:
    url = f"file://{place}/lax"
    inside("init", url, "--single-writer")
    inside("backup", str(place / "volume"), url, "--volume", "v")
    (end,) = inside_json("branches", url, "--volume", "v")["branches"]
    refused = inside("branches", url, "--volume", "v", "--keep", end["commitId"], code=64)
    assert "no branches" in words_of(refused)[0]
