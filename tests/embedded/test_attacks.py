"""Attacks of a tenant on another one's volumes, snapshots and claims, by objects of its own namespace (issue 6).

Who attacks has all rights there: those of `edit`, on all our kinds, and where it is said even on their status. Each
test fails when what it attacks is no longer guarded.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.scenario import manifests
from tests.scenario.environment import phase_is
from tests.scenario.incremental import MIB

from .attacker import EVIL, GROUP, Attacker, attacker, untouched
from .cluster import OPERATOR_NAMESPACE
from .kinds import Object

__all__ = ["attacker", "untouched"]
pytestmark = pytest.mark.usefixtures("untouched")

API = "blockvault.dev/v1alpha1"
NEVER = 86400


def restore(name: str, target: Object, **source: Any) -> Object:
    spec = {**source, "target": target, "startDeadlineSeconds": NEVER}
    return {"apiVersion": API, "kind": "Restore", "metadata": {"name": name}, "spec": spec}


def backup(name: str, claim: str, *, vault: str = "v", wait: int = NEVER) -> Object:
    body = manifests.backup(name, vault, claim)
    body["spec"]["startDeadlineSeconds"] = wait
    return body


def snapshot(name: str, labels: dict[str, str] | None = None, **source: str) -> Object:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"volumeSnapshotClassName": "bv-snapshots", "source": source},
    }


def claim_from(name: str, kind: str, source: str, **ref: str) -> dict[str, Any]:
    return {
        "name": name,
        "dataSourceRef": {"apiGroup": "blockvault.dev", "kind": kind, "name": source, **ref},
    }


def test_names_of_another_namespace_are_absent_in_ones_own(attacker: Attacker) -> None:
    """Every reference is looked up beside the object that has it."""
    attacker.apply(
        backup("claim-of-another", "db"),
        backup("vault-of-another", "mine", vault="only-in-shop"),
        restore("backup-of-another", {"newClaim": {"name": "got"}}, backupRef={"name": "b"}),
        restore(
            "latest-of-another",
            {"newClaim": {"name": "got2"}},
            latestOf={
                "vaultRef": {"name": "only-in-shop"},
                "resource": {"kind": "PersistentVolumeClaim", "name": "db"},
            },
        ),
    )
    attacker.env.apply(manifests.vault("only-in-shop", "v"))
    attacker.ends("backup", "claim-of-another", "ClaimNotFound")
    attacker.ends("backup", "vault-of-another", "VaultNotFound")
    attacker.ends("restore", "backup-of-another", "BackupNotFound")
    attacker.ends("restore", "latest-of-another", "VaultNotFound")
    for kind, name in (("backup", "claim-of-another"), ("restore", "backup-of-another")):
        assert attacker.made_for(attacker.uid(kind, name)) == []


def test_the_latest_backup_of_a_claim_is_that_of_ones_own_namespace(attacker: Attacker) -> None:
    """Also where both Vaults have one name, and both claims: the places differ."""
    resource = {"kind": "PersistentVolumeClaim", "name": "db"}
    latest = {"vaultRef": {"name": "v"}, "resource": resource}
    attacker.apply(restore("latest", {"newClaim": {"name": "got3"}}, latestOf=latest))
    assert "never was a backup" in attacker.ends("restore", "latest", "NoBackup")


def test_a_backup_that_says_to_be_one_of_the_store_shows_only_its_own_vaults(attacker: Attacker) -> None:
    stored = (attacker.env.get("backup", "b") or {})["status"]["volumes"][0]
    forged = backup("forged-import", "db")
    facts = {"volume": stored["lineageVolume"], "backupId": stored["backupId"]}
    forged["metadata"]["annotations"] = {"blockvault.dev/imported": json.dumps(facts)}
    attacker.apply(forged)
    attacker.ends("backup", "forged-import", "NotInStore")


@pytest.mark.parametrize("kind", ["Backup", "Restore"])
def test_a_claim_is_not_filled_from_another_namespace(attacker: Attacker, kind: str) -> None:
    """Neither by the field that names one, nor by a name that leads there."""
    attacker.env.apply(
        restore(
            "theirs",
            {"populate": {}},
            latestOf={"vaultRef": {"name": "v"}, "resource": {"kind": "PersistentVolumeClaim", "name": "db"}},
        )
    )
    theirs = {"Backup": "b", "Restore": "theirs"}[kind]
    names = [f"by-field-{kind.lower()}", f"by-path-{kind.lower()}"]
    attacker.claim(**claim_from(names[0], kind, theirs, namespace="shop"))
    path = f"../../shop/{kind.lower()}s/{theirs}"
    attacker.claim(**claim_from(names[1], kind, path))
    attacker.claim(
        **claim_from(f"own-{kind.lower()}", "Backup", "own")
    )  # then the others have been looked at
    own = attacker.uid("pvc", f"own-{kind.lower()}")
    attacker.cluster.wait_for("restore", f"populate-{own}", bool, namespace=EVIL)
    for name in names:
        assert attacker.cluster.get("restore", f"populate-{attacker.uid('pvc', name)}", EVIL) is None
        assert attacker.get("pvc", name)["status"]["phase"] == "Pending"


def test_a_claim_that_names_anothers_volume_gets_nothing_of_it(attacker: Attacker) -> None:
    """Anybody can name any PersistentVolume; it is the volume that says whose it is."""
    volume = (attacker.env.get("pvc", "db") or {})["spec"]["volumeName"]
    attacker.claim("grab", volumeName=volume)
    stored = attacker.get("backup", "own")["status"]
    attacker.apply(backup("grab-it", "grab"), backup("grab-source", "grab"))
    attacker.ends("backup", "grab-it", "ClaimNotBound")
    attacker.ends("backup", "grab-source", "ClaimNotBound")
    attacker.forge_status("backup", "grab-source", phase="Available", volumes=stored["volumes"])
    attacker.apply(restore("grab-in-place", {"original": {}}, backupRef={"name": "grab-source"}))
    attacker.ends("restore", "grab-in-place", "ClaimNotBound")
    assert attacker.made_for(attacker.uid("restore", "grab-in-place")) == []
    attacker.cluster.delete("restore", "grab-in-place", EVIL)


def test_a_claim_whose_volumes_name_is_a_path_leads_nowhere(attacker: Attacker) -> None:
    """The API server takes any text as volumeName, and the operator asks for what it names."""
    attacker.claim("path", volumeName=f"../namespaces/{OPERATOR_NAMESPACE}/secrets/decoy")
    attacker.apply(backup("path", "path"))
    attacker.ends("backup", "path", "ClaimNotBound")
    assert not [asked for asked in attacker.cluster.requests("get") if asked.name == "decoy"]


def test_an_exchange_that_somebody_has_written_takes_no_volume(attacker: Attacker) -> None:
    """Who may write a Restore's status, against our roles, still gets no other claim's storage."""
    volume = (attacker.env.get("pvc", "db") or {})["spec"]["volumeName"]
    handle = (attacker.cluster.get("pv", volume) or {})["spec"]["csi"]["volumeHandle"]
    user = {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user"}}
    attacker.apply({**pod, "spec": {"containers": [], "volumes": [user]}})
    attacker.apply(restore("exchange", {"original": {}}, backupRef={"name": "own"}))
    attacker.ends("restore", "exchange", "ClaimInUse")
    attacker.forge_status(
        "restore",
        "exchange",
        phase="Restoring",
        claim="mine",
        exchange={"claimUid": attacker.uid("pvc", "mine"), "volume": volume, "formerHandle": handle},
        operation={"outcome": "Succeeded", "reason": "Completed", "message": "forged"},
    )
    attacker.cluster.wait_for("restore", "exchange", phase_is("Error"), timeout=60, namespace=EVIL)
    attacker.cluster.delete("pod", "user", EVIL)


def pending(attacker: Attacker, name: str, claim: str, wait: int = NEVER) -> str:
    """The uid of a Backup that waits for its claim, so that its names can be occupied before it begins."""
    attacker.apply(backup(name, claim, wait=wait))
    attacker.ends("backup", name, "ClaimNotFound")
    return attacker.uid("backup", name)


def test_a_snapshot_under_our_name_of_anothers_content_is_refused(attacker: Attacker) -> None:
    """A forged handle: the content that the operator keeps of the other tenant's volume."""
    uid = pending(attacker, "forger", "late")
    theirs = f"bv-{(attacker.env.get('backup', 'b') or {})['metadata']['uid']}"
    labels = {"blockvault.dev/operation": uid, "app.kubernetes.io/managed-by": "blockvault"}
    attacker.apply(snapshot(f"bv-{uid}", labels, volumeSnapshotContentName=theirs))
    ready = {"readyToUse": True, "boundVolumeSnapshotContentName": theirs, "restoreSize": "4Mi"}
    attacker.forge_status("vs", f"bv-{uid}", **ready, creationTime="2026-11-29T10:00:00Z")
    attacker.claim("late")
    attacker.ends("backup", "forger", "SnapshotNotOurs")
    assert attacker.made_for(uid) == []


def test_a_snapshot_that_says_to_be_bound_to_anothers_content_is_not_believed(attacker: Attacker) -> None:
    """Whoever may write a VolumeSnapshot's status: its content has to name it as well."""
    uid = pending(attacker, "liar", "later")
    theirs = f"bv-{(attacker.env.get('backup', 'b') or {})['metadata']['uid']}"
    attacker.apply(snapshot(f"bv-{uid}", persistentVolumeClaimName="later"))
    ready = {"readyToUse": True, "boundVolumeSnapshotContentName": theirs, "restoreSize": "4Mi"}
    attacker.forge_status("vs", f"bv-{uid}", **ready)
    attacker.claim("later")
    attacker.cluster.wait_for("backup", "liar", phase_is("Creating"), timeout=30, namespace=EVIL)
    attacker.apply({**backup("liar", "later"), "spec": {**backup("liar", "later")["spec"], "cancel": True}})
    attacker.cluster.wait_for("backup", "liar", phase_is("Error"), timeout=60, namespace=EVIL)
    assert attacker.made_for(uid) == []


def test_what_is_written_on_a_snapshot_counts_for_nothing(attacker: Attacker) -> None:
    """Its annotations are its namespace's: they choose no storage class, size or node of the mover's."""
    attacker.cluster.faults.snapshot_delay = 2.0
    try:
        attacker.claim("mine2")
        attacker.apply(backup("annotated", "mine2"))
        name = f"bv-{attacker.uid('backup', 'annotated')}"
        attacker.cluster.wait_for("vs", name, bool, namespace=EVIL)
        source = {"driver": "other.csi", "capacity": "1Ei", "storage_class": "gold", "volume_mode": "Block",
                  "access_modes": ["ReadWriteMany"], "node_affinity": {"nodeSelectorTerms": []}}  # fmt: skip
        notes = {"blockvault.dev/source": json.dumps(source), "blockvault.dev/source-content": "other"}
        attacker.apply(
            {
                "apiVersion": f"{GROUP}/v1",
                "kind": "VolumeSnapshot",
                "metadata": {"name": name, "annotations": notes},
            }
        )
        attacker.cluster.wait_for("backup", "annotated", phase_is("Available"), timeout=90, namespace=EVIL)
    finally:
        attacker.cluster.faults.snapshot_delay = 0.0
    clones = [c for c in attacker.cluster.history("pvc", name, OPERATOR_NAMESPACE) if c]
    assert {c["spec"]["storageClassName"] for c in clones} == {"bv-immediate"}
    assert {c["spec"]["resources"]["requests"]["storage"] for c in clones} == {"4Mi"}
    assert "source" not in attacker.get("backup", "annotated")["status"], "what is over says no more of it"


def test_labels_that_imitate_ours_change_nothing(attacker: Attacker) -> None:
    """What belongs to an operation is looked for in the operator's own namespace."""
    env = attacker.env
    env.make_claim("db2", 4 * MIB)
    env.apply(manifests.vault("v2", "v"), manifests.backup("first", "v2", "db2"))
    env.wait_for("backup", "first", phase_is("Available"), timeout=90)
    uid = (env.get("backup", "first") or {})["metadata"]["uid"]
    kept = attacker.cluster.get("vs", f"bv-{uid}", OPERATOR_NAMESPACE) or {}
    labels, names = kept["metadata"]["labels"], [f"bv-{uid}", f"bv-{uid}-1"]
    attacker.claim(names[0])
    for obj in (
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": names[0]}},
        snapshot(names[0], persistentVolumeClaimName="mine"),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": names[0]}, "data": {}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": names[1]}, "spec": {"containers": []}},
    ):
        attacker.apply({**obj, "metadata": {"name": obj["metadata"]["name"], "labels": labels}})
    env.apply(manifests.backup("second", "v2", "db2"))
    env.wait_for("backup", "second", phase_is("Available"), timeout=90)
    env.delete("backup", "second")
    env.wait_for("backup", "second", lambda b: b is None, timeout=60)
    for kind, name in (("pvc", names[0]), ("vs", names[0]), ("secret", names[0]), ("pod", names[1])):
        assert "deletionTimestamp" not in attacker.get(kind, name)["metadata"], kind


def test_a_restores_names_can_be_occupied_and_nothing_is_taken(attacker: Attacker) -> None:
    """A claim that says to be made by a Restore is filled with that Restore's backup, which is one's own."""
    attacker.apply(
        restore("waiting", {"newClaim": {"name": "taken", "size": "8Mi"}}, backupRef={"name": "late-one"})
    )
    attacker.ends("restore", "waiting", "BackupNotFound")
    uid = attacker.uid("restore", "waiting")
    volume = (attacker.env.get("pvc", "db") or {})["spec"]["volumeName"]
    attacker.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "taken", "annotations": {"blockvault.dev/restore-uid": uid}},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "volumeMode": "Block",
                "storageClassName": "bv-immediate",
                "volumeName": volume,
                "resources": {"requests": {"storage": str(4 * MIB)}},
            },
        }
    )
    attacker.cluster.delete("restore", "waiting", EVIL)
    attacker.cluster.wait_for("restore", "waiting", lambda r: r is None, namespace=EVIL, timeout=60)
    assert attacker.made_for(uid) == []
