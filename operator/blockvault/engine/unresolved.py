"""Backups of which nobody can say what they need, as a root is damaged: what to do about them.

While one stands, nothing is collected and nothing compacted, as it could need anything. Those whose own tree can still
be read are mended: their roots are written again, with a summary made from a walk through their pages.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from blockvault.engine import objects, summary
from blockvault.engine.commits import refuse_unwritable
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.objects import Objects
from blockvault.engine.relocate import Relocation
from blockvault.engine.root import Root, Roots
from blockvault.engine.state import RootEntry, State
from blockvault.engine.summary import Records, Summary
from blockvault.engine.walk import Walk
from blockvault.stores import ObjectNotFound, ObjectStore

# Backups that an error names one by one.
NAMED = 3


def explained(state: State, roots: Roots, error: StoredDataDamaged) -> StoredDataDamaged:
    """Why what backups and pins need cannot be told, and what to do; the error itself where that is not the cause."""
    broken = [entry.id for entry in roots.unresolved(state.roots)]
    if broken:
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        return StoredDataDamaged(
            f"volume {state.volume}: what these backups need cannot be told, as roots are damaged, so nothing may be "
            f"deleted: {', '.join(broken[:NAMED])}{more} ({error.message})",
            remedy="Run `blockvault verify STORE --repair` and delete the backups that it says cannot be mended; then "
            "repeat this.",
        )
    for attempt in state.attempts:
        try:
            roots.objects([ObjectName.parse(attempt.parent["object"])] if attempt.parent else [])
        except StoredDataDamaged:
            return StoredDataDamaged(
                f"volume {state.volume}: what a {attempt.kind} begun at {attempt.started_at} reads cannot be told, "
                f"so nothing may be deleted: {error.message}",
                remedy="Repeat this when that has ended. What died is given up after seven days, or sooner by "
                "`blockvault collect --dead-after`.",
            )
    return error


@dataclass(frozen=True)
class Rebuilt:
    """How many backups were mended, and the ids of those that cannot be: what is left of them may be salvaged."""

    roots: int = 0
    lost: list[str] = field(default_factory=list)


class Rebuilding:
    """Mends the roots of one lineage whose summaries build on a damaged root. Use once."""

    def __init__(self, store: ObjectStore, lineage: Lineage, actor: str | None) -> None:
        self._store = store
        self._lineage = lineage
        self._relocation = Relocation(store, lineage, actor)
        self._roots = self._relocation.roots

    def run(self, state: State) -> Rebuilt:
        """Mend what can be mended in `state`. Raises OwnedElsewhere."""
        refuse_unwritable(state)
        broken = self._roots.unresolved(state.roots)
        summaries = self._summaries(broken)
        made = 0
        if summaries:
            entered, names = self._relocation.begin(state)
            chosen = [entry for entry in entered.roots if entry.object in summaries]
            try:
                state, made = self._relocation.resummarise(entered, chosen, names, summaries)
            except StoredDataDamaged:
                self._relocation.give_up(entered)
                if self._relocation.overtaken(entered):
                    return Rebuilt()
                raise
        newest = self._relocation.commits.newest(at_least=state.number) or state
        standing = {entry.object for entry in newest.roots}
        lost = [e.id for e in broken if e.object in standing and e.object not in summaries]
        return Rebuilt(made, lost)

    def _summaries(self, entries: list[RootEntry]) -> dict[str, Summary]:
        """By root object, what its tree reaches; only of trees that can be read as a whole."""
        readable: list[tuple[RootEntry, Root]] = []
        for entry in entries:
            try:
                readable.append((entry, self._roots.read(entry)))
            except StoredDataDamaged:
                continue
        if not readable:
            return {}
        walk = Walk(self._store, self._lineage, [root for _, root in readable])
        for _ in walk.leaves():
            pass
        unread = 0
        for page in walk.damaged:
            unread |= page.roots
        listed = objects.listed(self._store, self._lineage.paths)
        found = {}
        for place, (entry, _) in enumerate(readable):
            records = None if unread >> place & 1 else self._sized(walk.reached(place), listed)
            if records is not None:
                found[entry.object] = Summary(records)
        return found

    def _sized(self, records: Records, listed: Objects) -> Records | None:
        """With the sizes of the objects; None when one is not there."""
        known, places = summary.found_in(summary.keys_of(listed.records), summary.keys_of(records))
        records["size"][known] = listed.records["size"][places[known]]
        for missing in np.flatnonzero(~known):
            # Listings may lag.
            name, kind = summary.name_of(records[missing]), Kind(int(records[missing]["kind"]))
            try:
                records["size"][missing] = self._store.stat(self._lineage.paths.object(kind, name)).size
            except ObjectNotFound:
                return None
        return records
