"""What a Restore does next, as a pure function of what is there; here, to a claim that it makes (D2).

The claim that the user asked for is made first, bound by name to a PersistentVolume that does not exist
yet, so its name is taken and nobody provisions it. A raw volume is filled in the operator's namespace.
Then the PersistentVolume of that name is made on the same storage, in the mode that the user wants, and
the raw claim and its volume object go, with the policy Retain meanwhile, so that the storage stays.

An original claim that is gone is made again so, from what the store knows of it (D1); see plan_in_place for
one that is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from blockvault.api import NewClaim, not_served, parse_quantity

from .admission import check_rivals
from .decision import Decision, Missing, Refusal, cancelled, failed, refuse_unserved
from .lost_nodes import lost_node
from .objects import deleting
from .plan_in_place import clean_up, decide_in_place
from .restore_model import TERMINAL, Action, RawClaim, RestoreView, annotation
from .restoring import (
    HANDING_OVER,
    check_mode,
    check_source,
    doing,
    ended,
    fill,
    not_admitted,
    policy_pending,
    raw_claim_for,
    skipped,
    take_over,
)
from .source import Source, stored_source

SELECTED_NODE = "volume.kubernetes.io/selected-node"
DEFAULT_STORAGE_CLASS = "storageclass.kubernetes.io/is-default-class"


@dataclass(frozen=True)
class Target:
    """What the new claim shall be; `size` in bytes."""

    name: str
    size: int
    storage_class: str
    volume_mode: str
    access_modes: tuple[str, ...]
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    empty: bool = False


def decide_restore(view: RestoreView) -> Decision:
    """The next step of a Restore. Never raises; never asks for more than one effect."""
    phase = view.restore.status.phase if view.restore.status else None
    if phase in TERMINAL:
        return Decision(str(phase), "", "", requeue=None)
    if view.restore.spec.target.populate is not None:
        text = "Claims whose dataSourceRef names this Restore are filled, each by a Restore of its own."
        return Decision("Available", "Populates", text, requeue=None)
    if view.in_place:
        return decide_in_place(view)
    outcome = view.outcome
    if outcome is not None:
        return _hand_over(view) if outcome.succeeded else clean_up(view, outcome)
    if view.restore.spec.cancel:
        return ended(cancelled())
    if view.populates and not view.begun:
        return _admit_populated(view)
    if not view.populates and not view.target_is_ours:
        return _admit(view)
    if view.empty and not view.populates:
        text = f"{view.target_name} was made empty: there never was a backup."
        return Decision("Completed", "Completed", text, requeue=None)
    return _fill(view)


def _admit(view: RestoreView) -> Decision:
    if view.begun:
        return ended(failed("TargetLost", f"{view.target_name} was deleted while it was being restored."))
    if view.already_done:
        return skipped(view)
    target = _check(view)
    if isinstance(target, Refusal | Missing):
        return not_admitted(view, target)
    return doing("Starting", f"Making {view.target_name}.", Action.CREATE_TARGET, target)


def _admit_populated(view: RestoreView) -> Decision:
    """A claim that is there waits for its data (D3)."""
    lost = _populated_lost(view)
    if lost:
        return ended(failed("TargetLost", lost))
    problem = refuse_unserved(not_served(view.restore)) or check_source(view) or _check_populated(view)
    problem = problem or check_rivals(view.me, view.rivals, view.claim)
    if problem is not None:
        return not_admitted(view, problem)
    return doing(
        "Provisioning", "Making the volume to restore into.", Action.CREATE_RAW_CLAIM, _raw_claim(view)
    )


def _populated_lost(view: RestoreView) -> str:
    if view.target is None or deleting(view.target) or view.target["metadata"]["uid"] != view.populates:
        return f"{view.target_name} was deleted before it was filled."
    volume = view.target["spec"].get("volumeName")
    mine = view.new_volume["metadata"]["name"] if view.new_volume else None
    return (
        f"{view.target_name} has got a volume from somewhere else: {volume}."
        if volume not in (None, "", mine)
        else ""
    )


def _check_populated(view: RestoreView) -> Refusal | Missing | None:
    assert view.target is not None
    spec = view.target["spec"]
    name = spec.get("storageClassName")
    found = next((c for c in view.storage_classes if c["metadata"]["name"] == name), None)
    if found is None:
        return Missing("StorageClassNotFound", f"{view.target_name} names no StorageClass that exists.")
    if found.get("volumeBindingMode") == "WaitForFirstConsumer" and not annotation(
        view.target, SELECTED_NODE
    ):
        return Missing(
            "WaitForFirstConsumer",
            f"{view.target_name} is filled when a pod uses it: its class waits for one.",
        )
    stored = view.backup.status.volumes[0] if view.backup and view.backup.status else None
    wanted, least = (
        parse_quantity(spec["resources"]["requests"]["storage"]),
        int((stored and stored.size) or 0),
    )
    if wanted < least:
        return Refusal(
            "TargetTooSmall",
            f"{view.target_name} asks for {wanted} bytes, but the backup holds a volume of {least}: make it larger.",
        )
    return check_mode(view, spec.get("volumeMode") or "Filesystem", "make it with volumeMode Block")


def _check(view: RestoreView) -> Refusal | Missing | Target:
    problem = refuse_unserved(not_served(view.restore)) or check_source(view)
    if problem is not None:
        return problem
    if view.target is not None:
        return Refusal(
            "ClaimExists",
            f"{view.target_name} exists already and is left alone: name another one in "
            "spec.target.newClaim.name, or delete it first.",
        )
    target = wanted_target(view)
    if isinstance(target, Refusal | Missing):
        return target
    return check_rivals(view.me, view.rivals, target.name) or target


def wanted_target(view: RestoreView) -> Refusal | Missing | Target:
    """The claim to make, with what the Restore leaves open taken from the backup."""
    new_claim, source = view.restore.spec.target.new_claim, None
    if view.backup is None or view.backup.status is None:
        return _empty_target(view, new_claim)
    stored = view.backup.status.volumes[0]
    if new_claim is None:  # the original, as it was
        if isinstance(view.stored, Missing):
            return view.stored
        source = stored_source((view.stored or {}).get("meta"))
        if source is None:
            return Refusal(
                "ManifestNotFound",
                f"Backup {view.backup.metadata.name} does not say what {view.target_name} was like: "
                "restore it to a newClaim of that name.",
            )
        new_claim = _as_it_was(view.claim, source, int(stored.size or 0))
    size = parse_quantity(new_claim.size) if new_claim.size else int(stored.size or 0)
    if size < int(stored.size or 0):
        return Refusal(
            "TargetTooSmall",
            f"spec.target.newClaim.size is {size} bytes, but the backup holds a volume of {stored.size}: "
            f"ask for at least that much.",
        )
    storage_class = _storage_class(view, new_claim.storage_class_name or stored.storage_class_name)
    if isinstance(storage_class, Refusal | Missing):
        return storage_class
    mode = new_claim.volume_mode or stored.volume_mode or "Filesystem"
    problem = check_mode(view, mode, "set spec.target.newClaim.volumeMode to Block")
    if problem is not None:
        return problem
    modes = tuple(new_claim.access_modes or ["ReadWriteOnce"])
    kept = (source.labels, source.annotations) if source else ({}, {})
    return Target(new_claim.name, size, storage_class, mode, modes, *kept)


def _empty_target(view: RestoreView, new_claim: NewClaim | None) -> Refusal | Missing | Target:
    """The claim to make where there never was a backup (F19)."""
    if new_claim is None:
        return Refusal(
            "NoBackup", f"There never was a backup of {view.target_name}, so nothing says what it was like."
        )
    if new_claim.size is None:
        return Refusal(
            "NoBackup", "There never was a backup: set spec.target.newClaim.size for an empty claim."
        )
    storage_class = _storage_class(view, new_claim.storage_class_name)
    if isinstance(storage_class, Refusal | Missing):
        return storage_class
    modes = tuple(new_claim.access_modes or ["ReadWriteOnce"])
    mode = new_claim.volume_mode or "Filesystem"
    return Target(new_claim.name, parse_quantity(new_claim.size), storage_class, mode, modes, empty=True)


def _as_it_was(claim: str, source: Source, least: int) -> NewClaim:
    size = max(parse_quantity(source.capacity), least)
    return NewClaim.model_validate(
        {
            "name": claim,
            "storageClassName": source.storage_class,
            "size": str(size),
            "accessModes": source.access_modes,
            "volumeMode": source.volume_mode,
        }
    )


def _storage_class(view: RestoreView, wanted: str | None) -> str | Refusal | Missing:
    names = {c["metadata"]["name"] for c in view.storage_classes}
    if wanted:
        if wanted in names:
            return wanted
        return Missing(
            "StorageClassNotFound", f"StorageClass {wanted} does not exist: create it or name another."
        )
    defaults = [
        c["metadata"]["name"]
        for c in view.storage_classes
        if (c["metadata"].get("annotations") or {}).get(DEFAULT_STORAGE_CLASS) == "true"
    ]
    if len(defaults) == 1:
        return str(defaults[0])
    return Refusal(
        "NoStorageClass",
        "No StorageClass is named and there is no single default: set newClaim.storageClassName.",
    )


def _fill(view: RestoreView) -> Decision:
    lost = _populated_lost(view) if view.populates else ""
    if lost or view.target is None:
        return fill(view, None, lost or f"{view.target_name} was deleted while it was being restored.")
    lost = f"{view.target_name} was deleted while it was being restored." if deleting(view.target) else ""
    return fill(view, _raw_claim(view), lost)


def _raw_claim(view: RestoreView) -> RawClaim:
    assert view.target is not None
    spec = view.target["spec"]
    size = parse_quantity(spec["resources"]["requests"]["storage"])
    wanted = raw_claim_for(view, size, spec["storageClassName"])
    node = annotation(view.target, SELECTED_NODE) if view.populates else None
    # Where the claim's pod was to run first, until that node died: the scheduler chooses another one for it.
    return replace(wanted, node=None if node and lost_node(node, view.nodes, view.now) else node)


def _hand_over(view: RestoreView) -> Decision:
    """From the raw claim to the user's. Every step can be taken again; the storage is never unowned."""
    lost = f"{view.target_name} was deleted before it was handed over."
    if view.populates:
        lost = _populated_lost(view)
    elif view.target is not None and not deleting(view.target) and view.target_is_ours:
        lost = ""
    if lost or view.target is None:
        return ended(failed("TargetLost", lost))
    taking = take_over(view, Action.CREATE_VOLUME)
    if taking is not None:
        return taking
    if (view.target.get("status") or {}).get("phase") != "Bound":
        return doing("Binding", f"Waiting for {view.target_name} to be bound to the restored volume.")
    if policy_pending(view, view.new_volume):
        return doing("HandingOver", HANDING_OVER, Action.HAND_OVER_POLICY)
    if view.has_secrets:
        return doing("CleaningUp", HANDING_OVER, Action.DELETE_SECRET)
    return Decision("Completed", "Completed", f"{view.target_name} holds the backup.", requeue=None)
