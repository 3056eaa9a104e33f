"""The programs to compare with, built once per version from tests/bench/peers into the cache of built things."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.bench.rows import WorkFailed, say
from tests.cluster.lab import binaries, versions

MODULE = Path(__file__).with_name("peers")
PACKAGES = {"restic": "github.com/restic/restic/cmd/restic", "kopia": "github.com/kopia/kopia"}
FLAGS = ("-trimpath", "-mod=readonly", "-ldflags", "-s -w")


def version(name: str) -> str:
    """The version that the module pins."""
    module = f"github.com/{name}/{name} "
    return next(
        line.split()[1]
        for line in (MODULE / "go.mod").read_text().splitlines()
        if line.strip().startswith(module)
    )


def peer(name: str) -> Path:
    """The program: from the folder that BLOCKVAULT_BENCH_PEERS names, or else built. Raises WorkFailed."""
    if given := os.environ.get("BLOCKVAULT_BENCH_PEERS"):
        program = Path(given, name)
        if not os.access(program, os.X_OK):
            raise WorkFailed(f"BLOCKVAULT_BENCH_PEERS names {given}, which has no program {name}")
        return program
    key = versions.digest([*FLAGS, name], [MODULE / "go.mod", MODULE / "go.sum"])
    target = versions.cache_dir() / "peers" / key / name
    with binaries.cache_lock("peers"):
        if not target.exists():
            _build(name, target)
    return target


def _build(name: str, target: Path) -> None:
    if shutil.which("go") is None:
        raise WorkFailed(
            f"{name} is built from source and needs Go 1.26 or newer on PATH (or BLOCKVAULT_BENCH_PEERS)"
        )
    say(f"building {name} {version(name)} ...")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{name}.partial")  # a build that is killed leaves nothing half in its place
    done = subprocess.run(
        ["go", "build", *FLAGS, "-o", str(partial), PACKAGES[name]],
        cwd=MODULE,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"},
    )
    if done.returncode != 0:
        raise WorkFailed(f"go build of {name} failed with exit code {done.returncode}: see above")
    partial.rename(target)
