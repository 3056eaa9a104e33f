"""Installs and builds everything that the lab needs: `python -m tests.cluster.lab.setup`."""

import sys
import time
from collections.abc import Callable
from typing import Any

from tests.cluster.lab import binaries, images, packages

STEPS: dict[str, Callable[[], Any]] = {
    "Debian packages": packages.install,
    "Kubernetes, etcd, CSI sidecars": binaries.kubernetes,
    "CSI driver": binaries.csi_driver,
    "client of block metadata": binaries.metadata_client,
    "helm": binaries.helm,
    "pause image": images.pause,
    "base image": images.base,
    "PostgreSQL image": images.postgres,
    "project image": images.project,
}


def main() -> int:
    """Run every step; what is there already costs nothing."""
    for name, step in STEPS.items():
        started = time.monotonic()
        step()
        print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
