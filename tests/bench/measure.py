"""`measure.py RESULT COMMAND...`: run a command to its end and write what it took to the file RESULT, as JSON.

A small process of its own, because a program's peak memory begins with that of the process that starts it.
"""

import json
import os
import sys
import time


def io(pid: int) -> dict[str, int]:
    """Bytes that a program, which has ended but is not reaped, read and wrote by system calls."""
    try:
        with open(f"/proc/{pid}/io") as file:
            return {name: int(value) for name, value in (line.split(":") for line in file)}
    except OSError:  # not permitted
        return {}


def main(result: str, *command: str) -> int:
    """Do it; the exit code is the command's."""
    start = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    wall = time.perf_counter() - start
    moved = io(pid)
    _, status, usage = os.wait4(pid, 0)
    figures = {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,
        "read": moved.get("rchar", 0),
        "written": moved.get("wchar", 0),
    }
    with open(result, "w") as file:
        json.dump(figures, file)
    return abs(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
