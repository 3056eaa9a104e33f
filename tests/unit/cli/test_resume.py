"""Runs that end before they are done, and those that go on with them."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from blockvault.engine import Interrupted, many
from blockvault.stores import StoreFull, StoreUnreachable
from tests.unit.cli.support import MIB, inside, inside_json, words_of

SIZE = 160 * MIB


def start(place: Path, *options: str) -> subprocess.Popen[str]:
    """A backup of 160 MiB, slow enough to be stopped, that has sent 64 MiB."""
    with open(place / "large", "wb") as file:
        file.writelines(random.Random(part).randbytes(SIZE // 10) for part in range(10))
    return subprocess.Popen(
        [sys.executable, "-m", "blockvault.cli", "backup", str(place / "large"), f"file://{place}/store",
         "--volume", "v", "--limit-rate", "40M", "--progress", "json", *options],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_until_sent(place: Path, objects: int) -> None:
    """Until so many segments are in the store."""
    import time

    while len(list((place / "store").glob("lineages/*/segments/[0-9a-f]*"))) < objects:
        time.sleep(0.05)


def notes(place: Path) -> list[Path]:
    return sorted((place / "state" / "blockvault" / "unfinished").glob("*"))


def test_a_killed_run_goes_on_when_the_command_is_run_again(place: Path) -> None:
    process = start(place)
    wait_until_sent(place, 3)
    process.kill()
    process.communicate()
    assert len(notes(place)) == 1
    arguments = ("backup", str(place / "large"), f"file://{place}/store", "--volume", "v")
    done = inside(*arguments, "--output", "json")
    assert "going on with the run of" in done.stderr
    again = json.loads(done.stdout)
    assert again["bytesStored"] < SIZE - 3 * 30 * MIB
    assert notes(place) == []
    inside("restore", f"file://{place}/store", str(place / "target"), "--volume", "v")
    assert (place / "target").read_bytes() == (place / "large").read_bytes()
    # It is done: the next one is another backup.
    assert inside_json(*arguments)["backupId"] != again["backupId"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to pass for another machine")
def test_another_machine_goes_on_with_nothing_but_the_operation_id(place: Path) -> None:
    """Another host name, no notes, and the source under another path: at most 64 MiB are sent again."""
    process = start(place, "--operation-id", "op")
    wait_until_sent(place, 3)
    process.kill()
    process.communicate()
    arrived = sum(
        path.stat().st_size for path in (place / "store").glob("lineages/*/segments/[0-9a-f]*")
    )  # fmt: skip
    (place / "large").rename(place / "moved")
    backup = [sys.executable, "-m", "blockvault.cli", "backup", str(place / "moved"), f"file://{place}/store",
              "--volume", "v", "--operation-id", "op", "--output", "json"]  # fmt: skip
    done = subprocess.run(
        ["unshare", "--uts", "sh", "-c", 'hostname another && exec "$@"', "sh", *backup],
        env={**os.environ, "XDG_STATE_HOME": str(place / "another"), "HOSTNAME": "another"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["bytesStored"] <= SIZE * 1.01 - arrived + 64 * MIB
    assert again["bytesStored"] < SIZE - 2 * 30 * MIB
    inside("restore", f"file://{place}/store", str(place / "target"), "--volume", "v")
    assert (place / "target").read_bytes() == (place / "moved").read_bytes()


def test_an_interrupted_run_says_how_to_go_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(place)
    wait_until_sent(place, 2)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 75
    assert stdout == ""
    assert "stopped by SIGINT" in stderr
    assert "Go on with:" in stderr
    words = shlex.split(stderr.strip().splitlines()[-1])
    assert words[0] == "blockvault"
    assert "--limit-rate" in words
    # The command holds all that is needed: also where no note is, as on another machine.
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "elsewhere"))
    words[words.index("--limit-rate") + 1] = "10G"
    again = inside_json(*words[1:])
    assert again["bytesStored"] < SIZE - 2 * 30 * MIB
    assert again == inside_json(*words[1:]) | {"requests": again["requests"], "seconds": again["seconds"]}


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The next backups fail in the engine."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("blockvault.engine.backup.BackupRun._upload", fail)


ARGUMENTS = ("backup", "{place}/volume", "file://{place}/store", "--volume", "v")


def arguments(place: Path, *more: str) -> list[str]:
    return [each.format(place=place) for each in (*ARGUMENTS, *more)]


@pytest.mark.parametrize("error", [StoreUnreachable("gone"), StoreFull("full"), Interrupted("stopped")])
def test_what_may_pass_leaves_a_note_and_says_how_to_go_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, error: StoreFull
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, error)
        done = inside(
            *arguments(place, "--meta", "why=a test"), code=77 if isinstance(error, StoreFull) else 75
        )
    (note,) = notes(place)
    operation = json.loads(note.read_text())["operationId"]
    command = done.stderr.strip().splitlines()[-1].strip()
    assert command.endswith(f"--operation-id {operation}") or f"--operation-id {operation} " in command
    assert "--meta 'why=a test'" in command
    assert "going on" in inside(*arguments(place)).stderr
    assert inside_json("show", f"file://{place}/store", "--volume", "v")["operationId"] == operation
    assert notes(place) == []


def test_what_does_not_pass_leaves_no_note(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from blockvault.engine import SourceUnreadable

    failing(monkeypatch, SourceUnreadable("bad sector"))
    done = inside(*arguments(place), code=74)
    assert "Go on" not in done.stderr
    assert notes(place) == []


def test_no_resume_starts_afresh(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        failing(patch, Interrupted("stopped"))
        inside(*arguments(place), code=75)
    (note,) = notes(place)
    former = json.loads(note.read_text())["operationId"]
    done = inside(*arguments(place, "--no-resume"))
    assert "going on" not in done.stderr
    assert inside_json("show", f"file://{place}/store", "--volume", "v")["operationId"] != former
    assert notes(place) == []


def test_a_note_of_a_run_that_was_done_after_all_makes_a_new_backup(place: Path) -> None:
    """It was killed between its last commit and the removal of its note."""
    first = inside_json(*arguments(place, "--operation-id", "done"))
    note(place, "done")
    second = inside(*arguments(place), "--output", "json")
    assert json.loads(second.stdout)["backupId"] != first["backupId"]
    assert "going on" not in second.stderr


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"operationId": 7}', '{"operationId": "x", "volume": "other"}']
)
def test_a_note_that_says_nothing_is_left_aside(place: Path, text: str) -> None:
    note(place, "x").write_text(text)
    assert "going on" not in inside(*arguments(place)).stderr
    assert notes(place) == []


def test_a_note_of_an_operation_that_the_store_does_not_know_is_harmless(place: Path) -> None:
    note(place, "forgotten")
    inside(*arguments(place))
    assert inside_json("show", f"file://{place}/store", "--volume", "v")["operationId"] == "forgotten"


def test_a_run_that_still_runs_is_not_taken_over(place: Path) -> None:
    path = note(place, "running")
    with open(path, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "going on" not in inside(*arguments(place)).stderr
    assert inside_json("show", f"file://{place}/store", "--volume", "v")["operationId"] != "running"
    assert notes(place) == [path]


def test_without_a_place_for_notes_it_works_and_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "file"))
    assert "only its --operation-id goes on with it" in inside(*arguments(place)).stderr


def note(place: Path, operation: str) -> Path:
    """As a run leaves it that was killed."""
    from blockvault.cli.unfinished import Note, What

    made = Note(What(f"file://{place}/store", "v", str(place / "volume")))
    made.write(operation)
    made.close(keep=True)
    (path,) = notes(place)
    return path


def test_several_interrupted_at_once_each_get_their_command(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise Interrupted("stopped by SIGINT")

    monkeypatch.setattr("blockvault.cli.backup.back_up", stop)
    done = inside("backup", f"file://{place}/store", "--source", f"a={place}/volume", "--source",
                  f"b c={place}/volume", code=75)  # fmt: skip
    assert words_of(done)[1].strip() == "Go on with:"
    commands = [shlex.split(line) for line in done.stderr.strip().splitlines()[2:]]
    assert [words[words.index("--volume") + 1] for words in commands] == ["a", "b c"]
    monkeypatch.setattr("blockvault.cli.backup.back_up", many.back_up)
    for words in commands:
        inside(*words[1:])
    assert len(inside_json("list", f"file://{place}/store")["backups"]) == 2
    assert os.environ["XDG_STATE_HOME"]
