"""Three years of daily backups of which thirty are kept: what lies in the store, and what compaction writes for it."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blockvault.engine import BackupRequest, ChangedList, Repository
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import ABSENT, BLOCK_SIZE, FANOUT, PATCHED, blocks_in, name_of
from blockvault.engine.root import Root, Roots
from blockvault.engine.tree import TreeReader
from tests.bench.apart import MIB, Apart, apart
from tests.bench.memory_store import MemoryStore
from tests.bench.metadata import VOLUME
from tests.bench.rows import Bench, Cell, Goal, Outcome, Row
from tests.bench.templates import TemplateSource, backed_up_from

KEPT = 30
CHANGED_SHARE = 0.01
# Of what changes, how much lies in which share of the volume.
SKEWS = {"80 % of the change in 20 %": (0.8, 0.2), "uniform": (0.0, 0.2)}
# Days between two compactions.
COMPACTED = 7
COLUMNS = [
    "change", "days", "new MiB", "stored MiB, at the end", "stored, of live, mean", "worst",
    "compaction wrote, per new byte", "compactions", "seconds a day: backup", "compaction", "collect",
]  # fmt: skip


@dataclass
class Years:
    """What happened. Bytes; seconds of all days together; `ratios`: stored of live, from time to time."""

    fresh: int = 0
    copied: int = 0
    compactions: int = 0
    stored: int = 0
    ratios: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("backup", "compact", "collect"), 0.0)
    )


def _changed(chance: random.Random, blocks: int, skew: tuple[float, float]) -> list[int]:
    """The blocks that one day changes."""
    count, hot = int(blocks * CHANGED_SHARE), int(blocks * skew[1])
    often = int(count * skew[0])
    chosen = {*chance.sample(range(hot), often)}
    anywhere = range(hot, blocks) if often else range(blocks)
    return sorted(chosen | {*chance.sample(anywhere, count - often)})


def _live(store: MemoryStore, repository: Repository) -> int:
    """Bytes that some backup reaches, each once."""
    found = repository._volume(VOLUME)
    roots = Roots(store, found.lineage)
    items: dict[tuple[ObjectName, int], int] = {}
    seen: set[bytes] = set()
    for entry in found.state.roots:
        root: Root = roots.read(entry)
        reader = TreeReader(store, found.lineage, root.top, root.levels)
        _pages(reader, items)
        for _, leaf in reader.leaves(range(-(-blocks_in(root.size) // FANOUT))):
            if leaf is None or leaf.origin is None or leaf.origin.ref.tobytes() in seen:
                continue
            seen.add(leaf.origin.ref.tobytes())
            for ref in (leaf.origin.ref, leaf.origin.base):
                items[name_of(ref), int(ref["offset"])] = int(ref["length"])
            for slot in leaf.stored_slots():
                for piece in leaf.pieces(slot):
                    items[piece.name, piece.offset] = piece.length
                    if piece.digests is not None:
                        items[piece.digests.name, piece.digests.offset] = piece.digest_bytes
    return sum(items.values()) + sum(entry.object_bytes for entry in found.state.roots)


def _pages(reader: TreeReader, items: dict[tuple[ObjectName, int], int]) -> None:
    """The inner pages, where there is one level of them."""
    assert reader.levels == 1
    page = reader.inner(1, 0)
    if reader.top["kind"] == ABSENT or page.origin is None:
        return
    for ref in (page.origin.ref, page.origin.base):
        items[name_of(ref), int(ref["offset"])] = int(ref["length"])
        assert ref["kind"] != PATCHED or ref is page.origin.ref


def work(skew: tuple[float, float], blocks: int, days: int, every: int) -> Years:
    """So many days; every so many of them it is looked at what lies there."""
    chance, memory = random.Random(10), MemoryStore()
    source, years = TemplateSource(blocks * BLOCK_SIZE), Years()
    repository = Repository.init(memory)
    kept: list[str] = []

    def timed(name: str, since: float) -> float:
        now = time.perf_counter()
        years.seconds[name] += now - since
        return now

    with backed_up_from(source):
        for day in range(days):
            ranges = source.touch(_changed(chance, blocks, skew) if day else [])
            started = time.perf_counter()
            changed = ChangedList(ranges) if day else None
            made = repository.backup(BackupRequest("", VOLUME, changed=changed))
            started = timed("backup", started)
            years.fresh += made.bytes_stored if day else 0
            kept.append(made.backup_id)
            if len(kept) > KEPT:
                repository.delete(VOLUME, kept.pop(0))
            started = time.perf_counter()
            if day % COMPACTED == 0:
                rewritten = repository.compact(VOLUME)
                years.copied += rewritten.copied_bytes
                years.compactions += rewritten.segments > 0
                started = timed("compact", started)
            repository.collect(VOLUME)
            timed("collect", started)
            if day >= KEPT and day % every == 0:
                years.ratios.append(memory.stored / _live(memory, repository))
    years.stored = memory.stored
    found = repository.verify(VOLUME, sample=0.05)
    assert found["ok"], found["damaged"][:3]
    return years


def measure(bench: Bench) -> Outcome:
    """The row."""
    blocks, days = bench.size(8_192, 1_024), bench.size(3 * 365, 75)
    # A prime, so that all days between two compactions are seen; reading all trees takes its time.
    every = bench.size(37, 11)
    # Side by side: nothing here is held against a clock.
    with ThreadPoolExecutor(len(SKEWS)) as pool:
        runs: list[Apart[Years]] = list(
            pool.map(lambda skew: apart(work, skew, blocks, days, every), SKEWS.values())
        )
    lines: list[list[Cell]] = []
    goals, samples = [], {}
    for name, done in zip(SKEWS, runs, strict=True):
        years = done.result
        mean, written = sum(years.ratios) / len(years.ratios), years.copied / years.fresh
        lines.append(
            [
                name,
                days,
                years.fresh / MIB,
                years.stored / MIB,
                mean,
                max(years.ratios),
                written,
                years.compactions,
                *(seconds / days for seconds in years.seconds.values()),
            ]
        )
        goals.append(Goal(f"{name}: stored, of live (the mean)", mean, 1.3))
        goals.append(Goal(f"{name}: compaction wrote, per new byte", written, 0.7))
        samples[f"{name}: stored, of live, every {every} days"] = years.ratios
    notes = [
        f"A volume of {blocks * BLOCK_SIZE >> 20} MiB of noise of which 1 % of the blocks changes each day, wholly; each "
        f"day a backup by its list, the {KEPT} newest kept, then a collect, and before it every {COMPACTED} days a "
        "compaction, as `blockvault collect --compact` does. Live is what any backup reaches, each item counted once, "
        "metadata included; stored is everything that lies in the store. At the end a twentieth of all blocks is "
        "verified.",
    ]
    return Outcome(COLUMNS, lines, goals, notes, samples)


ROWS = (Row("three-years", "Three years of daily backups, thirty kept", measure),)
