"""What goes wrong at a step, wherever it can be made: in the operator's requests, by a user, and by other hands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from blockvault.core.naming import CLAIM_LABEL, OPERATION_LABEL, claim_label
from blockvault.core.objects import job_ended
from tests.scenario.environment import OPERATOR_NAMESPACE, Object

from .director import Once, Point, Verdict, When
from .scenarios import Scenario

FOREIGN = "example.com/hold"
# How long a foreign finalizer holds what is to go.
HELD_SECONDS = 5.0


@dataclass(frozen=True)
class Fault:
    """`when`: at which side of the step. `may_fail`: an Error with its reason is a true end, too.

    `orphans`: storage is lost to sight by what somebody does by hand, which no operator can see.
    """

    name: str
    when: When
    verdict: Verdict = "go"
    do: Callable[[Scenario], None] | None = None
    may_fail: bool = False
    orphans: bool = False

    def at(self, step: str, call: int, scenario: Scenario) -> Once:
        """The rule that makes it at one request of a step."""
        act = self.do

        def strike(_: Point) -> None:
            if act is not None:
                act(scenario)

        return Once(Point(step, call, self.when).key, self.verdict, strike)


def cancel(scenario: Scenario) -> None:
    """`spec.cancel` of the subject."""
    if scenario.kind in ("backup", "restore"):
        found = scenario.found()
        if found is not None:
            scenario.world.apply(_as_manifest(found, cancel=True))


def delete(scenario: Scenario) -> None:
    """The subject is deleted."""
    if scenario.kind in ("backup", "restore") and scenario.found() is not None:
        scenario.world.delete(scenario.kind, scenario.subject)


def keep(scenario: Scenario) -> None:
    """The Vault that is deleted is to keep its data."""
    vault = scenario.world.get("vault", scenario.vault)
    if vault is not None:
        scenario.world.apply(_as_manifest(vault, deletionPolicy="Retain"))


def _as_manifest(found: Object, **spec: object) -> Object:
    meta = {key: found["metadata"][key] for key in ("name", "namespace")}
    return {
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "metadata": meta,
        "spec": {**found["spec"], **spec},
    }


def made(scenario: Scenario, kind: str) -> list[Object]:
    """What there is of a kind for the subject."""
    subject = scenario.found()
    if subject is None:
        return []
    uid = subject["metadata"]["uid"]
    return [
        o for o in scenario.world.list(kind)
        if (o["metadata"].get("labels") or {}).get(OPERATION_LABEL) == uid
        or (kind == "volumesnapshotcontents" and o["spec"]["volumeSnapshotRef"]["name"] == f"bv-{uid}")
    ]  # fmt: skip


def remove(kind: str) -> Callable[[Scenario], None]:
    """Somebody deletes what was made for the subject."""

    def act(scenario: Scenario) -> None:
        for obj in made(scenario, kind):
            scenario.world.delete(kind, obj["metadata"]["name"], obj["metadata"].get("namespace"))

    return act


def hold(kind: str) -> Callable[[Scenario], None]:
    """Somebody else's finalizer holds what was made for the subject, for a while."""

    def act(scenario: Scenario) -> None:
        found = made(scenario, kind)
        for obj in found:
            scenario.world.set_finalizer(kind, obj, FOREIGN, True)

        def release() -> None:
            for obj in found:
                scenario.world.set_finalizer(kind, obj, FOREIGN, False)

        timer = threading.Timer(HELD_SECONDS, release)
        timer.daemon = True
        timer.start()
        scenario.timers.append(timer)

    return act


def lose_words(scenario: Scenario) -> None:
    """The mover's pod goes when it has ended, with what it has said."""
    end = time.monotonic() + scenario.world.patience
    while not any(job_ended(job) for job in made(scenario, "jobs")):
        assert time.monotonic() < end, "the mover does not end"
        time.sleep(0.1)
    remove("pods")(scenario)
    while made(scenario, "pods"):
        assert time.monotonic() < end, "its pod does not go"
        time.sleep(0.1)


def remove_kept(scenario: Scenario) -> None:
    """Somebody deletes the snapshots that the operator keeps of the claim."""
    for obj in scenario.world.list("volumesnapshots"):
        label = (obj["metadata"].get("labels") or {}).get(CLAIM_LABEL)
        here = obj["metadata"]["namespace"] == OPERATOR_NAMESPACE
        if here and label == claim_label(scenario.world.namespace, scenario.claim):
            scenario.world.delete("volumesnapshots", obj["metadata"]["name"], OPERATOR_NAMESPACE)


def mover(scenario: Scenario) -> None:
    """The movers that run are killed."""
    scenario.world.kill_movers()


KINDS = {
    "snapshot": "volumesnapshots",
    "content": "volumesnapshotcontents",
    "claim": "pvc",
    "volume": "pv",
    "job": "jobs",
    "secret": "secrets",
    "pod": "pods",
}

DIES = Fault("operator-dies-after", "after", "die")
# What a request can meet.
REQUEST = (
    Fault("operator-dies-before", "before", "die"),
    DIES,
    Fault("refused", "before", "fail"),
    Fault("answer-lost", "after", "fail"),
)
MOVER_DIES = Fault("mover-dies", "after", do=mover)
# What others do meanwhile.
USERS = (
    Fault("cancelled", "after", do=cancel, may_fail=True),
    Fault("deleted", "after", do=delete, may_fail=True),
)
REMOVED = tuple(
    Fault(f"{word}-removed", "after", do=remove(kind), may_fail=True, orphans=word in ("content", "volume"))
    for word, kind in KINDS.items()
)
HELD = tuple(Fault(f"{word}-held", "after", do=hold(kind)) for word, kind in KINDS.items())


def harm(how: str) -> Callable[[Scenario], None]:
    """Something around the operator breaks, as only a real cluster can show it."""
    return lambda scenario: scenario.world.harm(how)


# Programs of the lab that die and are started again, and what the storage and the store do. At each step one of each row.
AROUND = (
    ("kubelet-node1", "csi-driver-node1"),
    ("csi-provisioner", "csi-attacher", "csi-snapshotter", "snapshot-controller", "kube-controller-manager", "kube-apiserver"),
    ("csi-fails", "csi-hangs", "csi-lies", "snapshots-late"),
    ("s3-errors", "s3-slow", "s3-refuses"),
)  # fmt: skip
# A mover that is refused by the store for long has failed and says so.
REAL = tuple(
    tuple(Fault(how, "after", do=harm(how), may_fail=how.startswith("s3-")) for how in row) for row in AROUND
)
# For detours only.
DETOURS = (
    Fault("kept", "after", do=keep),
    Fault("words-lost", "after", do=lose_words),
    Fault("kept-snapshot-removed", "before", do=remove_kept),
)
BY_NAME = {
    fault.name: fault for fault in (*REQUEST, MOVER_DIES, *USERS, *REMOVED, *HELD, *chain(*REAL), *DETOURS)
}
