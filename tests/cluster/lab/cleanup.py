"""Takes away what outlives a lab's namespaces: loop devices, cgroups, files.

Used by the lab's first process when it ends, and by the next lab to sweep after one whose first process was
killed. Standard library only: it has to start fast.
"""

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path

LOOP_CLR_FD = 0x4C01
KEPT = "logs"


def cgroup_roots() -> list[Path]:
    """Mount points of all cgroup hierarchies: those of version 1, and the one of version 2 beside them."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def remove_cgroup(name: str) -> list[Path]:
    """Remove a cgroup and all below it in every hierarchy; returns what could not be removed."""
    left: list[Path] = []
    for root in cgroup_roots():
        top = root / name
        if not top.is_dir():
            continue
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        if top.exists():
            left.append(top)
    return left


def loop_devices() -> dict[str, str]:
    """Attached loop devices: name (loop7) -> backing file as this process' namespace names it."""
    found = {}
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            found[file.parts[-3]] = file.read_text().strip().removesuffix(" (deleted)")
    return found


def _device(name: str) -> str:
    return Path("/sys/block", name, "dev").read_text().strip()


def _backing(name: str) -> tuple[str, int]:
    """(major:minor of the file system, inode) of what a loop device lies on, by LOOP_GET_STATUS64."""
    buffer = bytearray(232)
    with open(f"/dev/{name}", "rb", buffering=0) as handle:
        fcntl.ioctl(handle, 0x4C05, buffer)
    device = int.from_bytes(buffer[0:8], "little")
    return f"{os.major(device)}:{os.minor(device)}", int.from_bytes(buffer[8:16], "little")


def lab_loops(state: Path) -> list[str]:
    """Loop devices that lie on this lab's files, directly or through one another; inner ones first.

    A path is not enough once the lab's mounts are gone, so files are also known by device and inode.
    """
    image = state / "volumes.xfs"
    images = set()
    if image.exists():
        status = image.stat()
        images.add((f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}", status.st_ino))
    loops = loop_devices()
    backings = {}
    for name in loops:
        with contextlib.suppress(OSError):
            backings[name] = _backing(name)
    outer = [n for n, path in loops.items() if backings.get(n) in images or path == str(image)]
    outer_devices = {_device(name) for name in outer}
    inner = [
        name
        for name, path in loops.items()
        if name not in outer
        and (backings.get(name, ("", 0))[0] in outer_devices or path.startswith(f"{state}/"))
    ]
    nodes = {f"/dev/{name}" for name in inner}
    inodes = set()
    for node in nodes:
        with contextlib.suppress(OSError):
            inodes.add(os.stat(node).st_ino)
    devtmpfs = os.stat("/dev/loop-control").st_dev
    dev = f"{os.major(devtmpfs)}:{os.minor(devtmpfs)}"
    # kubelet holds each block volume by one more loop device on top of the driver's.
    holders = [
        name
        for name, path in loops.items()
        if name not in (*outer, *inner)
        and (path in nodes or (backings.get(name, ("", 0))[0] == dev and backings[name][1] in inodes))
    ]
    return [*holders, *inner, *outer]


def detach(names: list[str]) -> None:
    """Detach loop devices; one still open goes when its last user closes it."""
    for name in names:
        with contextlib.suppress(OSError), open(f"/dev/{name}", "rb", buffering=0) as handle:
            fcntl.ioctl(handle, LOOP_CLR_FD)


def clean(state: Path, cgroup: str, seconds: float = 10) -> list[str]:
    """Remove loop devices, cgroups and files of a lab without processes; returns what would not go."""
    deadline = time.monotonic() + seconds
    while True:
        names = lab_loops(state)
        detach(names)
        left = [str(path) for path in remove_cgroup(cgroup)] + lab_loops(state)
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    if not left:
        for entry in state.iterdir() if state.is_dir() else ():
            if entry.name == KEPT:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    return left
