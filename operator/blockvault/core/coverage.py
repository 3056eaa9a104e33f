"""Which bound claims are protected, which are left out on purpose, and which are neither. Pure (F23).

Protected is a claim that a Vault holds, that has a good backup, and of which the Vault's policy makes the next one.
Asked of plain dicts, so that what a newer version writes into a status keeps nobody from an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from .association import CLAIM
from .naming import EXCLUDE_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL
from .objects import Object, claim_is_bound, deleting

State = Literal["Protected", "Excluded", "Unprotected"]
STATES: tuple[State, ...] = ("Protected", "Excluded", "Unprotected")
# Phases of a Vault that no backup comes out of again by itself.
LOST_PHASES = ("Error", "Deleting")


@dataclass(frozen=True)
class Covered:
    """One bound claim. `why`: one word, of few; `message`: a sentence for people; `last_backup`: when it was safe."""

    namespace: str
    claim: str
    state: State
    why: str
    message: str
    vault: str = ""
    last_backup: str = ""


def cover(
    claims: Iterable[Object], vaults: Iterable[Object], excluded: Mapping[str, str] | None = None
) -> list[Covered]:
    """Each bound claim, by namespace and name. `excluded`: reasons of namespaces that are left out as a whole.

    What the operator itself makes for a while is none of the user's, and no line.
    """
    held = {
        (vault["metadata"].get("namespace", ""), line["name"]): (vault, line)
        for vault in sorted(vaults, key=lambda v: str(v["metadata"]["name"]), reverse=True)
        for line in (vault.get("status") or {}).get("resources") or []
        if line.get("kind") == CLAIM
    } | {
        # A Vault that holds a claim counts more than one that is refused it.
        (vault["metadata"].get("namespace", ""), line["name"]): (vault, line)
        for vault in vaults
        for line in (vault.get("status") or {}).get("resources") or []
        if line.get("kind") == CLAIM and line.get("state") == "Associated"
    }
    found = []
    for claim in claims:
        meta = claim["metadata"]
        if not claim_is_bound(claim) or deleting(claim):
            continue
        if (meta.get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY:
            continue
        key = (meta.get("namespace", ""), meta["name"])
        vault, line = held.get(key, (None, None))
        found.append(_judge(claim, vault, line, (excluded or {}).get(key[0])))
    return sorted(found, key=lambda each: (each.namespace, each.claim))


def exclusions(namespaces: Iterable[Object]) -> dict[str, str]:
    """Reasons of the namespaces that are left out as a whole."""
    notes = {n["metadata"]["name"]: (n["metadata"].get("annotations") or {}) for n in namespaces}
    return {name: found[EXCLUDE_ANNOTATION] for name, found in notes.items() if EXCLUDE_ANNOTATION in found}


def count(found: Iterable[Covered]) -> dict[State, int]:
    """How many claims are in each state."""
    states = Counter(each.state for each in found)
    return {state: states[state] for state in STATES}


def _judge(claim: Object, vault: Object | None, line: Object | None, whole: str | None) -> Covered:
    meta = claim["metadata"]
    name = str(vault["metadata"]["name"]) if vault else ""
    last = str((line or {}).get("lastBackupAt") or "")

    def said(state: State, why: str, message: str) -> Covered:
        return Covered(str(meta.get("namespace", "")), str(meta["name"]), state, why, message, name, last)

    held = vault is not None and line is not None and line.get("state") == "Associated"
    reason = (meta.get("annotations") or {}).get(EXCLUDE_ANNOTATION, whole)
    if not held and reason is not None:
        where = "" if reason is not whole else "Its namespace is left out: "
        return said("Excluded", "Annotation", f"{where}{reason or 'no reason is given'}")
    if vault is None or line is None:
        return said("Unprotected", "NoVault", "No Vault of its namespace names or selects it.")
    if not held:
        words = line.get("message") or "The Vault does not hold it yet."
        return said("Unprotected", "NotAssociated", f"{words}")
    status = vault.get("status") or {}
    if status.get("phase") in LOST_PHASES:
        return said("Unprotected", "VaultUnusable", f"Vault {name} is in phase {status['phase']}.")
    if not last:
        nearest = f": the next run is at {line['nextRun']}" if line.get("nextRun") else ""
        return said("Unprotected", "NoBackupYet", f"It has no good backup yet{nearest}.")
    if not line.get("nextRun"):
        policy = (status.get("policy") or {}).get("message") or "The Vault has no policy."
        return said("Unprotected", "NoPolicy", f"Nothing will back it up again by itself. {policy}")
    return said("Protected", "Scheduled", f"The next run is at {line['nextRun']}.")
