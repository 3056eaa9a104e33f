"""The operations that faults are made in. Each is prepared without faults, then asked for, then waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.scenario import manifests
from tests.scenario.environment import OPERATOR_NAMESPACE, Object, Write, gone

from .world import MIB, World

ENDS = ("Available", "Completed", "Restored", "RolledBack", "Skipped", "Error")


@dataclass
class Scenario:
    """One run of one operation. `prefix` names all that it makes in the namespace of its world.

    `subject`: the object that is asked for. `digests`: what each Backup must give back, by its name.
    """

    world: World
    prefix: str
    digests: dict[str, str] = field(default_factory=dict)
    timers: list[threading.Timer] = field(default_factory=list)
    tries: int = 1
    name: ClassVar[str] = ""
    kind: ClassVar[str] = "backup"
    # Whether its end is that the subject is gone.
    ends_gone: ClassVar[bool] = False
    # Where it is stopped on its way, and by which fault: the point's key and the fault's name (detours.py).
    detour: ClassVar[tuple[str, str] | None] = None
    vault_spec: ClassVar[dict[str, Any]] = {}
    class_spec: ClassVar[dict[str, Any]] = {}

    @property
    def claim(self) -> str:
        """The claim that it is about."""
        return f"{self.prefix}-data"

    @property
    def subject(self) -> str:
        """Name of the object under test; another one where the first has failed."""
        return f"{self.prefix}-subject-{self.tries}"

    @property
    def vault(self) -> str:
        """Name of its Vault."""
        return self.prefix

    def prepare(self) -> None:
        """A Vault and a claim with data."""
        *secrets, vault_class = manifests.vault_class(self.vault, self.world.storage, self.prefix)
        vault_class["spec"] |= self.class_spec
        vault = manifests.vault(self.vault, self.vault)
        vault["spec"] |= self.vault_spec
        self.world.apply(*secrets, vault_class, vault)
        self.world.make_claim(self.claim, self.world.size)
        self.change(1)
        self.world.wait_for("vault", self.vault, phase("Available"), timeout=self.world.patience)

    def act(self) -> None:
        """Ask for it. Faults are made from here on."""
        raise NotImplementedError

    def wait(self) -> Object | None:
        """The subject when it has ended; None where it is gone."""
        return self.ended(self.kind, self.subject)

    def after(self) -> None:
        """What must be so when it has succeeded."""

    def again(self) -> Object | None:
        """Ask once more, by another object, and wait."""
        self.tries += 1
        self.act()
        return self.wait()

    # Parts

    def found(self) -> Object | None:
        """The subject as it is."""
        return self.world.get(self.kind, self.subject)

    def change(self, seed: int) -> None:
        """Write something."""
        self.world.write(self.claim, [Write(seed * 65536, MIB, seed=seed)])

    def back_up(self, name: str) -> None:
        """Ask for a Backup of the claim as it is."""
        self.digests[name] = self.world.digest(self.claim, self.world.size)
        self.world.apply(manifests.backup(name, self.vault, self.claim))

    def backed_up(self, name: str) -> None:
        """Make a Backup."""
        self.back_up(name)
        self.world.wait_for("backup", name, phase("Available"), timeout=self.world.patience)

    def ended(self, kind: str, name: str) -> Object | None:
        """Wait for the end of an object, or for it to be gone."""
        wanted = phase(*ENDS)
        found = self.world.wait_for(kind, name, lambda o: o is None or wanted(o), timeout=self.world.patience)
        return found or None

    def deleted(self, kind: str, name: str) -> None:
        """Wait until an object is gone."""
        self.world.wait_for(kind, name, gone, timeout=self.world.patience)

    def same(self, claim: str, backup: str) -> None:
        """Assert that a claim holds what a Backup has."""
        found = self.world.digest(claim, self.world.size)
        assert found == self.digests[backup], f"claim {claim} does not hold what Backup {backup} has"


def phase(*wanted: str) -> Callable[[Object | None], bool]:
    """A test: the object has one of these phases."""
    return lambda obj: ((obj or {}).get("status") or {}).get("phase") in wanted


class First(Scenario):
    """The first Backup of a claim."""

    name = "first"

    def act(self) -> None:
        self.back_up(self.subject)


class Incremental(Scenario):
    """A second one, which takes the place of the first one's snapshot."""

    name = "incremental"

    def prepare(self) -> None:
        super().prepare()
        self.backed_up(f"{self.prefix}-1")
        self.change(3)

    def act(self) -> None:
        self.back_up(self.subject)


class DeleteBackup(Scenario):
    """A Backup is deleted, and the other one stays whole."""

    name, ends_gone = "delete-backup", True

    def prepare(self) -> None:
        super().prepare()
        self.backed_up(self.subject)
        self.change(3)
        self.backed_up(f"{self.prefix}-2")

    def act(self) -> None:
        self.world.delete("backup", self.subject)
        self.digests.pop(self.subject, None)

    def wait(self) -> Object | None:
        self.deleted("backup", self.subject)
        return None


class NewClaim(Scenario):
    """A Restore to a new claim."""

    name, kind = "new-claim", "restore"

    def prepare(self) -> None:
        super().prepare()
        self.backed_up(f"{self.prefix}-1")

    def act(self) -> None:
        size = str(self.world.size)
        self.world.apply(
            manifests.restore(self.subject, f"{self.prefix}-1", self.copy, self.world.storage_class, size)
        )

    def after(self) -> None:
        self.same(self.copy, f"{self.prefix}-1")

    @property
    def copy(self) -> str:
        """The new claim."""
        return f"{self.prefix}-copy-{self.tries}"


class InPlace(Scenario):
    """A Restore over the claim of a StatefulSet, and what it had before goes on request."""

    name, kind = "in-place", "restore"
    word: ClassVar[str] = "confirm"

    def prepare(self) -> None:
        super().prepare()
        self.backed_up(f"{self.prefix}-1")
        self.change(5)
        self.written = self.world.digest(self.claim, self.world.size)
        self.world.let_go(self.claim)
        self.world.apply(self.world.workload(self.prefix, self.claim))
        self.world.wait_for("pod", f"{self.prefix}-0", phase("Running"), timeout=self.world.patience)
        self.uid = (self.world.get("pvc", self.claim) or {})["metadata"]["uid"]

    def act(self) -> None:
        self.world.apply(self.manifest())

    def manifest(self, **more: Any) -> Object:
        """The Restore."""
        target = {"original": {"stopWorkload": True}}
        spec = {"backupRef": {"name": f"{self.prefix}-1"}, "target": target, **more}
        return {
            "apiVersion": manifests.API,
            "kind": "Restore",
            "metadata": {"name": self.subject},
            "spec": spec,
        }

    def wait(self) -> Object | None:
        found = super().wait()
        if ((found or {}).get("status") or {}).get("phase") == "Restored":
            self.world.apply(self.manifest(**{self.word: True}))
            last = phase("Completed", "RolledBack", "Error")
            found = self.world.wait_for(
                "restore", self.subject, lambda o: o is None or last(o), timeout=self.world.patience
            )
        workload = self.world.get("statefulset", self.prefix) or {}
        assert workload["spec"]["replicas"] == 1, "what was stopped stays stopped"
        self.world.wait_for("pod", f"{self.prefix}-0", phase("Running"), timeout=self.world.patience)
        claim = self.world.get("pvc", self.claim) or {}
        assert claim["metadata"]["uid"] == self.uid, "the claim is another one"
        assert self.content() in (self.digests[f"{self.prefix}-1"], self.written), "the claim is half written"
        return found or None

    def content(self) -> str:
        """What the claim holds now, looked at beside its pod."""
        try:
            return self.world.digest(self.claim, self.world.size)
        finally:
            self.world.let_go(self.claim)

    def after(self) -> None:
        assert self.content() == self.digests[f"{self.prefix}-1"], "the claim does not hold the backup"


class RollBack(InPlace):
    """The same, and back again."""

    name, word = "roll-back", "rollback"

    def after(self) -> None:
        assert self.content() == self.written, "the claim does not hold what it had before"


class Populate(Scenario):
    """A claim whose dataSourceRef names a Backup."""

    name, kind = "populate", "restore"

    def prepare(self) -> None:
        super().prepare()
        self.backed_up(f"{self.prefix}-1")

    def act(self) -> None:
        reference = {"apiGroup": "blockvault.dev", "kind": "Backup", "name": f"{self.prefix}-1"}
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Block",
            "storageClassName": self.world.storage_class,
            "resources": {"requests": {"storage": str(self.world.size)}},
            "dataSourceRef": reference,
        }
        body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": self.copy}}
        self.world.apply(body | {"spec": spec})

    @property
    def copy(self) -> str:
        """The claim that is filled."""
        return f"{self.prefix}-copy-{self.tries}"

    @property
    def subject(self) -> str:
        """The Restore that the operator makes for the claim."""
        claim = self.world.get("pvc", self.copy)
        return f"populate-{(claim or {'metadata': {'uid': 'none'}})['metadata']['uid']}"

    def wait(self) -> Object | None:
        failed = phase("Error")

        def over(claim: Object | None) -> bool:
            return phase("Bound")(claim) or failed(self.found())

        self.world.wait_for("pvc", self.copy, over, timeout=self.world.patience)
        return super().wait()

    def after(self) -> None:
        self.same(self.copy, f"{self.prefix}-1")


class VaultDeletion(Scenario):
    """A Vault is deleted with all that is stored."""

    name, kind, ends_gone = "vault-deletion", "vault", True
    vault_spec: ClassVar[dict[str, Any]] = {"deletionPolicy": "Delete"}

    def prepare(self) -> None:
        super().prepare()
        self.backed_up(f"{self.prefix}-1")

    @property
    def subject(self) -> str:
        """The Vault."""
        return self.vault

    def act(self) -> None:
        self.digests.clear()
        self.world.delete("vault", self.vault)

    def wait(self) -> Object | None:
        self.deleted("vault", self.vault)
        return None


class Upkeep(Scenario):
    """Something was deleted for good, and the store is tidied up."""

    name, kind, ends_gone = "upkeep", "vault", True
    class_spec: ClassVar[dict[str, Any]] = {"trashDays": 0}

    def prepare(self) -> None:
        super().prepare()
        self.backed_up(f"{self.prefix}-1")
        self.change(3)
        self.backed_up(f"{self.prefix}-2")
        self.world.delete("backup", f"{self.prefix}-1")
        self.deleted("backup", f"{self.prefix}-1")
        del self.digests[f"{self.prefix}-1"]

    @property
    def subject(self) -> str:
        """The Vault."""
        return self.vault

    def act(self) -> None:
        self.world.move_clock(7200)

    def wait(self) -> Object | None:
        def run(obj: Object | None) -> Any:
            return ((obj or {}).get("status") or {}).get("upkeep", {}).get("endedAt")

        vault = self.world.wait_for("vault", self.vault, run, timeout=self.world.patience)
        secret = f"bv-{vault['metadata']['uid']}"  # it goes last of what the run has made

        def tidy(_: Object | None) -> bool:
            return self.world.get("secret", secret, OPERATOR_NAMESPACE) is None

        self.world.wait_for("vault", self.vault, tidy, timeout=self.world.patience)
        return None


class Enlarge(Scenario):
    """A Vault grows."""

    name, kind, ends_gone = "enlarge", "vault", True

    @property
    def subject(self) -> str:
        """The Vault."""
        return self.vault

    def act(self) -> None:
        vault = manifests.vault(self.vault, self.vault)
        vault["spec"]["capacity"] = "20Gi"
        self.world.apply(vault)

    def wait(self) -> Object | None:
        def grown(obj: Object | None) -> bool:
            status = (obj or {}).get("status") or {}
            return status.get("capacity") == "20Gi" and status.get("phase") == "Available"

        self.world.wait_for("vault", self.vault, grown, timeout=self.world.patience)
        return None


ALL: tuple[type[Scenario], ...] = (
    First, Incremental, DeleteBackup, NewClaim, InPlace, RollBack, Populate, VaultDeletion, Upkeep, Enlarge,
)  # fmt: skip


def backups_of(scenario: Scenario) -> Iterator[Object]:
    """Backups of the scenario's Vault."""
    here, vault = scenario.world.namespace, scenario.vault
    for obj in scenario.world.list("backup"):
        if obj["metadata"]["namespace"] == here and obj["spec"]["vaultRef"]["name"] == vault:
            yield obj
