"""The commands that the README shows for use without a cluster are run as they stand there."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def blocks(tag: str) -> list[str]:
    """The shell blocks of the README that are marked to be run by this tag."""
    return re.findall(rf"<!-- run: {tag} -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_commands_without_a_cluster(tmp_path: Path) -> None:
    (script,) = blocks("cli")
    (tmp_path / "disk.img").write_bytes(random.Random(1).randbytes(3_000_000) + bytes(5_000_000))
    bin = Path(sys.executable).parent
    environment = {**os.environ, "DIR": str(tmp_path), "PATH": f"{bin}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert '"usedBytes"' in done.stdout
    assert (tmp_path / "copy.img").read_bytes() == (tmp_path / "disk.img").read_bytes()


def test_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
