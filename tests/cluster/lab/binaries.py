"""Go programs of the lab, built once per version into the cache directory."""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.lab import versions

# The module zip has no version stamped in; clients that parse /version need one.
_STAMP = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in {
        "gitVersion": versions.KUBERNETES,
        "gitMajor": versions.KUBERNETES.lstrip("v").split(".")[0],
        "gitMinor": versions.KUBERNETES.split(".")[1],
        "gitTreeState": "clean",
        "gitCommit": "unknown",
        "buildDate": "2026-01-01T00:00:00Z",
    }.items()
)
FLAGS = ("-trimpath", "-mod=readonly", "-ldflags", f"-s -w {_STAMP}")

PROGRAMS = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "csi-provisioner": "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner",
    "csi-attacher": "github.com/kubernetes-csi/external-attacher/v4/cmd/csi-attacher",
    "csi-resizer": "github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer",
    "csi-snapshot-metadata": "github.com/kubernetes-csi/external-snapshot-metadata/cmd/csi-snapshot-metadata",
    "csi-snapshotter": "github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter",
    "snapshot-controller": "github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller",
}
# Modules that ship the definitions of the storage APIs in config/crd.
CRD_MODULES = (
    "github.com/kubernetes-csi/external-snapshotter/client/v8",
    "github.com/kubernetes-csi/external-snapshot-metadata/client",
)


@contextmanager
def cache_lock(name: str) -> Iterator[None]:
    """One builder of a kind at a time; a second one waits and then finds everything there."""
    with open(versions.cache_dir() / f"{name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _go(*arguments: str, **environment: str) -> None:
    if shutil.which("go") is None:
        raise RuntimeError(
            "go is not on PATH: the lab builds Kubernetes from source and needs Go 1.26 or newer"
        )
    done = subprocess.run(
        ["go", *arguments],
        cwd=versions.CLUSTER_DIR,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", **environment},
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"go {arguments[0]} {arguments[-1]} failed with exit code {done.returncode}: see above"
        )


def build(target: Path, *arguments: str) -> None:
    """Build a program of the module, reproducibly, as a static binary."""
    _go("build", *FLAGS, "-o", str(target), *arguments)


def _built(directory: Path, name: str, *arguments: str) -> Path:
    """Build one program beside its place and move it there, so that a killed build leaves nothing half."""
    target = directory / name
    if target.exists():
        return target
    started = time.monotonic()
    print(f"building {name} ...", flush=True)
    partial = directory / f".{name}.partial"
    build(partial, *arguments)
    partial.rename(target)
    print(f"built {name} in {time.monotonic() - started:.0f} s", flush=True)
    return target


def _directory(kind: str, key: str) -> Path:
    """The directory for this key; directories of other keys of the same kind are old and removed."""
    parent = versions.cache_dir() / kind
    for old in parent.glob("*"):
        if old.name != key and time.time() - old.stat().st_mtime > 14 * 86400:
            shutil.rmtree(old, ignore_errors=True)
    directory = parent / key
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def kubernetes() -> Path:
    """Directory with every program of PROGRAMS, built if the versions changed."""
    return programs(*PROGRAMS)


def programs(*names: str) -> Path:
    """The same directory, with these programs in it; those that are there already are waited for by nobody."""
    module = [versions.CLUSTER_DIR / "go.mod", versions.CLUSTER_DIR / "go.sum"]
    directory = _directory("kubernetes", versions.digest(FLAGS, module))
    if all((directory / name).exists() for name in names):
        return directory
    with cache_lock("kubernetes"):
        for name in names:
            _built(directory, name, PROGRAMS[name])
    return directory


def _sources(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*.go") if not path.name.endswith("_test.go"))


def _own(name: str) -> Path:
    """A program of this module, built from the directory of its name in tests/cluster."""
    module = [versions.CLUSTER_DIR / "go.mod", versions.CLUSTER_DIR / "go.sum"]
    with cache_lock(name):
        key = versions.digest(FLAGS, [*module, *_sources(versions.CLUSTER_DIR / name)])
        return _built(_directory(name, key), name, f"./{name}")


def csi_driver() -> Path:
    """The CSI driver for tests."""
    return _own("csidriver")


def metadata_client() -> Path:
    """A client of the SnapshotMetadata service that hides nothing: see its main.go."""
    return _own("metadataclient")


def helm() -> Path:
    """Directory with the helm program."""
    with cache_lock("helm"):
        flags = f"-s -w -X helm.sh/helm/v3/internal/version.version={versions.HELM}"
        directory = _directory("helm", versions.digest([versions.HELM, flags]))
        if not (directory / "helm").exists():
            started = time.monotonic()
            print("building helm ...", flush=True)
            # No -o with @version: it installs into GOBIN, so build aside and move.
            partial = directory / ".partial"
            _go(
                "install", "-trimpath", "-ldflags", flags, f"helm.sh/helm/v3/cmd/helm@{versions.HELM}",
                GOBIN=str(partial),
            )  # fmt: skip
            (partial / "helm").rename(directory / "helm")
            partial.rmdir()
            print(f"built helm in {time.monotonic() - started:.0f} s", flush=True)
    return directory


def storage_crds() -> list[Path]:
    """CRD files of VolumeSnapshot and its kin and of SnapshotMetadataService, from the module cache."""
    found = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", *CRD_MODULES],
        cwd=versions.CLUSTER_DIR,
        check=True,
        capture_output=True,
        text=True,
    )
    directories = [Path(line, "config", "crd") for line in found.stdout.splitlines()]
    return sorted(path for one in directories for path in one.glob("*storage.k8s.io_*.yaml"))
