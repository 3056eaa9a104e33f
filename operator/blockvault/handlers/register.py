"""What Kopf is told to watch, and which loop each object gets. No logic lives here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import kopf

from blockvault.api import Vault
from blockvault.cluster.backups import reconcile_backup
from blockvault.cluster.catalogue import reconcile_catalogue
from blockvault.cluster.context import Context, catalogue_key, runs_key, upkeep_key
from blockvault.cluster.deletion import delete_backup
from blockvault.cluster.policies import reconcile_class, reconcile_policy
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
from blockvault.metrics.shapes import vault_figures

from .loop import Loops, run_loop

# Vaults that look at the same thing at a time: as many as there are processes for work on stores.
LOOKS_AT_ONCE = 2
# Grace for a daemon that is told to stop: its next await is at most a request away.
STOPPING: dict[str, Any] = {"cancellation_backoff": 1.0, "cancellation_timeout": 10.0}


def unfinished(body: kopf.Body) -> bool:
    """Whether a Backup or Restore still wants a loop."""
    ended = body.status.get("phase") in ("Available", "Error", "Deleting", *RESTORE_ENDS)
    return not ended and body.meta.deletion_timestamp is None


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


def vault_keys(uid: str) -> tuple[str, str, str, str]:
    """The loops of a Vault: its store, its resources and policy, its upkeep, its catalogue."""
    return uid, runs_key(uid), upkeep_key(uid), catalogue_key(uid)


def register(registry: kopf.OperatorRegistry, context: Context, loops: Loops) -> None:
    """Give each unfinished object its loop, and wake loops by what happens to the things they made."""

    async def backup_loop(namespace: str, name: str, uid: str) -> None:
        try:
            await run_loop(context, "Backup", uid, lambda: reconcile_backup(context, namespace, name))
        finally:
            leave_turn(context, uid)

    @kopf.on.delete(GROUP, VERSION, "backups", registry=registry)
    async def backup_deleted(*, body: kopf.Body, uid: str, **_: Any) -> None:
        await run_loop(context, "Backup", uid, lambda: delete_backup(context, dict(body)))
        note_deleted(context, "Backup", body)

    async def restore_loop(namespace: str, name: str, uid: str) -> None:
        await run_loop(context, "Restore", uid, lambda: reconcile_restore(context, namespace, name))

    @kopf.on.delete(GROUP, VERSION, "restores", registry=registry)
    async def restore_deleted(*, body: kopf.Body, uid: str, **_: Any) -> None:
        await run_loop(context, "Restore", uid, lambda: clean_restore(context, dict(body)))
        note_deleted(context, "Restore", body)

    @kopf.on.event("", "v1", "namespaces", registry=registry)
    async def namespace_changed(*, type: str | None, body: kopf.Body, name: str, **_: Any) -> None:
        if type == "DELETED":
            context.coverage.drop_namespace(name)
        else:
            context.coverage.put_namespace(dict(body))

    @kopf.on.event(GROUP, VERSION, "restores", registry=registry)
    async def restore_changed(*, type: str | None, body: kopf.Body, **_: Any) -> None:
        where, name, uid = str(body.meta.namespace), str(body.meta.name), str(body.meta.uid)
        if type == "DELETED" or body.meta.deletion_timestamp:
            await loops.end(uid)
        elif unfinished(body):
            loops.want(uid, lambda: restore_loop(where, name, uid))
        if type == "DELETED":
            context.figures.remove_restore(str(body.meta.uid))
        else:
            phase = str(body.status.get("phase") or "Pending")
            context.figures.set_restore(str(body.meta.uid), str(body.meta.namespace), phase)
        populates = body.meta.annotations.get(POPULATES_ANNOTATION)
        if type == "DELETED" and populates:  # somebody wants another try
            claim = str(body.spec.get("target", {}).get("newClaim", {}).get("name"))
            context.want_populating(populates, str(body.meta.namespace), claim)
        elif not observed(body):
            context.wakeups.wake(str(body.meta.uid))  # it may be told to go back

    crowds = [asyncio.Semaphore(LOOKS_AT_ONCE) for _ in range(4)]

    def want_vault_loops(namespace: str, name: str, uid: str) -> None:
        looks: tuple[Callable[[Context, str, str], Awaitable[float | None]], ...] = (
            reconcile_vault, reconcile_runs, reconcile_upkeep, reconcile_catalogue
        )  # fmt: skip
        for key, look, crowd in zip(vault_keys(uid), looks, crowds, strict=True):
            step = partial(look, context, namespace, name)
            loops.want(key, partial(run_loop, context, "Vault", key, step, crowd=crowd))

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
    async def vault_class_changed(*, type: str | None, body: kopf.Body, **_: Any) -> None:
        context.classes.note(dict(body), gone=type == "DELETED")
        if not observed(body):
            context.wakeups.wake_all()  # its vaults may wait for exactly this

    @kopf.on.event(GROUP, VERSION, "vaults", registry=registry)
    async def vault_changed(
        *, type: str | None, body: kopf.Body, namespace: str | None, name: str, **_: Any
    ) -> None:
        uid = str(body.meta.uid)
        context.vaults[uid] = str(namespace)
        context.neighbours.note(dict(body), gone=type == "DELETED")
        if type == "DELETED" or body.meta.deletion_timestamp:
            await loops.end(*vault_keys(uid))
        else:
            want_vault_loops(str(namespace), name, uid)
        if type == "DELETED":
            context.figures.remove_vault(str(namespace), name, str(body.meta.uid))
            context.coverage.drop_vault(str(namespace), str(body.meta.uid))
            context.vaults.pop(str(body.meta.uid), None)
            context.credentials.pop(str(body.meta.uid), None)
            return
        context.figures.set_vault(vault_figures(Vault.model_validate(dict(body))))
        context.coverage.put_vault(dict(body))
        if not observed(body):
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
        *, type: str | None, body: kopf.Body, namespace: str | None, name: str, uid: str, **_: Any
    ) -> None:
        if type == "DELETED" or body.meta.deletion_timestamp:
            await loops.end(uid)
        elif unfinished(body):
            loops.want(uid, lambda: backup_loop(str(namespace), name, uid))
        if type == "DELETED" or ACKNOWLEDGE_ANNOTATION in body.meta.annotations:
            wake_runs(context, namespace)  # a hold may be over
        if type == "DELETED":
            context.figures.remove_backup(uid)
        else:
            context.figures.set_backup(uid, str(namespace), str(body.status.get("phase") or "Pending"))

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
