"""Restoring at the command line: onto what is there, after a crash, past damage."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.cli.support import MIB, inside, inside_json, words_of

BLOCK = 262144


@pytest.fixture
def kept(place: Path) -> tuple[Path, str, list[str]]:
    """(folder, store, ids): volume v of 8 MiB, and its next backup with one block changed."""
    store = f"file://{place}/store"
    (place / "volume").write_bytes(random.Random(5).randbytes(8 * MIB))
    (place / "first").write_bytes((place / "volume").read_bytes())
    ids = [inside_json("backup", str(place / "volume"), store, "--volume", "v")["backupId"]]
    with open(place / "volume", "r+b") as file:
        file.seek(4 * BLOCK)
        file.write(random.Random(6).randbytes(BLOCK))
    ids.append(inside_json("backup", str(place / "volume"), store, "--volume", "v")["backupId"])
    return place, store, ids


def test_a_target_that_holds_something_is_not_touched_without_force(
    kept: tuple[Path, str, list[str]],
) -> None:
    place, store, _ = kept
    (place / "target").write_bytes(b"somebody's data" + bytes(9 * MIB))
    before = (place / "target").read_bytes()
    message, remedy = words_of(inside("restore", store, str(place / "target"), "--volume", "v", code=73))
    assert f"{place}/target" in message
    assert "--force" in remedy
    assert (place / "target").read_bytes() == before
    inside("restore", store, str(place / "target"), "--volume", "v", "--force")
    assert (place / "target").read_bytes()[: 8 * MIB] == (place / "volume").read_bytes()


def test_only_what_differs_is_written_to_a_target_that_holds_a_backup(
    kept: tuple[Path, str, list[str]],
) -> None:
    place, store, (first, second) = kept
    (place / "target").write_bytes((place / "first").read_bytes())
    arguments = ("restore", store, str(place / "target"), "--volume", "v", "--backup", second[:8])
    done = inside_json(*arguments, "--have", first[:8], "--force")
    assert done["bytesWritten"] <= BLOCK
    assert done["bytesRead"] < MIB
    assert (place / "target").read_bytes() == (place / "volume").read_bytes()
    # And back again, where the target was written to since: the list says where.
    with open(place / "target", "r+b") as file:
        file.write(b"scribble")
    (place / "list").write_text('{"offset": 0, "length": 8}\n')
    inside("restore", store, str(place / "target"), "--volume", "v", "--backup", first, "--have", second[:6],
           "--changed", str(place / "list"), "--force")  # fmt: skip
    assert (place / "target").read_bytes() == (place / "first").read_bytes()


def test_a_killed_restore_goes_on(place: Path) -> None:
    store, target = f"file://{place}/store", place / "target"
    with open(place / "large", "wb") as file:
        file.writelines(random.Random(part).randbytes(8 * MIB) for part in range(16))
    inside("backup", str(place / "large"), store, "--volume", "v")
    process = subprocess.Popen(
        [sys.executable, "-m", "blockvault.cli", "restore", store, str(target), "--volume", "v", "--limit-rate", "30M"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not target.exists() or target.stat().st_blocks * 512 < 64 * MIB:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = inside_json("restore", store, str(target), "--volume", "v")
    assert done["bytesRead"] < 100 * MIB
    assert target.read_bytes() == (place / "large").read_bytes()


def test_past_damage_on_request_with_a_list_of_what_was_lost(kept: tuple[Path, str, list[str]]) -> None:
    place, store, (first, _) = kept
    segment = max((place / "store").glob("lineages/*/segments/*"), key=lambda path: path.stat().st_size)
    data = bytearray(segment.read_bytes())
    data[3 * MIB] ^= 1
    segment.write_bytes(data)
    arguments = ("restore", store, str(place / "target"), "--volume", "v", "--backup", first)
    message, _ = words_of(inside(*arguments, code=65))
    assert segment.name in message
    done = inside_json(*arguments, "--salvage", "--force", code=65)
    (lost,) = done["lost"]
    assert lost["length"] == BLOCK
    assert segment.name in lost["object"]
    expected = bytearray((place / "first").read_bytes())
    expected[lost["offset"] : lost["offset"] + BLOCK] = bytes(BLOCK)
    assert (place / "target").read_bytes() == bytes(expected)
    assert "LOST AT" in inside(*arguments, "--salvage", "--force", code=65).stdout


def test_a_restore_that_nothing_pins_says_so(place: Path) -> None:
    store = f"file://{place}/alone"
    inside("init", store, "--single-writer")
    inside("backup", str(place / "volume"), store, "--volume", "v")
    done = inside("restore", store, str(place / "out"), "--volume", "v")
    assert "nothing kept the backup from being collected" in done.stderr
    assert (place / "out").read_bytes() == (place / "volume").read_bytes()
