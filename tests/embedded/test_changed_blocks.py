"""F1: the operator and its movers on a storage that knows what changed, and on one that lies, fails or is not there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.scenario import manifests
from tests.scenario.environment import OPERATOR_NAMESPACE, Write, gone, phase_is
from tests.scenario.incremental import BLOCK, MIB, check_nothing_is_left

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment
from .metadata import DEFINITION, KIND, StorageMetadata
from .volumes import DRIVER

SIZE = 32 * MIB
NUMBERS = itertools.count(1)


class Shop:
    """A claim with data in it, and short words for what happens to it."""

    def __init__(self, env: EmbeddedEnvironment, storage: StorageMetadata) -> None:
        self.env, self.cluster, self.storage = env, env.cluster, storage
        self.claim = f"data-{next(NUMBERS)}"
        self._backups = itertools.count(1)
        env.make_claim(self.claim, SIZE)
        self.write(0, SIZE // 2)

    def write(self, offset: int, length: int) -> None:
        self.env.write(self.claim, [Write(offset, length, seed=next(NUMBERS))])

    def start(self, **spec: Any) -> str:
        name = f"{self.claim}-{next(self._backups)}"
        manifest = manifests.backup(name, "v", self.claim)
        manifest["spec"] |= spec
        self.env.apply(manifest)
        return name

    def finish(self, name: str) -> dict[str, Any]:
        status = self.env.wait_for("backup", name, phase_is("Available"), timeout=60)["status"]
        volume: dict[str, Any] = status["volumes"][0]
        return volume

    def back_up(self, **spec: Any) -> dict[str, Any]:
        """What the status says of the volume, once the Backup is Available."""
        return self.finish(self.start(**spec))

    def check_restore(self, name: str, size: int = SIZE) -> None:
        """The claim restored from a Backup has the bytes that the claim has now."""
        copy = f"{name}-copy"
        self.env.apply(manifests.restore(f"{name}-r", name, copy, self.env.storage_class, f"{size // MIB}Mi"))
        self.env.wait_for("restore", f"{name}-r", phase_is("Completed"), timeout=60)
        assert self.env.digest(copy, size) == self.env.digest(self.claim, size)

    @property
    def last(self) -> str:
        """Name of the newest Backup."""
        return max((b["metadata"]["name"] for b in self.env.list("backup") if self.claim in b["metadata"]["name"]),
                   key=lambda name: int(name.rpartition("-")[2]))  # fmt: skip


def told(volume: dict[str, Any]) -> tuple[str, str | None]:
    return volume["changedBlockSource"], volume.get("changedBlockReason")


BY_LIST = ("SnapshotMetadata", None)


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedCluster]:
    """A cluster with the real operator, a vault, and the definition of SnapshotMetadataService."""
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        cluster.start_operator()
        env.apply(*manifests.vault_class("v", env.storage, "v"), manifests.vault("v", "v"), DEFINITION)
        env.wait_for("vault", "v", phase_is("Available"), timeout=30)
        yield cluster


@pytest.fixture
def storage(running: EmbeddedCluster) -> Iterator[StorageMetadata]:
    """The storage's service, which the cluster names."""
    with StorageMetadata(running) as metadata:
        running.apply(metadata.manifest())
        yield metadata
    if running.get(KIND, DRIVER):
        running.delete(KIND, DRIVER)
    running.faults.hold_movers = False


@pytest.fixture
def shop(running: EmbeddedCluster, storage: StorageMetadata) -> Shop:
    return Shop(EmbeddedEnvironment(running), storage)


def test_f1_only_what_the_storage_tells_of_is_read(shop: Shop) -> None:
    """A few blocks changed of 128: so many are read, in whatever pieces the list comes, and the restore is identical."""
    assert told(shop.back_up()) == ("Full", None)
    shop.write(5 * MIB, 4096)
    shop.write(20 * MIB - 2048, 4096)
    second = shop.back_up()
    assert told(second) == BY_LIST
    assert second["bytesScanned"] == 3 * BLOCK
    (request,) = shop.storage.requests
    assert request.namespace == OPERATOR_NAMESPACE
    # Nothing changed: nothing is read.
    third = shop.back_up()
    assert (told(third), third["bytesScanned"]) == (BY_LIST, 0)
    # The base is the snapshot of the backup before, not of the first.
    assert len({r.base_snapshot_id for r in shop.storage.requests}) == 2
    # Streams that are cut go on.
    shop.write(0, 8 * MIB)
    shop.storage.cut_after = 2
    fourth = shop.back_up()
    assert (told(fourth), fourth["bytesScanned"]) == (BY_LIST, 8 * MIB)
    assert len(shop.storage.requests) > 4
    shop.check_restore(shop.last)
    check_nothing_is_left(shop.env, newest=shop.last)
    metrics = shop.cluster.metrics()
    assert 'blockvault_backup_changed_blocks_total{reason="",source="SnapshotMetadata"} 3.0' in metrics


def test_f1_a_full_backup_asks_nobody(shop: Shop) -> None:
    shop.back_up()
    assert told(shop.back_up(full=True)) == ("Full", None)
    assert shop.storage.requests == []
    shop.write(MIB, 4096)
    assert told(shop.back_up()) == BY_LIST  # its snapshot is the base of the next
    shop.check_restore(shop.last)


def test_f1_a_list_that_leaves_changes_out_is_found_and_mended(shop: Shop) -> None:
    """One block left out, which a sample shows. The run that finds it out compares; so does the next."""
    shop.back_up()
    shop.storage.left_out = {100}
    shop.write(100 * 4096, 4096)
    shop.write(10 * MIB, 4096)
    assert told(shop.back_up()) == ("Compare", "ListWasWrong")
    shop.check_restore(shop.last)
    shop.storage.left_out = set()
    shop.write(3 * MIB, 4096)
    assert told(shop.back_up()) == ("Compare", "ListsDistrusted")
    shop.write(4 * MIB, 4096)
    assert told(shop.back_up()) == BY_LIST
    shop.check_restore(shop.last)
    metrics = shop.cluster.metrics()
    assert 'blockvault_backup_changed_blocks_total{reason="ListWasWrong",source="Compare"} 1.0' in metrics


def test_f1_a_storage_that_refuses_costs_the_list_only(shop: Shop) -> None:
    """Whatever is wrong on the way to the list stands in the status, and the backup compares."""
    shop.back_up()

    def refuse(_: Any, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "says the driver")

    shop.write(MIB, 4096)
    shop.storage.before = refuse
    volume = shop.back_up()
    assert told(volume) == ("Compare", "NotTracked")
    assert volume["bytesScanned"] > 10 * BLOCK
    status = (shop.env.get("backup", shop.last) or {})["status"]
    assert "says the driver" in status["mover"]["lastWords"]
    shop.storage.before = lambda *_: None
    for spec, reason in (
        ({"audience": "another"}, "Unauthenticated"),
        ({"address": "nonsense"}, "ServiceInvalid"),
    ):
        shop.cluster.apply(shop.storage.manifest(**spec))
        shop.write(MIB, 4096)
        assert told(shop.back_up()) == ("Compare", reason)
    fault = shop.cluster.faults.fail("get", "snapshotmetadataservices", status=403, times=2)
    shop.write(MIB, 4096)
    assert told(shop.back_up()) == ("Compare", "ServiceForbidden")
    assert fault.times == 0
    shop.cluster.delete(KIND, DRIVER)
    shop.write(MIB, 4096)
    assert told(shop.back_up()) == ("Compare", "NoService")
    # The next is by list again: its base is the backup just made.
    shop.cluster.apply(shop.storage.manifest())
    shop.write(2 * MIB, 4096)
    assert told(shop.back_up()) == BY_LIST
    shop.check_restore(shop.last)


def test_f1_a_service_that_is_down_costs_the_list_only(shop: Shop) -> None:
    shop.back_up()
    shop.write(MIB, 4096)
    shop.cluster.apply(shop.storage.manifest(address="127.0.0.1:1"))
    assert told(shop.back_up()) == ("Compare", "ServiceUnavailable")


def test_f1_a_base_that_is_gone_costs_the_list_only(shop: Shop) -> None:
    """Gone from the storage, behind Kubernetes' back; and with its Backup."""
    shop.back_up()
    handle = _kept_handle(shop)
    shop.cluster.files.snapshot(handle).unlink()
    shop.write(MIB, 4096)
    assert told(shop.back_up()) == ("Compare", "BaseGone")
    # A Backup that is deleted takes its snapshot along: the one before it has none any more.
    shop.env.delete("backup", shop.last)
    shop.env.wait_for("backup", shop.last, gone, timeout=30)
    shop.write(2 * MIB, 4096)
    assert told(shop.back_up()) == ("Compare", "NoBase")
    shop.check_restore(shop.last)


def test_f1_a_claim_made_again_under_its_name_is_another_volume(shop: Shop) -> None:
    """The handle of the former volume's snapshot is never sent, though the storage would take it."""
    shop.back_up()
    shop.env.delete("pod", f"{shop.claim}-user")
    shop.env.delete("pvc", shop.claim)
    shop.env.wait_for("pvc", shop.claim, gone, timeout=30)
    shop.env.make_claim(shop.claim, SIZE)
    shop.write(MIB, 4096)
    assert told(shop.back_up()) == ("Compare", "OtherVolume")
    assert shop.storage.requests == []
    shop.write(2 * MIB, 4096)
    assert told(shop.back_up()) == BY_LIST
    shop.check_restore(shop.last)


def test_f1_a_claim_that_has_grown(shop: Shop) -> None:
    shop.back_up()
    larger = SIZE + 8 * MIB
    spec = {"resources": {"requests": {"storage": str(larger)}}}
    shop.env.apply(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": shop.claim}, "spec": spec}
    )
    path = shop.cluster.volume_path("shop", shop.claim)
    shop.cluster.until(lambda: path.stat().st_size == larger, "the volume has grown")
    shop.write(larger - MIB, MIB)
    shop.write(MIB, 4096)
    volume = shop.back_up()
    assert (told(volume), volume["size"]) == (BY_LIST, larger)
    assert volume["bytesScanned"] == 8 * MIB + BLOCK
    shop.check_restore(shop.last, larger)


def test_f1_the_operator_is_restarted_in_the_middle(shop: Shop) -> None:
    """Killed when the mover has been told whom to ask, and again when its Job is made: the question stays the same."""
    shop.back_up()
    shop.write(MIB, 4096)
    cluster = shop.cluster
    cluster.faults.hold_movers = True
    name = shop.start()
    uid = (shop.env.get("backup", name) or {})["metadata"]["uid"]
    for kind in ("secrets", "jobs"):
        made = f"bv-{uid}" if kind == "secrets" else f"bv-{uid}-1"
        cluster.wait_for(kind, made, bool, namespace=OPERATOR_NAMESPACE)
        cluster.kill_operator()
        cluster.start_operator()
    cluster.faults.hold_movers = False
    assert told(shop.finish(name)) == BY_LIST
    shop.check_restore(name)
    check_nothing_is_left(shop.env, newest=name)


def test_f1_a_mover_that_is_killed_asks_again(shop: Shop) -> None:
    """Killed while it waits for the list; the next one asks from the beginning."""
    shop.back_up()
    shop.write(MIB, 4096)
    asked = shop.storage.requests

    def once(_: Any, context: grpc.ServicerContext) -> None:
        if len(asked) == 1:
            shop.cluster.kill_movers()
            context.abort(grpc.StatusCode.CANCELLED, "nobody is there any more")

    shop.storage.before = once
    volume = shop.back_up()
    assert told(volume) == BY_LIST
    assert [request.starting_offset for request in asked] == [0, 0]


def _kept_handle(shop: Shop) -> str:
    uid = (shop.env.get("backup", shop.last) or {})["metadata"]["uid"]
    return str((shop.env.get("vsc", f"bv-{uid}") or {})["status"]["snapshotHandle"])
