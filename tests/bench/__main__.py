"""`make bench`: back up, back up again, back up after a change, restore; Blockvault and restic in turn.

Each step is a whole process, timed from outside by the operating system's accounting. Both write to a local
directory, keys and compression as each has them by default (restic encrypts always, Blockvault not yet, which
the table's reader must know). The rounds alternate, and the median of each figure counts.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BLOCKVAULT = [str(Path(sys.executable).parent / "blockvault")]
STEPS = ("full", "unchanged", "changed 1 %", "restore")


@dataclass(frozen=True)
class Figures:
    """One process: wall and processor seconds, peak memory in MiB, bytes that the repository grew by."""

    wall: float
    cpu: float
    memory: float
    stored: int


def measured(command: list[str], repository: Path, environment: dict[str, str]) -> Figures:
    """Run one command to its end. Raises CalledProcessError with its words when it fails."""
    before, size, start = resource.getrusage(resource.RUSAGE_CHILDREN), used(repository), time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    words = process.stderr.read()
    _, status, own = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command, stderr=words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Figures(wall, cpu, own.ru_maxrss / 1024, used(repository) - size)


def used(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def make_image(path: Path, mib: int) -> None:
    """Half compressible text, a quarter random, a quarter zero, in runs of 1 MiB."""
    noise = random.Random(1)
    words = b"".join(
        noise.choice([b"select ", b"insert ", b"0123 ", b"blockvault "]) for _ in range(200_000)
    )[: 1 << 20]
    with path.open("wb") as file:
        for number in range(mib):
            kind = number % 4
            if kind == 3:
                file.seek(1 << 20, os.SEEK_CUR)
            else:
                file.write(noise.randbytes(1 << 20) if kind == 2 else bytes(b ^ (number & 7) for b in words))
        file.truncate(mib << 20)


def change(path: Path, mib: int) -> None:
    """Rewrite 1 % in places of 64 KiB."""
    noise = random.Random(2)
    with path.open("r+b") as file:
        for _ in range(max(1, (mib << 20) // 100 >> 16)):
            file.seek(noise.randrange((mib << 20) >> 16) << 16)
            file.write(noise.randbytes(1 << 16))


Run = Callable[[str], Figures]


def blockvault(folder: Path, image: Path) -> Run:
    """Blockvault on a directory."""
    store = folder / "store"
    subprocess.run([*BLOCKVAULT, "init", f"file://{store}"], check=True, capture_output=True)
    backup = [*BLOCKVAULT, "backup", str(image), f"file://{store}", "--volume", "v", "--progress", "none"]
    out = folder / "out.img"
    restore = [*BLOCKVAULT, "restore", f"file://{store}", "--volume", "v", str(out), "--progress", "none"]
    return lambda step: measured(restore if step == "restore" else backup, store, {})


def restic(folder: Path, image: Path) -> Run:
    """restic on a directory. --force: like us it reads the device, which has no modification time to trust."""
    store = folder / "repository"
    environment = {
        "RESTIC_PASSWORD": "x",
        "RESTIC_REPOSITORY": str(store),
        "RESTIC_CACHE_DIR": str(folder / "cache"),
        "GOMAXPROCS": str(os.cpu_count()),
    }
    subprocess.run(["restic", "init"], check=True, capture_output=True, env={**os.environ, **environment})
    backup = ["restic", "backup", "--force", "--quiet", str(image)]
    restore = ["restic", "restore", "latest", "--quiet", "--target", str(folder / "out")]
    return lambda step: measured(restore if step == "restore" else backup, store, environment)


def main() -> int:
    """Print a table; exit 0."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the image")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each program, in turn")
    parser.add_argument("--directory", type=Path, help="where to work; the system's temporary directory")
    options = parser.parse_args()
    programs = {"blockvault": blockvault}
    if shutil.which("restic"):
        programs["restic"] = restic
    else:
        sys.stderr.write(
            "restic is not installed: nothing to compare with (Debian: apt-get install restic)\n"
        )
    results: dict[tuple[str, str], list[Figures]] = {}
    for number in range(options.rounds):
        for name, make in programs.items():
            with tempfile.TemporaryDirectory(dir=options.directory) as folder:
                image = Path(folder) / "image"
                make_image(image, options.mib)
                run = make(Path(folder), image)
                for step in STEPS:
                    if step == "changed 1 %":
                        change(image, options.mib)
                    results.setdefault((name, step), []).append(run(step))
            sys.stderr.write(f"round {number + 1} of {name} done\n")
    table(results, list(programs), options.mib, options.rounds)
    return 0


def table(results: dict[tuple[str, str], list[Figures]], programs: list[str], mib: int, rounds: int) -> None:
    """Markdown, medians over the rounds, with the ratio to restic where there is one."""
    print(f"{mib} MiB image, medians of {rounds} rounds, {os.cpu_count()} cores\n")
    print("| step | program | wall s | CPU s | peak MiB | stored MiB | wall, restic = 1 | CPU, restic = 1 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for step in STEPS:
        for name in programs:
            runs, other = results[name, step], results.get(("restic", step))
            middle = {
                k: statistics.median(getattr(r, k) for r in runs) for k in ("wall", "cpu", "memory", "stored")
            }
            ratios = ["", ""]
            if other and name != "restic":
                pairs = [(a.wall / b.wall, a.cpu / b.cpu) for a, b in zip(runs, other, strict=True)]
                ratios = [f"{statistics.median(p[i] for p in pairs):.2f}" for i in (0, 1)]
            figures = (f"{middle['wall']:.1f}", f"{middle['cpu']:.1f}", f"{middle['memory']:.0f}")
            print(
                f"| {step} | {name} | {' | '.join(figures)} | {middle['stored'] / (1 << 20):.1f} | {' | '.join(ratios)} |"
            )


if __name__ == "__main__":
    sys.exit(main())
