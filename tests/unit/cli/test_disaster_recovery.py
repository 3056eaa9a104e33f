"""docs/disaster-recovery.md is run as it stands: from a store, a key and the command, to the volume."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disks import loop, root
from tests.unit.cli.support import MIB, bucket_of_the_environment, inside, inside_json

PAGE = Path(__file__).parents[3] / "docs" / "disaster-recovery.md"
BLOCKS = dict(re.findall(r"<!-- run: (.*?) -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL))
EVERYWHERE = ("look", "list", "verify", "file", "check")
ROOT = ("mount (root)", "device (root)")
DIRECTORY = tuple(
    f"{name} (directory)" for name in ("copy", "commit", "damage", "salvage", "repair", "bury", "accept")
)


def test_no_command_of_the_page_is_left_out() -> None:
    assert set(BLOCKS) == {*EVERYWHERE, *ROOT, *DIRECTORY}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key, and an ext4 volume with a file."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "precious").write_bytes(random.Random(1).randbytes(3 * MIB))
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-d", str(tmp_path / "files"), str(tmp_path / "disk"), "16M"],
        check=True,
    )
    inside("key", "generate", str(tmp_path / "key"))
    monkeypatch.setenv("BLOCKVAULT_KEY_FILE", str(tmp_path / "key"))
    (tmp_path / "new").mkdir()
    return tmp_path


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, machine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store that holds two backups of the volume."""
    if request.param == "directory":
        url = f"file://{machine}/store"
        fill(url, machine)
        yield url
        return
    with bucket_of_the_environment("backups", monkeypatch):
        fill("s3://backups/prod", machine)
        yield "s3://backups/prod"


def fill(url: str, machine: Path) -> None:
    inside("init", url)
    first = machine / "first"
    first.write_bytes((machine / "disk").read_bytes())
    with open(first, "r+b") as file:
        file.seek(12 * MIB)
        file.write(b"before")
    for source in (first, machine / "disk"):
        inside("backup", str(source), url, "--volume", "db")


def bash(script: str, machine: Path, **variables: str) -> str:
    """On a machine that has nothing but the command, the key and the place."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    environment = {**os.environ, "PATH": path, "HOME": str(machine / "new"), "VOLUME": "db", **variables}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment, cwd=machine / "new", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_restores_a_volume(store: str, machine: Path) -> None:
    said = bash("".join(BLOCKS[name] for name in EVERYWHERE), machine, STORE=store)
    assert "--key-file" in said, "which key it is that was given"
    assert "fail" not in said
    assert "blocks were read back" in said
    assert (machine / "new" / "volume.img").read_bytes() == (machine / "disk").read_bytes()


@root
def test_the_page_restores_to_a_device(machine: Path) -> None:
    store = f"file://{machine}/store"
    fill(store, machine)
    (machine / "target").write_bytes(bytes(20 * MIB))
    with loop(machine / "target") as device:
        said = bash(
            BLOCKS["file"] + "".join(BLOCKS[name] for name in ROOT), machine, STORE=store, DEVICE=device
        )
    assert "precious" in said
    assert (machine / "target").read_bytes()[: 16 * MIB] == (machine / "disk").read_bytes()


def test_the_page_goes_round_a_damaged_commit(machine: Path) -> None:
    store = f"file://{machine}/store"
    fill(store, machine)
    newest = max((machine / "store").glob("lineages/*/commits/*"))
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    assert newest.name in inside("list", store, code=65).stderr
    said = bash(BLOCKS["commit (directory)"], machine, STORE=store, BEFORE=str(int(newest.name) - 1))
    assert said.count("db ") >= 1
    assert (machine / "new" / "before.img").read_bytes() == (machine / "first").read_bytes()


def test_the_page_goes_on_after_a_lost_root(machine: Path) -> None:
    """As somebody does it who reads nothing but what is printed: every command is in what the one before said."""
    store = f"file://{machine}/store"
    fill(store, machine)
    root = min((machine / "store").glob("lineages/*/roots/*"))
    root.unlink()
    first, second = (row["backupId"] for row in inside_json("list", store)["backups"])
    waits = inside("collect", store, code=65).stderr
    assert first in waits
    assert second in waits
    assert "verify STORE --repair" in waits
    said = bash(BLOCKS["repair (directory)"], machine, STORE=store)
    assert f"blockvault delete STORE --volume db --backup {first} --now" in said
    assert "Of 1 backups what they need was written down anew." in said
    assert first in inside("collect", store, code=65).stderr
    assert second not in inside("collect", store, code=65).stderr
    said = bash(BLOCKS["bury (directory)"], machine, STORE=store, LOST=first)
    assert "blocks were read back" in said
    bash(BLOCKS["file"], machine, STORE=store)
    assert (machine / "new" / "volume.img").read_bytes() == (machine / "disk").read_bytes()


def test_the_page_takes_what_is_left(machine: Path) -> None:
    store = f"file://{machine}/store"
    fill(store, machine)
    segment = max((machine / "store").glob("lineages/*/segments/*"), key=lambda path: path.stat().st_size)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    said = bash(BLOCKS["damage (directory)"] + BLOCKS["salvage (directory)"], machine, STORE=store)
    assert f"{segment.name}:\n  Back the volume up" in said
    assert "LOST AT" in said
    whole, salvaged = (machine / "disk").read_bytes(), (machine / "new" / "salvaged.img").read_bytes()
    size = 262144
    differ = [n for n in range(0, len(whole), size) if whole[n : n + size] != salvaged[n : n + size]]
    assert len(differ) == 1
    assert not any(salvaged[differ[0] : differ[0] + size])


@pytest.mark.parametrize("left", [0, 2])
def test_the_page_gives_up_what_was_lost(machine: Path, left: int) -> None:
    store = f"file://{machine}/store"
    fill(store, machine)
    for path in sorted((machine / "store").glob("lineages/*/commits/*"))[left:]:
        path.unlink()
    inside("collect", store, code=65)
    assert "goes on from here" in bash(BLOCKS["accept (directory)"], machine, STORE=store)
    assert inside_json("collect", store)["deletedObjects"] > 0
    assert len(inside_json("list", store)["backups"]) == left // 2
    assert inside_json("verify", store)["ok"]


def test_a_copy_is_a_store(machine: Path) -> None:
    store = f"file://{machine}/store"
    fill(store, machine)
    bash(BLOCKS["copy (directory)"], machine, STORE=store)
    copied = inside_json("list", f"file://{machine}/new/copy")["backups"]
    assert copied == inside_json("list", store)["backups"]


def test_its_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", PAGE.read_text()) if "://" not in link]
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
