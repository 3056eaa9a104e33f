"""Debian packages that the lab needs, installed by name when a file of theirs is missing."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster.lab import versions


def missing() -> list[str]:
    """Names of the packages whose tell-tale file is not there."""
    return [name for name, file in versions.DEBIAN_PACKAGES.items() if not Path(file).exists()]


def install() -> list[str]:
    """Install what is missing and return its names; raises RuntimeError with what to do by hand."""
    names = missing()
    if not names:
        return []
    wanted = " ".join(names)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise RuntimeError(f"the test cluster needs root and these Debian packages: {wanted}")
    print(f"installing {wanted} ...", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = [
        "apt-get",
        "install",
        "-qy",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=300",
        *names,
    ]
    # The lists may be absent or old: one update, only if the first try fails.
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode != 0:
        subprocess.run(["apt-get", "update", "-q"], env=environment, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    if left := missing():
        raise RuntimeError(f"still missing after apt-get install: {' '.join(left)}")
    return names
