"""Attacks of a tenant where the real API server, its admission and its controllers have a say (issue 6).

The attacker is a service account with the built-in roles edit and admin of its namespace, as the chart extends them, and
with the right to make VolumeSnapshots there. The rest of the attacks is in tests/embedded/test_attacks.py.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube, Object, claim, snapshot
from tests.cluster.lab import Cluster, LabError
from tests.cluster.test_bad_input import backup, vault
from tests.cluster.test_contract import ClusterEnvironment
from tests.scenario import manifests
from tests.scenario.environment import Write

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ACCOUNT = "tenant"


class Tenant(Kube):
    """kubectl as a service account with all rights that tenants are given, in one namespace."""

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """As the tenant."""
        who = f"--as=system:serviceaccount:{self.namespace}:{ACCOUNT}"
        return super().kubectl(who, *arguments, **options)

    def apply(self, *objects: Object | str) -> None:
        """Objects of its own namespace, as the tenant."""
        found = [obj for obj in objects if not isinstance(obj, str)]
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(found))

    def may(self, verb: str, what: str, *more: str) -> bool:
        """What the API server says that the tenant may do."""
        return self.kubectl("auth", "can-i", verb, what, *more, check=False).strip() == "yes"


def tenant(cluster: Cluster, name: str) -> Tenant:
    """A namespace with its tenant."""
    who = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": name}
    snapshots = {"apiGroups": ["snapshot.storage.k8s.io"], "resources": ["volumesnapshots"], "verbs": ["*"]}
    rbac = "rbac.authorization.k8s.io"
    bindings: list[Object] = [
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"{ACCOUNT}-{role}"},
            "subjects": [who],
            "roleRef": {"apiGroup": rbac, "kind": kind, "name": role},
        }
        for role, kind in (("edit", "ClusterRole"), ("admin", "ClusterRole"), ("snapshots", "Role"))
    ]
    Kube(cluster, name).apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "snapshots"}, "rules": [snapshots]},
        *bindings,
    )
    return Tenant(cluster, name)


def reason(word: str) -> Any:
    return lambda obj: (obj.get("status") or {}).get("reason") == word


def refused(evil: Tenant, *arguments: str) -> str:
    with pytest.raises(LabError) as raised:
        evil.kubectl(*arguments)
    return str(raised.value)


def test_a_tenant_gets_nothing_of_another_one(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    env = ClusterEnvironment(cluster, namespace, "bv-immediate")
    evil = tenant(cluster, f"{namespace.namespace[:40]}-evil")
    env.make_claim("db", 64 << 20)
    env.write("db", [Write(0, 1 << 20, seed=7)])
    namespace.apply(
        *manifests.vault_class("attacked", env.storage, "attacked"),
        manifests.vault("v", "attacked"),
        manifests.backup("b", "v", "db"),
    )
    evil.apply(manifests.vault("v", "attacked"), backup("forger", "v", "late", startDeadlineSeconds=600))
    namespace.wait_phase("backup", "b", "Available", seconds=120)
    content = f"bv-{(namespace.get('backup', 'b') or {})['metadata']['uid']}"
    volume = (namespace.get("pvc", "db") or {})["spec"]["volumeName"]
    everything = Kube(cluster)
    before = [(everything.get(k, n) or {})["spec"] for k, n in (("vsc", content), ("pv", volume))]

    _rights(evil, content, volume)

    # Names that are ours, occupied before the operator comes to them.
    uid = (evil.get("backup", "forger") or {})["metadata"]["uid"]
    forged = snapshot(f"bv-{uid}", "unused")
    forged["spec"]["source"] = {"volumeSnapshotContentName": content}
    stolen = {**forged, "metadata": {"name": "stolen"}}
    copy = claim("copy", source={"kind": "VolumeSnapshot", "name": "stolen"})
    grab = claim("grab")
    grab["spec"]["volumeName"] = volume
    s3 = {
        "endpoint": "http://ip6-loopback:9000",
        "bucket": "bucket",
        "credentialsSecretRef": {"name": "keys"},
    }
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    metadata = {**s3, "endpoint": "http://169.254.169.254"}
    nameless = {k: v for k, v in s3.items() if k != "credentialsSecretRef"}
    evil.apply(
        forged,
        stolen,
        copy,
        grab,
        backup("grab", "v", "grab", startDeadlineSeconds=600),
        manifests.secret("keys", evil.namespace, keys),
        vault("by-name", s3),
        vault("metadata", metadata),
        vault("no-keys", {**nameless, "endpoint": "https://s3.example.com"}),
        manifests.vault("thief", "attacked"),
    )
    evil.apply(claim("late"))

    evil.wait("backup", "forger", reason("SnapshotNotOurs"), 60)
    evil.wait("backup", "grab", reason("ClaimNotBound"), 60)
    by_name = evil.wait("vault", "by-name", reason("EndpointForbidden"), 60)
    assert "ip6-loopback leads to ::1" in by_name["status"]["message"]
    evil.wait("vault", "metadata", reason("EndpointForbidden"), 30)
    evil.wait("vault", "no-keys", reason("NoCredentials"), 30)
    for name in ("copy", "grab"):
        assert (evil.get("pvc", name) or {})["status"]["phase"] == "Pending", name
    assert not ((evil.get("vs", "stolen") or {}).get("status") or {}).get("readyToUse")
    assert [(everything.get(k, n) or {})["spec"] for k, n in (("vsc", content), ("pv", volume))] == before

    # Nothing of a mover's has come into a tenant's namespace: no Secret, no Job, no pod.
    for kube in (namespace, evil):
        there = [
            obj["metadata"]["name"] for kind in ("secrets", "jobs", "pods") for obj in Kube.all(kube, kind)
        ]
        assert not [name for name in there if name.startswith("bv-")], kube.namespace
    cluster.kubectl("delete", "namespace", evil.namespace, "--wait=false")


def _rights(evil: Tenant, content: str, volume: str) -> None:
    """What tenants can do with our kinds, and what they cannot, as the API server decides it."""
    for verb, what in (
        ("create", "backups"),
        ("create", "vaults"),
        ("delete", "restores"),
        ("delete", "tasks"),
    ):
        assert evil.may(verb, f"{what}.blockvault.dev"), (verb, what)
    for kind in ("vaults", "backups", "restores", "backuppolicies", "tasks"):
        assert not evil.may("patch", f"{kind}.blockvault.dev", "--subresource=status"), kind
    for verb, what in (
        ("create", "tasks.blockvault.dev"),
        ("patch", "tasks.blockvault.dev"),
        ("create", "vaultclasses.blockvault.dev"),
        ("get", f"volumesnapshotcontents/{content}"),
        ("patch", f"persistentvolumes/{volume}"),
    ):
        assert not evil.may(verb, what), (verb, what)
    for what in ("secrets", "pods", "jobs", "persistentvolumeclaims", "volumesnapshots"):
        assert not evil.may("get", what, "--namespace", OPERATOR_NAMESPACE), what
    status = json.dumps({"status": {"phase": "Available"}})
    words = refused(evil, "patch", "backup", "forger", "--subresource=status", "--type=merge", "-p", status)
    assert "forbidden" in words
