"""What Kopf is told to watch, and which loop each object gets. No logic lives here."""

from __future__ import annotations

from typing import Any

import kopf

from blockvault.cluster.backups import reconcile_backup
from blockvault.cluster.catalogue import reconcile_catalogue
from blockvault.cluster.context import POPULATING, Context, catalogue_key, runs_key, upkeep_key
from blockvault.cluster.deletion import delete_backup
from blockvault.cluster.policies import reconcile_class, reconcile_policy
from blockvault.cluster.populate import waits_for_us
from blockvault.cluster.restores import clean_restore, reconcile_restore
from blockvault.cluster.runs import reconcile_runs
from blockvault.cluster.turns import leave_turn
from blockvault.cluster.upkeep import reconcile_upkeep
from blockvault.cluster.vault_deletion import delete_vault
from blockvault.cluster.vaults import reconcile_vault
from blockvault.core.naming import (
    ACKNOWLEDGE_ANNOTATION,
    ALLOW_DELETION_ANNOTATION,
    GROUP,
    OPERATION_LABEL,
    POPULATES_ANNOTATION,
    RUN_NOW_ANNOTATION,
    TAKE_OVER_ANNOTATION,
    UNDELETE_ANNOTATION,
    VERSION,
)
from blockvault.core.restore_model import TERMINAL as RESTORE_ENDS
from blockvault.core.tasks import deleted_tasks

from .loop import run_loop

# Grace for a daemon that is told to stop: its next await is at most a request away.
STOPPING: dict[str, Any] = {"cancellation_backoff": 1.0, "cancellation_timeout": 10.0}


def unfinished(status: kopf.Status, **_: Any) -> bool:
    """Whether a Backup or Restore still wants a loop."""
    return status.get("phase") not in ("Available", "Error", "Deleting", *RESTORE_ENDS)


def observed(body: kopf.Body) -> bool:
    """Whether the status is of the spec as it is now. Our own status writes must not wake us."""
    return body.status.get("observedGeneration") == body.meta.get("generation")


def wants(body: kopf.Body, annotation: str, obeyed: str) -> bool:
    """Whether a Vault is to be looked at: its spec changed, or an annotation has a value not `obeyed` yet."""
    asked = body.meta.annotations.get(annotation)
    return not observed(body) or asked not in (None, body.status.get(obeyed))


def wake_runs(context: Context, namespace: str | None) -> None:
    """Let the Vaults of a namespace look at their resources, policies and Backups."""
    for uid, where in context.vaults.items():
        if where == namespace:
            context.wakeups.wake(runs_key(uid))


def note_deleted(context: Context, kind: str, body: kopf.Body) -> None:
    """Have the Tasks say that an object was deleted, now that nothing holds it any more."""
    uid = str(body.meta.uid)
    context.note_tasks(deleted_tasks(kind, dict(body), context.tasks.open_of(uid), context.clock()))


def want_populating(context: Context, uid: str, namespace: str, name: str) -> None:
    """Let a claim that waits for its data be looked at."""
    context.populating[uid] = (namespace, name)
    context.wakeups.wake(POPULATING)


def register(registry: kopf.OperatorRegistry, context: Context) -> None:
    """Give each unfinished object its loop, and wake loops by what happens to the things they made."""

    @kopf.daemon(GROUP, VERSION, "backups", when=unfinished, registry=registry, **STOPPING)
    async def backup(*, namespace: str | None, name: str, uid: str, **_: Any) -> None:
        try:
            await run_loop(context, "Backup", uid, lambda: reconcile_backup(context, str(namespace), name))
        finally:
            leave_turn(context, uid)

    @kopf.on.delete(GROUP, VERSION, "backups", registry=registry)
    async def backup_deleted(*, body: kopf.Body, uid: str, **_: Any) -> None:
        await run_loop(context, "Backup", uid, lambda: delete_backup(context, dict(body)))
        note_deleted(context, "Backup", body)

    @kopf.daemon(GROUP, VERSION, "restores", when=unfinished, registry=registry, **STOPPING)
    async def restore(*, namespace: str | None, name: str, uid: str, **_: Any) -> None:
        await run_loop(context, "Restore", uid, lambda: reconcile_restore(context, str(namespace), name))

    @kopf.on.delete(GROUP, VERSION, "restores", registry=registry)
    async def restore_deleted(*, body: kopf.Body, uid: str, **_: Any) -> None:
        await run_loop(context, "Restore", uid, lambda: clean_restore(context, dict(body)))
        note_deleted(context, "Restore", body)

    @kopf.on.event("", "v1", "persistentvolumeclaims", registry=registry)
    async def claim_changed(*, type: str | None, body: kopf.Body, **_: Any) -> None:
        if type != "DELETED" and waits_for_us(dict(body)):
            want_populating(context, str(body.meta.uid), str(body.meta.namespace), str(body.meta.name))

    @kopf.on.event(GROUP, VERSION, "restores", registry=registry)
    async def restore_changed(*, type: str | None, body: kopf.Body, **_: Any) -> None:
        populates = body.meta.annotations.get(POPULATES_ANNOTATION)
        if type == "DELETED" and populates:  # somebody wants another try
            claim = str(body.spec.get("target", {}).get("newClaim", {}).get("name"))
            want_populating(context, populates, str(body.meta.namespace), claim)
        elif not observed(body):
            context.wakeups.wake(str(body.meta.uid))  # it may be told to go back

    @kopf.daemon(GROUP, VERSION, "vaults", registry=registry, **STOPPING)
    async def vault(*, namespace: str | None, name: str, uid: str, **_: Any) -> None:
        await run_loop(context, "Vault", uid, lambda: reconcile_vault(context, str(namespace), name))

    @kopf.daemon(GROUP, VERSION, "vaults", registry=registry, **STOPPING)
    async def runs(*, namespace: str | None, name: str, uid: str, **_: Any) -> None:
        key = runs_key(uid)
        await run_loop(context, "Vault", key, lambda: reconcile_runs(context, str(namespace), name))

    @kopf.daemon(GROUP, VERSION, "vaults", registry=registry, **STOPPING)
    async def upkeep(*, namespace: str | None, name: str, uid: str, **_: Any) -> None:
        key = upkeep_key(uid)
        await run_loop(context, "Vault", key, lambda: reconcile_upkeep(context, str(namespace), name))

    @kopf.daemon(GROUP, VERSION, "vaults", registry=registry, **STOPPING)
    async def catalogue(*, namespace: str | None, name: str, uid: str, **_: Any) -> None:
        key = catalogue_key(uid)
        await run_loop(context, "Vault", key, lambda: reconcile_catalogue(context, str(namespace), name))

    @kopf.on.delete(GROUP, VERSION, "vaults", registry=registry)
    async def vault_deleted(*, body: kopf.Body, namespace: str | None, name: str, uid: str, **_: Any) -> None:
        await run_loop(context, "Vault", uid, lambda: delete_vault(context, str(namespace), name, uid))
        note_deleted(context, "Vault", body)

    @kopf.daemon(GROUP, VERSION, "backuppolicies", registry=registry, **STOPPING)
    async def policy(*, namespace: str | None, name: str, uid: str, **_: Any) -> None:
        await run_loop(context, "BackupPolicy", uid, lambda: reconcile_policy(context, str(namespace), name))

    @kopf.daemon(GROUP, VERSION, "vaultclasses", registry=registry, **STOPPING)
    async def vault_class(*, name: str, uid: str, **_: Any) -> None:
        await run_loop(context, "VaultClass", uid, lambda: reconcile_class(context, name))

    @kopf.on.event(GROUP, VERSION, "vaultclasses", registry=registry)
    async def vault_class_changed(*, body: kopf.Body, **_: Any) -> None:
        if not observed(body):
            context.wakeups.wake_all()  # its vaults may wait for exactly this

    @kopf.on.event(GROUP, VERSION, "vaults", registry=registry)
    async def vault_changed(
        *, type: str | None, body: kopf.Body, namespace: str | None, name: str, **_: Any
    ) -> None:
        context.vaults[str(body.meta.uid)] = str(namespace)
        if type == "DELETED":
            context.figures.remove_vault(str(namespace), name)
            context.vaults.pop(str(body.meta.uid), None)
            context.credentials.pop(str(body.meta.uid), None)
        elif not observed(body):
            context.wakeups.wake(str(body.meta.uid))
            context.wakeups.wake(upkeep_key(str(body.meta.uid)))
        said = any(
            annotation in body.meta.annotations and body.status.get(what)
            for annotation, what in (
                (ALLOW_DELETION_ANNOTATION, "dissociationHold"),
                (ACKNOWLEDGE_ANNOTATION, "anomalies"),
            )
        )
        if said or wants(body, RUN_NOW_ANNOTATION, "lastRunNow"):
            context.wakeups.wake(runs_key(str(body.meta.uid)))
        if wants(body, TAKE_OVER_ANNOTATION, "tookOver") or wants(body, UNDELETE_ANNOTATION, "undeleted"):
            context.wakeups.wake(catalogue_key(str(body.meta.uid)))

    @kopf.on.event(GROUP, VERSION, "backuppolicies", registry=registry)
    async def policy_changed(*, body: kopf.Body, **_: Any) -> None:
        if not observed(body):
            context.wakeups.wake(str(body.meta.uid))
            wake_runs(context, body.meta.namespace)  # one may apply this policy

    @kopf.on.event(GROUP, VERSION, "backups", registry=registry)
    async def backup_changed(
        *, type: str | None, body: kopf.Body, namespace: str | None, uid: str, status: kopf.Status, **_: Any
    ) -> None:
        if type == "DELETED" or ACKNOWLEDGE_ANNOTATION in body.meta.annotations:
            wake_runs(context, namespace)  # a hold may be over
        if type == "DELETED":
            context.figures.remove_backup(uid)
        else:
            context.figures.set_backup(uid, str(namespace), str(status.get("phase") or "Pending"))

    @kopf.on.event("batch", "v1", "jobs", labels={OPERATION_LABEL: kopf.PRESENT}, registry=registry)
    @kopf.on.event(
        "", "v1", "persistentvolumeclaims", labels={OPERATION_LABEL: kopf.PRESENT}, registry=registry
    )
    @kopf.on.event(
        "snapshot.storage.k8s.io",
        "v1",
        "volumesnapshots",
        labels={OPERATION_LABEL: kopf.PRESENT},
        registry=registry,
    )
    async def part_changed(*, labels: kopf.Labels, **_: Any) -> None:
        context.wakeups.wake(labels[OPERATION_LABEL])
        context.wakeups.wake(upkeep_key(labels[OPERATION_LABEL]))
