"""Claims that name where their data comes from are filled, or stay Pending (D3, F19)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.scenario import manifests
from tests.scenario.environment import Object, Write, gone, phase_is
from tests.scenario.incremental import MIB

from . import conftest
from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment

SIZE = 16 * MIB


@pytest.fixture(scope="module")
def env(running: EmbeddedCluster) -> EmbeddedEnvironment:
    """And a claim with two backups."""
    environment = EmbeddedEnvironment(running)
    environment.make_claim("data", SIZE)
    for number in (1, 2):
        environment.write("data", [Write(number * MIB, MIB, seed=number)])
        environment.apply(manifests.backup(f"b{number}", "v", "data"))
        environment.wait_for("backup", f"b{number}", phase_is("Available"), timeout=60)
    return environment


def claim(name: str, kind: str, origin: str, storage_class: str = "bv-immediate") -> Object:
    """A claim that says where its data comes from."""
    ref = {"apiGroup": "blockvault.dev", "kind": kind, "name": origin}
    return conftest.claim(name, str(SIZE), storage_class, dataSourceRef=ref)


def source(name: str, resource: str, vault: str = "v", **spec: Any) -> Object:
    """A Restore that says what claims that name it are to get."""
    latest = {"vaultRef": {"name": vault}, "resource": {"kind": "PersistentVolumeClaim", "name": resource}}
    body = {"latestOf": latest | spec.pop("latestOf", {}), "target": {"populate": {}}, **spec}
    return {"apiVersion": manifests.API, "kind": "Restore", "metadata": {"name": name}, "spec": body}


def restore_of(env: EmbeddedEnvironment, name: str) -> Object:
    """The Restore that fills a claim."""
    uid = (env.get("pvc", name) or {})["metadata"]["uid"]
    return env.wait_for("restore", f"populate-{uid}", bool, timeout=20)


def reason_is(wanted: str) -> Callable[[Object | None], bool]:
    """A test: why the object is in its phase."""
    return lambda obj: bool(((obj or {}).get("status") or {}).get("reason") == wanted)


def test_d3_by_a_backup(env: EmbeddedEnvironment) -> None:
    """Bound when its data is there; what was made for it goes."""
    env.apply(claim("copy", "Backup", "b2"))
    env.wait_for("pvc", "copy", phase_is("Bound"), timeout=60)
    assert env.digest("copy", SIZE) == env.digest("data", SIZE)
    restore = restore_of(env, "copy")
    env.wait_for("restore", restore["metadata"]["name"], phase_is("Completed"), timeout=20)
    env.delete("pvc", "copy")
    env.wait_for("restore", restore["metadata"]["name"], gone, timeout=20)
    env.cluster.until(lambda: len(env.cluster.files.handles("volumes")) == 1, "its volume is gone", 20)


def test_f19_the_latest_and_as_of_a_time(env: EmbeddedEnvironment) -> None:
    """By a Restore that several claims can name; the claims may come before it."""
    env.apply(claim("early", "Restore", "latest"))
    env.apply(source("latest", "data"))
    env.wait_for("pvc", "early", phase_is("Bound"), timeout=60)
    assert env.digest("early", SIZE) == env.digest("data", SIZE)
    assert (env.get("restore", "latest") or {})["status"]["phase"] == "Available"
    second = (env.get("backup", "b2") or {})["status"]["startedAt"]
    env.apply(source("former", "data", latestOf={"before": second}), claim("old", "Restore", "former"))
    env.wait_for("pvc", "old", phase_is("Bound"), timeout=60)
    name = restore_of(env, "old")["metadata"]["name"]
    status = env.wait_for("restore", name, phase_is("Completed"), timeout=20)["status"]
    assert status["backup"] == "b1"
    assert env.digest("old", SIZE) != env.digest("data", SIZE)


def test_d3_a_class_that_waits_for_a_consumer(env: EmbeddedEnvironment) -> None:
    """Nothing is made before a pod uses the claim."""
    env.apply(claim("lazy", "Backup", "b2", "bv-wait"))
    name = restore_of(env, "lazy")["metadata"]["name"]
    env.wait_for("restore", name, reason_is("WaitForFirstConsumer"), timeout=20)
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "lazy"}}]
    env.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "user"},
            "spec": {"containers": [], "volumes": volumes},
        }
    )
    env.wait_for("pvc", "lazy", phase_is("Bound"), timeout=60)
    assert env.digest("lazy", SIZE) == env.digest("data", SIZE)


def test_f19_empty_only_where_there_never_was_a_backup(env: EmbeddedEnvironment) -> None:
    """The same manifests serve the first deployment and the disaster; every doubt keeps the claim Pending."""
    env.apply(source("first", "fresh", ifNone="Empty"), claim("fresh", "Restore", "first"))
    env.wait_for("pvc", "fresh", phase_is("Bound"), timeout=60)
    assert not any(env.cluster.volume_path("shop", "fresh").read_bytes())

    env.apply(source("must", "another"), claim("another", "Restore", "must"))
    name = restore_of(env, "another")["metadata"]["name"]
    assert env.wait_for("restore", name, phase_is("Error"), timeout=20)["status"]["reason"] == "NoBackup"
    assert (env.get("pvc", "another") or {})["status"]["phase"] == "Pending"

    # All its backups are in the trash: there was one.
    env.make_claim("thrown", SIZE)
    env.apply(manifests.backup("thrown-1", "v", "thrown"))
    env.wait_for("backup", "thrown-1", phase_is("Available"), timeout=60)
    env.delete("backup", "thrown-1")
    env.wait_for("backup", "thrown-1", gone, timeout=30)
    env.apply(source("again", "thrown", ifNone="Empty"), claim("thrown-2", "Restore", "again"))
    name = restore_of(env, "thrown-2")["metadata"]["name"]
    env.wait_for("restore", name, reason_is("NoBackupLeft"), timeout=20)
    assert (env.get("pvc", "thrown-2") or {})["status"]["phase"] == "Pending"


def test_f19_a_former_place_of_the_vault_is_a_doubt(env: EmbeddedEnvironment) -> None:
    """In a rebuilt cluster the Vault has another uid, and so another place, which is empty: that proves nothing."""
    former = (env.get("vault", "v") or {})["status"]["location"]
    env.delete("vault", "v")
    env.wait_for("vault", "v", gone, timeout=30)
    for backup in env.list("backup"):
        env.delete("backup", backup["metadata"]["name"])
        env.wait_for("backup", backup["metadata"]["name"], gone, timeout=30)
    env.apply(manifests.vault("v", "v"), source("dr", "data", ifNone="Empty"), claim("dr", "Restore", "dr"))
    name = restore_of(env, "dr")["metadata"]["name"]
    waiting = env.wait_for("restore", name, reason_is("FormerPlace"), timeout=40)
    assert former in waiting["status"]["message"]
    assert (env.get("pvc", "dr") or {})["status"]["phase"] == "Pending"
