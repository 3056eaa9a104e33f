"""The API fails and loses answers, movers are killed, snapshots fail: nothing is lost, nothing is left."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest

from blockvault.engine import Access, VolumeNotFound
from tests.scenario import manifests
from tests.scenario.environment import OPERATOR_NAMESPACE, gone, phase_is
from tests.scenario.incremental import MIB, check_nothing_is_left

from .cluster import EmbeddedCluster
from .conftest import claim_of, with_data
from .environment import EmbeddedEnvironment

SIZE = 16 * MIB
# All that the operator writes on its way through a Backup and a Restore.
WRITES = [
    ("create", "volumesnapshots"), ("create", "volumesnapshotcontents"), ("create", "persistentvolumeclaims"),
    ("create", "persistentvolumes"), ("create", "secrets"), ("create", "jobs"),
    ("patch", "volumesnapshotcontents"), ("patch", "persistentvolumes"),
    ("create", "tasks"), ("patch", "tasks"), ("create", "events"),
    ("patch", "backups"), ("patch", "backups/status"), ("patch", "restores/status"),
    ("delete", "volumesnapshots"), ("delete", "volumesnapshotcontents"), ("delete", "persistentvolumeclaims"),
    ("delete", "persistentvolumes"), ("delete", "secrets"), ("delete", "pods"),
]  # fmt: skip


@pytest.fixture
def env(running: EmbeddedCluster, request: pytest.FixtureRequest) -> Iterator[EmbeddedEnvironment]:
    """A claim with data, named after the test; no fault outlives the test."""
    yield with_data(running, request, SIZE)
    running.faults.requests.clear()
    running.faults.snapshot_error = None
    running.faults.hold_movers = False


@pytest.mark.parametrize(
    ("status", "after_effect"),
    [
        (500, False),
        (0, True),
        pytest.param(409, False, marks=pytest.mark.soak),
        pytest.param(429, False, marks=pytest.mark.soak),
        pytest.param(503, True, marks=pytest.mark.soak),
    ],
)
def test_every_write_fails_once(
    env: EmbeddedEnvironment, request: pytest.FixtureRequest, status: int, after_effect: bool
) -> None:
    """An answer that fails or is lost costs time, and nothing else."""
    name, faults = claim_of(request), env.cluster.faults
    met = [faults.fail(verb, resource, status=status, after_effect=after_effect) for verb, resource in WRITES]
    env.apply(manifests.backup(f"{name}-1", "v", name))
    env.wait_for("backup", f"{name}-1", phase_is("Available"), timeout=90)
    env.apply(manifests.restore(f"{name}-r", f"{name}-1", f"{name}-copy", env.storage_class, "16Mi"))
    env.wait_for("restore", f"{name}-r", phase_is("Completed"), timeout=90)
    unmet = [f"{fault.verb} {fault.resource}" for fault in met if fault.times]
    assert unmet == []
    assert env.digest(f"{name}-copy", SIZE) == env.digest(name, SIZE)
    check_nothing_is_left(env, newest=f"{name}-1")


def test_movers_are_killed_and_the_next_one_ends_it(
    env: EmbeddedEnvironment, request: pytest.FixtureRequest
) -> None:
    """A killed mover is replaced by its Job; what it said counts once."""
    name, cluster = claim_of(request), env.cluster
    env.apply(manifests.backup(name, "v", name))
    for _ in range(2):
        cluster.until(cluster.movers, "a mover runs")
        cluster.kill_movers()
        cluster.until(lambda: not cluster.movers(), "it is dead")
    status = env.wait_for("backup", name, phase_is("Available"), timeout=60)["status"]
    assert status["mover"]["attempts"] == 3
    check_nothing_is_left(env, newest=name)


def test_a_snapshot_that_fails_ends_in_error_and_leaves_nothing(
    env: EmbeddedEnvironment, request: pytest.FixtureRequest
) -> None:
    """The driver's words stand in the status; at the deadline nothing of the attempt is left."""
    name, cluster = claim_of(request), env.cluster
    cluster.faults.snapshot_error = "the array is full"
    backup = manifests.backup(name, "v", name)
    backup["spec"]["startDeadlineSeconds"] = 3
    env.apply(backup)
    status = env.wait_for("backup", name, phase_is("Error"), timeout=30)["status"]
    assert "the array is full" in status["message"]
    uid = (env.get("backup", name) or {})["metadata"]["uid"]
    for kind in ("vs", "vsc", "pvc", "secrets", "jobs"):
        assert _made(env, kind, uid) == [], kind


def test_a_deleted_backup_that_is_under_way_leaves_nothing(
    env: EmbeddedEnvironment, request: pytest.FixtureRequest
) -> None:
    """Deletion in the middle takes everything along, in the cluster and in the store."""
    name, cluster = claim_of(request), env.cluster
    cluster.faults.hold_movers = True
    env.apply(manifests.backup(name, "v", name))
    cluster.until(
        lambda: [p for p in cluster.list("pods") if name in str(p["metadata"].get("annotations"))], "a pod"
    )
    uid = (env.get("backup", name) or {})["metadata"]["uid"]
    env.delete("backup", name)
    env.wait_for("backup", name, gone, timeout=30)
    for kind in ("vs", "vsc", "pvc", "secrets", "jobs", "pods"):
        assert _made(env, kind, uid) == [], kind


@pytest.mark.parametrize("committed", [False, True])
def test_f3_a_cancelled_backup_stops_soon_and_leaves_nothing(
    env: EmbeddedEnvironment, request: pytest.FixtureRequest, committed: bool
) -> None:
    """Also where the mover had made the backup already, and its words were lost."""
    name, cluster = claim_of(request), env.cluster
    cluster.faults.hold_movers = not committed
    backup = manifests.backup(name, "v", name)
    env.apply(backup)
    uid = (env.get("backup", name) or {})["metadata"]["uid"]
    cluster.until(lambda: _made(env, "jobs", uid), "its mover is there", 60)
    if committed:
        cluster.kill_operator()
        cluster.until(lambda: _stored(env, name), "the mover has committed", 60)
        for job in _made(env, "jobs", uid):
            cluster.delete("job", job, OPERATOR_NAMESPACE)
        cluster.until(lambda: not _made(env, "pods", uid), "its words are lost", 60)
    backup["spec"]["cancel"] = True
    env.apply(backup)
    if committed:
        cluster.start_operator()
    status = env.wait_for("backup", name, phase_is("Error"), timeout=30)["status"]
    assert status["reason"] == "Cancelled"
    for kind in ("vs", "vsc", "pvc", "secrets", "jobs", "pods"):
        assert _made(env, kind, uid) == [], kind
    assert not _stored(env, name)


def _made(env: EmbeddedEnvironment, kind: str, uid: str) -> list[str]:
    """Names of what was made for an operation and is there still."""
    found = [o["metadata"] for o in env.list(kind)]
    return [
        meta["name"] for meta in found if (meta.get("labels") or {}).get("blockvault.dev/operation") == uid
    ]


def _stored(env: EmbeddedEnvironment, claim: str) -> list[str]:
    """Ids of the claim's backups in the store."""
    place = env.storage.at((env.get("vault", "v") or {})["status"]["location"])
    try:
        return [row["backupId"] for row in Access(place).open().list(f"shop/{claim}")]
    except VolumeNotFound:
        return []


def test_a_restore_of_damaged_data_ends_in_error_with_the_movers_last_words(
    env: EmbeddedEnvironment, running: EmbeddedCluster, request: pytest.FixtureRequest
) -> None:
    """C6, E5: never half a volume: the claim goes, the cause and the mover's words stay, and so does its Job."""
    claim = claim_of(request)
    env.apply(manifests.backup("damaged", "v", claim))
    env.wait_for("backup", "damaged", phase_is("Available"), timeout=60)
    s3 = running.s3
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=s3.region,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )
    listed = client.list_objects_v2(Bucket=s3.bucket)["Contents"]
    segments = [o["Key"] for o in listed if "/segments/" in o["Key"]]
    assert segments, [o["Key"] for o in listed]
    for key in segments:
        body = bytearray(client.get_object(Bucket=s3.bucket, Key=key)["Body"].read())
        body[len(body) // 2] ^= 1
        client.put_object(Bucket=s3.bucket, Key=key, Body=bytes(body))
    # Of another class, as a copy of the local snapshot would need nothing of the store (D7).
    env.apply(manifests.restore("of-damaged", "damaged", "never", "bv-wait", "16Mi"))
    failed = env.wait_for("restore", "of-damaged", phase_is("Error"), timeout=60)["status"]
    assert failed["reason"] == "StoredDataDamaged", failed
    assert failed["mover"]["errorClass"] == "StoredDataDamaged"
    assert "StoredDataDamaged" in failed["mover"]["lastWords"]
    assert running.get("job", failed["mover"]["job"], OPERATOR_NAMESPACE) is not None
    assert env.get("pvc", "never") is None
    check_nothing_is_left(env, newest="damaged")
