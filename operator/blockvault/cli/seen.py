"""The newest commits that this user has seen, by store and lineage: a store that shows older ones was set back.

Then nothing is deleted from it (PROTOCOL rule 6 in docs/protocol.md). It is a net under the store's own checks, so
that notes which cannot be read or written stop nothing; that is said.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from typing import Any

from blockvault.cli.output import warn
from blockvault.cli.unfinished import state_folder
from blockvault.engine import Repository


def known(repository: Repository) -> dict[str, int]:
    """Number of the newest commit seen, by lineage."""
    try:
        with open(_path(repository), encoding="utf-8") as file:
            facts = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        warn(f"{_path(repository)}: {error}: whether the store was set back cannot be told")
        return {}
    found = facts if isinstance(facts, dict) else {}
    return {str(lineage): number for lineage, number in found.items() if isinstance(number, int)}


def note(repository: Repository, volumes: list[dict[str, Any]]) -> None:
    """Keep the numbers that `usage` shows, and what was seen of others. Warns of a store that was set back."""
    numbers = known(repository)
    for volume in volumes:
        lineage, number = str(volume["lineage"]), int(volume["commit"])
        if number < numbers.get(lineage, 0):
            warn(
                f"volume {volume['volume']}: commit {numbers[lineage]} was seen before, and now {number}: set back?"
            )
        numbers[lineage] = max(numbers.get(lineage, 0), number)
    path = _path(repository)
    temporary = f"{path}.{secrets.token_hex(4)}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(numbers, file)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        warn(f"{path}: {error.strerror}: the next run cannot tell whether the store was set back")


def _path(repository: Repository) -> str:
    return os.path.join(state_folder(), "seen", f"{repository.store_id}.json")
