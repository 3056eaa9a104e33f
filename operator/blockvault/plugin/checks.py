"""What the doctor finds: in a cluster, and around one object that does not go on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from blockvault.core.admission import choose_snapshot_class
from blockvault.core.changed import read_service
from blockvault.core.conditions import find_condition
from blockvault.core.decision import Missing, Refusal
from blockvault.core.naming import DEFAULT_CLASS_ANNOTATION
from blockvault.core.objects import Object, claim_is_bound, snapshot_error, snapshot_is_ready
from blockvault.core.reasons import REASONS
from blockvault.plugin import facts, trouble, words
from blockvault.plugin.facts import status_of
from blockvault.plugin.words import name_of, several

Level = Literal["ok", "warn", "fail"]
# Clocks that differ by less say nothing: an answer takes its time. S3 refuses at fifteen minutes.
SKEW, TOO_MUCH = timedelta(seconds=30), timedelta(minutes=10)
CHANGED_BLOCKS = "changed blocks"


@dataclass(frozen=True)
class Finding:
    """One line: `check` is what was looked at."""

    level: Level
    check: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Seen:
    """What the doctor could see; None is what may not be read, or what the cluster does not know.

    `may`: rights by what they are for; `services`: SnapshotMetadataServices; `server`: the API server's time.
    """

    now: datetime
    vaults: list[Object]
    policies: list[Object]
    claims: list[Object] | None = None
    vault_classes: list[Object] | None = None
    storage_classes: list[Object] | None = None
    snapshot_classes: list[Object] | None = None
    services: list[Object] | None = None
    operators: list[Object] | None = None
    server: datetime | None = None
    may: Mapping[str, bool | None] = field(default_factory=dict)
    snapshots_known: bool = True


def examine(seen: Seen) -> list[Finding]:
    """Whether this cluster will work."""
    return [
        Finding("ok", "API server", "it answers, and knows our definitions"),
        *_clock(seen),
        *_operator(seen),
        *_rights(seen.may),
        *_classes(seen),
        *_storage(seen),
        *_vaults(seen),
        *_policies(seen),
    ]


def _clock(seen: Seen) -> Iterator[Finding]:
    if seen.server is None:
        return
    apart = abs(seen.now - seen.server)
    told = words.span(apart.total_seconds())
    if apart > TOO_MUCH:
        yield Finding(
            "fail",
            "clock",
            f"this machine's and the API server's are {told} apart",
            "Set the clocks right (NTP).",
        )
    elif apart > SKEW:
        yield Finding(
            "warn",
            "clock",
            f"this machine's and the API server's are {told} apart",
            "Set the clocks right (NTP).",
        )
    else:
        yield Finding("ok", "clock", "this machine's and the API server's agree")


def _operator(seen: Seen) -> Iterator[Finding]:
    last = trouble.silence(seen.vaults)
    looked = f"it looked at a vault {words.ago(last.isoformat(), seen.now)} ago" if last else ""
    if seen.operators:
        for each in seen.operators:
            where = f"{each['metadata'].get('namespace')}/{name_of(each)}"
            image = (((each["spec"].get("template") or {}).get("spec") or {}).get("containers") or [{}])[
                0
            ].get("image")
            if status_of(each).get("availableReplicas"):
                yield Finding(
                    "ok", "operator", ", ".join(filter(None, [f"{where} is available ({image})", looked]))
                )
            else:
                yield Finding(
                    "fail", "operator", f"{where} has no pod that is ready",
                    f"`kubectl -n {each['metadata'].get('namespace')} get pods`, and the log of the one there is.",
                )  # fmt: skip
        return
    silent = last is None or seen.now - last > trouble.SILENCE
    if seen.operators is not None and (silent or not seen.vaults):
        yield Finding("fail", "operator", "there is no Deployment of it", "Install the chart.")
    elif last is None:
        yield Finding(
            "warn",
            "operator",
            "you may not see its Deployment, and no vault was looked at",
            "Ask an administrator.",
        )
    elif silent:
        yield Finding("fail", "operator", looked, "Ask an administrator whether it runs.")
    else:
        yield Finding("ok", "operator", looked)


def _rights(may: Mapping[str, bool | None]) -> Iterator[Finding]:
    if not may or all(allowed is None for allowed in may.values()):
        return
    yes = [what for what, allowed in may.items() if allowed]
    no = [what for what, allowed in may.items() if allowed is False]
    detail = f"you may {', '.join(yes) or 'nothing'}" + (f"; not {', '.join(no)}" if no else "")
    remedy = "Roles are explained in docs/kubectl.md: view looks, edit backs up and restores, admin changes vaults."
    yield Finding("warn" if no else "ok", "permissions", detail, remedy if no else "")


def _classes(seen: Seen) -> Iterator[Finding]:
    if seen.vault_classes is None:
        return
    if not seen.vault_classes:
        own = any((v.get("spec") or {}).get("storage") for v in seen.vaults)
        if not own:
            yield Finding(
                "warn",
                "vault classes",
                "there is none",
                "Make one, or give each Vault storage of its own: docs/resources.md.",
            )
        return
    for each in seen.vault_classes:
        if facts.phase_of(each) == "Error":
            yield _said("vault class", each)
    default = [
        name_of(c) for c in seen.vault_classes
        if (c["metadata"].get("annotations") or {}).get(DEFAULT_CLASS_ANNOTATION) == "true"
    ]  # fmt: skip
    told = f"the default one is {default[0]}" if len(default) == 1 else "none is the default one"
    if len(default) > 1:
        yield Finding(
            "warn",
            "vault classes",
            f"several are the default: {', '.join(default)}",
            "Leave the annotation on one.",
        )
    else:
        names = ", ".join(name_of(c) for c in seen.vault_classes)
        yield Finding("ok", "vault classes", f"{names}; {told}")


def _said(check: str, obj: Object) -> Finding:
    status = status_of(obj)
    return Finding(
        "fail",
        f"{check} {name_of(obj)}",
        f"{status.get('reason')}: {status.get('message')}",
        facts.remedy(obj),
    )


def _storage(seen: Seen) -> Iterator[Finding]:
    if not seen.snapshots_known:
        yield Finding(
            "fail", "snapshots", "the cluster does not know VolumeSnapshots",
            "Install the CSI snapshot definitions and the snapshot controller (kubernetes-csi/external-snapshotter).",
        )  # fmt: skip
        return
    if seen.storage_classes is None:
        return
    used = {c["spec"].get("storageClassName") for c in seen.claims or [] if claim_is_bound(c)}
    looked = [s for s in seen.storage_classes if name_of(s) in used] or seen.storage_classes
    drivers: dict[str, list[str]] = {}
    for each in looked:
        drivers.setdefault(str(each.get("provisioner")), []).append(name_of(each))
    services = {name_of(s): s for s in seen.services or []}
    for driver, names in sorted(drivers.items()):
        check = f"storage {', '.join(names)}"
        if driver.startswith("kubernetes.io/"):
            yield Finding(
                "warn", check, f"{driver} is no CSI driver: its volumes have no snapshots and cannot be backed up",
                "Move the data to a class of a CSI driver with snapshots.",
            )  # fmt: skip
            continue
        if seen.snapshot_classes is not None:
            chosen = choose_snapshot_class(driver, seen.snapshot_classes)
            if isinstance(chosen, Missing | Refusal):
                yield Finding("fail", check, chosen.message, REASONS[chosen.reason].remedy)
                continue
            yield Finding("ok", check, f"{driver} takes snapshots by {name_of(chosen)}")
        if seen.services is None:
            continue
        service = read_service(services.get(driver))
        if not isinstance(service, str):
            yield Finding("ok", f"{CHANGED_BLOCKS} {driver}", f"are told by {service.address}")
        elif driver in services:
            yield Finding(
                "warn",
                f"{CHANGED_BLOCKS} {driver}",
                f"the SnapshotMetadataService is not usable: {service}",
                "docs/resources.md, Changed blocks.",
            )
        else:
            yield Finding(
                "ok",
                f"{CHANGED_BLOCKS} {driver}",
                "no service tells them: backups read whole volumes and send what changed",
            )


def _vaults(seen: Seen) -> Iterator[Finding]:
    if not seen.vaults:
        yield Finding("warn", "vaults", "there is none here", "Make one: docs/resources.md.")
    for vault in seen.vaults:
        status = status_of(vault)
        reachable = find_condition(status.get("conditions") or [], "StoreReachable")
        if reachable is None:
            yield Finding(
                "warn",
                f"vault {name_of(vault)}",
                "it was not looked at yet",
                "Wait; else see the operator's log.",
            )
        elif reachable.get("status") != "True":
            reason = str(reachable.get("reason"))
            remedy = REASONS[reason].remedy if reason in REASONS else ""
            yield Finding("fail", f"vault {name_of(vault)}", f"{reason}: {reachable.get('message')}", remedy)
        else:
            yield Finding(
                "ok",
                f"vault {name_of(vault)}",
                f"{status.get('location')} answers and keeps what it is given",
            )


def _policies(seen: Seen) -> Iterator[Finding]:
    for policy in seen.policies:
        if facts.phase_of(policy) == "Error":
            yield _said("policy", policy)


@dataclass(frozen=True)
class Around:
    """What stands around a Backup or Restore; None is what may not be read."""

    now: datetime
    vault: Object | None = None
    vault_name: str = ""
    claim: Object | None = None
    claim_name: str = ""
    rivals: Sequence[Object] = ()
    snapshots: Sequence[Object] = ()
    users: Sequence[str] = ()
    events: Sequence[Object] = ()


def explain(kind: str, obj: Object, around: Around) -> list[Finding]:
    """Why an object is where it is: its own words first, then what stands around it."""
    status, phase = status_of(obj), facts.phase_of(obj)
    reason = str(status.get("reason") or "")
    known = REASONS.get(reason)
    bad = phase == "Error"
    level: Level = "fail" if bad else "warn" if known and known.sort == "waits" else "ok"
    since = words.ago(facts.ended_of(obj) if not facts.at_work(obj) else facts.created_of(obj), around.now)
    told = f"{phase} for {since}" + (
        f", {reason}: {known.cause}" if known else f", {reason}" if reason else ""
    )
    found = [Finding(level, f"{kind} {name_of(obj)}", told, known.remedy if known else "")]
    if not status.get("phase"):
        found = [Finding(
            "fail", f"{kind} {name_of(obj)}", f"nobody has looked at it for {since}",
            "`kubectl blockvault doctor` says whether the operator runs.",
        )]  # fmt: skip
    if status.get("message"):
        found.append(Finding(level, "its message", str(status["message"])))
    if facts.percent_of(obj) is not None and facts.at_work(obj):
        found.append(Finding("ok", "progress", facts.progress_words(obj, around.now)))
    found += _around(obj, around)
    return found


def _around(obj: Object, around: Around) -> Iterator[Finding]:
    if around.vault_name:
        if around.vault is None:
            yield Finding("fail", "its vault", f"there is no Vault {around.vault_name}", "Create it.")
        else:
            phase = facts.phase_of(around.vault)
            used = facts.utilization_of(around.vault)
            usable = phase in ("Available", "Locked") and used <= trouble.FULL
            said = "" if usable else status_of(around.vault).get("message")
            message = f": {said}" if said else ""
            yield Finding(
                "ok" if usable else "fail",
                "its vault",
                f"{around.vault_name} is {phase}, {words.percent(used)} full{message}",
            )
    if not facts.at_work(obj):
        return
    if around.claim_name and around.claim is None:
        yield Finding("warn", "its claim", f"there is no claim {around.claim_name}")
    elif around.claim is not None:
        bound = claim_is_bound(around.claim)
        there = (around.claim.get("status") or {}).get("phase")
        yield Finding("ok" if bound else "warn", "its claim", f"{around.claim_name} is {there}")
    for rival in around.rivals:
        yield Finding(
            "warn", "another operation",
            f"{rival.get('kind')} {name_of(rival)} is {facts.phase_of(rival)} on the same claim",
            "One runs at a time; cancel that one to go first.",
        )  # fmt: skip
    for snapshot in around.snapshots:
        error = snapshot_error(snapshot)
        ready = "ready" if snapshot_is_ready(snapshot) else "not ready"
        yield Finding("fail" if error else "ok", "its snapshot", error or f"{name_of(snapshot)} is {ready}")
    if around.users and obj.get("kind") == "Restore" and "original" in (obj["spec"].get("target") or {}):
        yield Finding(
            "warn",
            "pods that use it",
            ", ".join(around.users),
            "Stop them, or make the Restore with --stop-workload.",
        )
    for event in sorted(around.events, key=_event_time)[-5:]:
        text = event.get("note") or event.get("message") or ""
        level: Level = "warn" if event.get("type") == "Warning" else "ok"
        yield Finding(level, "event", f"{event.get('reason')}: {text}")


def _event_time(event: Object) -> str:
    return str(event.get("eventTime") or event.get("deprecatedLastTimestamp") or facts.created_of(event))


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level there is."""
    levels = {f.level for f in findings}
    return "fail" if "fail" in levels else "warn" if "warn" in levels else "ok"


def verdict(findings: Sequence[Finding]) -> str:
    """The last line."""
    failed = sum(f.level == "fail" for f in findings)
    warned = sum(f.level == "warn" for f in findings)
    if failed:
        return f"{several(failed, 'check fails', 'checks fail')}, {several(warned, 'warning')}."
    return f"It will work, with {several(warned, 'warning')}." if warned else "All is well."
