"""Which objects a command asks the cluster for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockvault.core.naming import API_VERSION
from blockvault.core.objects import Object
from blockvault.plugin.errors import NotFoundError, UsageError
from blockvault.plugin.facts import status_of
from blockvault.plugin.words import name_of

CLAIM = "PersistentVolumeClaim"


def held_claims(vault: Object) -> list[str]:
    """The claims that a Vault holds and that are there."""
    return [
        str(line["name"])
        for line in status_of(vault).get("resources") or []
        if line.get("state") == "Associated" and line.get("kind") == CLAIM
    ]


def choose_vault(claim: str, vaults: Sequence[Object], named: str | None) -> str:
    """The Vault that takes a claim's backup: the one named, the one that holds it, the only one.

    Raises NotFoundError and UsageError.
    """
    names = [name_of(v) for v in vaults]
    if named is not None:
        if named not in names:
            raise NotFoundError(
                f"there is no Vault {named} here",
                f"There are {', '.join(names)}." if names else "Create a Vault first: docs/resources.md.",
            )
        return named
    holders = [name_of(v) for v in vaults if claim in held_claims(v)]
    if holders:
        return holders[0]
    if len(names) == 1:
        return names[0]
    if not names:
        raise NotFoundError("there is no Vault in this namespace", "Create one first: docs/resources.md.")
    raise UsageError(
        f"no Vault holds claim {claim}, and there are several: {', '.join(names)}", "Name one by --vault."
    )


@dataclass(frozen=True)
class BackupWishes:
    """What is asked for of several backups together. `token`: a few random characters for their names."""

    token: str
    name: str | None = None
    full: bool = False
    description: str | None = None


def backups(claims: Sequence[tuple[str, str]], wishes: BackupWishes, namespace: str) -> list[Object]:
    """A Backup of each (claim, vault). Several get numbers (C1)."""
    stem = wishes.name or f"manualbk-{wishes.token}"
    found = []
    for number, (claim, vault) in enumerate(claims, 1):
        spec: Object = {"vaultRef": {"name": vault}, "resource": {"kind": CLAIM, "name": claim}}
        if wishes.full:
            spec["full"] = True
        if wishes.description:
            spec["description"] = wishes.description
        name = stem if len(claims) == 1 else f"{stem}-{number:04}"
        found.append(_object("Backup", name, namespace, spec))
    return found


@dataclass(frozen=True)
class RestoreWishes:
    """What is asked for of a restore. `claim`: the new one, None for in place."""

    name: str
    claim: str | None = None
    size: str | None = None
    storage_class: str | None = None
    mode: str | None = None
    access: tuple[str, ...] = ()
    stop: bool = False
    start: bool = True
    window: str | None = None


def restore(backup: str, wishes: RestoreWishes, namespace: str) -> Object:
    """The Restore of a Backup."""
    spec: dict[str, Any] = {"backupRef": {"name": backup}}
    if wishes.claim is not None:
        options = {
            "size": wishes.size,
            "storageClassName": wishes.storage_class,
            "volumeMode": wishes.mode,
            "accessModes": list(wishes.access) or None,
        }
        claim = {"name": wishes.claim} | {key: value for key, value in options.items() if value}
        spec["target"] = {"newClaim": claim}
    else:
        spec["target"] = {"original": {"stopWorkload": wishes.stop, "startAfter": wishes.start}}
        if wishes.window:
            spec["rollbackWindow"] = wishes.window
    return _object("Restore", wishes.name, namespace, spec)


def _object(kind: str, name: str, namespace: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
