"""The demo runs, ends well, leaves nothing behind, and its figures agree with each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from .cluster import ROOT
from .demo import SIZE

MIB = 1 << 20


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, list[str]]:
    """One run: its figures, what it printed, and what it left in its temporary folder."""
    folder = tmp_path_factory.mktemp("demo")
    place = Path(tempfile.mkdtemp(dir=folder))
    figures = folder / "figures.json"
    env = os.environ | {"TMPDIR": str(place), "COLUMNS": "120"}
    command = [sys.executable, "-m", "tests.embedded.demo", "--json", str(figures)]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(figures.read_text()), run.stdout, [path.name for path in place.iterdir()]


def test_it_ends_within_a_minute_and_leaves_nothing(demo: tuple[dict[str, Any], str, list[str]]) -> None:
    figures, _, left = demo
    assert figures["ok"]
    assert figures["seconds"] < 60
    assert left == []


def test_the_figures_agree(demo: tuple[dict[str, Any], str, list[str]]) -> None:
    rows = demo[0]["rows"]
    full, incremental, first, second = rows
    assert [row["step"].split()[0] for row in rows] == ["Full", "Incremental", "Restore", "Restore"]
    assert full["scanned"] == SIZE
    assert 0 < full["stored"] < full["changed"] <= SIZE
    # About one percent of what is held changed; it lies in blocks of 256 KiB, so a little more is sent.
    assert 0.005 * full["changed"] < incremental["changed"] < 0.05 * full["changed"]
    assert 0 < incremental["stored"] < 0.05 * full["stored"]
    assert full["changed"] <= first["written"] <= SIZE
    assert full["changed"] <= second["written"] <= SIZE
    assert sum(row["seconds"] for row in rows) < demo[0]["seconds"]


def test_the_table_shows_the_figures(demo: tuple[dict[str, Any], str, list[str]]) -> None:
    figures, printed, _ = demo
    table = printed[printed.index("Measured in this run") :]
    for row in figures["rows"]:
        line = next(line for line in table.splitlines() if row["step"] in line)
        for key in ("scanned", "changed", "stored", "written"):
            if row[key] is not None:
                assert f"{row[key] / MIB:,.1f} MiB" in line
    assert printed.count("identical, byte by byte") == 2
