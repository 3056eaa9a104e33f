"""A store with many volumes, and a volume with many backups: what one volume costs does not follow the others."""

from __future__ import annotations

import resource
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository
from blockvault.stores import DirectoryStore
from tests.unit.engine.support import noise

pytestmark = pytest.mark.usefixtures("small")

# Requests: at most so many for each volume, where all are looked at.
EACH = {"list": 7, "usage": 7, "collect": 15, "verify": 40}
# KiB of a commit for each backup that it names, encoded.
ENTRY = 1.0

# Volumes, and backups of the first of them.
SCALES = [(40, 10), pytest.param((10_000, 100), marks=pytest.mark.soak)]

Verb = Callable[[Repository], object]


def made(folder: Path, volumes: int, backups: int) -> Path:
    """A store of so many volumes, each with a backup, the first with so many; gives what they are made of."""
    folder.mkdir()
    source = folder.with_name("source")
    source.write_bytes(noise(2))
    repository = Repository.init(DirectoryStore(str(folder)))
    for number in range(volumes):
        repository.backup(BackupRequest(str(source), f"volume-{number}", threads=1))
    for number in range(1, backups):
        with open(source, "r+b") as file:
            file.write(number.to_bytes(4, "big"))
        repository.backup(BackupRequest(str(source), "volume-0", threads=1))
    return source


def cost(folder: Path, verb: Verb) -> Counter[str]:
    """The requests that it makes, but those of opening the store."""
    store = DirectoryStore(str(folder))
    repository = Repository.open(store)
    store.traffic.requests.clear()
    verb(repository)
    return Counter(store.traffic.requests)


@pytest.mark.parametrize("scale", SCALES)
def test_one_among_many(tmp_path: Path, scale: tuple[int, int]) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    made(few, 2, scale[1])
    source = made(many, *scale)
    for verb in (
        lambda repository: repository.backup(BackupRequest(str(source), "volume-1", threads=1)),
        lambda repository: repository.list("volume-1"),
        lambda repository: repository.list("volume-0"),
        lambda repository: repository.show("volume-0"),
        lambda repository: repository.usage("volume-1"),
        lambda repository: repository.commits("volume-1", failed=lambda key, error: pytest.fail(str(error))),
        lambda repository: repository.delete("volume-1", repository.list("volume-1")[0]["backupId"]),
        lambda repository: repository.collect("volume-1"),
        lambda repository: repository.compact("volume-0"),
        lambda repository: repository.verify("volume-1"),
        lambda repository: repository.restore("volume-1", str(tmp_path / repository.store_id)),
        lambda repository: repository.delete_volume("volume-1"),
        lambda repository: repository.collect("volume-1"),
    ):
        assert cost(many, verb) == cost(few, verb)


@pytest.mark.parametrize("scale", SCALES)
def test_all_of_many(tmp_path: Path, scale: tuple[int, int]) -> None:
    """What looks at all makes a bounded number of requests for each, and holds a bounded part of them in memory."""
    folder, (volumes, backups) = tmp_path / "store", scale
    made(folder, volumes, backups)
    before, threads = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, threading.active_count()
    for name, most in EACH.items():
        requests = cost(folder, lambda repository, name=name: getattr(repository, name)())
        assert sum(requests.values()) <= most * (volumes + backups)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 <= 100 + volumes * 0.02
    assert threading.active_count() <= threads
    assert len(Repository.open(DirectoryStore(str(folder))).list()) == volumes + backups - 1


def test_the_commit_of_many_backups(tmp_path: Path) -> None:
    """Each commit names all backups: it stays small."""
    folder, backups = tmp_path / "store", 100
    made(folder, 1, backups)
    newest = max(folder.rglob("commits/*"))
    assert len(Repository.open(DirectoryStore(str(folder))).list("volume-0")) == backups
    assert newest.stat().st_size <= backups * ENTRY * 1024
