"""The root of a backup just made, and its entry in the lineage's state."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Any

from blockvault.engine import root as roots
from blockvault.engine import runtime
from blockvault.engine.changes import LIST
from blockvault.engine.lockrule import LOCKED_UNTIL
from blockvault.engine.names import ObjectName
from blockvault.engine.progress import BackupResult, Progress
from blockvault.engine.state import RootEntry, State
from blockvault.engine.summary import MAX_DEPTH, Changes, Records
from blockvault.engine.work import BackupRequest, Made, Work


def make_root(
    work: Work, request: BackupRequest, made: Made, progress: Progress, changes: Changes, name: ObjectName
) -> tuple[bytes, RootEntry]:
    """The root's bytes, to be stored under `name`, and its entry."""
    size, backup_id, above = work.source.size, runtime.random_id(), made.parent_entry
    content = roots.content_hash(work.lineage.keys, size, made.top)
    listed = request.changed.source if request.changed is not None and made.mode == LIST else None
    summary_facts, records = _summary(work, made, changes)
    facts = {
        "id": backup_id,
        "revision": 1,
        "lineage": work.lineage.id,
        "volume": request.volume,
        "operation": request.operation_id,
        "createdAt": runtime.now(),
        "type": "full" if above is None else "incremental",
        "size": size,
        "contentHash": content,
        "parent": None if above is None else {"id": above.id, "contentHash": above.content_hash},
        "changedBlockSource": listed or made.mode,
        "tree": roots.tree_facts(size, made.top),
        "summary": summary_facts,
        "counts": {"scanned": progress.bytes_scanned, "changed": progress.bytes_changed},
        "fileSystem": work.file_system,
        "unreadable": work.source.unreadable,
        "meta": request.meta,
    }
    data = roots.encode(
        work.lineage.paths.root(name), name, facts, records, made.samples, work.lineage.cipher
    )
    entry = RootEntry(
        id=backup_id,
        operation=request.operation_id,
        object=str(name),
        object_bytes=len(data),
        object_checksum=roots.checksum_of(data),
        content_hash=content,
        size=size,
        type=str(facts["type"]),
        parent=None if above is None else above.id,
        created_at=str(facts["createdAt"]),
        figures={
            "bytesScanned": progress.bytes_scanned,
            "bytesChanged": min(progress.bytes_changed, size),
            "bytesStored": made.sent + len(data),
            "requests": made.requests,
            "seconds": made.seconds,
            "changedBlockSource": listed or made.mode,
            "fallbackReason": made.fallback,
            "unreadable": work.source.unreadable,
            "fileSystem": work.file_system,
            "peakMemoryBytes": peak_memory(),
        },
        labels=request.labels,
    )
    return data, entry


def _summary(work: Work, made: Made, changes: Changes) -> tuple[dict[str, Any], Records]:
    """Changes to the parent's summary; whole again when too many changes lie upon each other."""
    entry, parent, records = made.parent_entry, made.parent, changes.records()
    if entry is None or parent is None:
        return {"base": None, "depth": 0}, records
    if not len(records):
        return parent.facts["summary"], parent.records  # the same as the parent's own, at no greater depth
    if parent.depth + 1 >= MAX_DEPTH:
        base = work.roots.summary(ObjectName.parse(entry.object))
        return {"base": None, "depth": 0}, changes.apply(base).records
    below = {"object": entry.object, "bytes": entry.object_bytes}
    return {"base": below, "depth": parent.depth + 1}, records


def peak_memory() -> int:
    """The most memory that this process has had resident, in bytes."""
    # Linux lets a process begin with the peak of the one that started it, in getrusage but not here.
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def result_of(state: State, entry: RootEntry) -> BackupResult:
    """The result of a committed backup, as its run reported it."""
    figures = entry.figures
    return BackupResult(
        backup_id=entry.id,
        volume=state.volume,
        type=entry.type,
        size=entry.size,
        bytes_scanned=figures["bytesScanned"],
        bytes_changed=figures["bytesChanged"],
        bytes_stored=figures["bytesStored"],
        requests=figures["requests"],
        seconds=figures["seconds"],
        root_hash=entry.content_hash,
        created_at=entry.created_at,
        changed_block_source=figures["changedBlockSource"],
        fallback_reason=figures["fallbackReason"],
        unreadable=figures["unreadable"],
        file_system=figures["fileSystem"],
        peak_memory_bytes=figures["peakMemoryBytes"],
        used_bytes=state.used_bytes,
        locked_until=entry.extra.get(LOCKED_UNTIL),
    )
