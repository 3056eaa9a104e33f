"""What is deleted is trash first, and goes for good only then; with the vault's key, nothing lies in the clear (F18, A12, F7)."""

from __future__ import annotations

import os
import random
import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from blockvault.core.conditions import find_condition
from blockvault.engine import Access, KeyRotated
from blockvault.stores import StoreLocation, open_store
from tests.scenario import manifests
from tests.scenario.environment import OPERATOR_NAMESPACE, Write, gone, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment

SIZE = 8 * MIB
# Nothing that could be compressed, so that a store without a key has it as it is.
MARK = random.Random(1).randbytes(MIB)


@pytest.fixture
def env() -> Iterator[EmbeddedEnvironment]:
    with EmbeddedCluster(namespace="shop") as cluster:
        environment = EmbeddedEnvironment(cluster)
        environment.make_claim("db", SIZE)
        yield environment


def vault_class(env: EmbeddedEnvironment, **spec: Any) -> list[dict[str, Any]]:
    *secrets, body = manifests.vault_class("v", env.storage, "v")
    body["spec"] |= spec
    return [*secrets, body]


def location(env: EmbeddedEnvironment) -> StoreLocation:
    return env.storage.at((env.get("vault", "v") or {})["status"]["location"])


def vault_status(env: EmbeddedEnvironment) -> dict[str, Any]:
    return (env.get("vault", "v") or {}).get("status") or {}


def back_up(env: EmbeddedEnvironment, name: str) -> dict[str, Any]:
    env.apply(manifests.backup(name, "v", "db"))
    return env.wait_for("backup", name, phase_is("Available"), timeout=60)


def test_f18_a_deleted_backup_is_trash_for_the_days_of_its_class(env: EmbeddedEnvironment) -> None:
    env.cluster.start_operator()
    env.apply(*vault_class(env, trashDays=3), manifests.vault("v", "v"))
    env.write("db", [Write(0, 2 * MIB, seed=1)])
    backup_id = back_up(env, "b")["status"]["volumes"][0]["backupId"]
    env.delete("backup", "b")
    env.wait_for("backup", "b", gone, timeout=30)
    env.cluster.until(lambda: vault_status(env).get("inTrash") == 1, "the vault tells of its trash", 90)
    status = vault_status(env)
    assert status["backups"] == 0
    assert status["trashBytes"] == status["usedBytes"] > MIB
    (entry,) = Access(location(env)).open().list("shop/db")
    assert entry["backupId"] == backup_id
    days = (parse(entry["labels"]["trash"]["until"]) - parse(entry["labels"]["trash"]["since"])) / 86400
    assert days == pytest.approx(3, abs=0.01)
    # Its id stands in the Vault, and one annotation brings it back, as an object too.
    env.cluster.until(lambda: vault_status(env).get("trash"), "the trash is named", 30)
    assert [row["backupId"] for row in vault_status(env)["trash"]] == [backup_id]
    vault = manifests.vault("v", "v")
    vault["metadata"]["annotations"] = {"blockvault.dev/undelete": backup_id}
    env.apply(vault)
    back = env.wait_for("backup", "b", phase_is("Available"), timeout=30)
    assert back["status"]["volumes"][0]["backupId"] == backup_id
    env.cluster.until(lambda: not vault_status(env).get("trash"), "the trash is empty", 30)
    env.apply(manifests.restore("r", "b", "copy", env.storage_class, "8Mi"))
    env.wait_for("restore", "r", phase_is("Completed"), timeout=60)
    assert env.digest("copy", SIZE) == env.digest("db", SIZE)


def test_a12_what_is_deleted_at_once_is_removed_from_the_store_by_a_run_of_upkeep(
    env: EmbeddedEnvironment,
) -> None:
    ahead = env.cluster.directory / "ahead"
    ahead.write_text("0")
    env.cluster.start_operator(BLOCKVAULT_TESTING_CLOCK=str(ahead))
    env.apply(*vault_class(env, trashDays=0), manifests.vault("v", "v"))
    env.write("db", [Write(0, 2 * MIB, seed=1)])
    back_up(env, "b1")
    env.write("db", [Write(0, 2 * MIB, seed=2)])
    back_up(env, "b2")
    before = stored_bytes(env)
    env.delete("backup", "b1")
    env.wait_for("backup", "b1", gone, timeout=30)
    assert "wanted" in vault_status(env)["upkeep"]
    new = ahead.with_suffix(".new")
    new.write_text("7200")
    new.replace(ahead)
    env.cluster.until(lambda: vault_status(env)["upkeep"].get("endedAt"), "upkeep runs", 60)
    run = vault_status(env)["upkeep"]
    assert (run["run"], run["reason"]) == (1, "Completed"), run
    assert run["deletedBytes"] > MIB
    assert before - stored_bytes(env) > 0.9 * MIB
    # Nothing of the run is left but its Job, for an hour; and the other backup is whole.
    env.cluster.until(lambda: not mover_secrets(env), "its Secret goes", 30)
    env.apply(manifests.restore("r", "b2", "copy", env.storage_class, "8Mi"))
    env.wait_for("restore", "r", phase_is("Completed"), timeout=60)
    assert env.digest("copy", SIZE) == env.digest("db", SIZE)


@pytest.mark.parametrize("of_class", [True, False])
def test_f7_with_a_key_nothing_lies_in_the_clear_and_it_comes_back(
    env: EmbeddedEnvironment, of_class: bool
) -> None:
    key = os.urandom(32)
    secret = manifests.secret("vault-key", OPERATOR_NAMESPACE if of_class else "shop", {})
    secret["data"] = {"key": b64encode(key).decode()}
    encryption = {"encryption": {"keySecretRef": {"name": "vault-key"}}}
    vault = manifests.vault("v", "v")
    vault["spec"] |= {} if of_class else encryption
    env.cluster.start_operator()
    env.apply(*vault_class(env, **(encryption if of_class else {})), vault)
    waiting = env.wait_for("vault", "v", phase_is("Pending"), timeout=30)
    assert waiting["status"]["reason"] == "KeyNotFound"
    env.apply(secret)
    found = env.wait_for("vault", "v", phase_is("Available"), timeout=30)
    assert found["status"]["encrypted"] is True
    with env.cluster.volume_path("shop", "db").open("r+b") as file:
        file.write(MARK)
    back_up(env, "b")
    store = open_store(location(env))
    for info in store.list("lineages/"):
        assert MARK[4096:4128] not in store.get(info.key), info.key
    env.apply(manifests.restore("r", "b", "copy", env.storage_class, "8Mi"))
    env.wait_for("restore", "r", phase_is("Completed"), timeout=60)
    assert env.digest("copy", SIZE) == env.digest("db", SIZE)
    # Another key takes its place, and no data is written again.
    objects = {info.key for info in store.list("") if "/segments/" in info.key}
    new = os.urandom(32)
    secret["data"] = {"key": b64encode(new).decode(), "previousKey": b64encode(key).decode()}
    vault["spec"]["tags"] = {"looked": "at"}  # or within a minute
    env.apply(secret, vault)
    env.cluster.until(lambda: rotated(env) == ("True", "OldKeyRemoved"), "the key is rotated", 120)
    secret["data"] = {"key": b64encode(new).decode(), "previousKey": None}
    env.apply(secret)
    back_up(env, "b2")
    assert {info.key for info in store.list("") if "/segments/" in info.key} >= objects
    actor = kube_system(env)
    with pytest.raises(KeyRotated):
        Access(location(env), key, actor=actor).open().list("shop/db")
    assert len(Access(location(env), new, actor=actor).open().list("shop/db")) == 2
    # The keys stand nowhere but in their own Secret and, while a mover runs, in that of the mover.
    assert not re.search(rb"vault\.key", env.cluster.operator_log.read_bytes())
    assert key.hex().encode() not in env.cluster.operator_log.read_bytes()
    assert mover_secrets(env) == []


def rotated(env: EmbeddedEnvironment) -> tuple[str, str]:
    found = find_condition(vault_status(env).get("conditions") or [], "KeyRotated") or {}
    return found.get("status", ""), found.get("reason", "")


def kube_system(env: EmbeddedEnvironment) -> str:
    return str((env.get("namespace", "kube-system") or {})["metadata"]["uid"])


def stored_bytes(env: EmbeddedEnvironment) -> int:
    return sum(info.size for info in open_store(location(env)).list(""))


def mover_secrets(env: EmbeddedEnvironment) -> list[str]:
    return [s["metadata"]["name"] for s in env.list("secrets") if s["metadata"]["name"].startswith("bv-")]


def parse(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
