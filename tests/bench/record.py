"""What is kept of runs: one JSON file with the newest results of every row, and where they come from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.rows import Bench, Outcome, Row

Record = dict[str, Any]  # row's name -> its entry


def read(path: Path) -> Record:
    """The record in a file; empty if there is none yet."""
    return json.loads(path.read_text())["rows"] if path.exists() else {}


def write(path: Path, record: Record) -> None:
    """Replace the file; rows, programs and figures keep their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": record}, indent=1) + "\n")


def merged(former: Record, new: Record, order: list[str]) -> Record:
    """The new entries, and the former ones of rows that were not run; rows that exist no more are dropped."""
    both = {**former, **new}
    return {name: both[name] for name in order if name in both}


def entry(row: Row, bench: Bench, outcome: Outcome, seconds: float, commit: str) -> dict[str, Any]:
    """One row's results with when, on what, and of which commit they were measured."""
    return {
        "title": row.title,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit,
        "scale": "full" if bench.full else "small",
        "rounds": bench.rounds,
        "seconds": round(seconds),
        "machine": machine(),
        **outcome.to_json(),
    }


def current_commit() -> str:
    """The commit that is checked out, with + if the tree has changes."""
    root = Path(__file__).parent
    try:
        name = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, check=True, capture_output=True, text=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            check=True,
            capture_output=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if changed else "")


def machine() -> str:
    """In a few words, what the figures belong to."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
