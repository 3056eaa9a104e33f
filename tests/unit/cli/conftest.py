from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.unit.cli.support import MIB, inside


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes of unfinished runs stay inside the test; nothing of the developer's environment comes in."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("BLOCKVAULT_KEY_FILE", "BLOCKVAULT_PREVIOUS_KEY_FILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a store and a volume of 3 MiB, one of them zero."""
    (tmp_path / "volume").write_bytes(random.Random(1).randbytes(2 * MIB) + bytes(MIB))
    inside("init", f"file://{tmp_path}/store")
    return tmp_path
