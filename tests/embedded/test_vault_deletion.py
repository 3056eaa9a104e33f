"""A Vault is deleted: its data stays, or goes with it where that is asked for, and never by accident (A6, F11, F18)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from blockvault.engine import Access
from tests.scenario import manifests
from tests.scenario.environment import OPERATOR_NAMESPACE, Write, gone, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment
from .kinds import CUSTOM_RESOURCES, NAMESPACES
from .test_crashes import Executioner

SIZE = 4 * MIB


@pytest.fixture
def env() -> Iterator[EmbeddedEnvironment]:
    """A claim; the operator is not running."""
    with EmbeddedCluster(namespace="shop") as cluster:
        environment = EmbeddedEnvironment(cluster)
        environment.make_claim("db", SIZE)
        environment.write("db", [Write(0, MIB, seed=7)])
        yield environment


def vault(name: str = "v", **spec: Any) -> dict[str, Any]:
    body = manifests.vault(name, "v")
    body["spec"] |= {"deletionPolicy": "Delete"} | spec
    return body


def make(env: EmbeddedEnvironment, *names: str, **spec: Any) -> str:
    """A Vault with these Backups; its location."""
    env.apply(*manifests.vault_class("v", env.storage, "v"), vault(**spec))
    env.wait_for("vault", "v", phase_is("Available"), timeout=30)
    for number, name in enumerate(names):
        env.write("db", [Write(number * 65536, 65536, seed=number)])
        env.apply(manifests.backup(name, "v", "db"))
        env.wait_for("backup", name, phase_is("Available"), timeout=60)
    return str(status(env)["location"])


def status(env: EmbeddedEnvironment, name: str = "v") -> dict[str, Any]:
    return (env.get("vault", name) or {}).get("status") or {}


def data(env: EmbeddedEnvironment, location: str) -> list[str]:
    """What holds data or opens it."""
    prefix = location.removeprefix(f"s3://{env.storage.bucket}/")
    keys = env.cluster.s3.objects(f"{prefix}/lineages/")
    return [key for key in keys if "/commits/" not in key]


def stored(env: EmbeddedEnvironment, location: str) -> int:
    rows = Access(env.storage.at(location)).open().list("shop/db")
    return sum("trash" not in row["labels"] for row in rows)


def leftovers(env: EmbeddedEnvironment) -> list[str]:
    """What was made in the cluster and is there still."""
    made = [
        f"{kind} {o['metadata']['name']}"
        for kind in ("vs", "vsc", "secrets", "pvc")
        for o in env.list(kind)
        if o["metadata"]["name"].startswith("bv-") and kind != "vsc"
    ]
    return made + [f"snapshot {handle}" for handle in env.cluster.files.handles("snapshots")]


def held(env: EmbeddedEnvironment) -> str:
    env.cluster.until(lambda: status(env).get("reason") == "DeletionHeld", "it is held", 60)
    return str(status(env)["deletionHold"]["token"])


def say(env: EmbeddedEnvironment, word: str) -> None:
    body = vault()
    body["metadata"]["annotations"] = {"blockvault.dev/allow-deletion": word}
    env.apply(body)


def test_a6_a_vault_takes_its_backups_with_it_and_shows_how_far_it_is(env: EmbeddedEnvironment) -> None:
    """Also what is in the trash, and a Backup at work; a Restore at work is waited for."""
    cluster = env.cluster
    cluster.start_operator()
    location = make(env, "b1", "b2", "b3")
    digest = env.digest("db", SIZE)
    env.delete("backup", "b1")
    env.wait_for("backup", "b1", gone, timeout=30)
    assert data(env, location)
    cluster.faults.hold_movers = True
    env.apply(manifests.restore("r", "b3", "copy", env.storage_class, "4Mi"))
    env.wait_for("restore", "r", phase_is("Restoring"), timeout=30)
    env.make_claim("web", SIZE)
    env.apply(manifests.backup("running", "v", "web"))
    env.wait_for("backup", "running", phase_is("Creating"), timeout=30)
    env.delete("vault", "v")
    env.wait_for("backup", "running", gone, timeout=60)
    cluster.until(lambda: "restored from them: r" in status(env).get("message", ""), "it waits", 30)
    assert status(env)["deletion"]["total"] == 3
    assert data(env, location), "nothing goes from under a Restore"
    cluster.faults.hold_movers = False
    env.wait_for("restore", "r", phase_is("Completed"), timeout=60)
    assert env.digest("copy", SIZE) == digest
    env.wait_for("vault", "v", gone, timeout=60)
    assert data(env, location) == []
    assert env.list("backup") == []
    assert leftovers(env) == []
    seen = [(version or {}).get("status") or {} for version in cluster.history("vault", "v")]
    left = [each["deletion"]["left"] for each in seen if each.get("deletion")]
    assert left[0] == 3
    assert left[-1] == 0
    assert {each["phase"] for each in seen if each.get("deletion")} == {"Deleting"}
    assert any(each.get("deletion", {}).get("reason") == "Erased" for each in seen)


def test_f18_without_delete_the_data_stays_and_is_adopted(env: EmbeddedEnvironment) -> None:
    cluster = env.cluster
    cluster.start_operator()
    *secrets, vault_class = manifests.vault_class("v", env.storage, "v")
    vault_class["spec"]["adoption"] = "SameNamespace"
    env.apply(*secrets, vault_class)
    location = make(env, "b1", "b2", deletionPolicy="Retain")
    env.delete("vault", "v")
    env.wait_for("vault", "v", gone, timeout=30)
    # Its Backups are there still, and say where their data is; deleting one takes the object only.
    assert len(env.list("backup")) == 2
    env.delete("backup", "b1")
    env.wait_for("backup", "b1", gone, timeout=30)
    # So does deleting one when another Vault has the name.
    env.apply(vault())
    env.wait_for("vault", "v", phase_is("Available"), timeout=30)
    assert status(env)["location"] != location
    env.delete("backup", "b2")
    env.wait_for("backup", "b2", gone, timeout=30)
    assert stored(env, location) == 2
    env.delete("vault", "v")
    env.wait_for("vault", "v", gone, timeout=60)
    env.apply(vault(adopt=location))
    for name in ("b1", "b2"):
        env.wait_for("backup", name, phase_is("Available"), timeout=60)


def test_f18_retain_keeps_the_data_of_backups_that_are_going_already(env: EmbeddedEnvironment) -> None:
    """Their Vault is not gone yet, and no hold counts so few."""
    cluster = env.cluster
    cluster.start_operator()
    body = vault()
    body["metadata"]["finalizers"] = ["test/held"]
    env.apply(body)
    location = make(env, "b1", "b2", "b3")
    cluster.faults.hold_movers = True
    env.apply(manifests.restore("r", "b3", "copy", env.storage_class, "4Mi"))
    env.wait_for("restore", "r", phase_is("Restoring"), timeout=30)
    env.delete("vault", "v")
    env.wait_for("backup", "b1", gone, timeout=60)
    env.wait_for("backup", "b3", lambda b: (b or {})["status"].get("reason") == "InUse", timeout=30)
    env.apply(vault(deletionPolicy="Retain"))
    cluster.until(lambda: status(env).get("reason") == "DataKept", "it lets go", 30)
    cluster.faults.hold_movers = False
    env.wait_for("backup", "b3", gone, timeout=60)
    assert env.get("vault", "v"), "it is there still"
    assert stored(env, location) == 3


def test_f11_a_vault_with_many_backups_waits_for_a_word(env: EmbeddedEnvironment) -> None:
    cluster = env.cluster
    cluster.start_operator()
    names = [f"b{number}" for number in range(5)]
    location = make(env, *names)
    env.delete("vault", "v")
    token = held(env)
    assert "all of its 5 backups" in status(env)["message"]
    assert "deletion" not in status(env)
    # A single one cannot be deleted meanwhile, and an operator that dies knows the same token.
    env.delete("backup", "b0")
    env.wait_for("backup", "b0", lambda b: (b or {})["status"].get("reason") == "VaultDeleting", timeout=30)
    cluster.kill_operator()
    cluster.start_operator()
    say(env, "another")
    cluster.until(lambda: status(env).get("reason") == "DeletionHeld", "it waits still", 30)
    assert held(env) == token
    assert stored(env, location) == 5
    say(env, token)
    env.wait_for("vault", "v", gone, timeout=90)
    assert data(env, location) == []
    assert env.list("backup") == []


def test_f11_what_was_a_mistake_keeps_all_data(env: EmbeddedEnvironment) -> None:
    cluster = env.cluster
    cluster.start_operator()
    location = make(env, *[f"b{number}" for number in range(5)])
    env.delete("vault", "v")
    say(env, f"keep-{held(env)}")
    env.wait_for("vault", "v", gone, timeout=60)
    assert stored(env, location) == 5
    assert {b["status"]["phase"] for b in env.list("backup")} == {"Available"}


def test_f11_what_is_many_is_held_also_where_the_store_cannot_be_opened(env: EmbeddedEnvironment) -> None:
    """Deleted while the operator is away, and the credentials with it: the word that keeps the data needs none."""
    cluster = env.cluster
    cluster.start_operator()
    location = make(env, *[f"b{number}" for number in range(5)])
    cluster.until(lambda: status(env).get("backups") == 5, "they are counted", 90)
    cluster.kill_operator()
    env.delete("secret", "v-s3", OPERATOR_NAMESPACE)
    env.delete("vault", "v")
    cluster.start_operator()
    say(env, f"keep-{held(env)}")
    env.wait_for("vault", "v", gone, timeout=30)  # the word is seen soon
    assert stored(env, location) == 5
    assert {b["status"]["phase"] for b in env.list("backup")} == {"Available"}


def test_f11_several_vaults_at_once_wait_though_each_is_small(env: EmbeddedEnvironment) -> None:
    cluster = env.cluster
    cluster.start_operator()
    make(env, "b1")
    env.apply(vault("w"))
    env.wait_for("vault", "w", phase_is("Available"), timeout=30)
    env.apply(manifests.backup("c1", "w", "db"))
    env.wait_for("backup", "c1", phase_is("Available"), timeout=60)
    for name in ("v", "w"):
        cluster.until(lambda name=name: status(env, name).get("backups") == 1, "it is counted", 90)  # type: ignore[misc]
        env.delete("vault", name)
    for name in ("v", "w"):
        cluster.until(lambda name=name: status(env, name).get("reason") == "DeletionHeld", name, 60)  # type: ignore[misc]
        assert "2 Vaults of this namespace" in status(env, name)["message"]


@pytest.mark.parametrize("what", ["namespace", "definition"])
def test_f18_what_goes_with_its_namespace_or_definition_keeps_its_data(
    env: EmbeddedEnvironment, what: str
) -> None:
    cluster = env.cluster
    cluster.start_operator()
    location = make(env, "b1", "b2")
    if what == "namespace":
        cluster.within(lambda s: s.update(NAMESPACES, None, "shop", _keep))
        cluster.within(lambda s: s.delete(NAMESPACES, None, "shop"))
    else:
        for plural in ("vaults", "backups"):
            name = f"{plural}.blockvault.dev"
            cluster.within(lambda s, n=name: s.update(CUSTOM_RESOURCES, None, n, _keep))  # type: ignore[misc]
            cluster.within(lambda s, n=name: s.delete(CUSTOM_RESOURCES, None, n))  # type: ignore[misc]
    env.delete("vault", "v")
    for name in ("b1", "b2"):
        env.delete("backup", name)
    env.wait_for("vault", "v", gone, timeout=30)
    for name in ("b1", "b2"):
        env.wait_for("backup", name, gone, timeout=30)
    assert stored(env, location) == 2


def _keep(obj: dict[str, Any]) -> None:
    """As a controller holds what it is still emptying."""
    obj["metadata"]["finalizers"] = ["test/held"]


def test_f18_a_store_that_never_answers_again_is_left_by_a_word(env: EmbeddedEnvironment) -> None:
    cluster = env.cluster
    cluster.start_operator()
    location = make(env, "b1", "b2")
    *secrets, vault_class = manifests.vault_class("v", env.storage, "v")
    vault_class["spec"]["storage"]["s3"]["endpoint"] = "http://127.0.0.1:9"
    env.apply(*secrets, vault_class)
    env.delete("vault", "v")
    cluster.until(lambda: status(env).get("reason") == "StoreUnreachable", "it says so", 60)
    assert '"deletionPolicy":"Retain"' in status(env)["message"]
    assert {b["status"]["phase"] for b in env.list("backup")} == {"Available"}, "nothing has begun"
    env.apply(vault(deletionPolicy="Retain"))
    env.wait_for("vault", "v", gone, timeout=60)
    assert stored(env, location) == 2


def test_a6_killed_at_every_write_the_deletion_goes_on(env: EmbeddedEnvironment) -> None:
    cluster = env.cluster
    cluster.start_operator()
    location = make(env, "b1", "b2")
    cluster.kill_operator()
    env.delete("vault", "v")
    executioner = Executioner(cluster, times=2)
    executioner.run_until_gone("vault", "v")
    assert {
        ("patch", "vaults/status"),
        ("delete", "backups"),
        ("create", "jobs"),
        ("create", "secrets"),
    } <= set(executioner.struck)
    assert data(env, location) == []
    assert env.list("backup") == []
    assert leftovers(env) == []
    jobs = [
        j["metadata"]["name"] for j in env.list("jobs") if j["metadata"]["namespace"] == OPERATOR_NAMESPACE
    ]
    assert len(jobs) == len(set(jobs))


@pytest.mark.parametrize(
    ("status_code", "after_effect"), [pytest.param(500, False, marks=pytest.mark.soak), (0, True)]
)
def test_a6_every_write_of_a_deletion_fails_once(
    env: EmbeddedEnvironment, status_code: int, after_effect: bool
) -> None:
    cluster = env.cluster
    cluster.start_operator()
    location = make(env, "b1", "b2")
    writes = [
        ("patch", "vaults/status"), ("patch", "vaults"), ("delete", "backups"), ("patch", "backups"),
        ("create", "secrets"), ("create", "jobs"), ("delete", "pods"), ("delete", "secrets"),
    ]  # fmt: skip
    met = [cluster.faults.fail(*write, status=status_code, after_effect=after_effect) for write in writes]
    env.delete("vault", "v")
    env.wait_for("vault", "v", gone, timeout=120)
    assert [f"{fault.verb} {fault.resource}" for fault in met if fault.times] == []
    assert data(env, location) == []
    assert leftovers(env) == []
