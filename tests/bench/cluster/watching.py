"""What happens to objects of a cluster, and when: watches of the API server, and what can be read from them."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.bench.rows import WorkFailed
from tests.cluster.lab import Cluster

Object = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """One event: when it came, in seconds since 1970; ADDED, MODIFIED or DELETED; the object then."""

    at: float
    type: str
    object: Object

    @property
    def kind(self) -> str:
        """The object's kind."""
        return str(self.object["kind"])

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.object["metadata"]["name"])

    @property
    def phase(self) -> str | None:
        """What its status says."""
        phase: str | None = (self.object.get("status") or {}).get("phase")
        return phase


class Watch:
    """All events since it began, in the order in which they came."""

    def __init__(self) -> None:
        self._seen: list[Seen] = []
        self._came = threading.Condition()

    def add(self, line: str) -> None:
        """Note an event, as the API server sends it."""
        at = time.time()
        event = json.loads(line)
        with self._came:
            self._seen.append(Seen(at, event["type"], event["object"]))
            self._came.notify_all()

    def all(self) -> list[Seen]:
        """What has been seen until now."""
        with self._came:
            return list(self._seen)

    def until(self, what: str, test: Callable[[Seen], bool], seconds: float) -> Seen:
        """The first event, of those past and those to come, that the test holds for. Raises WorkFailed."""
        deadline, looked = time.monotonic() + seconds, 0
        with self._came:
            while True:
                for seen in self._seen[looked:]:
                    if seen.type == "ERROR":
                        raise WorkFailed(f"a watch ended: {seen.object}")
                    if test(seen):
                        return seen
                looked = len(self._seen)
                if not self._came.wait(deadline - time.monotonic()):
                    raise WorkFailed(f"{what}: not within {seconds:.0f} s")


@contextmanager
def watching(cluster: Cluster, paths: Iterable[str]) -> Iterator[Watch]:
    """Watch these resources of the API server; what is there already comes as ADDED first."""
    watch = Watch()
    with ExitStack() as stack:
        for path in paths:
            process = subprocess.Popen(
                [str(cluster.programs / "kubectl"), "get", "--raw", f"{path}?watch=true&timeoutSeconds=3600"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=cluster.environment(),
            )
            reader = threading.Thread(target=_read, args=(process, watch), daemon=True)
            reader.start()
            stack.callback(reader.join, 10)
            stack.callback(process.wait)
            stack.callback(process.kill)  # called first
        yield watch


def _read(process: subprocess.Popen[str], watch: Watch) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip():
            watch.add(line)


# What others take

Interval = tuple[float, float]


def is_ready(obj: Object) -> bool:
    """Whether what the storage makes is there: a snapshot that can be used, a claim with its volume."""
    status = obj.get("status") or {}
    return (
        bool(status.get("readyToUse")) if obj["kind"] == "VolumeSnapshot" else status.get("phase") == "Bound"
    )


MADE_BY_OTHERS = ("VolumeSnapshot", "PersistentVolumeClaim")


def of_others(seen: list[Seen], begin: float, end: float) -> list[Interval]:
    """When Kubernetes and the storage were at work: from what was asked for until it was there, or was gone."""
    found = []
    objects: dict[str, list[Seen]] = {}
    for event in seen:
        if event.kind in (*MADE_BY_OTHERS, "Pod"):
            objects.setdefault(event.object["metadata"]["uid"], []).append(event)
    for events in objects.values():
        first = events[0]
        if first.type == "ADDED" and begin <= first.at and first.kind in MADE_BY_OTHERS:
            found.append((first.at, next((e.at for e in events if is_ready(e.object)), end)))
        asked = next((e.at for e in events if e.object["metadata"].get("deletionTimestamp")), None)
        gone = next((e.at for e in events if e.type == "DELETED"), None)
        if gone is not None or asked is not None:
            found.append((asked or gone or end, gone or end))
    return within(found, begin, end)


def of_mover(seen: list[Seen], timings: list[dict[str, Any]], begin: float, end: float) -> list[Interval]:
    """When Kubernetes was at work for a mover: from its Job to its process, and from its end to the Job's.

    `timings`: the mover's own, by the clock of this machine.
    """
    jobs = [event for event in seen if event.kind == "Job" and begin <= event.at]
    made = next((event.at for event in jobs if event.type == "ADDED"), None)
    done = next((event.at for event in jobs if _complete(event.object)), None)
    if made is None or done is None or not timings:
        return []
    began = moment(timings[0]["startTime"])
    ended = began + sum(timing["seconds"] for timing in timings)
    return within([(made, began), (ended, done)], begin, end)


def _complete(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def within(intervals: Iterable[Interval], begin: float, end: float) -> list[Interval]:
    """What of the intervals lies between two moments."""
    cut = ((max(a, begin), min(b, end)) for a, b in intervals)
    return [(a, b) for a, b in cut if a < b]


def length(intervals: Iterable[Interval]) -> float:
    """How long at least one of them goes on."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def moment(text: str) -> float:
    """A time of an object, in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()
