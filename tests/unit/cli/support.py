"""The command line, run as a process, or inside this one where a process adds nothing."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from blockvault.cli import main
from tests.embedded.s3 import S3

MIB = 1 << 20


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    stdout: str
    stderr: str


def run(*arguments: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """As a process."""
    done = subprocess.run(
        [sys.executable, "-m", "blockvault.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    assert done.returncode == code, done.stderr
    return done


def result(*arguments: str, code: int = 0) -> Any:
    """One object on stdout of a process, and nothing else."""
    return json.loads(run(*arguments, "--output", "json", code=code).stdout)


def tried(*arguments: str) -> Done:
    """In this process, through all of it but the signals, whatever comes of it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run(list(arguments))
    return Done(code, out.getvalue(), err.getvalue())


def inside(*arguments: str, code: int = 0) -> Done:
    """The same, ending with that code."""
    done = tried(*arguments)
    assert done.code == code, done.stderr
    return done


def inside_json(*arguments: str, code: int = 0) -> Any:
    """One object on stdout, and nothing else."""
    return json.loads(inside(*arguments, "--output", "json", code=code).stdout)


def words_of(done: Done | subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """The error of a command: (what and why, what to do)."""
    lines = done.stderr.strip().splitlines()
    while lines and (not lines[0].startswith("blockvault: ") or lines[0].startswith("blockvault: warning: ")):
        del lines[0]  # progress, warnings
    assert len(lines) >= 2, done.stderr
    assert len(lines[1].strip()) > 10
    return lines[0], lines[1]


@contextlib.contextmanager
def bucket_of_the_environment(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """An S3 server with that bucket; the environment says where it is and how to get in."""
    with S3(bucket) as server:
        for name, value in (
            ("ACCESS_KEY_ID", server.access_key),
            ("SECRET_ACCESS_KEY", server.secret_key),
            ("REGION", server.region),
            ("ENDPOINT_URL", server.endpoint),
        ):
            monkeypatch.setenv(f"AWS_{name}", value)
        yield server
