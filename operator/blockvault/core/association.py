"""Which claims a Vault holds, and what holds up the others. Pure (A3).

A claim is in one vault at most: where several want it, the one that has held it longest keeps it, and the older vault
wins where none has it yet. What is held stays held when the claim is gone, since backups outlive their volume (A13): a
claim leaves its vault only when the vault no longer names or selects it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from blockvault.api import ResourceStatus, Vault, parse_quantity

from .admission import check_claim
from .conditions import timestamp
from .decision import Missing
from .objects import Object, deleting

CLAIM = "PersistentVolumeClaim"
MOST_RESOURCES = 256
# A selector can match any number of claims; what is named and what is held is never more than half of these.
MOST_LINES = 1024


@dataclass(frozen=True)
class Associations:
    """Lines of the status, in the order of the vault; and the names that have left it."""

    lines: list[ResourceStatus]
    left: list[str]

    @property
    def held(self) -> list[ResourceStatus]:
        """Those that the vault holds, gone ones too."""
        return [line for line in self.lines if line.since]

    @property
    def bytes(self) -> int:
        """Sizes of all that is held, together."""
        return sum(line.size or 0 for line in self.held)


def wanted(vault: Vault, claims: dict[str, Object]) -> list[str]:
    """Names of claims that a vault names or selects: named ones, then those that it holds, then the rest.

    One that it holds and that is gone is wanted still if labels selected it: nobody can see its labels now. So is one
    that was made anew without them, as a restore makes it: taking labels away is said by the same claim only.
    """
    named = [r.name for r in vault.spec.resources or [] if r.kind == CLAIM]
    selector = vault.spec.resource_selector
    if selector is None:
        return named
    selected = sorted(name for name, claim in claims.items() if _matches(claim, selector.match_labels))
    held = [
        n
        for n, line in _former(vault).items()
        if line.since and (n in selected or n not in claims or _replaced(line, claims[n]))
    ]
    return list(dict.fromkeys([*named, *held, *selected]))[:MOST_LINES]


def associate(
    vault: Vault, claims: dict[str, Object], vaults: list[Vault], now: datetime, most: int = MOST_RESOURCES
) -> Associations:
    """What the vault holds now. `claims`: those of its namespace by name; `vaults`: all of its namespace."""
    former = _former(vault)
    names = wanted(vault, claims)
    # Of each vault once: there may be many claims.
    wants = [(v, set(wanted(v, claims)), _former(v)) for v in vaults if not v.metadata.deletion_timestamp]
    # Whoever is held already comes first: nobody loses a place to a name that was written above it.
    order = sorted(
        names, key=lambda name: (former[name].since or "~" if name in former else "~", names.index(name))
    )
    unlabelled = _unlabelled(vault, names, claims)
    lines: dict[str, ResourceStatus] = {}
    room, places = vault.spec.capacity_bytes, most
    for name in order:
        line = _line(vault, name, claims.get(name), former.get(name), holder_of(name, wants))
        if line.since and name in unlabelled:
            message = f"{CLAIM} {name} was made anew without the vault's labels; its backups stay. Label it to go on."
            line = line.model_copy(
                update={
                    "state": "Gone",
                    "reason": "ClaimReplaced",
                    "message": message,
                    "uid": former[name].uid,
                }
            )
        held = bool(line.since)
        if line.state == "Associated" and not held:
            problem = _no_room(vault, line.size or 0, room, places, most)
            if problem is None:
                line = line.model_copy(update={"since": timestamp(now)})
            else:
                line = line.model_copy(
                    update={"state": "Refused", "reason": problem[0], "message": problem[1]}
                )
        if line.since:
            room -= line.size or 0
            places -= 1
        lines[name] = line
    left = sorted(name for name, line in former.items() if line.since and name not in lines)
    return Associations([lines[name] for name in names], left)


def _line(
    vault: Vault,
    name: str,
    claim: Object | None,
    former: ResourceStatus | None,
    holder: Vault | None,
) -> ResourceStatus:
    line = former or ResourceStatus(kind=CLAIM, name=name)
    if holder is not None and holder.metadata.uid != vault.metadata.uid:
        message = (
            f"{CLAIM} {name} is in Vault {holder.metadata.name} already, and a claim is in one vault at most: "
            "take it out of one of them."
        )
        return ResourceStatus(kind=CLAIM, name=name, state="Refused", reason="HeldElsewhere", message=message)
    size = _size(claim) or line.size
    problem = check_claim(name, claim)
    if problem is None:
        uid = (claim or {}).get("metadata", {}).get("uid")
        return line.model_copy(
            update={"state": "Associated", "reason": None, "message": None, "size": size, "uid": uid}
        )
    gone = line.since and (claim is None or deleting(claim))
    state = "Gone" if gone else "Waiting" if isinstance(problem, Missing) else "Refused"
    message = f"{CLAIM} {name} is gone; its backups stay." if gone else problem.message
    reason = "ClaimGone" if gone else problem.reason
    return line.model_copy(update={"state": state, "reason": reason, "message": message, "size": size})


Wants = tuple[Vault, set[str], dict[str, ResourceStatus]]


def holder_of(name: str, wants: list[Wants]) -> Vault | None:
    """The vault that a claim belongs to among those that want it; None when none does."""

    def rank(each: Wants) -> tuple[str, datetime, str]:
        vault, _, former = each
        line = former.get(name)
        since = (line.since if line else None) or "~"  # after every time
        return since, vault.metadata.creation_timestamp, vault.metadata.uid

    found = min((each for each in wants if name in each[1]), key=rank, default=None)
    return None if found is None else found[0]


def _no_room(vault: Vault, size: int, room: int, places: int, most: int) -> tuple[str, str] | None:
    if places <= 0:
        return (
            "TooManyResources",
            f"The vault holds {most} resources already, the most that it may: use another one.",
        )
    if size > room:
        return (
            "NoRoom",
            f"Its {size} bytes do not fit: the sizes of all associated resources together must not exceed the "
            f"capacity of {vault.spec.capacity}, of which {max(room, 0)} bytes are left. Raise spec.capacity.",
        )
    return None


def _former(vault: Vault) -> dict[str, ResourceStatus]:
    lines = (vault.status.resources if vault.status else None) or []
    return {line.name: line for line in lines if line.kind == CLAIM}


def _matches(claim: Object, labels: dict[str, str]) -> bool:
    found = claim["metadata"].get("labels") or {}
    # An empty selector would take everything: nobody means that by leaving something out.
    return bool(labels) and all(found.get(key) == value for key, value in labels.items())


def _replaced(line: ResourceStatus, claim: Object) -> bool:
    return line.uid is not None and claim["metadata"].get("uid") != line.uid


def _unlabelled(vault: Vault, names: list[str], claims: dict[str, Object]) -> set[str]:
    """Of the names that it wants, those that are there and that it neither names nor selects any more."""
    named = {r.name for r in vault.spec.resources or [] if r.kind == CLAIM}
    labels = vault.spec.resource_selector.match_labels if vault.spec.resource_selector else {}
    return {n for n in names if n in claims and n not in named and labels and not _matches(claims[n], labels)}


def _size(claim: Object | None) -> int | None:
    capacity = ((claim or {}).get("status") or {}).get("capacity") or {}
    return parse_quantity(capacity["storage"]) if "storage" in capacity else None
