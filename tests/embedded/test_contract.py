"""The scenario on the emulated cluster; tests/cluster/test_contract.py is its twin on the real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenario.incremental import back_up_change_restore

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedCluster]:
    """A cluster with the real operator."""
    with EmbeddedCluster(namespace="shop") as cluster:
        cluster.start_operator()
        yield cluster


@pytest.mark.parametrize("storage_class", ["bv-immediate", "bv-wait"])
def test_back_up_change_restore(running: EmbeddedCluster, storage_class: str) -> None:
    """C4, D2: full, incremental, deletion and restore, with counts and without leftovers."""
    environment = EmbeddedEnvironment(running, storage_class)
    report = back_up_change_restore(environment, name=storage_class.replace("bv-", "walk-"), timeout=60)
    assert report.volumes[1]["bytesStored"] < report.volumes[0]["bytesStored"] / 4
    running.until(lambda: not running.list("volumeattachments"), "everything is detached")
    kept = {handle for content in running.list("vsc") for handle in [content["status"]["snapshotHandle"]]}
    running.until(lambda: running.files.handles("snapshots") == kept, "no snapshot's bytes are left behind")
