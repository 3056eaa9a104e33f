"""Programs of others, built from Go modules of ours that pin them, once, into the cache of built things."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.bench.rows import WorkFailed, say
from tests.cluster.lab import binaries, versions

FLAGS = ("-trimpath", "-mod=readonly", "-ldflags")


def pinned(module: Path, requirement: str) -> str:
    """The version of a requirement that a module's go.mod pins."""
    lines = (line.split() for line in (module / "go.mod").read_text().splitlines())
    return next(words[1] for words in lines if len(words) > 1 and words[0] == requirement)


def program(module: Path, name: str, package: str, *linker: str) -> Path:
    """The program: from the folder that BLOCKVAULT_BENCH_PEERS names, or else built. Raises WorkFailed.

    `linker`: flags of the linker, beside those that leave symbols out.
    """
    if given := os.environ.get("BLOCKVAULT_BENCH_PEERS"):
        found = Path(given, name)
        if not os.access(found, os.X_OK):
            raise WorkFailed(f"BLOCKVAULT_BENCH_PEERS names {given}, which has no program {name}")
        return found
    flags = [*FLAGS, " ".join(["-s", "-w", *linker])]
    key = versions.digest([*flags, name], [module / "go.mod", module / "go.sum"])
    target = versions.cache_dir() / "peers" / key / name
    with binaries.cache_lock("peers"):
        if not target.exists():
            _build(module, name, package, flags, target)
    return target


def _build(module: Path, name: str, package: str, flags: Sequence[str], target: Path) -> None:
    if shutil.which("go") is None:
        raise WorkFailed(
            f"{name} is built from source and needs Go 1.26 or newer on PATH (or BLOCKVAULT_BENCH_PEERS)"
        )
    say(f"building {name} of {module.name} ...")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{name}.partial")  # a build that is killed leaves nothing half in its place
    done = subprocess.run(
        ["go", "build", *flags, "-o", str(partial), package],
        cwd=module,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"},
    )
    if done.returncode != 0:
        raise WorkFailed(f"go build of {name} failed with exit code {done.returncode}: see above")
    partial.rename(target)
