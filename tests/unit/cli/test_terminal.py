"""What a person at a terminal sees, by a real one; and limits that hold for a whole command."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import BashComplete

from blockvault.cli import output
from blockvault.cli.main import cli
from blockvault.engine import BackupRequest, Repository, many
from blockvault.engine.many import Budget
from tests.unit.cli.support import MIB, inside, inside_json, words_of

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def on_terminal(width: int, *arguments: str) -> list[str]:
    """The lines that a terminal of so many columns got, bars redrawn as lines of their own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    env = {**{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}, "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "blockvault.cli", *arguments], stdout=theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # EIO: nobody writes to it any more
            break
        if not part:
            break
        text += part
    os.close(ours)
    assert process.wait(60) == 0, text
    return ESCAPES.sub("", text.decode()).replace("\r", "\n").splitlines()


def test_a_terminal_shows_bars_with_rate_and_time_left_and_whole_figures(place: Path) -> None:
    with open(place / "volume", "wb") as file:
        file.writelines(random.Random(part).randbytes(8 * MIB) for part in range(9))
    lines = on_terminal(90, "backup", str(place / "volume"), f"file://{place}/store", "--volume", "v",
                        "--limit-rate", "30M")  # fmt: skip
    bar = re.compile(r"v \S+ +[\d.]+/72\.0 MiB +[\d.]+ MiB/s \d:\d\d:\d\d \w+, [\d.]+ \w+ moved")
    assert any(bar.search(line) for line in lines), lines
    (row,) = [line for line in lines if re.match(r"v +[0-9a-f]{32}", line)]
    assert row.split()[2:] == ["full", *3 * ["72.0", "MiB"], *row.split()[-3:]]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_figures_are_in_one_piece_on_any_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    words = "Give the key whose fingerprint is named; that of a key file is told by key show. " * 2
    output.as_table(("ID", "STORED", "WHAT TO DO"), [("0123456789abcdef" * 2, "160.4 MiB", words)])
    first, *rest = capsys.readouterr().out.splitlines()[1:]
    one, figure, unit, *text = first.split()
    assert (one, figure, unit) == ("0123456789abcdef" * 2, "160.4", "MiB")
    assert "".join([*text, *"".join(rest).split()]) == words.replace(" ", "")
    assert rest


def test_the_rate_is_one_for_all_sources_of_a_run(place: Path) -> None:
    """9 MiB at 4 MiB/s, of which a second's worth is free: each alone would take no time."""
    sources = [word for name in "abc" for word in ("--source", f"{name}={place}/{name}")]
    for name in "abc":
        (place / name).write_bytes(random.Random(name).randbytes(3 * MIB))
    store = f"file://{place}/store"
    made = inside_json("backup", store, *sources, "--limit-rate", "4M")["results"]
    assert max(each["seconds"] for each in made) > 1.0


def test_concurrency_bounds_the_sources_read_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def noted(repository: Repository, requests: list[BackupRequest], budget: Budget, *more: Any) -> Any:
        seen.append(many.share(budget, len(requests)).at_once)
        return many.back_up(repository, requests, budget, *more)

    monkeypatch.setattr("blockvault.cli.backup.back_up", noted)
    sources = [word for name in "abc" for word in ("--source", f"{name}={place}/volume")]
    inside("backup", f"file://{place}/store", *sources, "--concurrency", "2")
    assert seen == [2]
    done = inside("backup", f"file://{place}/store", *sources, "--concurrency", "0", code=64)
    assert "--concurrency" in words_of(done)[0]
    assert "`blockvault backup --help`" in words_of(done)[1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("blockvault ver", "verify"),
        ("blockvault backup --lim", "--limit-rate"),
        ("blockvault key rot", "rotate"),
        ("blockvault restore --progress js", "json"),
    ],
)
def test_completion_knows_commands_options_and_choices(line: str, expected: str) -> None:
    *words, incomplete = line.split()[1:]
    found = BashComplete(cli, {}, "blockvault", "_BLOCKVAULT_COMPLETE").get_completions(words, incomplete)
    assert [item.value for item in found] == [expected]
