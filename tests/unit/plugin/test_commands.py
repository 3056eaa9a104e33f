"""The command line itself: its tree, its help, its completion, its errors; and what it costs to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from blockvault.exitcodes import NOT_FOUND, OK, TEMPORARY, USAGE
from blockvault.plugin.commands import COMMANDS, cli
from blockvault.plugin.completion import candidates
from blockvault.plugin.errors import NotFoundError
from blockvault.plugin.main import run
from blockvault.plugin.settings import Settings

ROOT = Path(__file__).parents[3]


def test_the_table_of_commands_is_that_of_the_commands() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert "Example" in (command.help or ""), f"{name} has an example"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == OK
    words = capsys.readouterr().out
    assert f"Usage: kubectl blockvault {name}" in words
    assert max(map(len, words.splitlines())) <= 110


def test_pages_fit_their_column() -> None:
    for line in (ROOT / "docs" / "kubectl.md").read_text().splitlines():
        assert len(line) <= 120 or line.startswith("|"), line


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["list", "--help"], ["restore", "--help"]])
def test_help_loads_neither_client_nor_models(arguments: list[str]) -> None:
    """What makes a start slow: a test of what is loaded, as one of seconds would say something of the machine."""
    code = (
        "import sys\nfrom blockvault.plugin.main import run\n"
        f"code = run({arguments!r})\n"
        "heavy = {'kubernetes', 'aiohttp', 'pydantic', 'yaml', 'blockvault.api'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == OK, done.stderr


def test_completion_as_kubectl_asks_for_it() -> None:
    assert candidates(["st"]).splitlines()[0].startswith("status\t")
    assert candidates([""]).splitlines()[-1] == ":4"
    assert len(candidates([""]).splitlines()) == len(COMMANDS) + 1
    assert candidates(["backup", "--w"]) == "--wait\tWait for the end, with a progress bar.\n:4\n"
    assert candidates(["__complete", "status", "-o", "j"]) == "json\n:4\n"
    assert candidates(["status", "--kubeconfig", ""]) == ":4\n"


def test_names_that_cannot_be_asked_for_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert candidates(["describe", ""]) == ":4\n"


ERRORS: list[tuple[list[str], int, str]] = [
    (["statu"], USAGE, "No such command 'statu'. Did you mean status?"),
    (["status", "--kubeconfig", "/nowhere"], USAGE, "there is no kubeconfig at /nowhere"),
    (["list", "--since", "soon"], USAGE, "--since: 'soon' is neither a time such as 7d nor a date"),
    (["backup"], USAGE, "name claims, or --all"),
    (["restore", "a", "--latest", "b"], USAGE, "name a BACKUP or --latest CLAIM, not both"),
    (["restore", "a", "--to", "x", "--in-place"], USAGE, "say --to or --in-place, not both"),
    (["restore", "a", "--in-place", "--size", "1Gi"], USAGE, "--size goes with --to"),
    (["restore", "a", "--to", "x", "--stop-workload"], USAGE, "--stop-workload goes with --in-place"),
    (["restore", "a", "--in-place", "--no-start"], USAGE, "--no-start goes with --stop-workload"),
    (["restore", "a", "--before", "1d", "--in-place"], USAGE, "--before goes with --latest"),
    (["estimate"], USAGE, "name a VAULT, or --size"),
    (
        ["estimate", "--size", "5Gi", "--change", "x%", "--every", "1d", "--keep", "9d"],
        USAGE,
        "'x%' is no share",
    ),
    (["backup", "x", "--wait", "--timeout", "x"], USAGE, "--timeout: 'x' is not a time such as 90m"),
    (
        ["status", "--server", "http://127.0.0.1:1", "--request-timeout", "5s"],
        TEMPORARY,
        "Connect call failed",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "words"), ERRORS)
def test_errors_have_words_and_codes(
    arguments: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere-else")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert run(arguments) == code
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("kubectl blockvault: ")
    assert words in first
    assert second.startswith("  ")
    assert code != NOT_FOUND


def test_a14_the_formula(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["estimate", "--size", "500Gi", "--change", "2%", "--every", "1d", "--keep", "30d"]
    assert run(arguments) == OK
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "500.0", "GiB", "10.0", "GiB", "30", "800.0", "GiB", "960.0", "GiB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "namespace"),
    [
        (["hold", "-n", "shop", "allow", "disks", "t"], "shop"),
        (["hold", "allow", "disks", "t", "-n", "shop"], "shop"),
        (["hold", "-n", "other", "keep", "disks", "t", "-n", "shop"], "shop"),
        (["hold", "-n", "shop"], "shop"),
    ],
)
def test_a_namespace_counts_wherever_it_is_said(
    arguments: list[str], namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def converse(self: Settings, work: object, **_: object) -> None:
        asked.append(self.namespace)
        raise NotFoundError("x", "y")

    monkeypatch.setattr(Settings, "converse", converse)
    assert run(arguments) == NOT_FOUND
    assert asked == [namespace]
