"""F8: a class with object lock makes immutable backups, incremental ones too, and nothing pretends to be one."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from blockvault.core.conditions import find_condition
from tests.scenario import manifests
from tests.scenario.environment import Write, gone, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment

DAYS = 30


def status(env: EmbeddedEnvironment, kind: str, name: str) -> dict[str, Any]:
    return (env.get(kind, name) or {}).get("status") or {}


def immutable(env: EmbeddedEnvironment, name: str) -> tuple[str, str] | None:
    found = find_condition(status(env, "vault", name).get("conditions") or [], "Immutable")
    return (found["status"], found["reason"]) if found else None


def test_f8_backups_of_a_class_with_object_lock_outlive_whoever_deletes_them() -> None:
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        env.make_claim("db", 8 * MIB)
        env.write("db", [Write(0, 4 * MIB, seed=1)])
        bucket, s3 = f"locked-{secrets.token_hex(4)}", cluster.s3.client()
        s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        locked = replace(env.storage, bucket=bucket)
        cluster.start_operator()
        *keys, gold = manifests.vault_class("gold", locked, "v")
        gold["spec"] |= {"objectLock": {"mode": "Compliance", "days": DAYS}, "trashDays": 0}
        *more, plain = manifests.vault_class("plain", env.storage, "v")
        env.apply(*keys, gold, *more, plain, manifests.vault("v", "gold"), manifests.vault("old", "plain"))
        for name in ("v", "old"):
            env.wait_for("vault", name, phase_is("Available"), timeout=30)
        assert immutable(env, "v") == ("True", "BackupsLocked")
        assert status(env, "vault", "v")["objectLock"] == {"mode": "Compliance", "days": DAYS}
        assert immutable(env, "old") is None

        for number in (1, 2):
            env.apply(manifests.backup(f"b{number}", "v", "db"))
            env.wait_for("backup", f"b{number}", phase_is("Available"), timeout=60)
            env.write("db", [Write(5 * MIB, MIB, seed=2)])
        volume = status(env, "backup", "b2")["volumes"][0]
        assert status(env, "backup", "b2")["type"] == "Incremental"
        ends = datetime.fromisoformat(volume["lockedUntil"])
        assert ends > datetime.now(UTC) + timedelta(days=DAYS - 1)

        # Deleted for good, it leaves the catalogue, and all of it is still stored.
        def stored() -> set[str]:
            pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
            return {
                each["Key"]
                for page in pages
                for each in page.get("Versions", [])
                if "/segments/" in each["Key"]
            }

        before = stored()
        env.delete("backup", "b1")
        env.wait_for("backup", "b1", gone, timeout=30)
        cluster.until(lambda: status(env, "vault", "v").get("backups") == 1, "one is left", 90)
        assert before
        assert before <= stored()
        env.apply(manifests.restore("r", "b2", "copy", "bv-immediate", "8Mi"))
        env.wait_for("restore", "r", phase_is("Completed"), timeout=60)

        # A class that asks for a lock later locks nothing that is there, and nobody is told so.
        plain["spec"]["objectLock"] = {"mode": "Governance", "days": 5}
        env.apply(plain)
        cluster.until(lambda: immutable(env, "old") == ("False", "LockDiffers"), "it says so", 90)
        assert status(env, "vault", "old")["phase"] == "Available"
        # And in a bucket without locks no new Vault pretends.
        env.apply(manifests.vault("new", "plain"))
        found = env.wait_for("vault", "new", phase_is("Error"), timeout=30)
        assert "object lock" in found["status"]["message"]
