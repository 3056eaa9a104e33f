"""A note beside a target that it is being restored to: it tells an interrupted restore from somebody's data.

Beside a file lies `<file>.blockvault-partial`; a device's note lies under $XDG_STATE_HOME/blockvault. It is durable
before the first byte is written, and goes after the last one is durable.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from blockvault.engine.target import Target
from blockvault.stores import durable

SUFFIX = ".blockvault-partial"


class Marker:
    """The note of one target. `told`: all that the restore was told of what the target held before.

    `ours`: it tells of an interrupted restore of the same backup, told the same, to this very target; `another`: of
    any other. It is a hint, no proof: disks may share an identity or have none, and somebody may have written since.
    """

    def __init__(self, target: Target, backup_id: str, told: str | None) -> None:
        self._facts = {
            "backup": backup_id,
            "size": target.size,
            "capacity": None if target.regular else target.capacity,  # an empty file is given its size later
            "target": target.identity,
            "told": told,
        }
        path = os.path.realpath(target.path)
        if target.regular:
            self.path = path + SUFFIX
        else:
            # Paths of devices change when a machine starts anew; the note goes with the disk, where that can be told.
            named = target.identity or path
            name = blake2b(named.encode(errors="surrogateescape"), digest_size=16).hexdigest()
            self.path = os.path.join(_state_folder(), name + SUFFIX)
        found = self._read()
        self.ours = found == self._facts
        self.another = bool(found) and not self.ours

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, encoding="utf-8") as file:
                return dict(json.load(file))
        except (OSError, ValueError, TypeError):
            return {}

    def put(self) -> None:
        """Write it, durably; where that cannot be, an interrupted restore will need `force` to go on."""
        if self.ours:
            return
        folder = os.path.dirname(self.path)
        with suppress(OSError):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            temporary = self.path + ".new"
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                durable.write(fd, json.dumps(self._facts).encode())
            finally:
                os.close(fd)
            os.rename(temporary, self.path)
            durable.sync_folder(folder)

    def remove(self) -> None:
        """The restore is complete."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        with suppress(OSError):
            durable.sync_folder(os.path.dirname(self.path))


def _state_folder() -> str:
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(home, "blockvault")
