"""The first process of a lab's namespaces: holds them, reaps, and clears everything away at the end.

It waits for the end of its standard input, which comes when the launcher closes it or dies in any way. Then
it kills every process of the lab and removes loop devices, cgroups and files. It inherits the lab's lock:
nobody takes the lab's number while it cleans.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from tests.cluster.lab import cleanup


def _others() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != 1]


def _end_all(seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while _others() and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        time.sleep(0.02)


def _unmount(state: Path) -> None:
    """Unmount the volumes' file system, which frees its loop device; the rest goes with the namespace."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    targets = [line.split()[1] for line in lines]
    prefixes = (f"{state}/", "/var/lib/kubelet", "/run")
    for target in reversed([t for t in targets if t.startswith(prefixes)]):
        os.system(f"umount -l '{target}' 2>/dev/null")


def main() -> int:
    """Arguments: the lab's directory and its cgroup's name."""
    state, cgroup = Path(sys.argv[1]), sys.argv[2]
    # Ignored, not handled: the kernel then reaps orphans by itself.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    print("ready", flush=True)
    while sys.stdin.buffer.read(65536):
        pass
    _end_all()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    cleanup.detach(cleanup.lab_loops(state))
    _unmount(state)
    left = cleanup.clean(state, cgroup)
    if left:
        (state / cleanup.KEPT / "left-behind.txt").write_text("\n".join(left) + "\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
