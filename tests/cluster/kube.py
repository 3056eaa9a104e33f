"""A thin layer over kubectl for tests: apply, get, wait, delete, exec, logs; manifests of claims and pods."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

from tests.cluster.lab import Cluster, LabError
from tests.cluster.lab.images import BASE

Object = dict[str, Any]


CLUSTER_SCOPED = frozenset(
    {
        "CSIDriver",
        "CustomResourceDefinition",
        "Namespace",
        "PersistentVolume",
        "SnapshotMetadataService",
        "StorageClass",
        "VaultClass",
        "VolumeSnapshotClass",
        "VolumeSnapshotContent",
    }
)


class WaitError(AssertionError):
    """A condition did not come true in time; the message has the object and its events."""


def claim(
    name: str,
    *,
    size: str = "64Mi",
    storage_class: str = "bv-immediate",
    mode: str = "Block",
    source: Mapping[str, str] | None = None,
    access: str = "ReadWriteOnce",
) -> Object:
    """A PersistentVolumeClaim; `source` is a dataSource such as {"kind": "VolumeSnapshot", "name": ...}."""
    spec: Object = {
        "accessModes": [access],
        "storageClassName": storage_class,
        "volumeMode": mode,
        "resources": {"requests": {"storage": size}},
    }
    if source:
        group = {"apiGroup": "snapshot.storage.k8s.io"} if source["kind"] == "VolumeSnapshot" else {}
        spec["dataSource"] = {**group, **source}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def snapshot(name: str, claim_name: str, snapshot_class: str = "bv-snapshots") -> Object:
    """A VolumeSnapshot of a claim."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {
            "volumeSnapshotClassName": snapshot_class,
            "source": {"persistentVolumeClaimName": claim_name},
        },
    }


def pod(
    name: str,
    command: Iterable[str] = ("sleep", "infinity"),
    *,
    block: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    node: str | None = None,
    image: str = BASE,
) -> Object:
    """A pod that runs one command once.

    `block` maps claims to device paths, `files` maps claims to mount paths.
    """
    block, files = dict(block or {}), dict(files or {})
    container: Object = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": list(command),
        "volumeDevices": [{"name": name, "devicePath": path} for name, path in block.items()],
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in files.items()],
    }
    spec: Object = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": n, "persistentVolumeClaim": {"claimName": n}} for n in (*block, *files)],
    }
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


class Kube:
    """kubectl against one lab, in one namespace unless a call names another."""

    def __init__(self, cluster: Cluster, namespace: str = "default") -> None:
        self.cluster, self.namespace = cluster, namespace

    def within(self, namespace: str) -> "Kube":
        """The same cluster in another namespace."""
        return Kube(self.cluster, namespace)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """kubectl in this namespace; LabError with its words when it fails."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, **options)

    def apply(self, *objects: Object | str) -> None:
        """Apply objects or YAML texts in one command, in the given order.

        What names no namespace goes to this one; kubectl's own --namespace would refuse all others.
        """
        texts = [item if isinstance(item, str) else yaml.safe_dump(item) for item in objects]
        found = [obj for obj in yaml.safe_load_all("\n---\n".join(texts)) if obj]
        for obj in found:
            if obj["kind"] not in CLUSTER_SCOPED:
                obj["metadata"].setdefault("namespace", self.namespace)
        self.cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(found))

    def get(self, kind: str, name: str) -> Object | None:
        """One object, or None when there is none of that name."""
        text = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def all(self, kind: str, selector: str = "", everywhere: bool = False) -> list[Object]:
        """All objects of a kind, by label selector."""
        extra = ["--all-namespaces"] if everywhere else []
        text = self.kubectl("get", kind, "-o", "json", "--selector", selector, *extra)
        found: list[Object] = json.loads(text)["items"]
        return found

    def patch(self, kind: str, name: str, change: Object, subresource: str = "") -> None:
        """Merge a change into an object."""
        extra = [f"--subresource={subresource}"] if subresource else []
        self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(change), *extra)

    def delete(self, kind: str, name: str, wait: bool = True, seconds: float = 60) -> None:
        """Delete an object, if it is there, and wait until it is gone."""
        waiting = [f"--wait={str(wait).lower()}", f"--timeout={seconds:g}s", "--ignore-not-found"]
        self.kubectl("delete", kind, name, *waiting, seconds=seconds + 10)

    def wait(
        self,
        kind: str,
        name: str,
        condition: Callable[[Object], Any],
        seconds: float = 60,
        pause: float = 0.2,
    ) -> Object:
        """Poll an object until `condition(object)` is true and return it; WaitError after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.get(kind, name)
            if found is not None and condition(found):
                return found
            if time.monotonic() > deadline:
                raise WaitError(
                    f"{kind} {self.namespace}/{name} not as expected within {seconds:g} s:\n"
                    f"{yaml.safe_dump(found) if found else 'it does not exist'}\n{self.events(name)}"
                )
            time.sleep(pause)

    def wait_gone(self, kind: str, name: str, seconds: float = 60) -> None:
        """Poll until an object is gone; WaitError with the object after `seconds`."""
        deadline = time.monotonic() + seconds
        while found := self.get(kind, name):
            if time.monotonic() > deadline:
                raise WaitError(f"{kind} {self.namespace}/{name} is still there:\n{yaml.safe_dump(found)}")
            time.sleep(0.2)

    def wait_phase(self, kind: str, name: str, *phases: str, seconds: float = 60) -> Object:
        """Wait until status.phase is one of `phases`."""
        return self.wait(kind, name, lambda found: found.get("status", {}).get("phase") in phases, seconds)

    def events(self, name: str = "") -> str:
        """Events of the namespace, or of objects of one name, oldest first, as text."""
        only = [f"--field-selector=involvedObject.name={name}"] if name else []
        return self.kubectl("get", "events", "--sort-by=.lastTimestamp", *only, check=False)

    def logs(self, name: str, *, previous: bool = False, container: str = "") -> str:
        """Logs of a pod (`name`) or of what kubectl understands, such as deployment/x."""
        extra = ["--previous"] if previous else []
        which = [f"--container={container}"] if container else ["--all-containers"]
        return self.kubectl("logs", name, *which, *extra)

    def exec(self, name: str, *command: str, stdin: bytes | None = None, seconds: float = 120) -> bytes:
        """Run a command in a pod; returns its standard output as bytes, LabError when it fails."""
        words = ["--namespace", self.namespace, "exec", *(["-i"] if stdin is not None else []), name, "--"]
        done = subprocess.run(
            [str(self.cluster.programs / "kubectl"), *words, *command],
            input=stdin,
            capture_output=True,
            timeout=seconds,
            env=self.cluster.environment(),
        )
        if done.returncode != 0:
            error = done.stderr.decode(errors="replace")
            raise LabError(f"exec in {self.namespace}/{name}: exit {done.returncode}: {error}")
        return done.stdout

    def kill_container(self, name: str, container: str = "") -> str:
        """SIGKILL the main process of a pod's (first or named) container, as a crash would; returns its id.

        The kubelet starts it again within about a second where the pod's restart policy says so.
        """
        found = self.get("pod", name)
        if found is None:
            raise LabError(f"no pod {self.namespace}/{name} to kill")
        for status in found.get("status", {}).get("containerStatuses", []):
            if container in ("", status["name"]) and "running" in status["state"]:
                identity = str(status["containerID"].removeprefix("containerd://"))
                node = int(found["spec"]["nodeName"].removeprefix("node"))
                self.cluster.nodes[node].ctr("task", "kill", "--signal", "SIGKILL", identity)
                return identity
        raise LabError(f"pod {self.namespace}/{name} has no running container {container}")

    def start(self, manifest: Object, seconds: float = 60) -> Object:
        """Apply a pod and wait until it is ready."""
        self.apply(manifest)

        def ready(found: Object) -> bool:
            conditions = found.get("status", {}).get("conditions", [])
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        return self.wait("pod", manifest["metadata"]["name"], ready, seconds)

    def run(self, manifest: Object, seconds: float = 60) -> str:
        """Apply a pod, wait until it has succeeded, delete it; returns its logs, asserts if it failed."""
        name = manifest["metadata"]["name"]
        self.apply(manifest)
        done = self.wait_phase("pod", name, "Succeeded", "Failed", seconds=seconds)
        output = self.logs(name)
        assert done["status"]["phase"] == "Succeeded", f"pod {self.namespace}/{name} failed:\n{output}"
        self.delete("pod", name)
        return output

    def python(self, name: str, code: str, seconds: float = 60, **volumes: Any) -> str:
        """Run Python code in a pod of its own with the volumes that pod() takes; returns what it prints."""
        return self.run(pod(name, ["python3", "-u", "-c", code], **volumes), seconds)
