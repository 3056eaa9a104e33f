"""`python -m tests.embedded.reach`: run every scenario without faults, and write which requests it makes."""

from __future__ import annotations

import fcntl
import json
import sys

from tests.steps.director import Director
from tests.steps.matrix import SCENARIOS, TABLE, play, settle

from .cluster import EmbeddedCluster
from .stepping import SteppedWorld


def requests_of(name: str) -> list[str]:
    """The requests of a scenario from its beginning to its end, in the order in which it comes to them first."""
    with EmbeddedCluster(namespace="shop") as cluster, Director() as director:
        world = SteppedWorld(cluster, director)
        world.start()
        scenario = SCENARIOS[name](world, "s")
        met: list[str] = []

        def note(point: object) -> str:
            met.append(f"{point.step}#{point.call}")  # type: ignore[attr-defined]
            return "go"

        found = play(world, director, scenario, note)  # type: ignore[arg-type]
        settle(world, scenario, found)
    return [step for step in dict.fromkeys(met) if not _around(step, scenario.kind)]


def _around(step: str, kind: str) -> bool:
    """Whether it is of loops that go on beside the operation."""
    return step.startswith(("VaultClass:", "Vault:status")) or (step.startswith("Vault:") and kind != "vault")


def main(names: list[str]) -> None:
    """Write the table, or only the rows of these scenarios; several may do so at once."""
    for name in names or SCENARIOS:
        found = requests_of(name)
        print(name, len(found), flush=True)
        with TABLE.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            table = json.loads(file.read() or "{}") | {name: found}
            ordered = {name: table[name] for name in SCENARIOS if name in table}
            file.truncate(0)
            file.write(json.dumps(ordered, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
