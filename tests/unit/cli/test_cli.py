"""The real program, as a subprocess (DESIGN 7)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from blockvault.cli.main import cli
from blockvault.cli.stopping import GRACE
from tests.unit.cli.support import MIB, inside, result, run


def test_the_whole_way(place: Path) -> None:
    store, volume, target = f"file://{place}/store", str(place / "volume"), str(place / "target")
    first = result("backup", volume, store, "--volume", "v")
    assert {"backupId", "volume", "type", "bytesScanned", "bytesChanged", "bytesStored", "requests", "seconds",
            "peakMemoryBytes"} <= first.keys()  # fmt: skip
    assert (first["type"], first["bytesScanned"], first["bytesChanged"]) == ("full", 3 * MIB, 2 * MIB)
    before = Path(volume).read_bytes()
    with open(volume, "r+b") as file:
        file.seek(MIB)
        file.write(b"changed")
    second = result("backup", volume, store, "--volume", "v")
    assert (second["type"], second["bytesChanged"]) == ("incremental", 262144)
    restored = result("restore", store, target, "--volume", "v", "--backup", first["backupId"])
    assert {"backupId", "bytesWritten", "bytesRead", "seconds", "peakMemoryBytes"} <= restored.keys()
    assert Path(target).read_bytes() == before
    result("restore", store, target, "--volume", "v", "--force")
    assert Path(target).read_bytes() == Path(volume).read_bytes()
    listed = result("list", store)["backups"]
    assert [b["backupId"] for b in listed] == [first["backupId"], second["backupId"]]
    assert {"backupId", "volume", "createdAt", "type", "size", "bytesStored"} <= listed[0].keys()
    shown = result("show", store, "--volume", "v", "--backup", second["backupId"])
    assert shown["parent"]["id"] == first["backupId"]
    used = result("usage", store)
    assert used["usedBytes"] == second["usedBytes"]
    assert result("delete", store, "--volume", "v", "--backup", first["backupId"], "--now")["notFound"] == []
    assert len(result("list", store, "--volume", "v")["backups"]) == 1
    result("restore", store, target, "--volume", "v", "--force")
    assert Path(target).read_bytes() == Path(volume).read_bytes()


def test_tables_for_people(place: Path) -> None:
    store, volume = f"file://{place}/store", str(place / "volume")
    assert "2.0 MiB" in run("backup", volume, store, "--volume", "v").stdout
    for command in (("list", store), ("usage", store), ("show", store, "--volume", "v")):
        done = run(*command)
        assert "MiB" in done.stdout or "backupId" in done.stdout
        assert done.stderr == ""


def test_several_sources_in_one_run(place: Path) -> None:
    store, volume = f"file://{place}/store", str(place / "volume")
    results = result("backup", store, "--source", f"a={volume}", "--source", f"b={volume}")["results"]
    assert [r["volume"] for r in results] == ["a", "b"]


def test_a_changed_block_list(place: Path) -> None:
    store, volume, changed = f"file://{place}/store", str(place / "volume"), place / "changed"
    first = result("backup", volume, store, "--volume", "v")
    with open(volume, "r+b") as file:
        file.write(b"changed")
    changed.write_text('{"offset": 0, "length": 7}\n')
    arguments = ("backup", volume, store, "--volume", "v", "--changed", str(changed))
    refused = run(*arguments, code=64)
    assert "--changed needs --parent" in refused.stderr
    assert "Add --parent" in refused.stderr
    second = result(*arguments, "--parent", first["backupId"])
    assert (second["changedBlockSource"], second["bytesScanned"]) == ("List", 262144)
    changed.write_text(json.dumps({"parent": second["backupId"]}) + "\n")
    assert result(*arguments)["bytesScanned"] == 0
    changed.write_text('{"offset": 3145728, "length": 1}\n')
    assert "leaves the volume" in run(*arguments, "--parent", "latest", code=64).stderr


def test_repeating_an_operation_makes_no_second_backup(place: Path) -> None:
    arguments = (
        "backup",
        str(place / "volume"),
        f"file://{place}/store",
        "--volume",
        "v",
        "--operation-id",
        "x",
    )
    assert result(*arguments)["backupId"] == result(*arguments)["backupId"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nonsense",), 64, "No such command"),
        (("backup", "{store}"), 64, "give SOURCE and --volume"),
        (("backup", "{volume}", "{store}", "--volume", "v", "--source", "a=b"), 64, "not both"),
        (("backup", "{store}", "--source", "x"), 64, "not NAME=PATH"),
        (("backup", "{volume}", "{store}", "--volume", "v", "--parent", "x"), 66, "no backup x"),
        (
            ("backup", "{volume}", "{store}", "--volume", "v", "--parent", "x", "--full"),
            64,
            "exclude each other",
        ),
        (("backup", "{place}/absent", "{store}", "--volume", "v"), 66, "absent: does not exist"),
        (("backup", "{volume}", "file://{place}/absent", "--volume", "v"), 66, "absent does not exist"),
        (("backup", "{volume}", "file://{place}", "--volume", "v"), 66, "no store of backups here"),
        (("list", "nonsense"), 64, "is not a store"),
        (("list", "{store}", "--volume", "w"), 66, "holds no volume 'w'"),
        (("restore", "{store}", "{place}/t", "--volume", "kept", "--backup", "x"), 66, "no backup x"),
        (("restore", "{store}", "{small}", "--volume", "kept"), 66, "has 5 bytes"),
        (("show", "{store}", "--volume", "kept", "--backup", "x"), 66, "no backup x"),
        (("delete", "{store}", "--volume", "kept", "--backup", "x"), 66, "no backup x"),
    ],
)
def test_errors_name_object_cause_and_remedy(
    place: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    inside("backup", str(place / "volume"), f"file://{place}/store", "--volume", "kept")
    (place / "small").write_bytes(b"12345")
    names = {
        "store": f"file://{place}/store",
        "volume": place / "volume",
        "place": place,
        "small": place / "small",
    }
    done = inside(*(argument.format(**names) for argument in arguments), code=code)
    first, second = done.stderr.strip().splitlines()
    assert words in first
    assert len(second.strip()) > 10
    assert done.stdout == ""


def test_damage_ends_with_its_code_and_name(place: Path) -> None:
    store = f"file://{place}/store"
    run("backup", str(place / "volume"), store, "--volume", "v")
    (segment,) = (place / "store").glob("lineages/*/segments/*")
    data = bytearray(segment.read_bytes())
    data[5000] ^= 1
    segment.write_bytes(data)
    done = run("restore", store, str(place / "target"), "--volume", "v", code=65)
    assert segment.name in done.stderr
    assert "hash does not match" in done.stderr


@pytest.mark.parametrize("mode", ["auto", "plain", "json"])
def test_progress_goes_to_stderr(place: Path, mode: str) -> None:
    done = run("backup", str(place / "volume"), f"file://{place}/store", "--volume", "v", "--progress", mode,
               "--output", "json")  # fmt: skip
    json.loads(done.stdout)
    last = done.stderr.strip().splitlines()[-1]
    if mode == "json":
        progress = json.loads(last)["progress"]
        assert progress["bytesScanned"] == progress["bytesTotal"] == 3 * MIB
    else:
        assert "3.0 MiB of 3.0 MiB" in last


def test_a_wrong_environment_is_told(place: Path) -> None:
    env = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_CA_BUNDLE": "/absent.pem",
    }
    done = run("list", "s3://bucket/x", "--endpoint-url", "https://127.0.0.1:1", code=77, env=env)
    assert "AWS_CA_BUNDLE /absent.pem" in done.stderr


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_a_signal_stops_it_within_seconds(signals: list[signal.Signals]) -> None:
    """Even while it waits for a store that does not answer; a second one at once."""
    env = {**os.environ, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "blockvault.cli", "list", "s3://bucket/x", "--endpoint-url", endpoint],
            env=env, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with server.accept()[0]:
            started = time.monotonic()
            for number in signals:
                process.send_signal(number)
                time.sleep(0.2)
            _, stderr = process.communicate(timeout=20)
    assert process.returncode == 75
    assert f"stopped by {signals[0].name}" in stderr
    assert "Repeat the operation" in stderr
    assert len(signals) == 1 or time.monotonic() - started < GRACE


def test_exit_codes_are_documented() -> None:
    from blockvault.exitcodes import MEANINGS

    page = (Path(__file__).parents[3] / "docs" / "exit-codes.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {code} | {meaning} |" in page


def test_help_is_there_for_all_commands() -> None:
    for name, command in sorted(cli.commands.items()):
        words = inside(name, "--help").stdout
        assert f"Usage: blockvault {name}" in words
        if not isinstance(command, click.Group):
            assert f"  blockvault {name} " in words, "each command has an example"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    words = inside("completion", shell).stdout
    assert f"_BLOCKVAULT_COMPLETE={shell}_complete" in words
    env = {
        **os.environ,
        "_BLOCKVAULT_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "blockvault re",
        "COMP_CWORD": "re" if shell == "fish" else "1",
    }
    assert "restore" in run(env=env).stdout


def test_without_a_command_it_shows_what_there_is() -> None:
    words = inside(code=64).stderr
    for name in cli.commands:
        assert f"  {name} " in words
