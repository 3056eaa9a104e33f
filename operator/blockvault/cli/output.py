"""What the command line shows: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from blockvault.engine import exit_code
from blockvault.stores import BlockvaultError
from blockvault.terminal import as_json, as_table, size, time_left

__all__ = [
    "as_json",
    "as_table",
    "complain",
    "errors",
    "fail",
    "labels",
    "note",
    "size",
    "time_left",
    "value",
    "warn",
]


def complain(message: str, remedy: str) -> None:
    """An error on stderr: what and why, then what to do."""
    sys.stderr.write(f"blockvault: {message}\n  {remedy}\n")


def errors(failed: Sequence[tuple[str, BlockvaultError]]) -> list[dict[str, str]]:
    """Volumes and their errors, as JSON shows them."""
    return [{"volume": name, "reason": error.reason, "message": error.message} for name, error in failed]


def fail(failed: Sequence[tuple[str, BlockvaultError]]) -> None:
    """Say what went wrong with which volumes, and end with the exit code of the first; nothing without any."""
    for name, error in failed:
        complain(error.message if name in error.message else f"{name}: {error.message}", error.remedy)
    if failed:
        raise click.exceptions.Exit(exit_code(failed[0][1]))


def warn(message: str) -> None:
    """Something that does not stop the run and should be known, on stderr."""
    sys.stderr.write(f"blockvault: warning: {message}\n")


def note(message: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"blockvault: {message}\n")


def value(name: str, fact: Any) -> str:
    """One fact of a backup for people."""
    if fact is None or fact in ([], {}):
        return "-"
    if isinstance(fact, int) and (name.startswith("bytes") or name.endswith("Bytes") or name == "size"):
        return f"{size(fact)} ({fact})"
    if name == "unreadable":
        return ", ".join(f"{length} bytes at {offset}" for offset, length in fact)
    return fact if isinstance(fact, str) else json.dumps(fact)


def labels(entry: dict[str, Any]) -> str:
    """What is known of a backup besides itself, in words: trash, verification, any other label."""
    words = []
    for name, value in entry.get("labels", {}).items():
        facts = value if isinstance(value, dict) else {}
        if name == "trash":
            words.append(f"in the trash until {facts.get('until')}")
        elif name == "verified":
            damaged = facts.get("damaged")
            words.append(f"DAMAGED, seen {facts.get('at')}" if damaged else f"verified {facts.get('at')}")
        else:
            words.append(f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    return ", ".join(words)
