"""What objects say, for whoever shows them: small questions, asked of plain dicts. Pure.

Plain dicts and not the models: a plugin may be older than the operator that wrote the status.
"""

from __future__ import annotations

from datetime import datetime

from blockvault.core.objects import Object
from blockvault.core.reasons import REASONS, remedy_of
from blockvault.plugin import words
from blockvault.terminal import size

# Phases after which nothing comes.
BACKUP_ENDED = ("Available", "Error")
RESTORE_ENDED = ("Completed", "RolledBack", "Skipped", "Error")


def status_of(obj: Object) -> Object:
    """The status of an object; empty while it has none."""
    return obj.get("status") or {}


def phase_of(obj: Object) -> str:
    """The phase; `Deleting` of what is on its way out, `New` of what nobody has looked at."""
    if obj["metadata"].get("deletionTimestamp"):
        return "Deleting"
    return str(status_of(obj).get("phase") or "New")


def namespace_of(obj: Object) -> str:
    """Namespace of an object."""
    return str(obj["metadata"].get("namespace") or "")


def created_of(obj: Object) -> str:
    """When an object was made."""
    return str(obj["metadata"].get("creationTimestamp") or "")


def claim_of(obj: Object) -> str:
    """The claim of a Backup or a Restore; empty while it is not known."""
    spec = obj.get("spec") or {}
    target = spec.get("target") or {}
    found = (
        (spec.get("resource") or {}).get("name")
        or status_of(obj).get("claim")
        or (target.get("newClaim") or {}).get("name")
        or ((spec.get("latestOf") or {}).get("resource") or {}).get("name")
    )
    return str(found or "")


def vault_of(obj: Object) -> str:
    """The Vault that a Backup or a Task names."""
    return str(((obj.get("spec") or {}).get("vaultRef") or {}).get("name") or "")


def volume_of(backup: Object) -> Object:
    """The first volume of a Backup in the store; empty while there is none."""
    volumes = status_of(backup).get("volumes") or [{}]
    return volumes[0] if isinstance(volumes[0], dict) else {}


def id_of(backup: Object) -> str:
    """A Backup's id in the store."""
    return str(volume_of(backup).get("backupId") or "")


def ended_of(obj: Object) -> str:
    """When it ended, else when it was made."""
    return str(status_of(obj).get("completedAt") or created_of(obj))


def at_work(obj: Object) -> bool:
    """Whether a Backup or Restore has not ended."""
    ended = BACKUP_ENDED if obj.get("kind") == "Backup" else (*RESTORE_ENDED, "Restored", "Available")
    return phase_of(obj) not in (*ended, "Deleting")


def percent_of(obj: Object) -> float | None:
    """How far it has come, in percent."""
    found = (status_of(obj).get("progress") or {}).get("percent")
    return float(found) if found is not None else None


def remedy(obj: Object) -> str:
    """What to do about the state of an object; empty where there is nothing to do, or nothing known."""
    reason = str(status_of(obj).get("reason") or "")
    return remedy_of(reason) if reason in REASONS else ""


def utilization_of(vault: Object) -> float:
    """Used share of a Vault's capacity in percent."""
    try:
        return float(status_of(vault).get("utilization") or 0)
    except ValueError:
        return 0.0


def progress_words(obj: Object, now: datetime) -> str:
    """How it goes, in a few words and a bar."""
    status = status_of(obj)
    progress = status.get("progress") or {}
    done = percent_of(obj)
    if done is None or phase_of(obj) == "Pending":
        return str(status.get("reason") or "not looked at yet")
    parts = [f"{words.bar(done)} {words.percent(done):>5}"]
    total, seen = progress.get("bytesTotal"), progress.get("bytesScanned")
    if seen is None:
        seen = progress.get("bytesWritten")
    if total and seen is not None:
        parts.append(f"{size(seen)} of {size(total)}")
    left = words.moment(progress.get("eta"))
    if left is not None and left > now and done < 100:
        parts.append(f"{words.span((left - now).total_seconds())} left")
    return "  ".join(parts)
