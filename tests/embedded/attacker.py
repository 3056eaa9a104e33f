"""A tenant with all rights in the namespace `evil`, beside the one in `shop` that it wants something of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is
from tests.scenario.incremental import MIB

from .cluster import OPERATOR_NAMESPACE, EmbeddedCluster
from .conftest import claim
from .environment import EmbeddedEnvironment
from .kinds import NAMESPACES, Object
from .store import Store

EVIL = "evil"
GROUP = "snapshot.storage.k8s.io"


class Attacker:
    """What the tenant of `evil` does, and what must stay as it is."""

    def __init__(self, cluster: EmbeddedCluster, env: EmbeddedEnvironment) -> None:
        self.cluster, self.env = cluster, env

    def apply(self, *objects: Object) -> None:
        """Create or patch objects in the attacker's namespace."""
        for obj in objects:
            self.cluster.apply({**obj, "metadata": {**obj["metadata"], "namespace": EVIL}})

    def get(self, kind: str, name: str) -> Object:
        """An object of the attacker's; AssertionError when there is none."""
        found = self.cluster.get(kind, name, EVIL)
        assert found is not None, f"{kind} {name}"
        return found

    def uid(self, kind: str, name: str) -> str:
        """Its uid, as whoever makes an object sees it."""
        return str(self.get(kind, name)["metadata"]["uid"])

    def forge_status(self, kind: str, name: str, **status: Any) -> None:
        """Write a status. No role of ours allows it, but somebody's role may have a wildcard."""

        def work(store: Store) -> None:
            found = store.kind_named(kind)

            def change(obj: Object) -> None:
                obj["status"] = {**(obj.get("status") or {}), **status}

            store.update(found, EVIL, name, change, status=True)

        self.cluster.within(work)

    def claim(self, name: str, size: int = 4 * MIB, **spec: Any) -> None:
        """A raw claim of the attacker's."""
        self.apply(claim(name, str(size), **spec))

    def ends(self, kind: str, name: str, reason: str, timeout: float = 60) -> str:
        """Wait until an object says this reason; its message."""

        def says(obj: Object | None) -> bool:
            return bool(obj and (obj.get("status") or {}).get("reason") == reason)

        found = self.cluster.wait_for(kind, name, says, timeout=timeout, namespace=EVIL)
        return str(found["status"]["message"])

    def victims(self) -> dict[str, Any]:
        """What is the other tenant's: its volume, the kept snapshot of it, its Secret and its stored objects."""
        claim = self.env.get("pvc", "db") or {}
        volume = self.cluster.get("pv", claim["spec"]["volumeName"]) or {}
        backup = self.env.get("backup", "b") or {}
        content = self.cluster.get("vsc", f"bv-{backup['metadata']['uid']}") or {}
        return {
            "claim": claim["metadata"]["uid"],
            "volume": (volume["metadata"]["uid"], volume["spec"]),
            "content": (content["metadata"]["uid"], content["spec"]),
            "backup": (backup["status"]["phase"], backup["status"]["volumes"]),
            "stored": {k: n for k, n in self.cluster.s3.objects("v/shop/v-").items() if "/canary/" not in k},
            "data": self.env.digest("db", 4 * MIB),
        }

    def made_for(self, uid: str) -> list[str]:
        """What the operator has made for an operation of the attacker's, as kind and name."""
        label = f"blockvault.dev/operation={uid}"
        found = [
            f"{kind} {obj['metadata']['name']}"
            for kind in ("pvc", "vs", "secret", "job")
            for obj in self.cluster.list(kind, OPERATOR_NAMESPACE, label)
        ]
        return found + [
            f"{kind} {obj['metadata']['name']}"
            for kind in ("vsc", "pv")
            for obj in self.cluster.list(kind, labels=label)
        ]


@pytest.fixture(scope="module")
def attacker() -> Iterator[Attacker]:
    """Both tenants with a Vault of one class, a claim and a backup of it; the operator as it is installed."""
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        cluster.within(lambda store: store.create(NAMESPACES, {"metadata": {"name": EVIL}}))
        found = Attacker(cluster, env)
        env.make_claim("db", 4 * MIB)
        env.write("db", [Write(0, 2 * MIB, seed=1)])
        found.claim("mine")
        cluster.start_operator(AWS_ACCESS_KEY_ID="operators-own", AWS_SECRET_ACCESS_KEY="secret")
        env.apply(*manifests.vault_class("v", env.storage, "v"), manifests.vault("v", "v"))
        found.apply(manifests.vault("v", "v"))
        env.apply(manifests.backup("b", "v", "db"))
        found.apply(manifests.backup("own", "v", "mine"))
        env.wait_for("backup", "b", phase_is("Available"), timeout=90)
        cluster.wait_for("backup", "own", phase_is("Available"), timeout=90, namespace=EVIL)
        yield found


@pytest.fixture
def untouched(attacker: Attacker) -> Iterator[None]:
    """Whatever a test does, what is the other tenant's stays as it was."""
    before = attacker.victims()
    yield
    after = attacker.victims()
    changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
    assert not changed, changed
