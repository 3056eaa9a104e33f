"""What must be true: the exact bytes of every volume at every snapshot, and what was asked for and answered."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field


class Wrong(AssertionError):
    """The engine did what it must never do."""


class Device:
    """A volume in use: its bytes now. Mostly of simple patterns, with holes, and some noise.

    `scattered`: only single sectors are ever written to it, as by a database.
    """

    def __init__(self, chance: random.Random, block: int, sector: int, *, scattered: bool = False) -> None:
        self._chance = chance
        self._kinds = ["sectors"] if scattered else ["sectors", "sectors", "range", "discard", "grow", "far"]
        self._block = block
        self._sector = sector
        self._former: list[bytes] = []
        blocks = chance.choice([1, 3, 8, 17, 24, 40])
        self.data = bytearray(blocks * block + chance.choice([0, 0, 0, sector // 8, block - sector]))
        for _ in range(chance.randrange(1, 4)):
            self._write(chance.randrange(1, max(2, blocks // 2 + 1)) * block)

    def live(self) -> None:
        """What happens to a volume between two backups: scattered sectors, ranges, discards, growth, nothing."""
        chance = self._chance
        if self._former and chance.random() < 0.15:
            self._restored(chance.choice(self._former))
        for _ in range(chance.choice([0, 0, 1, 1, 2, 5])):
            kind = chance.choice(self._kinds)
            if kind == "sectors":
                for _ in range(chance.randrange(1, 12)):
                    self._write(chance.randrange(1, self._sector))
            elif kind == "range":
                self._write(chance.randrange(1, 3 * self._block))
            elif kind == "discard":
                self._write(chance.randrange(1, 4) * self._block, fill=b"\0")
            elif kind == "grow" and chance.random() < 0.3:
                self.data += bytes(chance.randrange(1, 6 * self._block))
            elif chance.random() < 0.2:
                self._write(len(self.data))

    def _restored(self, content: bytes) -> None:
        """Somebody put an old backup back."""
        self.data[: len(content)] = content

    def snapshot(self) -> bytes:
        """Its bytes now."""
        self._former.append(bytes(self.data))
        return self._former[-1]

    def _write(self, length: int, fill: bytes | None = None) -> None:
        size = len(self.data)
        if not size:
            return
        at = self._chance.randrange(size)
        if self._chance.random() < 0.5:
            at -= at % self._sector
        length = min(length, size - at)
        if fill is None and self._chance.random() < 0.15:
            data = self._chance.randbytes(length)
        else:
            data = ((fill or self._chance.randbytes(8)) * (length // 1 + 1))[:length]
        self.data[at : at + length] = data


@dataclass
class Operation:
    """One backup that was asked for, once or several times. `content`: what the volume held.

    `lied`: what the backup may hold instead, because a list that was given left changes out. `stored`: what it does
    hold; None where that is not certain.
    """

    id: str
    volume: str
    content: bytes
    path: str
    backup_id: str | None = None
    lied: list[bytes] = field(default_factory=list)
    runs: int = 0

    @property
    def stored(self) -> bytes | None:
        """What its backup holds, where that is certain."""
        return None if self.lied else self.content


@dataclass
class Model:
    """All that was asked for and what was answered."""

    folder: str
    devices: dict[str, Device]
    operations: dict[str, Operation] = field(default_factory=dict)
    # Backups for which deletions began (how many), and those for which one was reported done.
    doomed: Counter[str] = field(default_factory=Counter)
    deleted: set[str] = field(default_factory=set)
    # Those that were put into the trash once.
    in_trash: set[str] = field(default_factory=set)
    # By volume, how often all of it was deleted, and by how many at the moment.
    volume_deletions: Counter[str] = field(default_factory=Counter)
    deleting: Counter[str] = field(default_factory=Counter)

    def snapshot(self, volume: str) -> Operation:
        """A new operation on the volume as it is now."""
        name = f"{volume}-{len(self.operations):03d}"
        content = self.devices[volume].snapshot()
        made = Operation(name, volume, content, os.path.join(self.folder, name))
        with open(made.path, "wb") as file:
            file.truncate(len(content))
            for offset in range(0, len(content), 4096):
                part = content[offset : offset + 4096]
                if part.strip(b"\0"):
                    os.pwrite(file.fileno(), part, offset)
        self.operations[name] = made
        return made

    def succeeded(self, operation: Operation, backup_id: str) -> None:
        """A run reported success, or its backup was found. Asked for again after its deletion, it may be made anew."""
        former = operation.backup_id
        if former not in (None, backup_id) and former not in self.doomed and backup_id not in self.doomed:
            raise Wrong(f"{operation.id} made two backups: {former} and {backup_id}")
        if former is None or former in self.doomed:
            operation.backup_id = backup_id

    def known(self, operation_id: str) -> Operation:
        """The operation of a backup that was found in the store."""
        found = self.operations.get(operation_id)
        if found is None:
            raise Wrong(f"a backup of an operation that never was: {operation_id}")
        return found


def ranges_between(old: bytes, new: bytes, step: int, chance: random.Random) -> list[tuple[int, int]]:
    """Byte ranges that cover every difference, in steps of so many bytes; and now and then more than that."""
    found = []
    for offset in range(0, len(new), step):
        length = min(step, len(new) - offset)
        if old[offset : offset + length] != new[offset : offset + length] or chance.random() < 0.02:
            found.append((offset, length))
    return found


def left_out(old: bytes, new: bytes, ranges: list[tuple[int, int]], block: int) -> bytes:
    """What a backup of `new` upon `old` holds when only the blocks that these ranges touch are looked at."""
    looked_at = {
        number
        for offset, length in ranges
        for number in range(offset // block, -(-(offset + length) // block))
    }
    if len(new) > len(old):
        looked_at.update(range(len(old) // block, -(-len(new) // block)))
    parts = [
        (new if number in looked_at else old)[number * block : (number + 1) * block]
        for number in range(-(-len(new) // block))
    ]
    return b"".join(parts)
