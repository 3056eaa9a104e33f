"""Where the states of the disk are laid out: in memory where there is some, because there are many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blockvault.engine import markers, target
from blockvault.stores import directory, durable, temporary
from tests.disks import in_memory
from tests.stores.power.disk import RecordingOs

# The modules whose work on the disk is recorded.
RECORDED = (directory, temporary, durable, markers, target)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory that is fast to fill and to empty."""
    with in_memory() as made:
        yield made


Record = Callable[[Path, int | None], RecordingOs]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    """Let the directory store, and targets of restores, work through a recorder from here on."""

    def start(root: Path, kill_at: int | None = None) -> RecordingOs:
        recorder = RecordingOs(root, kill_at)
        for module in RECORDED:
            monkeypatch.setattr(module, "os", recorder)
        return recorder

    return start
