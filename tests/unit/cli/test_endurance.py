"""A month of a vault's life: the real command line on a real directory, killed now and then, on later and later days."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.disks import in_memory
from tests.unit.cli.later import ahead
from tests.unit.cli.support import MIB, Done, inside

DAY = 24 * 3600.0
KEPT = 7  # backups of each volume, then the trash
TRASH = "2d"
PAGE = 4096
KILLED = 0.4  # the chance that a command is killed, each time it is given


@dataclass
class Volume:
    """What is on a volume now and what was, by backup; `trash`: which of those lie there, and since which day."""

    name: str
    path: Path
    content: bytearray
    backups: dict[str, bytes] = field(default_factory=dict)
    trash: dict[str, int] = field(default_factory=dict)

    @property
    def living(self) -> list[str]:
        return [each for each in self.backups if each not in self.trash]

    def write(self, chance: random.Random) -> list[tuple[int, int]]:
        """A day's work; gives where it wrote."""
        if chance.random() < 0.1:
            self.content += bytes(chance.randrange(1, 3 * MIB) // 512 * 512)
        written = []
        for _ in range(chance.choice((0, 1, 20, 60))):
            length = chance.choice((PAGE, PAGE, PAGE, 17 * PAGE, 300 * PAGE))
            at = chance.randrange(len(self.content) // PAGE) * PAGE
            length = min(length, len(self.content) - at)
            self.content[at : at + length] = (
                bytes(length) if chance.random() < 0.2 else chance.randbytes(length)
            )
            written.append((at, length))
        self.path.write_bytes(self.content)
        return written


class Vault:
    """The store, and who works on it. `day`: how far the clocks are ahead."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance, self.day, self.killed = folder, random.Random(seed), 0, 0
        self.lasts = 0.9
        self.url = f"file://{folder}/store"
        self.keys = [self.new_key()]
        self.volumes = [Volume(f"v{n}", folder / f"v{n}", bytearray(n * 3 * MIB)) for n in (1, 2, 3)]
        self.do("init")

    def new_key(self) -> Path:
        path = self.folder / f"key-{self.day}"
        path.touch(0o600)
        path.write_bytes(self.chance.randbytes(32))
        return path

    def words(self, verb: str, *words: str) -> list[str]:
        place = words[:1] if verb == "backup" else ()
        key = ["--key-file", str(self.keys[-1])]
        group = ["key", "rotate"] if verb == "rotate" else [verb]
        return [*group, *place, self.url, *words[len(place) :], *key, "--output", "json"]

    def do(self, verb: str, *words: str, code: int = 0) -> Done:
        with ahead(self.day * DAY):
            return inside(*self.words(verb, *words), code=code)

    def do_with_kills(self, verb: str, *words: str) -> Done:
        """Now and then it is killed, also more than once; then somebody repeats it."""
        self.be_killed(verb, *words)
        return self.do(verb, *words)

    def be_killed(self, verb: str, *words: str) -> None:
        while self.chance.random() < KILLED:
            command = [
                sys.executable,
                "-m",
                "tests.unit.cli.later",
                str(self.day * DAY),
                *self.words(verb, *words),
            ]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # Seconds that such commands take on this machine are found out, so that kills meet them alive.
            try:
                process.wait(self.chance.uniform(0.15, self.lasts))
                self.lasts = max(0.2, self.lasts * 0.85)
            except subprocess.TimeoutExpired:
                self.killed += 1
                self.lasts = min(1.5, self.lasts * 1.1)
                process.send_signal(signal.SIGKILL)
                process.wait()

    def live(self) -> None:
        """One day."""
        self.day += 1
        for volume in self.volumes:
            self.back_up(volume)
            self.tidy(volume)
        if self.day % 7 == 0:
            former, new = self.keys[-1], self.new_key()
            self.keys.append(new)
            self.do_with_kills("rotate", "--previous-key-file", str(former))
        self.do_with_kills("collect", "--compact", "64M")
        self.do("verify", "--budget", "4M")
        for volume in self.volumes:
            self.forget(volume)
            self.restore(volume, self.chance.choice(volume.living))

    def back_up(self, volume: Volume) -> None:
        written = volume.write(self.chance)
        words = ["--volume", volume.name, "--operation-id", f"{volume.name}-{self.day}"]
        if self.chance.random() < 0.6 and volume.backups:
            changed = self.folder / "changed"
            rows = [json.dumps({"offset": at, "length": length}) + "\n" for at, length in written]
            changed.write_text("".join(rows))
            words += ["--changed", str(changed), "--parent", list(volume.backups)[-1]]
        elif self.chance.random() < 0.1:
            words += ["--full"]
        done = json.loads(self.do_with_kills("backup", str(volume.path), *words).stdout)
        assert done["backupId"] not in volume.backups
        volume.backups[done["backupId"]] = bytes(volume.content)

    def tidy(self, volume: Volume) -> None:
        for backup_id in volume.living[:-KEPT]:
            self.do_with_kills("delete", "--volume", volume.name, "--backup", backup_id, "--keep", TRASH)
            volume.trash[backup_id] = self.day
        young = [each for each, since in volume.trash.items() if since == self.day - 1]
        if young and self.chance.random() < 0.1:
            self.do_with_kills("undelete", "--volume", volume.name, "--backup", young[0])
            del volume.trash[young[0]]
        if len(volume.living) > 3 and self.chance.random() < 0.1:
            gone = self.chance.choice(volume.living[:-1])
            words = ["--volume", volume.name, "--backup", gone, "--now"]
            self.be_killed("delete", *words)
            if gone in self.listed(volume):
                self.do("delete", *words)
            del volume.backups[gone]

    def forget(self, volume: Volume) -> None:
        """What was due in the trash is gone, all else is there."""
        for backup_id, since in list(volume.trash.items()):
            if self.day - since > 2:
                del volume.backups[backup_id], volume.trash[backup_id]
        due = {each for each, since in volume.trash.items() if self.day - since == 2}
        assert self.listed(volume) - due == set(volume.backups) - due

    def listed(self, volume: Volume) -> set[str]:
        found = json.loads(self.do("list", "--volume", volume.name).stdout)["backups"]
        return {each["backupId"] for each in found}

    def restore(self, volume: Volume, backup_id: str) -> None:
        target, size = self.folder / f"restored-{volume.name}", len(volume.backups[backup_id])
        if target.exists() and target.stat().st_size < size:
            os.truncate(target, size)
        self.do_with_kills("restore", str(target), "--volume", volume.name, "--backup", backup_id, "--force")
        assert target.read_bytes()[:size] == volume.backups[backup_id]

    def end(self) -> None:
        """Everything that should be there restores, nothing is damaged, and nothing else is there."""
        for volume in self.volumes:
            self.forget(volume)
            for backup_id in self.listed(volume):
                self.restore(volume, backup_id)
        self.day += 8  # what killed runs have left counts as dead
        self.do("collect")
        assert json.loads(self.do("verify", "--every-byte").stdout)["ok"]
        used = json.loads(self.do("usage").stdout)["volumes"]
        data = [
            p
            for kind in ("segments", "pages", "roots")
            for p in self.folder.glob(f"store/lineages/*/{kind}/*")
        ]
        assert sum(path.stat().st_size for path in data) == sum(volume["usedBytes"] for volume in used)


@pytest.mark.parametrize(
    ("days", "seed"),
    [(3, 2), *(pytest.param(60, n, marks=[pytest.mark.soak, pytest.mark.timeout(7200)]) for n in range(3))],
)
def test_day_after_day(tmp_path: Path, days: int, seed: int) -> None:
    """F2, F6, F7, F17, F18: incrementals for ever, retention, trash, compaction, key rotation; killed at any moment."""
    with in_memory() as folder:
        vault = Vault(folder, seed)
        for _ in range(days):
            vault.live()
        assert vault.killed >= days // 3
        vault.end()
