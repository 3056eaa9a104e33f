"""Blockvault in the cluster: the chart and the image of this tree."""

from __future__ import annotations

import time
from typing import Any

from tests.bench.cluster.measured import Phase, Took
from tests.bench.cluster.storage import Bucket
from tests.bench.cluster.watching import Seen, Watch, length, moment, of_mover, of_others, watching
from tests.bench.rows import WorkFailed
from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube
from tests.cluster.lab import Cluster, images
from tests.scenario import manifests
from tests.scenario.environment import Storage

NAME = "bench"
WATCHED = (
    "/apis/blockvault.dev/v1alpha1/backups",
    "/apis/blockvault.dev/v1alpha1/restores",
    "/apis/snapshot.storage.k8s.io/v1/volumesnapshots",
    "/api/v1/persistentvolumeclaims",
    f"/apis/batch/v1/namespaces/{OPERATOR_NAMESPACE}/jobs",
    f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods",
)
NEAR, FAR = "bv-immediate", "bv-immediate-xfs"  # a claim of another class begins as no copy of a snapshot


class Blockvault:
    """See Program. One Vault for all claims of a namespace."""

    name = "Blockvault"

    def __init__(self, cluster: Cluster, namespace: str, size: int, limit: float) -> None:
        """Install it, with a Vault in this namespace. `size`: of the claims, `limit`: of one step, in seconds."""
        self._cluster, self._size, self._limit = cluster, size, limit
        self._kube = Kube(cluster, namespace)
        self._bucket = Bucket(cluster, "blockvault")
        cluster.import_image(images.project())
        Operator(cluster).install()
        s3 = cluster.s3
        storage = Storage(s3.endpoint, s3.region, "blockvault", s3.keys.access_key, s3.keys.secret_key)
        self._kube.apply(*manifests.vault_class(NAME, storage, NAME), manifests.vault(NAME, NAME))
        self._kube.wait_phase("vault", NAME, "Available", seconds=120)
        self._backups = self._restores = 0

    def back_up(self, namespace: str, claim: str) -> Took:
        """See Program."""
        self._backups += 1
        return self._measure(manifests.backup(f"backup-{self._backups}", NAME, claim), "Available")

    def restore(self, namespace: str, claim: str, *, far: bool) -> tuple[Took, str, str]:
        """See Program."""
        self._restores += 1
        name = f"restored-{self._restores}"
        body = manifests.restore(
            name, f"backup-{self._backups}", name, FAR if far else NEAR, f"{self._size >> 20}Mi"
        )
        return self._measure(body, "Completed"), namespace, name

    def _measure(self, body: dict[str, Any], good: str) -> Took:
        kind, name = body["kind"], body["metadata"]["name"]
        before = self.stored()
        with watching(self._cluster, WATCHED) as watch:
            begin = time.time()
            self._kube.apply(body)

            def about(seen: Seen) -> bool:
                return (seen.kind, seen.name) == (kind, name)

            end = watch.until(
                f"{kind} {name}", lambda seen: about(seen) and seen.phase in (good, "Error"), self._limit
            )
            if end.phase != good:
                raise WorkFailed(f"{kind} {name} failed: {end.object['status']}")
            made = watch.until(f"{kind} {name}", about, 1)
            return Took(
                end.at - begin,
                phases(end.object["status"], begin),
                _own(watch, end, made.at) if kind == "Backup" else None,
                self.stored() - before,
            )

    def busy(self) -> bool:
        """See Program."""
        return active(self._cluster, OPERATOR_NAMESPACE)

    def stored(self) -> int:
        """See Program."""
        return self._bucket.size()


def active(cluster: Cluster, namespace: str) -> bool:
    """Whether Jobs of a namespace are at work."""
    jobs = Kube(cluster, namespace).all("jobs")
    return any((job.get("status") or {}).get("active") for job in jobs)


def phases(status: dict[str, Any], begin: float) -> list[Phase]:
    """The times that a status tells, with the mover's own below those of its work; `begin`: of all."""
    timings = status["timings"]
    found = [("until the first look", moment(timings[0]["startTime"]) - begin)]
    for timing in timings:
        found.append((timing["name"], timing["seconds"]))
        if timing["name"] == "Moving":
            inner = (status.get("mover") or {}).get("timings") or []
            found += [(f"of it the mover, {own['name']}", own["seconds"]) for own in inner]
    return found


def _own(watch: Watch, end: Seen, begin: float) -> float:
    seen, mover = watch.all(), (end.object["status"].get("mover") or {}).get("timings") or []
    others = [*of_others(seen, begin, end.at), *of_mover(seen, mover, begin, end.at)]
    return end.at - begin - length(others)
