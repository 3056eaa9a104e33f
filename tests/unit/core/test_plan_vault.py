"""Where a Vault's data lies, who may reach what, and what its status says."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from blockvault.api import Limits, ObjectLock, Vault, VaultClass
from blockvault.core.conditions import find_condition
from blockvault.core.decision import Missing, Refusal
from blockvault.core.plan_vault import (
    Rules,
    Secrets,
    Storage,
    narrower,
    read_credentials,
    read_keys,
    refuse_shared,
    resolve_storage,
)
from blockvault.core.vault_status import available_status, class_status, waiting_status
from blockvault.storework import StoreStatus

from . import world
from .world import NOW

NAS = {"persistentVolumeClaim": {"claimName": "nas"}}
DEFAULT = {"blockvault.dev/is-default-class": "true"}


def vault_class(name: str, prefix: str | None = "all", default: bool = False, **spec: Any) -> VaultClass:
    s3 = {"endpoint": "https://s3.example.com", "bucket": "shared", "prefix": prefix}
    s3["credentialsSecretRef"] = {"name": "class-keys"}  # type: ignore[assignment]
    meta = {"name": name, "uid": "c", "generation": 1, "creationTimestamp": world.STAMP}
    body = {
        "metadata": {**meta, "annotations": DEFAULT if default else {}},
        "spec": {"storage": {"s3": s3}, **spec},
    }
    return VaultClass.model_validate(body)


def vault(**spec: Any) -> Vault:
    meta = {**world.VAULT["metadata"], "uid": "0123456789abcdef"}
    return Vault.model_validate({"metadata": meta, "spec": {"capacity": "100Gi", **spec}})


def own_storage(endpoint: str = "https://s3.example.com", **s3: Any) -> dict[str, Any]:
    base = {"endpoint": endpoint, "bucket": "mine", "prefix": "a/b", "credentialsSecretRef": {"name": "keys"}}
    return {"s3": {**base, **s3}}


def resolve(subject: Vault, *classes: VaultClass, rules: Rules | None = None) -> Storage | Refusal | Missing:
    return resolve_storage(subject, list(classes), "blockvault-system", rules or Rules())


def test_a_class_gives_each_vault_a_place_that_no_successor_inherits() -> None:
    """F14, F18: a namespace made again under the same name has another uid, so another place."""
    found = resolve(vault(className="gold"), vault_class("gold"))
    assert isinstance(found, Storage)
    assert found.location == "s3://shared/all/shop/disks-01234567"
    assert found.secret_namespace == "blockvault-system"
    assert found.vault_class == vault_class("gold")
    bare = resolve(vault(className="gold"), vault_class("gold", prefix=None))
    assert isinstance(bare, Storage)
    assert bare.location == "s3://shared/shop/disks-01234567"


def test_storage_of_its_own_is_exactly_that_place_with_the_tenants_keys() -> None:
    found = resolve(vault(storage=own_storage()))
    assert isinstance(found, Storage)
    assert (found.location, found.secret_namespace, found.vault_class) == ("s3://mine/a/b", "shop", None)


@pytest.mark.parametrize(
    ("subject", "classes", "kind", "reason"),
    [
        (vault(className="gold"), [], Missing, "ClassNotFound"),
        (vault(), [vault_class("gold")], Missing, "NoDefaultClass"),
        (vault(), [vault_class("a", default=True), vault_class("b", default=True)], Refusal, "AmbiguousClass"),
        (vault(className="gold"), [vault_class("gold", storage=NAS)], Refusal, "NotServed"),
        (vault(type="Server"), [], Refusal, "NotServed"),
        (vault(storage=own_storage(), adopt="s3://mine/a/b/shop/disks-89abcdef"), [], Refusal, "AdoptionInvalid"),
        (vault(storage=own_storage(credentialsSecretRef=None)), [], Refusal, "NoCredentials"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_and_what_is_absent_waited_for(
    subject: Vault, classes: list[VaultClass], kind: type, reason: str
) -> None:
    found = resolve(subject, *classes)
    assert isinstance(found, kind)
    assert found.reason == reason  # type: ignore[union-attr]


def test_the_default_class_is_used_by_those_who_name_none() -> None:
    found = resolve(vault(), vault_class("other"), vault_class("std", prefix="std", default=True))
    assert isinstance(found, Storage)
    assert found.location.startswith("s3://shared/std/")


@pytest.mark.parametrize(
    "host",
    ["localhost", "a.localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]",
     "169.254.169.254", "[fe80::1]", "0.0.0.0"],
)  # fmt: skip
def test_tenants_do_not_reach_loopback_or_metadata_services(host: str) -> None:
    subject = vault(storage=own_storage(f"http://{host}:8000"))
    found = resolve(subject)
    assert isinstance(found, Refusal)
    assert found.reason == "EndpointForbidden"
    assert host in found.message
    assert isinstance(resolve(subject, rules=Rules(local_endpoints=True)), Storage)


@pytest.mark.parametrize("host", ["s3.example.com", "10.88.0.1", "[2001:db8::1]", "s3"])
def test_other_endpoints_are_theirs_to_use(host: str) -> None:
    assert isinstance(resolve(vault(storage=own_storage(f"http://{host}:8000"))), Storage)


def test_storage_of_its_own_can_be_forbidden() -> None:
    found = resolve(vault(storage=own_storage()), rules=Rules(tenant_storage=False))
    assert isinstance(found, Refusal)
    assert found.reason == "TenantStorageForbidden"


def secret(**data: str) -> world.Object:
    return {"data": {key: b64encode(value.encode()).decode() for key, value in data.items()}}


def storage(**s3: Any) -> Storage:
    found = resolve(vault(storage=own_storage(**s3)))
    assert isinstance(found, Storage)
    return found


def test_credentials() -> None:
    full = secret(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="key\n", AWS_SESSION_TOKEN="t")
    assert read_credentials(storage(), full, None) == Secrets("id", "key", "t")
    absent = read_credentials(storage(), None, None)
    assert isinstance(absent, Missing)
    assert "Secret shop/keys" in absent.message
    partial = read_credentials(storage(), secret(AWS_ACCESS_KEY_ID="id"), None)
    assert isinstance(partial, Refusal)
    assert "AWS_SECRET_ACCESS_KEY" in partial.message
    assert "id" not in repr(
        read_credentials(storage(), secret(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="id"), None)
    )


def test_the_ca_bundle_is_kept_also_without_keys() -> None:
    """A class may rely on the operator's identity and yet have a private CA."""
    place = resolve(vault(className="gold"), vault_class("gold"))
    assert isinstance(place, Storage)
    s3 = place.s3.model_copy(update={"credentials_secret_ref": None})
    ref = storage(caBundleSecretRef={"name": "ca"}).s3.ca_bundle_secret_ref
    private = Storage(s3.model_copy(update={"ca_bundle_secret_ref": ref}), "p", "blockvault-system")
    assert read_credentials(private, None, secret(**{"ca.crt": "PEM"})) == Secrets(ca_bundle="PEM")
    assert isinstance(read_credentials(private, None, None), Missing)
    assert isinstance(read_credentials(private, None, secret(other="x")), Refusal)


def checked(used: int = 0, backups: int = 0, **rest: Any) -> StoreStatus:
    return StoreStatus("id", used, backups, **rest)


def test_f18_what_is_deleted_stays_a_week_or_as_the_class_says() -> None:
    assert storage().trash_days == 7
    for days, expected in ((None, 7), (0, 0), (30, 30)):
        place = resolve(vault(className="gold"), vault_class("gold", trashDays=days))
        assert isinstance(place, Storage)
        assert place.trash_days == expected


FORMER = "s3://shared/all/shop/disks-89abcdef"


def adopted(place: str, adoption: str) -> Storage | Refusal | Missing:
    return resolve(vault(className="gold", adopt=place), vault_class("gold", adoption=adoption))


@pytest.mark.parametrize(
    ("place", "adoption", "result"),
    [
        (FORMER, "SameNamespace", FORMER),
        (FORMER + "/", "Any", FORMER),
        ("s3://shared/all/other/disks-89abcdef", "Any", "s3://shared/all/other/disks-89abcdef"),
        (FORMER, "Never", "AdoptionForbidden"),
        ("s3://shared/all/other/disks-89abcdef", "SameNamespace", "AdoptionForbidden"),
        # Not below the class's own place, or not a vault's place there.
        ("s3://other/all/shop/disks-89abcdef", "Any", "AdoptionInvalid"),
        ("s3://shared/allshop/disks-89abcdef", "Any", "AdoptionInvalid"),
        ("s3://shared/all", "Any", "AdoptionInvalid"),
        ("s3://shared/all/shop", "Any", "AdoptionInvalid"),
        ("s3://shared/all/shop/disks-89abcdef/lineages", "Any", "AdoptionInvalid"),
        ("s3://shared/all/shop/../other/disks-89abcdef", "Any", "AdoptionInvalid"),
        ("s3://shared/all/../shop/disks-89abcdef", "SameNamespace", "AdoptionInvalid"),
        ("s3://shared/all//shop/disks-89abcdef", "Any", "AdoptionInvalid"),
        ("", "Any", "AdoptionInvalid"),
    ],
)
def test_f18_a_former_place_is_taken_over_where_the_class_allows_it(
    place: str, adoption: str, result: str
) -> None:
    found = adopted(place, adoption)
    assert (found.location if isinstance(found, Storage) else found.reason) == result


def at(
    uid: str,
    age: int,
    *,
    proven: bool = True,
    of_class: bool = False,
    endpoint: str = "https://s3.example.com",
) -> tuple[Vault, Storage]:
    """A Vault of so many days, and its place; all have the same bucket and prefix."""
    created = (NOW - timedelta(days=age)).isoformat()
    meta = {"name": uid, "namespace": "other", "uid": uid, "creationTimestamp": created}
    spec = {"capacity": "100Gi", "storage": own_storage(endpoint)}
    body = {"metadata": meta, "spec": spec, "status": {"storeId": "s"} if proven else {}}
    found = Vault.model_validate(body)
    place = resolve(found)
    assert isinstance(place, Storage)
    return found, replace(place, vault_class=vault_class("gold") if of_class else None)


@pytest.mark.parametrize(
    ("mine", "other", "refused"),
    [
        # Who is proven has it, whatever their ages: nobody takes it away later.
        (at("me", 9, proven=False), at("you", 1), True),
        (at("me", 1), at("you", 9, proven=False), False),
        # Two that were as quick: the older one has it.
        (at("me", 1), at("you", 9), True),
        (at("me", 9), at("you", 1), False),
        # Storage of its own takes no place of a class; another store is another place.
        (at("me", 1, of_class=True), at("you", 9), False),
        (at("me", 1), at("you", 9, endpoint="https://elsewhere.example.com"), False),
        (at("me", 1), at("me", 1), False),
    ],
)
def test_f5_two_vaults_of_a_cluster_never_share_a_place(
    mine: tuple[Vault, Storage], other: tuple[Vault, Storage], refused: bool
) -> None:
    """Each would run its rules over the backups of the other."""
    found = refuse_shared(*mine, [mine, other])
    assert (found is not None) == refused
    if found is not None:
        assert (found.reason, "other/you" in found.message) == ("LocationInUse", True)


def test_f10_no_tenant_lifts_what_the_class_limits() -> None:
    of_class = Limits(concurrent_backups=2, resources=20, bandwidth="1Gi")
    assert narrower(Limits(concurrent_backups=256, resources=5, bandwidth="200Mi"), of_class) == Limits(
        concurrent_backups=2, resources=5, bandwidth="200Mi"
    )
    assert narrower(Limits(), of_class) == of_class
    assert narrower(Limits(resources=7), Limits()) == Limits(resources=7)


KEY = {"keySecretRef": {"name": "vault-key"}}


def test_f7_a_vault_s_own_key_counts_before_that_of_its_class() -> None:
    def key_of(subject: Vault, *classes: VaultClass) -> Any:
        place = resolve(subject, *classes)
        assert isinstance(place, Storage)
        return place.key_ref and (place.key_ref[0].name, place.key_ref[1])

    locked = vault_class("gold", encryption={"keySecretRef": {"name": "class-key"}})
    assert key_of(vault(className="gold"), vault_class("gold")) is None
    assert key_of(vault(className="gold"), locked) == ("class-key", "blockvault-system")
    assert key_of(vault(className="gold", encryption=KEY), locked) == ("vault-key", "shop")
    assert key_of(vault(storage=own_storage(), encryption=KEY)) == ("vault-key", "shop")
    forbidden = resolve(vault(className="gold", encryption=KEY), locked, rules=Rules(tenant_storage=False))
    assert isinstance(forbidden, Refusal)
    assert forbidden.reason == "TenantKeysForbidden"


def test_f7_keys_are_read_as_they_are_and_never_left_out_in_silence() -> None:
    place = resolve(vault(storage=own_storage(), encryption=KEY))
    assert isinstance(place, Storage)
    raw = {"key": bytes(range(32)), "previousKey": b"former"}
    found = read_keys(
        place, {"data": {k: b64encode(v).decode() for k, v in raw.items()}}, Secrets("id", "secret")
    )
    assert found == Secrets("id", "secret", key=raw["key"], previous_key=raw["previousKey"])
    assert "former" not in repr(found)
    assert isinstance(read_keys(place, None, Secrets()), Missing)
    for empty in ({}, {"data": {"other": "eA=="}}, {"data": {"key": ""}}, {"data": {"key": "%"}}):
        refused = read_keys(place, empty, Secrets())
        assert isinstance(refused, Refusal)
        assert "Secret shop/vault-key has no key" in refused.message


def test_statuses() -> None:
    subject = vault(storage=own_storage())
    pending = waiting_status(subject, Missing("BucketNotFound", "Bucket mine does not exist."), NOW)
    assert (pending["phase"], pending["reason"]) == ("Pending", "BucketNotFound")
    assert find_condition(pending["conditions"], "Reconciling") is not None
    wrong = waiting_status(subject, Refusal("InvalidCredentials", "no"), NOW)
    assert wrong["phase"] == "Error"
    assert find_condition(wrong["conditions"], "Stalled") is not None
    good = available_status(subject, storage(), checked(25 * 2**30, 3), NOW)
    assert (good["phase"], good["utilization"], good["backups"]) == ("Available", "25.0", 3)


def test_conditions_of_a_version_that_did_less_go() -> None:
    old = {
        "type": "AssociationServed",
        "status": "False",
        "reason": "NotServed",
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    }
    subject = vault(storage=own_storage()).model_dump(by_alias=True, mode="json") | {
        "status": {"conditions": [old]}
    }
    status = available_status(Vault.model_validate(subject), storage(), checked(), NOW)
    assert find_condition(status["conditions"], "AssociationServed") is None


def test_a_damaged_volume_is_named_and_the_vault_goes_on() -> None:
    subject = vault(storage=own_storage())
    lost = [
        (f"shop/db-{n}", f"lineages/{n}/commits/: no commit is there", "Bring them back.") for n in range(5)
    ]
    status = available_status(subject, storage(), checked(25 * 2**30, 3, unreadable=lost), NOW)
    assert (status["phase"], status["backups"]) == ("Available", 3)
    condition = find_condition(status["conditions"], "VolumesReadable")
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", "VolumesDamaged")
    for words in ("shop/db-0, shop/db-1, shop/db-2 and 2 more", "no commit is there", "Bring them back."):
        assert words in condition["message"]
        assert words in status["message"]
    ready = find_condition(status["conditions"], "Ready")
    assert ready is not None
    assert ready["status"] == "True"
    mended = Vault.model_validate({**subject.model_dump(by_alias=True, mode="json"), "status": status})
    status = available_status(mended, storage(), checked(25 * 2**30, 4), NOW)
    assert find_condition(status["conditions"], "VolumesReadable") is None


def test_a_class_says_what_is_not_served() -> None:
    assert class_status(vault_class("gold"), NOW)["phase"] == "Ready"
    refused = class_status(vault_class("gold", storage=NAS), NOW)
    assert refused["phase"] == "Error"
    assert "spec.storage.persistentVolumeClaim" in refused["message"]


LOCK = ObjectLock(mode="Compliance", days=30)


@pytest.mark.parametrize(
    ("wanted", "there", "flag", "reason", "words"),
    [
        (None, None, None, None, ""),
        (LOCK, LOCK, "True", "BackupsLocked", "within 30 days (Compliance)"),
        (None, LOCK, "True", "BackupsLocked", "within 30 days (Compliance)"),
        (LOCK, None, "False", "LockDiffers", "made without one"),
        (LOCK, ObjectLock(mode="Governance", days=30), "False", "LockDiffers", "one of 30 days (Governance)"),
        (LOCK, ObjectLock(mode="Compliance", days=7), "False", "LockDiffers", "one of 7 days (Compliance)"),
    ],
)
def test_f8_a_vault_says_whether_its_backups_are_locked_as_its_class_asks(
    wanted: ObjectLock | None, there: ObjectLock | None, flag: str | None, reason: str | None, words: str
) -> None:
    """A store's lock does not change, so a class that asks for another one must not be believed to have it."""
    asks = {"objectLock": wanted.model_dump()} if wanted else {}
    place = resolve(vault(className="gold"), vault_class("gold", **asks))
    assert isinstance(place, Storage)
    status = available_status(vault(className="gold"), place, checked(lock=there), NOW)
    found = find_condition(status["conditions"], "Immutable") or {}
    assert (found.get("status"), found.get("reason")) == (flag, reason)
    assert words in found.get("message", "")
    assert status["objectLock"] == (there.model_dump() if there else None)
    assert status["phase"] == "Available", "backups go on"
