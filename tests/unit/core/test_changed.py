"""F1: the base of a list of changed blocks is a snapshot of the same volume, of a backup that can be built on."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import asdict
from typing import Any

import pytest

from blockvault.api import Backup
from blockvault.cluster.templates import Owner, own_content
from blockvault.core import changed
from blockvault.core.changed import Base, Service, choose_base, read_service
from blockvault.core.kept import Kept
from blockvault.core.source import Source, describe_source, read_source, stored_source

from . import world

Object = dict[str, Any]
CA = "-----BEGIN CERTIFICATE-----\n"


def content(uid: str, handle: str, volume: str | None = "vol-1", claim: str = "c-1", **more: Any) -> Object:
    """The operator's content as it makes it from the snapshot controller's."""
    source = Source("csi.example.com", "1Gi", None, "Block", [], claim_uid=claim)
    theirs = world.content()
    theirs["spec"]["source"] = {"volumeHandle": volume} if volume else {}
    theirs["spec"]["driver"] = more.pop("driver", "csi.example.com")
    owner = Owner("Backup", "shop", f"backup-{uid}", uid, "db")
    made = own_content(owner, "own", theirs, handle, source)
    made["metadata"] |= {"creationTimestamp": "2026-11-23T12:00:00Z", **more}
    return made


def backup(uid: str, phase: str = "Available", vault: str = "disks", **volume: Any) -> Backup:
    body = world.backup_object()
    body["metadata"]["uid"] = uid
    body["spec"]["vaultRef"]["name"] = vault
    stored = {"claim": "db", "backupId": f"id-{uid}", "lineageVolume": "shop/db", **volume}
    body["status"] = {"phase": phase, "volumes": [stored]}
    return Backup.model_validate(body)


NOW = backup("now", "Creating")
TARGET = content("now", "snap-now")


def chosen(*kept: Kept, target: Object = TARGET) -> Base | str:
    return choose_base(NOW, "shop/db", target, list(kept))


def test_f1_the_kept_snapshot_of_the_last_backup_is_the_base() -> None:
    assert chosen(Kept(content("a", "snap-a"), backup("a"))) == Base("snap-a", "id-a")


def test_f1_of_several_the_newest_counts() -> None:
    old = Kept(content("a", "snap-a", creationTimestamp="2026-11-23T11:00:00Z"), backup("a"))
    new = Kept(content("b", "snap-b", creationTimestamp="2026-11-23T11:30:00Z"), backup("b"))
    gone = Kept(content("c", "snap-c", creationTimestamp="2026-11-23T11:45:00Z"), None)
    for order in ((old, new, gone), (gone, new, old)):
        assert chosen(*order) == Base("snap-b", "id-b")


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        ([], changed.NO_BASE),
        ([Kept(content("a", "snap-a"), None)], changed.NO_BASE),
        ([Kept(content("a", "snap-a"), backup("a", phase="Error"))], changed.NO_BASE),
        ([Kept(content("a", "snap-a"), backup("a", phase="Creating"))], changed.NO_BASE),
        # A Backup made again under the same name is another one.
        ([Kept(content("a", "snap-a"), backup("b"))], changed.NO_BASE),
        ([Kept(content("a", "snap-a"), backup("a", vault="other"))], changed.NO_BASE),
        ([Kept(content("a", "snap-a"), backup("a", lineageVolume="shop/other"))], changed.NO_BASE),
        ([Kept(content("a", "snap-a"), backup("a", backupId=None))], changed.NO_BASE),
        ([Kept(content("a", "snap-a", deletionTimestamp=world.STAMP), backup("a"))], changed.NO_BASE),
        # What an earlier version wrote does not say which volume it is of.
        ([Kept(content("a", "snap-a", volume=None), backup("a"))], changed.NO_BASE),
        ([Kept(content("a", "snap-a", claim=""), backup("a"))], changed.NO_BASE),
        # A claim made again under the same name, or whose volume was swapped.
        ([Kept(content("a", "snap-a", volume="vol-2", claim="c-2"), backup("a"))], changed.OTHER_VOLUME),
        ([Kept(content("a", "snap-a", volume="vol-2"), backup("a"))], changed.OTHER_VOLUME),
        ([Kept(content("a", "snap-a", claim="c-2"), backup("a"))], changed.OTHER_VOLUME),
        ([Kept(content("a", "snap-a", driver="other.example.com"), backup("a"))], changed.OTHER_VOLUME),
    ],
)
def test_f1_without_certainty_there_is_no_base(kept: list[Kept], reason: str) -> None:
    assert chosen(*kept) == reason


def test_f1_a_snapshot_that_an_earlier_version_began_has_no_base() -> None:
    kept = Kept(content("a", "snap-a", volume=None), backup("a"))
    assert chosen(kept, target=content("now", "snap-now", volume=None)) == changed.NO_BASE


def service(**spec: Any) -> Object:
    whole = {"address": "metadata.csi:6443", "audience": "word", "caCert": b64encode(CA.encode()).decode()}
    return {"metadata": {"name": "csi.example.com"}, "spec": {**whole, **spec}}


def test_f1_a_service_is_found_by_its_driver() -> None:
    assert read_service(service()) == Service("metadata.csi:6443", "word", CA)
    for address in ("10.0.0.1:1", "[fd00::1]:50051"):
        assert isinstance(read_service(service(address=address)), Service)
    assert read_service(None) == changed.NO_SERVICE


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": ""}, {"address": "metadata.csi"}, {"address": "unix:/run/x:1"}, {"address": "https://a:1"},
        {"address": "a:1\n"}, {"address": "dns://x/a:1"}, {"audience": ""}, {"audience": None}, {"caCert": ""},
        {"caCert": "***"}, {"caCert": b64encode(b"\xff").decode()}, {"caCert": b64encode(b"none").decode()},
        {"caCert": b64encode(CA.encode() * 20_000).decode()},
    ],
)  # fmt: skip
def test_f1_a_service_that_cannot_be_used_is_not_asked(wrong: Object) -> None:
    assert read_service(service(**wrong)) == changed.SERVICE_INVALID
    assert read_service({"metadata": {}}) == changed.SERVICE_INVALID


def test_a_source_is_read_by_earlier_and_later_versions() -> None:
    """What is not known is passed over, what is not there yet has its default."""
    now = describe_source(world.CLAIM, world.VOLUME)
    assert now.claim_uid == "c-1"
    stored = json.loads(now.to_json())
    for text in (json.dumps({**stored, "later": 1}), now.to_json()):
        assert read_source({"metadata": {"annotations": {"blockvault.dev/source": text}}}) == now
    del stored["claim_uid"]
    early = read_source({"metadata": {"annotations": {"blockvault.dev/source": json.dumps(stored)}}})
    assert early is not None
    assert early.claim_uid == ""


def test_what_a_store_says_of_a_claim_is_not_believed_blindly() -> None:
    """Whoever may write to a bucket may write this."""
    good = asdict(describe_source(world.CLAIM, world.VOLUME))
    assert stored_source({"source": good}) is not None
    for forged in (
        {"capacity": "a lot"},
        {"capacity": "-1Gi"},
        {"volume_mode": "HostPath"},
        {"access_modes": ["Everything"]},
        {"labels": ["x"]},
        {"node_affinity": "anywhere"},
    ):
        assert stored_source({"source": {**good, **forged}}) is None, forged
    notes = {"pv.kubernetes.io/bind-completed": "yes", "blockvault.dev/restore-uid": "r-1", "team": "shop"}
    found = stored_source({"source": {**good, "annotations": notes}})
    assert found is not None
    assert found.annotations == {"team": "shop"}
