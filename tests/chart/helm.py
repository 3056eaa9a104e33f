"""The chart rendered by a real Helm, without a cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "blockvault"
RELEASE = "blockvault"
NAMESPACE = "blockvault-system"

# A Helm built by `go install` takes the cluster for 1.20 unless told.
KUBE_VERSION = "1.36.0"

Object = dict[str, Any]


class HelmError(Exception):
    """Helm refused, with what it said."""


def find_helm() -> Path | None:
    """Helm by BLOCKVAULT_HELM, on PATH, or as the cluster tests cached it; None when there is none."""
    named = os.environ.get("BLOCKVAULT_HELM") or shutil.which("helm")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "blockvault"
    # Not `**`: root file systems of images lie deeper down.
    found = [path for depth in range(5) for path in cache.glob("*/" * depth + "helm") if path.is_file()]
    return next((path for path in found if os.access(path, os.X_OK)), None)


@dataclass(frozen=True)
class Helm:
    """One Helm binary with directories of its own, so that it reads no one's settings."""

    binary: Path
    home: Path

    def run(self, *arguments: str | Path) -> str:
        """Standard output; raises HelmError."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            # Nobody's cluster: what is rendered must not depend on one.
            "KUBECONFIG": str(self.home / "no-kubeconfig"),
        }
        done = subprocess.run(
            [self.binary, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise HelmError(done.stderr + done.stdout)
        return done.stdout

    def render(
        self,
        values: Object | None = None,
        *,
        release: str = RELEASE,
        namespace: str = NAMESPACE,
        api: str = "",
    ) -> list[Object]:
        """All objects of the chart with these values over the defaults; `api`: one more that the cluster has."""
        file = self.home / "values.yaml"
        file.write_text(yaml.safe_dump(values or {}))
        command = ["template", release, str(CHART), "--namespace", namespace, "--values", str(file)]
        more = ["--api-versions", api] if api else []
        text = self.run(*command, "--kube-version", KUBE_VERSION, *more)
        return [document for document in yaml.safe_load_all(text) if document]


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The only object of this kind (and name)."""
    found = [
        each
        for each in objects
        if each["kind"] == kind and (name is None or each["metadata"]["name"] == name)
    ]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}, name {name}"
    return found[0]
