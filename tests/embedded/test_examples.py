"""The manifests of examples/ work as they stand, in any order, all in one command."""

from __future__ import annotations

import pytest

from tests.scenario.environment import phase_is

from .cluster import ROOT, EmbeddedCluster
from .demo import load_manifests


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_applied_at_once(order: str) -> None:
    """What is absent or not ready yet is waited for, so that the order does not matter."""
    with EmbeddedCluster() as cluster:
        cluster.start_operator()
        found = load_manifests(ROOT / "examples", cluster, 16 << 20)
        manifests = [manifest for of_kind in found.values() for _, manifest in of_kind]
        cluster.apply(*(manifests if order == "forward" else reversed(manifests)))
        for kind, phase in (("Vault", "Available"), ("BackupPolicy", "Ready"), ("Backup", "Available")):
            for _, manifest in found[kind]:
                cluster.wait_for(kind, manifest["metadata"]["name"], phase_is(phase))
        for _, manifest in found["Restore"]:
            cluster.wait_for("Restore", manifest["metadata"]["name"], phase_is("Completed"))
            target = manifest["spec"]["target"]["newClaim"]["name"]
            cluster.wait_for("pvc", target, phase_is("Bound"))
