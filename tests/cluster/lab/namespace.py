"""A lab's own corner of the machine: number, directory, lock, namespaces, and processes in them."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.cluster.lab import cleanup, versions

LABS = Path("/var/tmp/blockvault-labs")  # not /tmp: may be in memory, and volumes are large
MOST_LABS = 16


class LabError(Exception):
    """The lab cannot do what was asked; the message says why and where to look."""


def wait_until(what: str, condition: Any, seconds: float, pause: float = 0.1) -> Any:
    """Call `condition` until it returns something true, which is returned; LabError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)


def _clean_environment() -> dict[str, str]:
    """The caller's environment without proxies: nothing in the lab talks to the outside."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


class Slot:
    """A number that no other living lab has, held by a file lock, with its directory and cgroup name.

    Taking one sweeps what a dead lab of that number left behind.
    """

    def __init__(self) -> None:
        LABS.mkdir(mode=0o755, exist_ok=True)
        for number in range(MOST_LABS):
            self.number, self.directory = number, LABS / str(number)
            self.cgroup = f"blockvault-lab-{number}"
            self._handle: IO[str] = open(LABS / f"{number}.lock", "w")  # noqa: SIM115 (held as long as the lab)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._handle.close()
                continue
            self.directory.mkdir(exist_ok=True)
            if left := cleanup.clean(self.directory, self.cgroup):
                self._handle.close()
                print(f"lab {number} left {', '.join(left)} behind: taking another number", file=sys.stderr)
                continue
            return
        raise LabError(f"{MOST_LABS} labs run already, or their leftovers cannot be removed: see {LABS}")

    def lock_fd(self) -> int:
        """File descriptor of the lock, for the first process to inherit."""
        return self._handle.fileno()

    def release(self) -> None:
        """Let go of the number; the lock stays while the lab's first process lives."""
        self._handle.close()


class Namespaces:
    """Mount, network and process namespaces with one first process; nested ones for a second node."""

    def __init__(self, slot: Slot, log: Path, inside: "Namespaces | None" = None) -> None:
        self._outer = inside
        holder = [sys.executable, "-m", "tests.cluster.lab.init", str(slot.directory), slot.cgroup]
        if inside is not None:
            # Its end has no clean-up of its own: the outer one does all of it.
            holder = ["sh", "-c", "trap '' CHLD; echo ready; exec cat"]
        command = [
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
            *holder,
        ]
        environment = {**_clean_environment(), "PYTHONPATH": str(versions.ROOT)}
        with open(log, "ab") as stderr:
            self._process = subprocess.Popen(
                [*(inside.enter() if inside else []), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=[] if inside else [slot.lock_fd()],
                start_new_session=True,
                env=environment,
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise LabError(f"cannot make namespaces (root is needed): see {log}")
        self.pid = self._first_process()

    def _first_process(self) -> int:
        """Host's process id of the namespaces' first process: the last in the chain of only children."""
        pid = self._process.pid
        while True:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if not children:
                return pid
            pid = int(children[0])

    def outside_pid(self, inner: int) -> int:
        """Process id on this machine of a process of these namespaces; 0 if it has ended already."""
        own = os.readlink(f"/proc/{self.pid}/ns/pid")
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = next(x for x in (entry / "status").read_text().splitlines() if x.startswith("NSpid:"))
                if int(line.split()[-1]) == inner and os.readlink(entry / "ns" / "pid") == own:
                    return int(entry.name)
        return 0

    def enter(self) -> list[str]:
        """Command prefix that runs a program inside."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "--"]

    def run(self, *command: str, check: bool = True, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a program inside and wait for it; output is captured as text unless `options` say otherwise."""
        settings = {"text": True, "capture_output": True, "env": _clean_environment(), **options}
        done = subprocess.run([*self.enter(), *command], **settings)
        if check and done.returncode != 0:
            raise LabError(
                f"{' '.join(command)}: exit {done.returncode}: {done.stdout or ''}{done.stderr or ''}"
            )
        return done

    def close(self, seconds: float = 60) -> int:
        """End every process inside and wait until the clean-up is done; returns its exit code."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return 1

    def kill(self) -> None:
        """Kill the first process, and with it everything inside, at once and without clean-up."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait(30)


@dataclass
class _Program:
    """A started program: how to start it again, and its process as this machine sees it."""

    where: Namespaces
    command: list[str]
    extra: dict[str, str]
    pid: int
    born: str


def _birth(pid: int) -> str:
    """Start time of a process in clock ticks, which tells it from a later one of the same id; "" if none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


class Processes:
    """Long-running programs by name, each with a log file; can be killed, paused and started again.

    They are children of the namespaces' first process, not of this one: a paused program whose parent is
    outside would keep the namespaces from ending.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._programs: dict[str, _Program] = {}

    def start(
        self, name: str, where: Namespaces, command: Sequence[str], extra: Mapping[str, str] | None = None
    ) -> None:
        """Start a program inside `where`; its output is appended to logs/<name>.log."""
        script = 'log="$1"; shift; setsid "$@" </dev/null >>"$log" 2>&1 & echo $!'
        environment = {**_clean_environment(), **(extra or {})}
        arguments = ("sh", "-c", script, "start", str(self.log(name)), *command)
        inner = where.run(*arguments, env=environment).stdout.strip()
        pid = where.outside_pid(int(inner))
        self._programs[name] = _Program(where, list(command), dict(extra or {}), pid, _birth(pid))

    def log(self, name: str) -> Path:
        """Log file of a program."""
        return self._logs / f"{name}.log"

    def names(self) -> list[str]:
        """Names of all programs that were started."""
        return sorted(self._programs)

    def _program(self, name: str) -> _Program:
        if name not in self._programs:
            raise LabError(f"no component {name!r}; there are: {', '.join(self.names())}")
        return self._programs[name]

    def alive(self, name: str) -> bool:
        """Whether the program runs (or is paused)."""
        program = self._program(name)
        return program.born != "" and _birth(program.pid) == program.born

    def check(self, name: str) -> None:
        """LabError with the end of its log if the program has ended."""
        if not self.alive(name):
            lines = self.log(name).read_text(errors="replace").splitlines()[-15:]
            raise LabError(f"{name} has ended; {self.log(name)}:\n" + "\n".join(lines))

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the program and its children."""
        if self.alive(name):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._program(name).pid, number)

    def kill(self, name: str) -> None:
        """Kill the program without warning and wait for its end."""
        self.signal(name, signal.SIGKILL)
        wait_until(f"end of {name}", lambda: not self.alive(name), 30, 0.01)

    def restart(self, name: str) -> None:
        """Kill the program if it runs, and start it with the same command."""
        self.kill(name)
        program = self._program(name)
        self.start(name, program.where, program.command, program.extra)

    def forget(self, where: Namespaces) -> None:
        """Drop the programs of namespaces that are gone."""
        self._programs = {name: p for name, p in self._programs.items() if p.where is not where}
