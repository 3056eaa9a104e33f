"""F1 on the real cluster: Kubernetes' own sidecar, a driver that knows what changed, and the rights of the chart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube, Object
from tests.cluster.lab import Cluster
from tests.cluster.test_contract import ClusterEnvironment
from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is
from tests.scenario.incremental import BLOCK, MIB, check_nothing_is_left

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SIZE = 64 * MIB
BY_LIST = ("SnapshotMetadata", None)


class Shop:
    """A raw claim with data in it and a vault, and short words for what happens to them."""

    def __init__(self, cluster: Cluster, kube: Kube) -> None:
        self.cluster, self.kube, self.name = cluster, kube, f"cbt-{kube.namespace[-4:]}"
        self.env = ClusterEnvironment(cluster, kube, "bv-immediate")
        self.env.apply(*manifests.vault_class(self.name, self.env.storage, self.name))
        self.env.apply(manifests.vault(self.name, self.name))
        self.env.make_claim("data", SIZE)
        self._backups = self._writes = 0
        self.write((0, 32 * MIB))
        self.env.wait_for("vault", self.name, phase_is("Available"), timeout=60)
        assert self.back_up()["changedBlockSource"] == "Full"

    def write(self, *places: tuple[int, int]) -> None:
        self._writes += len(places)
        seeds = range(self._writes, self._writes + len(places))
        self.env.write("data", [Write(o, n, seed=s) for (o, n), s in zip(places, seeds, strict=True)])

    def back_up(self) -> dict[str, Any]:
        """What the status says of the volume, once the Backup is Available."""
        self._backups += 1
        self.env.apply(manifests.backup(self.last, self.name, "data"))
        status = self.env.wait_for("backup", self.last, phase_is("Available"), timeout=180)["status"]
        volume: dict[str, Any] = status["volumes"][0]
        return volume

    @property
    def last(self) -> str:
        """Name of the newest Backup."""
        return f"backup-{self._backups}"

    def check_restore(self) -> None:
        """Restored, the newest Backup has the bytes that the claim has."""
        copy = f"copy-{self._backups}"
        self.env.apply(manifests.restore(copy, self.last, copy, "bv-immediate", f"{SIZE // MIB}Mi"))
        self.env.wait_for("restore", copy, phase_is("Completed"), timeout=180)
        assert self.env.digest(copy, SIZE) == self.env.digest("data", SIZE)


def told(volume: Object) -> tuple[str, str | None]:
    return volume["changedBlockSource"], volume.get("changedBlockReason")


@pytest.fixture
def shop(cluster: Cluster, namespace: Kube, installed_operator: Operator) -> Iterator[Shop]:
    yield Shop(cluster, namespace)
    cluster.set_faults({})


def test_f1_only_what_the_storage_tells_of_is_read(shop: Shop) -> None:
    """By the mover's own token and right; in one stream, then in many that are cut; nothing changed is nothing read."""
    shop.write((5 * MIB, 4096), (40 * MIB - 512, 1024))
    second = shop.back_up()
    assert (told(second), second["bytesScanned"]) == (BY_LIST, 3 * BLOCK)
    third = shop.back_up()
    assert (told(third), third["bytesScanned"], third["bytesChanged"]) == (BY_LIST, 0, 0)
    # Each tuple in a message of its own, and after three the stream is cut, as the sidecar does it after ten minutes.
    cut = {
        "error": "ABORTED",
        "message": "cut",
        "afterMessages": 3,
        "metadata": {"perMessage": 1},
        "times": 4,
    }
    shop.cluster.set_faults({"GetMetadataDelta": cut})
    shop.write(*((2 * i * MIB, 8192) for i in range(20)))
    fourth = shop.back_up()
    assert (told(fourth), fourth["bytesScanned"]) == (BY_LIST, 20 * BLOCK)
    shop.check_restore()
    check_nothing_is_left(shop.env, newest=shop.last)


def test_f1_a_driver_that_lies_is_found_out(shop: Shop) -> None:
    """Every second tuple is left out, and the stream ends well: the run compares, and so does the next."""
    shop.write(*((2 * i * MIB, 8192) for i in range(16)))
    shop.cluster.set_faults({"GetMetadataDelta": {"metadata": {"omitEvery": 2}}})
    assert told(shop.back_up()) == ("Compare", "ListWasWrong")
    shop.check_restore()
    shop.cluster.set_faults({})
    shop.write((MIB, 4096))
    assert told(shop.back_up()) == ("Compare", "ListsDistrusted")
    shop.write((2 * MIB, 4096))
    assert told(shop.back_up()) == BY_LIST
    shop.check_restore()


def test_f1_without_an_answer_all_is_compared(shop: Shop, installed_operator: Operator) -> None:
    """A list that breaks the rules, a driver that is not available, a sidecar that is gone: the backup is as right."""
    shop.write((MIB, 4096), (3 * MIB, 4096))
    shop.cluster.set_faults({"GetMetadataDelta": {"metadata": {"swap": 1}}})
    assert told(shop.back_up()) == ("Compare", "InvalidList")
    shop.cluster.set_faults({"GetMetadataDelta": {"error": "UNAVAILABLE", "message": "the array is away"}})
    shop.write((2 * MIB, 4096))
    assert told(shop.back_up()) == ("Compare", "ServiceUnavailable")
    status = (shop.env.get("backup", shop.last) or {})["status"]
    assert "the array is away" in status["mover"]["lastWords"]
    shop.cluster.set_faults({})
    shop.cluster.kill("csi-snapshot-metadata")
    try:
        shop.write((4 * MIB, 4096))
        assert told(shop.back_up()) == ("Compare", "ServiceUnavailable")
    finally:
        shop.cluster.restart("csi-snapshot-metadata")
    shop.check_restore()
    shop.write((5 * MIB, 4096))
    assert told(shop.back_up()) == BY_LIST
    metrics = installed_operator.get("metrics")
    assert 'blockvault_backup_changed_blocks_total{reason="InvalidList",source="Compare"}' in metrics
