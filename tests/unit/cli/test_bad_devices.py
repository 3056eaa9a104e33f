"""Devices and disks that are not what they should be: empty, read-only, full, gone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blockvault.engine.scan import Scanner
from tests.disks import fill, loop, read_only, root, sh, small_disk
from tests.unit.cli.support import MIB, inside, inside_json, words_of


@root
def test_a_device_that_shows_nothing_is_no_source(place: Path) -> None:
    """An empty file behind it, as a drive without a medium; and nothing at all."""
    (place / "empty").write_bytes(b"")
    with loop(place / "empty") as device:
        arguments = ("backup", device, f"file://{place}/store", "--volume", "v")
        for done in (inside(*arguments, code=66), inside(*arguments, "--skip-unreadable", code=66)):
            assert f"{device}: a device with nothing behind it (it has 0 bytes)" in words_of(done)[0]
            assert "Attach the device" in words_of(done)[1]
    assert inside_json("list", f"file://{place}/store")["backups"] == []


def test_a_file_may_be_empty_and_that_is_told(place: Path) -> None:
    (place / "empty").write_bytes(b"")
    store = f"file://{place}/store"
    done = inside("backup", str(place / "empty"), store, "--volume", "v")
    assert f"v: {place}/empty is empty, and so is this backup" in done.stderr
    inside("restore", store, str(place / "target"), "--volume", "v")
    assert (place / "target").read_bytes() == b""


@root
@pytest.mark.parametrize("options", [(), ("--skip-unreadable",)])
def test_a_device_that_goes_away_while_it_is_read(
    place: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """As when it is pulled out: the kernel sets its size to 0. Attached again, the same command goes on."""
    data, store = (place / "volume").read_bytes(), f"file://{place}/store"
    (place / "disk").write_bytes(data)
    look = Scanner.look
    with loop(place / "disk") as device:
        arguments = ("backup", device, store, "--volume", "v", *options)

        def pull_out(self: Scanner, batch: object) -> object:
            os.truncate(place / "disk", 0)
            sh("losetup", "--set-capacity", device)
            return look(self, batch)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(Scanner, "look", pull_out)
            done = inside(*arguments, code=75)
        assert f"{device}: reading at 0: the device has gone" in words_of(done)[0]
        assert "attach it again" in words_of(done)[1]
        assert f"blockvault backup {device} {store} --volume v" in done.stderr
        assert inside_json("list", store)["backups"] == []
        (place / "disk").write_bytes(data)
        sh("losetup", "--set-capacity", device)
        assert "going on" in inside(*arguments).stderr
    inside("restore", store, str(place / "target"), "--volume", "v")
    assert (place / "target").read_bytes() == data


@root
def test_sectors_that_were_skipped_are_read_by_the_next_backup(place: Path) -> None:
    """Also when the list of changes since then does not name them. A restore tells of them."""
    data, store = (place / "volume").read_bytes(), f"file://{place}/store"
    (place / "disk").write_bytes(data)
    (place / "list").write_text("")
    with loop(place / "disk") as device:
        os.truncate(place / "disk", MIB)
        inside("backup", device, store, "--volume", "v", "--skip-unreadable")
        done = inside("restore", store, str(place / "holed"), "--volume", "v")
        assert "2.0 MiB are zeros: the volume could not be read there" in done.stderr
        (place / "disk").write_bytes(data)
        sh("blockdev", "--flushbufs", device)
        made = inside_json("backup", device, store, "--volume", "v", "--parent", "latest", "--changed",
                           str(place / "list"))  # fmt: skip
    assert (made["changedBlockSource"], made["unreadable"]) == ("List", [])
    done = inside("restore", store, str(place / "target"), "--volume", "v")
    assert "zeros" not in done.stderr
    assert (place / "target").read_bytes() == data


@root
def test_a_target_that_is_read_only(place: Path) -> None:
    store = f"file://{place}/store"
    inside("backup", str(place / "volume"), store, "--volume", "v")
    (place / "disk").write_bytes(bytes(4 * MIB))
    with loop(place / "disk") as device, loop(place / "disk", "--read-only") as born:
        sh("blockdev", "--setro", device)
        for each in (device, born):
            done = inside("restore", store, each, "--volume", "v", code=74)
            assert f"{each}: the device is read-only; nothing was written" in words_of(done)[0]
            assert f"blockdev --setrw {each}" in words_of(done)[1]
    with small_disk(place / "mnt", "16m") as folder:
        (folder / "old").write_bytes(b"")
        with read_only(folder):
            for name in ("old", "new"):
                done = inside("restore", store, str(folder / name), "--volume", "v", code=74)
                assert f"{folder}/{name}: Read-only file system; nothing was written" in words_of(done)[0]
                assert "Make it writable" in words_of(done)[1]
    assert not list((place / "state").rglob("*.blockvault-partial"))


@root
def test_a_store_on_a_file_system_that_is_read_only(place: Path) -> None:
    with small_disk(place / "mnt", "16m") as folder:
        store = f"file://{folder}/store"
        inside("init", store)
        inside("backup", str(place / "volume"), store, "--volume", "v")
        with read_only(folder):
            for command in (("init", f"file://{folder}/other"),
                            ("backup", str(place / "volume"), store, "--volume", "v")):  # fmt: skip
                done = inside(*command, code=77)
                assert f"file://{folder}/" in words_of(done)[0]
                assert "Read-only file system" in words_of(done)[0]
                assert str(folder) not in words_of(done)[0].replace(f"file://{folder}", "", 1)
                assert "Mount the file system for writing" in words_of(done)[1]
            inside("restore", store, str(place / "target"), "--volume", "v")
    assert (place / "target").read_bytes() == (place / "volume").read_bytes()


@root
def test_a_key_that_cannot_be_written_is_not_left_in_part(place: Path) -> None:
    with small_disk(place / "mnt", "1m") as folder:
        ballast, key = fill(folder), str(folder / "key")
        done = inside("key", "generate", key, code=64)
        assert f"key file {key}: No space left on device; no key was made" in words_of(done)[0]
        assert "Free space" in words_of(done)[1]
        assert os.listdir(folder) == ["ballast"]
        ballast.unlink()
        with read_only(folder):
            done = inside("key", "generate", key, code=64)
            assert f"key file {key}: Read-only file system" in words_of(done)[0]
        inside("key", "generate", key)


@root
def test_a_rotation_that_cannot_write_leaves_the_old_key_and_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes to the store only: key files are read."""
    monkeypatch.setattr("blockvault.engine.rotation.QUIET_SECONDS", 0.0)
    old, new = str(place / "old"), str(place / "new")
    for path in (old, new):
        inside("key", "generate", path)
    with small_disk(place / "mnt", "16m") as folder:
        store = f"file://{folder}/store"
        inside("init", store, "--key-file", old)
        inside("backup", str(place / "volume"), store, "--volume", "v", "--key-file", old)
        rotate = ("key", "rotate", store, "--key-file", new, "--previous-key-file", old)
        done = inside("key", "rotate", store, "--key-file", str(folder), "--previous-key-file", old, code=64)
        assert f"key file {folder}: Is a directory" in words_of(done)[0]
        ballast = fill(folder)
        done = inside(*rotate, code=77)
        assert "No space left" in words_of(done)[0]
        inside("restore", store, str(place / "target"), "--volume", "v", "--key-file", old)
        assert (place / "target").read_bytes() == (place / "volume").read_bytes()
        ballast.unlink()
        assert inside_json(*rotate)["oldKeyRemoved"]
        inside("restore", store, str(place / "target"), "--volume", "v", "--key-file", new, "--force")
        assert (place / "target").read_bytes() == (place / "volume").read_bytes()


@root
def test_room_is_made_on_a_full_disk_by_deleting(place: Path) -> None:
    """A backup that did not fit leaves the few KiB that deleting needs."""
    with small_disk(place / "mnt", "7m") as folder:
        store = f"file://{folder}/store"
        inside("init", store)
        first = inside_json("backup", str(place / "volume"), store, "--volume", "v")["backupId"]
        (place / "volume").write_bytes(random.Random(3).randbytes(6 * MIB))
        arguments = ("backup", str(place / "volume"), store, "--volume", "w")
        inside(*arguments, code=77)
        inside("delete", store, "--volume", "v", "--backup", first, "--now")
        inside("collect", store)
        assert "going on" in inside(*arguments).stderr
        inside("restore", store, str(place / "target"), "--volume", "w")
    assert (place / "target").read_bytes() == (place / "volume").read_bytes()


def test_an_interrupted_restore_says_how_to_go_on(place: Path) -> None:
    store, target = f"file://{place}/store", place / "a target"
    with open(place / "large", "wb") as file:
        file.writelines(random.Random(part).randbytes(8 * MIB) for part in range(10))
    backup_id = inside_json("backup", str(place / "large"), store, "--volume", "v")["backupId"]
    process = subprocess.Popen(
        [sys.executable, "-m", "blockvault.cli", "restore", store, str(target), "--volume", "v",
         "--limit-rate", "30M", "--no-resume"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not target.exists() or target.stat().st_blocks * 512 < 8 * MIB:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 75
    assert "stopped by SIGINT" in stderr
    assert stderr.splitlines()[-2].strip() == "Go on with:"
    # The very backup, as `latest` may be another one by then; and no word of starting afresh.
    command = stderr.splitlines()[-1].strip()
    assert command == (
        f"blockvault restore {store} '{target}' --volume v --backup {backup_id} --limit-rate {30 * MIB}"
    )
    inside("restore", store, str(target), "--volume", "v", "--backup", backup_id)
    assert target.read_bytes() == (place / "large").read_bytes()
