"""What a restore will do, in words for whoever decides. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from blockvault.core.objects import Object
from blockvault.core.workloads import uses
from blockvault.plugin import facts, rows, words
from blockvault.plugin.errors import NotFoundError
from blockvault.plugin.requests import RestoreWishes
from blockvault.plugin.words import NONE, ago, bytes_or_none, name_of

WINDOW = "24h"


def latest(backups: Iterable[Object], claim: str, before: datetime | None) -> Object:
    """The newest good Backup of a claim, as of a time. Raises NotFoundError."""
    good = [b for b in restorable(backups) if facts.claim_of(b) == claim]
    fitting = [b for b in good if before is None or _taken(b) <= before]
    if fitting:
        return max(fitting, key=lambda b: (_taken(b), name_of(b)))
    when = f" before {before:%Y-%m-%d %H:%M %Z}" if before else ""
    raise NotFoundError(
        f"claim {claim} has no backup{when} that can be restored",
        f"The oldest one is of {rows.volume_time(min(good, key=_taken))}."
        if good
        else "`kubectl blockvault list` shows those there are; `list --trash` those that can be brought back.",
    )


def restorable(backups: Iterable[Object]) -> list[Object]:
    """Those that can be restored, the newest first."""
    good = [b for b in backups if facts.phase_of(b) in ("Available", "Restoring")]
    return sorted(good, key=lambda b: (_taken(b), name_of(b)), reverse=True)


def _taken(backup: Object) -> datetime:
    found = words.moment(rows.volume_time(backup))
    assert found is not None, "each object has the time of its creation"
    return found


def users_of(claim: str, pods: Iterable[Object]) -> list[str]:
    """The pods that have a claim among their volumes, with what made them."""
    found = []
    for pod in pods:
        if uses(pod, claim):
            owner = next(
                (r for r in pod["metadata"].get("ownerReferences") or [] if r.get("controller")), None
            )
            found.append(name_of(pod) + (f" ({owner['kind']} {owner['name']})" if owner else ""))
    return sorted(found)


def plan(
    backup: Object, wishes: RestoreWishes, now: datetime, claim: Object | None, pods: Sequence[str] | None
) -> list[str]:
    """What will happen, line by line. `claim`: the original as it is now; `pods`: None where nobody may see them."""
    volume, source = facts.volume_of(backup), facts.claim_of(backup)
    lines = [
        f"Backup {name_of(backup)} of claim {source}, as of {rows.volume_time(backup)} "
        f"({ago(rows.volume_time(backup), now)} ago), {bytes_or_none(volume.get('size'))}",
    ]
    if wishes.claim is not None:
        parts = [
            wishes.size or bytes_or_none(volume.get("size")),
            f"class {wishes.storage_class or volume.get('storageClassName') or NONE}",
            f"mode {wishes.mode or volume.get('volumeMode') or NONE}",
        ]
        return [
            *lines,
            f"goes into the new claim {wishes.claim} ({', '.join(parts)}).",
            f"Claim {source} is not touched.",
        ]
    if claim is None:
        return [*lines, f"goes into claim {source}, which is gone and is made again as it was."]
    lines.append(
        f"takes the place of what is in claim {source} now: what was written since is no longer in it."
    )
    if pods is None:
        lines.append("The pods that use it cannot be seen; the restore waits until none does.")
    elif pods and wishes.stop:
        lines.append(
            f"Stopped for it: {', '.join(pods)}"
            + (", and started again." if wishes.start else "; they stay down.")
        )
    elif pods:
        lines.append(
            f"It waits until you stop what uses the claim: {', '.join(pods)} (--stop-workload does it)."
        )
    else:
        lines.append("No pod uses the claim now.")
    lines.append(
        f"What the claim holds now is kept for {wishes.window or WINDOW}: "
        f"`kubectl blockvault rollback {wishes.name}` brings it back, `confirm` lets it go."
    )
    return lines
