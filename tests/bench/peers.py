"""The programs that store files, to compare with: pinned in tests/bench/peers."""

from __future__ import annotations

from pathlib import Path

from tests.bench import gobuild

MODULE = Path(__file__).with_name("peers")
PACKAGES = {"restic": "github.com/restic/restic/cmd/restic", "kopia": "github.com/kopia/kopia"}


def version(name: str) -> str:
    """The version that the module pins."""
    return gobuild.pinned(MODULE, f"github.com/{name}/{name}")


def peer(name: str) -> Path:
    """The program. Raises WorkFailed."""
    return gobuild.program(MODULE, name, PACKAGES[name])
