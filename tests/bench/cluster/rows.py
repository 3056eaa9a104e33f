"""The rows: four kinds of work on one claim, by Blockvault and by Velero in turn, and what their time went into."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.bench.cluster import velero
from tests.bench.cluster.blockvault import Blockvault
from tests.bench.cluster.measured import (
    BACKUPS,
    CHANGED,
    FIRST,
    RESTORE,
    RESTORE_FAR,
    RESTORES,
    UNCHANGED,
    Program,
    Took,
)
from tests.bench.cluster.storage import Claim, Sizes, check, digest
from tests.bench.rows import Bench, Cell, Chart, Goal, Outcome, Row, WorkFailed, say
from tests.cluster.kube import Kube
from tests.cluster.lab import Cluster, LabError

NAMESPACE = "app"
LIMIT = 1800.0  # seconds for one step
MB = 10**6
# By another CSI driver on another day; shown where Velero does not run.
FORMER = {FIRST: 82.7, UNCHANGED: 49.9, CHANGED: 59.3, RESTORE: 59.8, RESTORE_FAR: 59.8}
FORMER_STORED = {FIRST: 2930, UNCHANGED: 0.1, CHANGED: 608}
FASTER = {FIRST: 4, UNCHANGED: 6, CHANGED: 7, RESTORE: 3, RESTORE_FAR: 3}
OURS, THEIRS = "Blockvault", "Velero"


@dataclass
class Found:
    """What a run measured: by step and program, of each round."""

    took: dict[str, dict[str, list[Took]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    def add(self, step: str, program: str, took: Took) -> None:
        """Note one measurement."""
        self.took.setdefault(step, {}).setdefault(program, []).append(took)
        self.loads.append(os.getloadavg()[0])
        own = "" if took.own is None else f", of it its own {took.own:.1f}"
        say(f"  {step}, {program}: {took.seconds:.1f} s{own}, {took.stored / MB:.1f} MB stored")

    def median(self, step: str, program: str) -> Took | None:
        """The measurement of the median time, the quicker one of two; None where there is none."""
        found = sorted(self.took.get(step, {}).get(program, []), key=lambda took: took.seconds)
        return found[(len(found) - 1) // 2] if found else None


@functools.cache
def measure(bench: Bench) -> Found:
    """Boot the cluster, install both, and measure; once a run, for all rows."""
    found, sizes = Found(), Sizes.of(bench)
    with Cluster() as cluster:
        cluster.kubectl("create", "namespace", NAMESPACE)
        kube = Kube(cluster, NAMESPACE)
        kube.wait("serviceaccount", "default", bool, 30)
        claim = Claim(kube, sizes)
        found.notes += claim.fill(bench)
        programs: list[Program] = [Blockvault(cluster, NAMESPACE, sizes.claim, LIMIT)]
        with _told(found):
            programs.append(velero.Velero(cluster, LIMIT))
        order = itertools.cycle([programs, programs[::-1]])
        _backups(found, FIRST, programs)
        for number in range(bench.rounds):
            say(f"  round {number + 1}")
            _backups(found, UNCHANGED, next(order))
            claim.change()
            _backups(found, CHANGED, next(order))
            wanted = digest(cluster, NAMESPACE, claim.name)
            for step in RESTORES:
                _restores(found, step, next(order), cluster, wanted)
    return found


@contextlib.contextmanager
def _told(found: Found) -> Iterator[None]:
    """Go on without Velero where it does not run here, and say why."""
    try:
        yield
    except (LabError, WorkFailed, AssertionError) as error:
        words = str(error).strip()
        say(words)
        found.notes.append(
            f"**Velero did not run here** ({words.splitlines()[0][:300]}): figures of it, where there are any, are those "
            "of another run, by the upstream hostpath driver on a machine of this kind."
        )


def _settle(programs: list[Program]) -> None:
    """Wait until nothing is going on that nobody asked for, so that nobody pays for the other."""
    deadline = time.monotonic() + 300
    while any(program.busy() for program in programs):
        if time.monotonic() > deadline:
            raise WorkFailed("something goes on and on in the cluster")
        time.sleep(1)


def _backups(found: Found, step: str, programs: list[Program]) -> None:
    for program in list(programs):
        _settle(programs)
        found.add(step, program.name, program.back_up(NAMESPACE, Claim.name))


def _restores(found: Found, step: str, programs: list[Program], cluster: Cluster, wanted: str) -> None:
    for program in list(programs):
        if step == RESTORE_FAR and program.name == THEIRS:
            continue  # for Velero both are the same
        _settle(programs)
        took, namespace, name = program.restore(NAMESPACE, Claim.name, far=step == RESTORE_FAR)
        found.add(step, program.name, took)
        check(cluster, namespace, name, wanted)
        Kube(cluster, namespace).delete("pvc", name, seconds=120)


def table(bench: Bench) -> Outcome:
    """How long the user waits, and what is stored."""
    found, sizes = measure(bench), Sizes.of(bench)
    lines: list[list[Cell]] = []
    outcome = Outcome(
        ["work", f"{OURS} s", f"{THEIRS} s", "times as quick", f"{OURS}: its own s", f"{OURS}: stored MB",
         f"{THEIRS}: stored MB"],
        lines, [], notes=list(found.notes),
    )  # fmt: skip
    bars: dict[str, list[float]] = {}
    for step in (*BACKUPS, *RESTORES):
        ours = found.median(step, OURS)
        theirs = found.median(RESTORE if step == RESTORE_FAR else step, THEIRS)
        assert ours is not None
        # Former figures are of the full size: beside a small run they would mean nothing.
        seconds = theirs.seconds if theirs else FORMER[step] if bench.full else None
        faster = seconds / ours.seconds if seconds else None
        stored: list[Cell] = [None, None]
        if step in BACKUPS:
            former = FORMER_STORED[step] if bench.full else None
            stored = [ours.stored / MB, theirs.stored / MB if theirs else former]
        lines.append([step, ours.seconds, seconds, faster, ours.own, *stored])
        if faster is not None:
            outcome.goals.append(Goal(f"{step}: times as quick", faster, FASTER[step], at_least=True))
        if step == CHANGED:
            outcome.goals.append(Goal(f"{step}: MB stored", ours.stored / MB, sizes.changes * 45 / 40))
        if step == UNCHANGED and ours.own is not None:
            outcome.goals.append(Goal(f"{step}: seconds of its own", ours.own, 2))
        for program, all_of_it in found.took[step].items():
            bars[f"{program}, {step}"] = outcome.samples[f"{program}, {step}: s"] = [
                took.seconds for took in all_of_it
            ]
    outcome.charts.append(Chart("In the cluster: what the user waits for", "s", bars=bars))
    outcome.notes += _method(found, sizes)
    return outcome


def _method(found: Found, sizes: Sizes) -> list[str]:
    loads = sorted(found.loads)
    return [
        f"A raw claim of {sizes.claim / (1 << 30):g} GiB on the CSI driver of tests/cluster, in a Kubernetes of one node; "
        f"its first {sizes.file_system / (1 << 30):g} GiB hold that file system. "
        f"Scattered changes: {sizes.changes} writes of 1 MiB of random bytes, {sizes.apart >> 20} MiB apart.",
        f"Velero {velero.version()} with velero-plugin-for-aws {velero.version(velero.PLUGIN)}, node agent and data mover "
        "(snapshotMoveData), as `velero install` makes it, but for limits of memory and processors. Its first backup makes "
        "its repository; Blockvault's Vault was there. Both store to Ceph RGW in memory.",
        "Seconds: from the start of `kubectl apply` until the Backup is Available (Completed), the Restore Completed, as a "
        "watch of the API server shows it. Its own: without what Kubernetes and the storage take, from asking for a "
        "snapshot, a claim or a mover's process until it is there, and from asking for their end until they are gone.",
        "One after the other, in turn, in one run; each restored claim is equal byte for byte. Blockvault has a list of what "
        "changed from the storage (Kubernetes' SnapshotMetadata API), which Velero does not ask for. Its restore to a claim of "
        "the same class begins as a copy of the kept snapshot; all from the store it comes to another class.",
        f"Load of the machine after each step (1 minute, what is measured included): median "
        f"{loads[len(loads) // 2]:.1f}, at most {loads[-1]:.1f}.",
    ]


def steps(bench: Bench) -> Outcome:
    """Where the time went, beside each other."""
    found = measure(bench)
    lines: list[list[Cell]] = []
    for step in (*BACKUPS, *RESTORES):
        took = [found.median(step, program) for program in (OURS, THEIRS)]
        columns = [[*t.phases, ("in all", t.seconds)] if t else [] for t in took]
        for number, (ours, theirs) in enumerate(itertools.zip_longest(*columns, fillvalue=("", None))):
            lines.append([step if number == 0 else "", *ours, *theirs])
    return Outcome(
        ["work", OURS, "s", THEIRS, "s"],
        lines,
        [],
        notes=[
            "Of the measurements of the row before: those of the median time. Blockvault's are those that the status of the "
            "Backup or the Restore tells; those of the mover's process are parts of Moving.",
            "Velero's: the newest phase that a Backup or Restore, or its DataUpload or DataDownload, has entered, for as long "
            "as none was newer.",
        ],
    )


ROWS = (
    Row("cluster", "In the cluster, beside Velero", table),
    Row("cluster-steps", "In the cluster: where the time goes", steps),
)
