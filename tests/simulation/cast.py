"""Who takes part in a run: by chance, and by the seed's theme."""

from __future__ import annotations

from tests.simulation.actors import machine, read, write
from tests.simulation.upkeep import (
    collect_some,
    commit_often,
    compact,
    delete,
    delete_volume,
    pull_the_rug,
    rotate,
    take_over,
    undelete,
    verify,
)
from tests.simulation.world import CLUSTERS, LISTS, PATCHES, TRASH, World

# Who always takes part when a seed has that theme, beside those who do by chance.
ALWAYS = {
    LISTS: ["writer"],
    PATCHES: ["deleter", "compactor", "collector"],
    TRASH: ["deleter", "undeleter", "undeleter", "collector", "collector"],
    CLUSTERS: ["writer", "taker", "collector", "deleter"],
}


def cast(world: World) -> None:
    """Let them all begin."""
    chance = world.chance
    add = world.scheduler.add
    for kind, step, numbers, least, most in (
        ("writer", write, [1, 2, 2, 3], 2, 6),
        ("deleter", delete, [0, 1, 1, 2], 1, 5),
        ("undeleter", undelete, [0, 0, 1], 1, 4),
        ("destroyer", delete_volume, [0] * 12 + [1], 1, 2),
        ("collector", collect_some, [0, 1, 1, 2], 1, 8),
        ("rug", pull_the_rug, [0, 0, 1, 1], 1, 6),
        ("compactor", compact, [0, 0, 1, 2], 1, 4),
        ("verifier", verify, [0, 0, 1], 1, 4),
        ("rotator", rotate, [0, 0, 1, 2], 1, 4),
        ("reader", read, [0, 1, 1], 1, 4),
        ("taker", take_over, [0], 1, 4),
    ):
        count = chance.choice(numbers) + ALWAYS.get(world.theme, []).count(kind)
        if kind == "rug" and world.theme in (LISTS, TRASH):
            count = 0  # would leave nothing to build on
        for number in range(count):
            name = f"{kind}-{number}"
            add(name, machine(world, name, step, chance.randrange(least, most)))
    if chance.random() < 0.5:
        world.server.faults.sleepy()
        add("committer", machine(world, "committer", commit_often, chance.randrange(2, 5)))
