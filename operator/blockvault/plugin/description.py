"""The text of `describe`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from blockvault.core.objects import Object
from blockvault.plugin import facts, rows, words
from blockvault.plugin.facts import status_of
from blockvault.plugin.picture import retention_words, schedule_words
from blockvault.plugin.words import ago, ahead, name_of
from blockvault.terminal import size

Line = tuple[str, object]


def describe(kind: str, obj: Object, now: datetime) -> str:
    """Lines of `label: value`, without what is not known; longer texts stand below their label."""
    lines: list[Line] = [("Name", name_of(obj)), ("Kind", kind), ("Namespace", facts.namespace_of(obj))]
    lines += _KINDS.get(kind, _plain)(obj, now)
    shown = [(label, str(value)) for label, value in lines if value not in (None, "", words.NONE, [])]
    width = max(len(label) for label, _ in shown) + 2
    return "".join(_line(label, value, width) for label, value in shown)


def _line(label: str, value: str, width: int) -> str:
    first, *more = value.splitlines() or [""]
    return f"{label + ':':<{width}} {first}\n" + "".join(f"{'':<{width}} {line}\n" for line in more)


def _state(obj: Object, now: datetime) -> Iterator[Line]:
    """Phase, reason, message and remedy."""
    status = status_of(obj)
    yield "Phase", facts.phase_of(obj)
    yield "Reason", status.get("reason")
    message, remedy = str(status.get("message") or ""), facts.remedy(obj)
    yield "Message", message
    yield "What to do", "" if remedy in message else remedy
    if facts.at_work(obj) and facts.percent_of(obj) is not None:
        yield "Progress", facts.progress_words(obj, now)


def _time(text: object, now: datetime) -> str:
    moment = words.moment(str(text) if text else None)
    if moment is None:
        return ""
    near = f"{ago(str(text), now)} ago" if moment <= now else ahead(str(text), now)
    return f"{text} ({near})"


def _times(obj: Object, now: datetime) -> Iterator[Line]:
    status = status_of(obj)
    yield "Made", _time(facts.created_of(obj), now)
    yield "Started", _time(status.get("startedAt"), now)
    yield "Ended", _time(status.get("completedAt"), now)
    mover = status.get("mover") or {}
    yield "Mover", mover.get("job")
    yield "Attempts", mover.get("attempts")
    yield "Error class", mover.get("errorClass")
    if facts.phase_of(obj) == "Error":
        yield "Last words", str(mover.get("lastWords") or "").strip()


def _backup(obj: Object, now: datetime) -> Iterator[Line]:
    status, spec, volume = status_of(obj), obj.get("spec") or {}, facts.volume_of(obj)
    yield "Claim", facts.claim_of(obj)
    yield "Vault", facts.vault_of(obj)
    yield "Description", spec.get("description")
    yield from _state(obj, now)
    yield "Type", status.get("type")
    yield "Asked for by", " ".join(filter(None, [status.get("trigger"), status.get("policy")]))
    yield "Slot", status.get("slot")
    yield "Shows", _time(volume.get("snapshotTime"), now)
    yield from _times(obj, now)
    yield "Size", _size(volume.get("size"))
    yield "Scanned", _size(volume.get("bytesScanned"))
    yield "Changed", _size(volume.get("bytesChanged"))
    yield "Stored", _size(volume.get("bytesStored"))
    source, why = volume.get("changedBlockSource"), volume.get("changedBlockReason")
    yield "Changes by", f"{source} ({why}: docs/resources.md)" if why else source
    yield "Took", words.span(volume["seconds"]) if volume.get("seconds") is not None else ""
    yield "File system", volume.get("fileSystem")
    yield "Volume mode", volume.get("volumeMode")
    yield "Storage class", volume.get("storageClassName")
    yield "Id", facts.id_of(obj)
    yield "Lies at", status.get("location")
    yield "Cluster", status.get("cluster")
    yield "Kept", retention_words(status["retention"]) if status.get("retention") else ""
    yield "Expires", _time(status.get("expiresAt"), now)


def _size(count: object) -> str:
    return f"{size(int(str(count)))} ({count} bytes)" if count is not None else ""


def _restore(obj: Object, now: datetime) -> Iterator[Line]:
    status, spec = status_of(obj), obj.get("spec") or {}
    target = next(iter(spec.get("target") or {"": 0}))
    wanted = (spec.get("backupRef") or {}).get("name")
    latest = spec.get("latestOf") or {}
    yield "Backup", status.get("backup") or wanted
    if latest:
        before = f" before {latest['before']}" if latest.get("before") else ""
        yield "Latest of", f"{(latest.get('resource') or {}).get('name')}{before}"
    yield (
        "Target",
        {"newClaim": "a new claim", "original": "in place", "populate": "claims that name it"}.get(target),
    )
    yield "Claim", facts.claim_of(obj)
    yield from _state(obj, now)
    yield from _times(obj, now)
    yield (
        "Begins with",
        {"Snapshot": "a copy of the local snapshot", "Store": "nothing"}.get(str(status.get("source"))),
    )
    result = status.get("result") or {}
    yield "Written", _size(result.get("bytesWritten"))
    yield "Read", _size(result.get("bytesRead"))
    yield "Restored at", _time(status.get("restoredAt"), now)
    yield "Back until", _time(status.get("rollbackUntil"), now)
    for stopped in status.get("workloads") or []:
        yield "Stopped", f"{stopped.get('kind')} {stopped.get('name')} of {stopped.get('replicas')}"


def _vault(obj: Object, now: datetime) -> Iterator[Line]:
    status, spec = status_of(obj), obj.get("spec") or {}
    used = facts.utilization_of(obj)
    yield "Type", spec.get("type")
    yield (
        "Class",
        spec.get("className") or ("storage of its own" if spec.get("storage") else "the default one"),
    )
    yield from _state(obj, now)
    if status.get("usedBytes") is not None:
        yield (
            "Used",
            f"{words.bar(used)} {words.percent(used)}  {size(status['usedBytes'])} of {rows.capacity_of(obj)}",
        )
    yield "Backups", status.get("backups")
    yield (
        "In the trash",
        f"{status['inTrash']}, {words.bytes_or_none(status.get('trashBytes'))}"
        if status.get("inTrash")
        else "",
    )
    yield "Lies at", status.get("location")
    yield "Encrypted", {"True": "yes", "False": "no"}.get(str(status.get("encrypted")))
    yield (
        "If deleted",
        {"Retain": "its data stays", "Delete": "its data goes too"}.get(str(status.get("deletionPolicy"))),
    )
    policy = status.get("policy") or {}
    yield "Policy", f"{policy['name']}: {policy.get('state')}" if policy else ""
    yield "Next run", _time(status.get("nextRun"), now)
    yield "Checked", _time(status.get("lastCheckedAt"), now)
    upkeep = status.get("upkeep") or {}
    if upkeep.get("endedAt"):
        yield (
            "Upkeep",
            f"{upkeep.get('reason')} {ago(upkeep['endedAt'], now)} ago, "
            f"{size(upkeep.get('deletedBytes') or 0)} removed",
        )
    yield "Claims", "\n".join(_resource(line, now) for line in status.get("resources") or [])
    yield "Conditions", "\n".join(_condition(c) for c in status.get("conditions") or [])


def _resource(line: Object, now: datetime) -> str:
    text = f"{line.get('name')}: {line.get('state')}"
    if line.get("state") != "Associated":
        return f"{text}, {line.get('reason')}: {line.get('message')}"
    last = (
        f"last backup {ago(line['lastBackupAt'], now)} ago" if line.get("lastBackupAt") else "no backup yet"
    )
    following = f", next {ahead(line['nextRun'], now)}" if line.get("nextRun") else ""
    return f"{text}, {last}{following}"


def _condition(condition: Object) -> str:
    return f"{condition.get('type')}={condition.get('status')} {condition.get('reason')}"


def _policy(obj: Object, now: datetime) -> Iterator[Line]:
    spec = obj.get("spec") or {}
    yield from _state(obj, now)
    yield "Runs", schedule_words(spec.get("schedule") or {})
    yield "Spread", (spec.get("schedule") or {}).get("spread")
    yield "Keeps", retention_words(spec.get("retention") or {})
    yield "Full every", words.several(spec["fullEveryDays"], "day") if spec.get("fullEveryDays") else ""
    yield "Next runs", "\n".join(_time(each, now) for each in status_of(obj).get("nextRuns") or [])


def _task(obj: Object, now: datetime) -> Iterator[Line]:
    spec, status = obj.get("spec") or {}, status_of(obj)
    thing = spec.get("object") or {}
    yield "Type", spec.get("type")
    yield "Object", f"{thing.get('kind')} {thing.get('name')}"
    yield "Claim", (spec.get("resource") or {}).get("name")
    yield "Vault", facts.vault_of(obj)
    yield "Asked for by", spec.get("trigger")
    yield "Phase", status.get("phase")
    yield "Reason", status.get("reason")
    yield "Message", status.get("message")
    yield "What to do", status.get("remedy")
    yield "Started", _time(status.get("startedAt"), now)
    yield "Ended", _time(status.get("completedAt"), now)


def _class(obj: Object, now: datetime) -> Iterator[Line]:
    spec = obj.get("spec") or {}
    s3 = (spec.get("storage") or {}).get("s3") or {}
    yield from _state(obj, now)
    yield "Endpoint", s3.get("endpoint")
    yield "Bucket", s3.get("bucket")
    yield "Prefix", s3.get("prefix")
    yield "Encrypted", "yes" if spec.get("encryption") else "no"
    yield "Trash", words.several(spec["trashDays"], "day") if spec.get("trashDays") is not None else ""


def _plain(obj: Object, now: datetime) -> Iterator[Line]:
    yield from _state(obj, now)


_KINDS = {
    "Backup": _backup, "Restore": _restore, "Vault": _vault, "BackupPolicy": _policy, "Task": _task,
    "VaultClass": _class,
}  # fmt: skip
