"""Back up, change one percent, back up again, delete the first, restore the second: bytes and counts."""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import zstandard

from blockvault.engine import Repository
from blockvault.stores import open_store

from . import manifests
from .environment import Environment, Object, Write, gone, phase_is

MIB = 1 << 20
BLOCK = 256 << 10
OPERATION_LABEL = "blockvault.dev/operation"
CLAIM_LABEL = "blockvault.dev/claim"
NAMESPACE_ANNOTATION = "blockvault.dev/namespace"
# What may be kept besides the touched blocks themselves (C4 and the goal of the first strength).
STORED_BOUND = 1.2


@dataclass
class Report:
    """What the scenario measured; seconds by step, bytes as the Backups' statuses say."""

    seconds: dict[str, float] = field(default_factory=dict)
    volumes: list[Object] = field(default_factory=list)
    touched_compressed: int = 0


def back_up_change_restore(
    env: Environment, *, size: int = 64 * MIB, timeout: float = 120.0, name: str = "walk"
) -> Report:
    """Run it. Raises AssertionError with what differs, TimeoutError with what hangs.

    The claim is mostly holes, as new volumes are: a quarter is written, then about 1 % is changed.
    """
    report, clock = Report(), time.monotonic
    image = bytearray(size)
    env.apply(*manifests.vault_class(name, env.storage, name), manifests.vault(name, name))
    env.make_claim(f"{name}-data", size)
    _write(env, f"{name}-data", image, [Write(i * 4 * MIB, MIB, seed=i) for i in range(size // (4 * MIB))])
    env.wait_for("vault", name, phase_is("Available"), timeout=timeout)

    start = clock()
    first = _back_up(env, f"{name}-1", name, timeout)
    report.seconds["full"] = clock() - start
    assert first["type"].lower() == "full", first
    report.volumes.append(first["volumes"][0])

    changes = _one_percent(size)
    before = bytes(image)
    _write(env, f"{name}-data", image, changes)
    start = clock()
    second = _back_up(env, f"{name}-2", name, timeout)
    report.seconds["incremental"] = clock() - start
    report.volumes.append(second["volumes"][0])
    report.touched_compressed = touched_compressed(before, bytes(image))
    check_incremental(second, report.touched_compressed)
    check_nothing_is_left(env, newest=f"{name}-2")

    env.delete("backup", f"{name}-1")
    env.wait_for("backup", f"{name}-1", gone, timeout=timeout)
    check_the_store(env, name, second["volumes"][0], bytes(image))

    start = clock()
    env.apply(
        manifests.restore(
            f"{name}-restore", f"{name}-2", f"{name}-copy", env.storage_class, f"{size // MIB}Mi"
        )
    )
    env.wait_for("restore", f"{name}-restore", phase_is("Completed"), timeout=timeout)
    report.seconds["restore"] = clock() - start
    expected = hashlib.sha256(image).hexdigest()
    # A claim of another class cannot begin as a copy of the local snapshot (D7): all of it comes from the store.
    other = "bv-immediate" if env.storage_class == "bv-wait" else "bv-wait"
    env.apply(manifests.restore(f"{name}-far", f"{name}-2", f"{name}-far", other, f"{size // MIB}Mi"))
    env.wait_for("restore", f"{name}-far", phase_is("Completed"), timeout=timeout)
    for restore, claim, source in (("restore", "copy", "Snapshot"), ("far", "far", "Store")):
        status = (env.get("restore", f"{name}-{restore}") or {})["status"]
        assert status["source"] == source, status
        assert {t["name"] for t in status["timings"]} >= {"Moving", "HandingOver"}, status
        found = env.digest(f"{name}-{claim}", size)
        assert found == expected, f"the restored claim differs: {found} is not {expected}"
    assert env.digest(f"{name}-data", size) == expected, "the source was changed"
    check_nothing_is_left(env, newest=f"{name}-2")
    return report


def check_incremental(status: Object, touched: int) -> None:
    """A second Backup is incremental and stores little more than what was touched."""
    assert status["type"].lower() == "incremental", status
    volume = status["volumes"][0]
    assert 0 < volume["bytesStored"] <= STORED_BOUND * touched, (volume, touched)


def check_nothing_is_left(env: Environment, newest: str) -> None:
    """No claim, Secret or volume of an operation is left, and of the claim's snapshots the newest only."""
    keeper = (env.get("backup", newest) or {})["metadata"]["uid"]
    restored = {f"bv-{r['metadata']['uid']}" for r in env.list("restore")}
    temporary = [o for kind in ("pvc", "pv", "secrets") for o in _made_for(env, kind)]
    # A restored claim's volume keeps its name for good.
    left = [_words(o) for o in temporary if o["metadata"]["name"] not in restored]
    assert not left, left
    for kind in ("volumesnapshots", "volumesnapshotcontents"):
        made = _made_for(env, kind)
        kept = [o for o in made if _label(o, OPERATION_LABEL) == keeper]
        assert len(kept) == 1, (kind, [_words(o) for o in made])
        claim = _label(kept[0], CLAIM_LABEL)
        strangers = [_words(o) for o in made if _label(o, CLAIM_LABEL) == claim and o not in kept]
        assert not strangers, strangers


def check_the_store(env: Environment, vault: str, volume: Object, image: bytes) -> None:
    """The bucket alone holds that one backup of the volume, and gives its bytes back without any cluster."""
    location = (env.get("vault", vault) or {})["status"]["location"]
    repository = Repository.open(open_store(env.storage.at(location)))
    stored = repository.list(volume["lineageVolume"])
    found = [entry["backupId"] for entry in stored if "trash" not in entry["labels"]]
    assert found == [volume["backupId"]], found
    assert len(stored) == 2, "what was deleted is trash for a week (F18)"
    with tempfile.NamedTemporaryFile() as target:
        target.truncate(len(image))
        repository.restore(volume["lineageVolume"], target.name)
        target.seek(0)
        assert target.read() == image, "the store holds other bytes than the claim"


def _made_for(env: Environment, kind: str) -> list[Object]:
    """What operations of this namespace have made, wherever it lies."""
    made = [o for o in env.list(kind) if _label(o, OPERATION_LABEL)]
    return [o for o in made if o["metadata"]["annotations"][NAMESPACE_ANNOTATION] == env.namespace]


def touched_compressed(before: bytes, after: bytes) -> int:
    """Bytes of the 256 KiB blocks that differ, each compressed by zstd level 1."""
    starts = range(0, len(after), BLOCK)
    changed = [after[s : s + BLOCK] for s in starts if before[s : s + BLOCK] != after[s : s + BLOCK]]
    return sum(len(zstandard.compress(block, 1)) for block in changed)


def _back_up(env: Environment, name: str, vault: str, timeout: float) -> dict[str, Any]:
    env.apply(manifests.backup(name, vault, f"{vault}-data"))
    status = env.wait_for("backup", name, phase_is("Available"), timeout=timeout)["status"]
    assert len(status["volumes"]) == 1, status
    check_timings(status)
    return dict(status)


def check_timings(status: Object) -> None:
    """Each step that there must be has its time, and together they are the whole of it."""
    timings = {timing["name"]: timing for timing in status["timings"]}
    assert {"Snapshotting", "Binding", "Moving", "CleaningUp"} <= timings.keys(), timings
    assert len(timings) == len(status["timings"]), timings
    first, last = status["timings"][0], status["timings"][-1]
    began, ended = (datetime.fromisoformat(t["startTime"]) for t in (first, last))
    whole = (ended - began).total_seconds() + last["seconds"]
    assert abs(sum(t["seconds"] for t in timings.values()) - whole) < 0.1, timings
    mover = {timing["name"]: timing["seconds"] for timing in status["mover"]["timings"]}
    assert mover.keys() >= {"Loading", "Opening", "Reading", "Committing"}, mover
    # A node's clock may be another one: only what a clock of its own measures is compared.
    assert sum(mover.values()) < whole, (mover, whole)


def _one_percent(size: int) -> list[Write]:
    """Changes of 1 % in all, in four places of what was written, the last one over a block's border."""
    length = size // 400 // 4096 * 4096
    chosen = random.Random(7).sample(range(size // (4 * MIB)), 3)
    places = [i * 4 * MIB + 128 * 1024 for i in chosen] + [size - 3 * MIB - length // 2]
    return [Write(place, length, seed=1000 + n) for n, place in enumerate(places)]


def _write(env: Environment, claim: str, image: bytearray, writes: list[Write]) -> None:
    env.write(claim, writes)
    for write in writes:
        image[write.offset : write.offset + write.length] = write.data


def _label(obj: Object, name: str) -> str | None:
    value: str | None = (obj["metadata"].get("labels") or {}).get(name)
    return value


def _words(obj: Object) -> str:
    return f"{obj['kind']} {obj['metadata'].get('namespace', '')} {obj['metadata']['name']}"
