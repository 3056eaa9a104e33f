"""Velero in the cluster, with the node agent, its plugin for S3 and CSI, and the data mover by kopia."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from tests.bench import gobuild
from tests.bench.cluster.blockvault import active
from tests.bench.cluster.measured import Phase, Took, between, entered
from tests.bench.cluster.storage import Bucket
from tests.bench.cluster.watching import Seen, Watch, watching
from tests.bench.rows import WorkFailed
from tests.cluster.kube import Kube
from tests.cluster.lab import Cluster, images

Object = dict[str, Any]

MODULE = Path(__file__).with_name("velero")
VELERO, PLUGIN = "github.com/vmware-tanzu/velero", "github.com/vmware-tanzu/velero-plugin-for-aws"
PACKAGES = {"velero": f"{VELERO}/cmd/velero", "velero-plugin-for-aws": f"{PLUGIN}/velero-plugin-for-aws"}
IMAGE = "localhost/velero:test"
NAMESPACE = "velero"
WATCHED = (
    "/apis/velero.io/v1/backups",
    "/apis/velero.io/v1/restores",
    "/apis/velero.io/v2alpha1/datauploads",
    "/apis/velero.io/v2alpha1/datadownloads",
)
ENDS = ("Completed", "PartiallyFailed", "Failed", "FailedValidation")
# What Blockvault has in the namespace: restored beside, its operator would act upon it.
NOT_OURS = [f"{kind}.blockvault.dev" for kind in ("backups", "restores", "tasks", "vaults")]


def version(requirement: str = VELERO) -> str:
    """The version that the module pins."""
    return gobuild.pinned(MODULE, requirement)


def programs() -> dict[str, Path]:
    """Velero and its plugin, built. Raises WorkFailed."""
    stamp = f"-X {VELERO}/pkg/buildinfo.Version={version()}"
    return {name: gobuild.program(MODULE, name, package, stamp) for name, package in PACKAGES.items()}


class Velero:
    """See Program. The claim's namespace is backed up with it, but for what Blockvault has there."""

    name = "Velero"

    def __init__(self, cluster: Cluster, limit: float) -> None:
        """Install it. `limit`: of one step, in seconds."""
        self._cluster, self._limit = cluster, limit
        self._kube = Kube(cluster, NAMESPACE)
        self._bucket = Bucket(cluster, "velero")
        found = programs()
        plugin = found["velero-plugin-for-aws"]
        archive = images.with_files(IMAGE, {"/velero": found["velero"], f"/plugins/{plugin.name}": plugin})
        cluster.import_image(archive)
        cluster.kubectl(
            "label", "volumesnapshotclass", "bv-snapshots", "velero.io/csi-volumesnapshot-class=true"
        )
        self._install(found["velero"])
        self._backups = self._restores = 0

    def _install(self, program: Path) -> None:
        objects = [mended(obj) for obj in yaml.safe_load_all(self._manifests(program)) if obj]
        for obj in (item for found in objects for item in found.get("items", [found])):
            if obj["kind"] in ("CustomResourceDefinition", "Namespace"):
                self._cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(obj))
        self._cluster.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
        self._cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))
        self._kube.kubectl("rollout", "status", "deployment/velero", "--timeout=180s", seconds=200)
        self._kube.kubectl("rollout", "status", "daemonset/node-agent", "--timeout=180s", seconds=200)
        self._kube.wait_phase("backupstoragelocation", "default", "Available", seconds=120)

    def _manifests(self, program: Path) -> str:
        """What `velero install` would make."""
        s3 = self._cluster.s3
        location = f"region={s3.region},s3ForcePathStyle=true,s3Url={s3.endpoint},checksumAlgorithm="
        with tempfile.NamedTemporaryFile("w", suffix=".credentials") as secret:
            secret.write(
                f"[default]\naws_access_key_id={s3.keys.access_key}\naws_secret_access_key={s3.keys.secret_key}\n"
            )
            secret.flush()
            done = subprocess.run(
                [
                    str(program), "install", "--use-node-agent", "--privileged-node-agent",
                    "--features=EnableCSI", "--provider=aws", "--bucket=velero", f"--image={IMAGE}",
                    f"--backup-location-config={location}", "--use-volume-snapshots=false",
                    "--plugins=localhost/none:test", f"--secret-file={secret.name}", "--dry-run", "--output=yaml",
                ],
                capture_output=True,
                text=True,
                env=self._cluster.environment(),
            )  # fmt: skip
        if done.returncode != 0:
            raise WorkFailed(f"velero install: exit {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def back_up(self, namespace: str, claim: str) -> Took:
        """See Program."""
        self._backups += 1
        spec = {
            "includedNamespaces": [namespace],
            "excludedResources": NOT_OURS,
            "snapshotMoveData": True,
            "storageLocation": "default",
        }
        return self._measure("Backup", f"backup-{self._backups}", spec)

    def restore(self, namespace: str, claim: str, *, far: bool) -> tuple[Took, str, str]:
        """See Program. It never uses a local snapshot: each restore is one from the store."""
        self._restores += 1
        target = f"{namespace}-{self._restores}"
        spec = {"backupName": f"backup-{self._backups}", "namespaceMapping": {namespace: target}}
        return self._measure("Restore", f"restore-{self._restores}", spec), target, claim

    def _measure(self, kind: str, name: str, spec: Object) -> Took:
        before = self.stored()
        body = {
            "apiVersion": "velero.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        with watching(self._cluster, WATCHED) as watch:
            begin = time.time()
            self._kube.apply(body)

            def ended(seen: Seen) -> bool:
                return (seen.kind, seen.name) == (kind, name) and seen.phase in ENDS

            end = watch.until(f"Velero's {kind} {name}", ended, self._limit)
            if end.phase != "Completed":
                logs = self._kube.kubectl("logs", "deployment/velero", "--tail=40", check=False)
                raise WorkFailed(f"Velero's {kind} {name}: {end.object['status']}\n{logs}")
            _check_moved(watch, kind, begin)
            return Took(end.at - begin, _phases(watch, begin, end.at), None, self.stored() - before)

    def busy(self) -> bool:
        """See Program."""
        return active(self._cluster, NAMESPACE)

    def stored(self) -> int:
        """See Program."""
        return self._bucket.size()


def _phases(watch: Watch, begin: float, end: float) -> list[Phase]:
    kinds = ("Backup", "Restore", "DataUpload", "DataDownload")
    return between([(begin, "until the first look"), *entered(watch.all(), kinds, begin)], end)


def _check_moved(watch: Watch, kind: str, begin: float) -> None:
    """A Backup without data would be quick."""
    moving = {"Backup": "DataUpload", "Restore": "DataDownload"}[kind]
    done = [s for s in watch.all() if s.kind == moving and s.at >= begin and s.phase == "Completed"]
    if not done:
        raise WorkFailed(f"Velero's {kind} ended without a {moving}: the claim's data was not moved")


def mended(obj: Object) -> Object:
    """A manifest of `velero install` as the lab needs it: no registry, no DNS, raw devices, no limits."""
    if obj["kind"] == "List":
        return {**obj, "items": [mended(item) for item in obj["items"]]}
    if obj["kind"] not in ("Deployment", "DaemonSet"):
        return obj
    spec = obj["spec"]["template"]["spec"]
    spec.pop("initContainers", None)  # the plugin is in the image
    spec["dnsPolicy"] = "Default"
    spec["volumes"] = [v for v in spec["volumes"] if v["name"] != "plugins"]
    for container in spec["containers"]:
        container["imagePullPolicy"] = "IfNotPresent"
        container["resources"] = {}
        container["volumeMounts"] = [m for m in container["volumeMounts"] if m["name"] != "plugins"]
    return obj
