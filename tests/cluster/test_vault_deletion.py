"""A Vault is deleted in the real cluster: with its data, or by its namespace, which takes none (A2, A6, F11, F18)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube
from tests.cluster.lab import Cluster
from tests.cluster.test_contract import ClusterEnvironment
from tests.scenario import manifests
from tests.scenario.environment import Write, gone, phase_is

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

MIB = 1 << 20


def made(cluster: Cluster, kube: Kube, name: str) -> tuple[ClusterEnvironment, str]:
    """A Vault whose class says Delete, with two Backups; where it lies in the bucket."""
    environment = ClusterEnvironment(cluster, kube, "bv-immediate")
    environment.make_claim("data", 64 * MIB)
    environment.write("data", [Write(MIB, 4 * MIB, seed=1)])
    *secrets, vault_class = manifests.vault_class(name, environment.storage, name)
    vault_class["spec"]["defaults"] = {"capacity": "10Gi", "deletionPolicy": "Delete"}
    vault = manifests.vault(name, name)
    del vault["spec"]["capacity"]
    environment.apply(*secrets, vault_class, vault)
    kube.wait_phase("vault", name, "Available")
    for number in (1, 2):
        environment.apply(manifests.backup(f"b{number}", name, "data"))
        environment.wait_for("backup", f"b{number}", phase_is("Available"), timeout=180)
    found = environment.get("vault", name) or {}
    assert (found["status"]["capacity"], found["status"]["deletionPolicy"]) == ("10Gi", "Delete")
    return environment, found["status"]["location"].removeprefix(f"s3://{environment.storage.bucket}/")


def data(cluster: Cluster, environment: ClusterEnvironment, prefix: str) -> list[str]:
    """What holds data or opens it."""
    pages = cluster.s3.client().get_paginator("list_objects_v2")
    keys = [
        o["Key"]
        for page in pages.paginate(Bucket=environment.storage.bucket, Prefix=f"{prefix}/lineages/")
        for o in page.get("Contents", [])
    ]
    return [key for key in keys if "/commits/" not in key]


def test_a6_a_vault_grows_and_goes_with_its_backups_though_the_operator_is_killed(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """A2, A6, F14: also by a generation that the API server counts, which the emulation only imitates."""
    name = f"gone-{namespace.namespace[-4:]}"
    environment, prefix = made(cluster, namespace, name)
    namespace.patch("vault", name, {"spec": {"capacity": "12Gi"}})
    environment.wait_for(
        "vault", name, lambda v: (v or {}).get("status", {}).get("capacity") == "12Gi", timeout=90
    )
    told = namespace.kubectl("get", "events", "--field-selector", f"involvedObject.name={name}")
    assert "The capacity grows from 10Gi to 12Gi" in told
    assert data(cluster, environment, prefix)
    environment.delete("vault", name)
    environment.wait_for("vault", name, lambda v: not v or v["status"].get("deletion"), timeout=60)
    installed_operator.kill()
    environment.wait_for("vault", name, gone, timeout=240)
    assert data(cluster, environment, prefix) == []
    assert namespace.all("backups", "") == []


def test_f18_a_namespace_takes_no_data_along_though_its_vault_says_delete(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    name = f"left-{namespace.namespace[-4:]}"
    environment, prefix = made(cluster, namespace, name)
    before = data(cluster, environment, prefix)
    cluster.kubectl("delete", "namespace", namespace.namespace, "--timeout=120s")
    assert data(cluster, environment, prefix) == before


def test_f18_a_store_that_is_away_is_left_by_retain(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    name = f"away-{namespace.namespace[-4:]}"
    environment, prefix = made(cluster, namespace, name)

    def said(vault: dict[str, Any] | None) -> bool:
        return '"deletionPolicy":"Retain"' in ((vault or {}).get("status") or {}).get("message", "")

    cluster.s3.stop()
    try:
        environment.delete("vault", name)
        environment.wait_for("vault", name, said, timeout=120)
        namespace.patch("vault", name, {"spec": {"deletionPolicy": "Retain"}})
        environment.wait_for("vault", name, gone, timeout=90)
    finally:
        cluster.s3.resume()
    assert data(cluster, environment, prefix)
