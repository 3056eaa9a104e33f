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
from blockvault.engine.rollback import Seen


def known(repository: Repository) -> dict[str, Seen]:
    """The newest commit seen, by lineage."""
    try:
        with open(_path(repository), encoding="utf-8") as file:
            facts = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        warn(f"{_path(repository)}: {error}: whether the store was set back cannot be told")
        return {}
    found = facts if isinstance(facts, dict) else {}
    return {str(lineage): seen for lineage, each in found.items() if (seen := _seen(each)) is not None}


def _seen(noted: object) -> Seen | None:
    """From what is noted: {number, commit}, or by former versions the number alone."""
    if isinstance(noted, int):
        return Seen(noted)
    if not isinstance(noted, dict) or not isinstance(noted.get("number"), int):
        return None
    return Seen(noted["number"], str(noted["commit"]) if noted.get("commit") else None)


def note(repository: Repository, volumes: list[dict[str, Any]], *, accept: str | None = None) -> None:
    """Keep the commits that `usage` shows, and what was seen of others. Warns of a store that was set back.

    Of a lineage that does not follow what was seen of it that stays, unless it is of the volume `accept`.
    """
    noted = known(repository)
    for volume in volumes:
        name, lineage = volume["volume"], str(volume["lineage"])
        before = noted.get(lineage)
        same = before is not None and before.commit == volume["commitId"]
        cause = None if same or name == accept else repository.set_back(name, before)
        if cause is None:
            noted[lineage] = Seen(int(volume["commit"]), str(volume["commitId"]))
        else:
            warn(f"volume {name}: {cause}: set back?")
    path = _path(repository)
    temporary = f"{path}.{secrets.token_hex(4)}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({lineage: seen._asdict() for lineage, seen in noted.items()}, file)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        warn(f"{path}: {error.strerror}: the next run cannot tell whether the store was set back")


def _path(repository: Repository) -> str:
    return os.path.join(state_folder(), "seen", f"{repository.store_id}.json")
